package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

// admin lets an operator see and end what is not collected yet. What it is asked for is in
// the body, for URLs are logged and user codes are secret; none is in its answers.
type admin struct {
	grant  *devicegrant.Server
	secret string
}

const (
	maxListed    = 100
	maxAdminForm = 4 << 10 // bytes
)

// listed is a grant as an operator sees it.
type listed struct {
	ID        string    `json:"id"`
	ClientID  string    `json:"client_id"`
	State     string    `json:"state"`
	Subject   string    `json:"subject,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	Resources []string  `json:"resources,omitempty"`
	Device    string    `json:"device_name,omitempty"`
	Addr      string    `json:"addr,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// list answers {"grants": […], "more": false}.
func (a admin) list(ctx context.Context, f devicegrant.Filter) (any, error) {
	grants, err := a.grant.List(ctx, f, nil, maxListed)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Grants []listed `json:"grants"`
		More   bool     `json:"more"` // there may be others
	}{make([]listed, 0, len(grants)), len(grants) == maxListed}
	for _, g := range grants {
		l := listed{
			ID: g.ID.String(), ClientID: g.ClientID, State: g.State.String(), Subject: g.Subject,
			Scope: g.Scope, Resources: strings.Fields(g.Resource), Device: g.Device.Name,
			CreatedAt: g.CreatedAt, ExpiresAt: g.ExpiresAt,
		}
		if g.Device.Addr.IsValid() {
			l.Addr = g.Device.Addr.String()
		}
		answer.Grants = append(answer.Grants, l)
	}
	return answer, nil
}

// revoke answers {"revoked": 1}.
func (a admin) revoke(ctx context.Context, f devicegrant.Filter) (any, error) {
	n, err := a.grant.Revoke(ctx, f)
	return map[string]int{"revoked": n}, err
}

// handler serves an operation on the grants that a form says.
func (a admin) handler(operate func(context.Context, devicegrant.Filter) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.admits(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			demo.WriteJSON(w, http.StatusUnauthorized, adminError("invalid_token"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminForm)
		if r.ParseForm() != nil {
			demo.WriteJSON(w, http.StatusBadRequest, adminError("invalid_request"))
			return
		}
		f := devicegrant.Filter{
			ClientID: r.PostForm.Get("client_id"), Subject: r.PostForm.Get("subject"), UserCode: r.PostForm.Get("user_code"),
		}
		if f == (devicegrant.Filter{}) {
			demo.WriteJSON(w, http.StatusBadRequest, adminError("invalid_request"))
			return
		}
		answer, err := operate(r.Context(), f)
		switch {
		case errors.Is(err, devicegrant.ErrNotListed):
			demo.WriteJSON(w, http.StatusNotImplemented, adminError("not_listed")) // By user code, it works.
		case err != nil: // The library has logged it.
			demo.WriteJSON(w, http.StatusServiceUnavailable, adminError("temporarily_unavailable"))
		default:
			demo.WriteJSON(w, http.StatusOK, answer)
		}
	})
}

// admits reports whether the operator's secret is with the request. How much of it is
// right, nobody can time.
func (a admin) admits(r *http.Request) bool {
	scheme, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(sent)), sha256.Sum256([]byte(a.secret))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

func adminError(code string) map[string]string { return map[string]string{"error": code} }
