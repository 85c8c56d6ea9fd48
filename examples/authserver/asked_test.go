package main

import (
	"html"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNarrowedScope: what a person unticks, the token does not have, nor what is issued
// for it later; and the response says so (RFC 6749 section 5.1).
func TestNarrowedScope(t *testing.T) {
	for kind, args := range kinds {
		t.Run(kind, func(t *testing.T) {
			p := serve(t, args(t)...)
			defer p.end(t)
			d := newDevice(t)
			b, _ := newPerson(t)
			signIn(t, b, p)
			a := d.post(p, "/device_authorization", url.Values{"scope": {"openid profile offline_access"}})
			b.Open(p.origin + "/device?user_code=" + a.UserCode)
			b.Untick("scope", "profile")
			b.Submit("approve", nil)
			require.Equal(t, http.StatusOK, b.Status, b.Text)

			got := d.poll(p, a.DeviceCode)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			assert.Equal(t, "openid offline_access", got.Scope)
			assert.JSONEq(t, `{"sub":"alice","scope":"openid offline_access"}`, d.userinfo(p, got.AccessToken).Body)
			next := d.refresh(p, got.RefreshToken)
			assert.Equal(t, "openid offline_access", next.Scope)
			again := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {next.RefreshToken}, "scope": {"openid profile"}}
			assert.Equal(t, "invalid_scope", d.post(p, "/token", again).Error)
		})
	}
}

// TestScopeAsAsked: a decision that says nothing of scopes allows all of them, and one that
// names none keeps what the client cannot be without.
func TestScopeAsAsked(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, p)
	for _, tt := range []struct {
		name   string
		fields url.Values
		want   string
	}{
		{"no field", url.Values{}, "openid profile offline_access"},
		{"narrow only", url.Values{"narrow": {"yes"}}, "openid"},
		{"one scope", url.Values{"narrow": {"yes"}, "scope": {"offline_access"}}, "openid offline_access"},
		{"more than was asked for", url.Values{"narrow": {"yes"}, "scope": {"profile", "admin"}}, "openid profile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := d.post(p, "/device_authorization", url.Values{"scope": {"openid profile offline_access"}})
			b.Open(p.origin + "/device?user_code=" + a.UserCode)
			tt.fields.Set("ticket", b.Field("ticket"))
			tt.fields.Set("action", "approve")
			b.Post("/device", tt.fields)
			require.Equal(t, http.StatusOK, b.Status, b.Text)
			got := d.poll(p, a.DeviceCode)
			assert.Equal(t, tt.want, got.Scope, got.Body)
		})
	}
}

const payment = `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Merchant A"},` +
	`{"type":"payment_initiation","actions":["initiate"],"locations":["https://example.com/payments"],` +
	`"instructedAmount":{"currency":"EUR","amount":"0.70"},"creditorName":"Märchant B","exact":1.50e2,"n":12345678901234567890}]`

// TestAsked: resources (RFC 8707) and authorization details (RFC 9396) are shown to the
// person, and reach the token as they were sent.
func TestAsked(t *testing.T) {
	for kind, args := range kinds {
		t.Run(kind, func(t *testing.T) {
			p := serve(t, args(t)...)
			defer p.end(t)
			d := newDevice(t)
			b, _ := newPerson(t)
			signIn(t, b, p)
			resources := []string{p.origin + "/userinfo", "https://api.example.com/"}
			a := d.authorizeWith(p, url.Values{"resource": resources, "authorization_details": {payment}})
			b.Open(p.origin + "/device?user_code=" + a.UserCode)
			shown := html.UnescapeString(b.Text)
			for _, want := range []string{
				resources[0], resources[1], "payment_initiation",
				"Pay 123.50 EUR to “Merchant A”",
				"Märchant B", "https://example.com/payments", "1.50e2", "12345678901234567890",
			} {
				assert.Contains(t, shown, want)
			}
			b.Submit("approve", nil)
			require.Equal(t, http.StatusOK, b.Status, b.Text)

			got := d.poll(p, a.DeviceCode)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			assert.Contains(t, got.Body, `"authorization_details":`+payment)
			assert.Equal(t, resources, d.userinfo(p, got.AccessToken).Aud)
			next := d.refresh(p, got.RefreshToken)
			assert.Contains(t, next.Body, `"authorization_details":`+payment)
			assert.Equal(t, resources, d.userinfo(p, next.AccessToken).Aud)
		})
	}
}

func TestAskedTooMuch(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	basic := []string{"Authorization", "Basic " + basicCLI}
	for _, tt := range []struct {
		name  string
		asked url.Values
		by    []string // headers
		want  string
	}{
		{"unknown resource", url.Values{"resource": {"https://other.example.com/"}}, nil, "invalid_target"},
		{"almost a resource", url.Values{"resource": {"https://api.example.com"}}, nil, "invalid_target"},
		{"one of two", url.Values{"resource": {"https://api.example.com/", "https://other.example.com/"}}, nil, "invalid_target"},
		{"fragment", url.Values{"resource": {"https://api.example.com/#x"}}, nil, "invalid_target"},
		{"no URI", url.Values{"resource": {"api"}}, nil, "invalid_target"},
		{"another client's resource", url.Values{"resource": {"https://api.example.com/"}}, basic, "invalid_target"},
		{"unknown type", url.Values{"authorization_details": {`[{"type":"account_information"}]`}}, nil, "invalid_authorization_details"},
		{"one of two types", url.Values{"authorization_details": {`[{"type":"payment_initiation"},{"type":"x"}]`}}, nil, "invalid_authorization_details"},
		{"no type", url.Values{"authorization_details": {`[{}]`}}, nil, "invalid_authorization_details"},
		{"no array", url.Values{"authorization_details": {`{"type":"payment_initiation"}`}}, nil, "invalid_authorization_details"},
		{"no JSON", url.Values{"authorization_details": {`[`}}, nil, "invalid_authorization_details"},
		{"name twice", url.Values{"authorization_details": {`[{"type":"payment_initiation","a":1,"a":2}]`}}, nil, "invalid_authorization_details"},
		{"another client's type", url.Values{"authorization_details": {payment}}, basic, "invalid_authorization_details"},
	} {
		a := d.post(p, "/device_authorization", tt.asked, tt.by...)
		assert.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		assert.Equal(t, tt.want, a.Error, tt.name)
	}
}
