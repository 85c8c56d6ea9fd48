package devicegrant

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// VerificationHandler serves the page on which a person enters the code and
// decides (RFC 8628 sections 3.3 and 3.3.1). Mount it at VerificationURI. It works
// without JavaScript. Whoever is signed in gets a cookie, which names the browser
// session until the browser is closed.
//
// Nothing is looked up for anybody who is not signed in, nothing is decided by GET,
// and posts from other sites are refused.
func (s *Server) VerificationHandler() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{s: s, w: w, r: r}
		v.serve(crossOrigin) //nolint:contextcheck // It is in the request.
	})
}

func (v *visit) serve(crossOrigin *http.CrossOriginProtection) {
	v.w.Header().Set("Cache-Control", "no-store") // Of redirects, too.
	v.w.Header().Set("Referrer-Policy", "no-referrer")
	switch v.r.Method {
	case http.MethodGet, http.MethodHead:
		v.get()
	case http.MethodPost:
		if crossOrigin.Check(v.r) != nil && !opaque(v.r) {
			v.message(http.StatusForbidden, MessageCrossOrigin)
			return
		}
		v.post()
	default:
		v.w.Header().Set("Allow", "GET, HEAD, POST")
		v.message(http.StatusMethodNotAllowed, MessageMethod)
	}
}

// opaque reports whether a post is from a browser that does not say from where: to one
// that knows no Sec-Fetch-Site, our own pages have no origin, for they send no
// referrer. What such a post could do from elsewhere is little: a decision takes a
// ticket that no other site has.
func opaque(r *http.Request) bool {
	return r.Header.Get("Origin") == "null" && r.Header.Get("Sec-Fetch-Site") == ""
}

// visit is one request for the page.
type visit struct {
	s *Server
	w http.ResponseWriter
	r *http.Request

	by      Person // once somebody is signed in
	account string // their name
	entry   entry  // what they have entered, if anything
}

// entry is a code that was entered, as it is sealed in a URL: on the way through a
// login, and back.
type entry struct {
	Typed string
	// Subject and Session are whose code it turned out to be; empty before.
	Subject string        `json:",omitempty"`
	Session SessionDigest `json:",omitzero"`
}

// get shows the form, or, when the code came in the URL, what it stands for.
func (v *visit) get() {
	query := v.r.URL.Query()
	if resume := query.Get("resume"); resume != "" {
		v.entry = v.s.resumed(resume)
	} else {
		v.entry.Typed = query.Get("user_code")
	}
	// A link on another site must not use up the guesses of whoever follows it:
	// the person sends the code off themselves.
	if v.entry.Typed == "" || v.r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		v.form(http.StatusOK, false)
		return
	}
	v.enter()
}

func (v *visit) post() {
	f, err := readForm(v.r, "scope")
	if err != nil {
		v.message(http.StatusBadRequest, MessageMalformed)
		return
	}
	defer f.free()
	switch action := f.get("action"); action {
	case "":
		v.entry.Typed = f.get("user_code")
		v.enter()
	case "switch":
		v.entry = v.s.resumed(f.get("resume"))
		v.switchAccount()
	default:
		v.decide(action, f.get("ticket"), v.approval(f))
	}
}

// approval is what the form adds to a yes. Boxes that are all unticked are not sent, so
// that a field beside them says that they were there.
func (v *visit) approval(f *form) Approval {
	a := Approval{Confirmed: f.get("confirm") == "yes"}
	if v.s.cfg.NarrowScopes && f.get("narrow") == "yes" {
		a.Scopes = append([]string{}, f.all("scope")...)
	}
	return a
}

const resumePurpose = "resume"

// resumeURI returns where a code that was entered is looked up again. It is sealed in
// it, so that it stands in no log.
func (s *Server) resumeURI(e entry) string {
	if sealed := s.resume(e); sealed != "" {
		return s.resumePath + sealed
	}
	return s.verifyPath
}

// resume seals an entry; nothing if there is none that could be right.
func (s *Server) resume(e entry) string {
	if e.Typed == "" || len(e.Typed) > maxTyped {
		return ""
	}
	content, err := json.Marshal(e)
	if err != nil {
		panic(err) // Strings always marshal.
	}
	return s.keys.seal(resumePurpose, s.now().Add(s.cfg.Lifetime), content)
}

