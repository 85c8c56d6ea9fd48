package demo

import (
	"context"
	"net/netip"

	"github.com/devicegrant/devicegrant"
)

// Place is for devicegrant.Config. A real server asks a database of addresses.
func (h *Host) Place(_ context.Context, addr netip.Addr) string {
	switch {
	case addr.IsLoopback():
		return "This computer"
	case addr.IsPrivate(), addr.IsLinkLocalUnicast():
		return "Local network"
	default:
		return ""
	}
}

// Risk is for devicegrant.Config: a code that others have tried as well may have been
// passed around.
func (h *Host) Risk(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
	if s.Entered > 1 {
		return devicegrant.Warn, nil
	}
	return devicegrant.Allow, nil
}

// scopeWords says what the scopes permit.
var scopeWords = map[string]string{
	"openid":         "Know who you are",
	"profile":        "See your name",
	"offline_access": "Stay signed in",
}

// Page is the verification page's Config: scopes in words, in English.
var Page = devicegrant.Page{Scope: func(scope, language string) string {
	if language != "en" {
		return ""
	}
	return scopeWords[scope]
}}
