package main

import (
	"net/url"
	"os/exec"
)

// browserCommand is what opens a page in the person's browser; nil if that would not be on
// the screen in front of them.
func browserCommand(goos string, getenv func(string) string, uri string) []string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil // Other schemes start other programs.
	}
	if getenv("SSH_CONNECTION") != "" {
		return nil
	}
	switch goos {
	case "darwin":
		return []string{"open", uri}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler", uri}
	default:
		if getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "" {
			return nil
		}
		return []string{"xdg-open", uri}
	}
}

// start runs a command on its own, without this terminal, and reports whether it could be
// started. It may run for as long as the browser does, and Ctrl-C must not end it.
func start(command []string) bool {
	if command == nil {
		return false
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // The program is a constant, and the URL one argument.
	cmd.SysProcAttr = detached
	if cmd.Start() != nil {
		return false
	}
	_ = cmd.Process.Release() // Nobody waits for it.
	return true
}