// resumed returns what resume was given; nothing when it is too old or forged.
func (s *Server) resumed(sealed string) (e entry) {
	content, ok := s.keys.unseal(resumePurpose, s.now(), sealed)
	if !ok || json.Unmarshal(content, &e) != nil {
		return entry{}
	}
	return e
}

// signIn finds out who visits. When nobody is signed in, the host has sent the browser
// to its login, from where it comes back to the code that was entered.
func (v *visit) signIn() bool {
	subject, ok := v.s.cfg.SignedIn(v.w, v.r, v.s.resumeURI(v.entry))
	if !ok {
		return false
	}
	v.by = Person{Subject: subject, Session: v.session(), Addr: v.s.remoteAddr(v.r), UserAgent: v.r.UserAgent()}
	name, err := v.s.cfg.AccountName(v.r.Context(), subject)
	if err != nil {
		v.failure(err)
		return false
	}
	v.account = name
	return true
}

// enter shows what a code stands for, with the buttons to decide. A code that was
// posted leads to a page of its own, so that the browser can go back to it.
func (v *visit) enter() {
	if !v.signIn() {
		return
	}
	lookup := v.s.Lookup
	if v.entry.Subject == v.by.Subject && v.entry.Session == v.by.session() {
		lookup = v.s.lookupAgain
	}
	review, err := lookup(v.r.Context(), v.entry.Typed, v.by)
	switch {
	case errors.Is(err, ErrUserCode):
		v.form(http.StatusBadRequest, true)
	case err != nil:
		v.failure(err)
	case v.r.Method == http.MethodPost:
		v.entry.Subject, v.entry.Session = v.by.Subject, v.by.session()
		http.Redirect(v.w, v.r, v.s.resumeURI(v.entry), http.StatusSeeOther) // Our own path; what was typed is sealed in it.
	default:
		v.review(http.StatusOK, review, nil)
	}
}

// switchAccount lets the person sign in as somebody else, and come back to the code.
func (v *visit) switchAccount() {
	if v.s.cfg.SwitchAccount == nil {
		v.message(http.StatusBadRequest, MessageMalformed)
		return
	}
	v.s.cfg.SwitchAccount(v.w, v.r, v.s.resumeURI(v.entry))
}

// decide takes the decision that was made on the review page.
func (v *visit) decide(action, ticket string, approval Approval) {
	take, done := v.decision(action, ticket, approval)
	if take == nil {
		v.message(http.StatusBadRequest, MessageMalformed)
		return
	}
	if !v.signIn() {
		return
	}
	err := take(v.r.Context())
	if errors.Is(err, ErrNoScope) { // Who allows nothing denies.
		err, done = v.s.Deny(v.r.Context(), ticket, v.by), MessageDenied
	}
	switch {
	case action == actionLeave:
		v.w.WriteHeader(http.StatusNoContent) // Nobody looks any more.
	case errors.Is(err, ErrUnconfirmed):
		v.unconfirmed(ticket, approval)
	case err != nil:
		v.failure(err)
	default:
		v.message(http.StatusOK, done)
	}
}

// actionLeave is what the page sends when it is left.
const actionLeave = "leave"

// decision returns what an action does, and the message that says so; nil if there is
// no such action.
func (v *visit) decision(action, ticket string, approval Approval) (take func(context.Context) error, done MessageKind) {
	s := v.s
	switch {
	case action == "approve":
		return func(ctx context.Context) error { return s.Approve(ctx, ticket, v.by, approval) }, MessageApproved
	case action == "deny":
		return func(ctx context.Context) error { return s.Deny(ctx, ticket, v.by) }, MessageDenied
	case action == "report":
		return func(ctx context.Context) error { return s.Report(ctx, ticket, v.by) }, MessageReported
	case action == actionLeave && s.cfg.DenyOnLeave:
		return func(ctx context.Context) error { return s.leave(ctx, ticket, v.by) }, MessageDenied
	default:
		return nil, ""
	}
}

