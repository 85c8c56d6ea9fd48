(() => {
  const ticket = document.querySelector("input[name=ticket]");
  let sent = false;
  document.addEventListener("submit", () => { sent = true; });
  addEventListener("pagehide", () => {
    if (sent) return;
    const leave = new URLSearchParams({ action: "leave", ticket: ticket.value });
    navigator.sendBeacon(ticket.form.getAttribute("action"), leave);
  });
})();