// unconfirmed asks again, and says what was missing. What was unticked stays so.
func (v *visit) unconfirmed(ticket string, approval Approval) {
	review, err := v.s.reviewAgain(v.r.Context(), ticket, v.by)
	if err != nil {
		v.failure(err)
		return
	}
	v.review(http.StatusBadRequest, review, &approval)
}

// failure is where the errors of Lookup, Approve, Deny and Report become pages.
func (v *visit) failure(err error) {
	var tooMany *TooManyGuessesError
	switch {
	case errors.As(err, &tooMany):
		v.retryAfter(tooMany.RetryAfter)
		v.show(http.StatusTooManyRequests, View{Message: &MessageView{Kind: MessageTooMany, Again: true, Wait: tooMany.RetryAfter}})
	case errors.Is(err, ErrDecided):
		v.message(http.StatusConflict, MessageDecided)
	case errors.Is(err, ErrOtherSession):
		v.message(http.StatusConflict, MessageOtherSession)
	case errors.Is(err, ErrRefused):
		v.message(http.StatusForbidden, MessageRefused)
	case errors.Is(err, ErrTicket), errors.Is(err, ErrUserCode):
		v.message(http.StatusBadRequest, MessageStale)
	default:
		v.s.cfg.Logger.ErrorContext(v.r.Context(), "devicegrant: verification page failed", "error", err)
		v.retryAfter(v.s.cfg.Interval)
		v.message(http.StatusServiceUnavailable, MessageUnavailable)
	}
}

func (v *visit) retryAfter(d time.Duration) {
	v.w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(d), 10))
}

func (v *visit) form(status int, wrong bool) {
	f := &FormView{Typed: v.entry.Typed, Wrong: wrong}
	if len(f.Typed) > maxTyped {
		f.Typed = "" // Nobody typed that.
	}
	v.show(status, View{Form: f})
}

// review asks the person; unconfirmed is the approval that they tried before, if any.
func (v *visit) review(status int, r *Review, unconfirmed *Approval) {
	device := r.Device.Name
	if device == "" {
		device = r.Device.UserAgent
	}
	scopes, narrow := r.scopeViews(unconfirmed)
	v.entry.Typed = r.UserCode
	v.show(status, View{Review: &ReviewView{
		Ticket: r.Ticket, UserCode: r.UserCode, Client: r.Client.displayName(),
		Scopes: scopes, Narrow: narrow && v.s.cfg.NarrowScopes,
		Resources: r.Resources, Details: detailViews(r.AuthorizationDetails),
		Device:  Side{Name: device, Addr: addrText(r.Device.Addr), Place: r.DevicePlace},
		Browser: Side{Addr: addrText(v.by.Addr), Place: r.Place},
		Minutes: int(v.s.now().Sub(r.CreatedAt) / time.Minute), CreatedAt: r.CreatedAt,
		Elsewhere: r.Elsewhere, Warned: r.Warned,
		Confirm: v.s.cfg.ConfirmCode, Unconfirmed: unconfirmed != nil,
		DenyOnLeave: v.s.cfg.DenyOnLeave,
	}})
}

// scopeViews are the scopes, unticked if they were so before; some is whether there are
// any that can be.
func (r *Review) scopeViews(before *Approval) (scopes []ScopeView, some bool) {
	for _, name := range r.Scopes {
		scope := ScopeView{Scope: name, Required: slices.Contains(r.Client.RequiredScopes, name)}
		scope.Unticked = before != nil && before.Scopes != nil && !scope.Required && !slices.Contains(before.Scopes, name)
		scopes, some = append(scopes, scope), some || !scope.Required
	}
	return scopes, some
}

func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// message shows a page that only says something. Where something is left to do, it
// offers the form.
func (v *visit) message(status int, kind MessageKind) {
	over := status == http.StatusOK
	v.show(status, View{Message: &MessageView{Kind: kind, Again: !over}})
}

func (v *visit) show(status int, view View) {
	view.Account = v.account
	if v.s.cfg.SwitchAccount != nil && v.account != "" {
		view.CanSwitch, view.Resume = true, v.s.resume(v.entry)
	}
	if err := v.s.pages.show(v.w, v.r, status, view); err != nil {
		v.s.cfg.Logger.ErrorContext(v.r.Context(), "devicegrant: Config.Page.Template failed", "error", err)
	}
}
