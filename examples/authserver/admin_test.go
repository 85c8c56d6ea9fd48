package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const adminSecret = "an operator's secret"

var basicCLI = base64.StdEncoding.EncodeToString([]byte("cli:cli-secret"))

// operator sends a form with the operator's secret.
func (d *device) operator(p *process, path string, form url.Values) answer {
	d.t.Helper()
	return d.post(p, "/admin/grants/"+path, form, "Authorization", "Bearer "+adminSecret)
}

// listed are the ids and states of what an operator sees.
func (d *device) listed(p *process, form url.Values) (states map[string]string) {
	d.t.Helper()
	a := d.operator(p, "list", form)
	require.Equal(d.t, http.StatusOK, a.Status, a.Body)
	var said struct {
		Grants []listed
		More   bool
	}
	require.NoError(d.t, json.Unmarshal([]byte(a.Body), &said))
	assert.False(d.t, said.More)
	states = map[string]string{}
	for _, g := range said.Grants {
		states[g.ID] = g.State
		assert.Equal(d.t, "tv", g.ClientID)
		assert.Equal(d.t, "127.0.0.1", g.Addr)
		assert.Equal(d.t, "Kitchen", g.Device)
	}
	return states
}

// TestRevoke: an operator finds what is not collected yet by its user code, its client or
// its subject, and ends it: the device is told access_denied (RFC 8628 section 3.5).
func TestRevoke(t *testing.T) {
	for kind, args := range kinds {
		t.Run(kind, func(t *testing.T) {
			for by, filter := range map[string]func(a answer) url.Values{
				"user code":       func(a answer) url.Values { return url.Values{"user_code": {a.UserCode}} },
				"client":          func(answer) url.Values { return url.Values{"client_id": {"tv"}} },
				"subject":         func(answer) url.Values { return url.Values{"subject": {"alice"}} },
				"code and client": func(a answer) url.Values { return url.Values{"user_code": {a.UserCode}, "client_id": {"tv"}} },
			} {
				t.Run(by, func(t *testing.T) {
					p := serve(t, append(args(t), "-admin-secret", adminSecret)...)
					defer p.end(t)
					d := newDevice(t)
					b, _ := newPerson(t)
					signIn(t, b, p)
					a := d.authorizeWith(p, url.Values{"device_name": {"Kitchen"}})
					approve(t, b, p, a.UserCode)
					other := d.post(p, "/device_authorization", url.Values{}, "Authorization", "Basic "+basicCLI)

					states := d.listed(p, filter(a))
					require.Len(t, states, 1)
					for _, state := range states {
						assert.Equal(t, "approved", state)
					}
					said := d.operator(p, "list", filter(a)).Body
					assert.NotContains(t, said, a.DeviceCode)
					assert.NotContains(t, said, a.UserCode)
					got := d.operator(p, "revoke", filter(a))
					require.JSONEq(t, `{"revoked":1}`, got.Body)
					assert.Equal(t, "access_denied", d.poll(p, a.DeviceCode).Error)
					assert.Empty(t, d.listed(p, filter(a)))
					assert.JSONEq(t, `{"revoked":0}`, d.operator(p, "revoke", filter(a)).Body)

					left := d.post(p, "/token", pollForm(other.DeviceCode), "Authorization", "Basic "+basicCLI)
					assert.Equal(t, "authorization_pending", left.Error, "another's login was ended")
					assert.Contains(t, p.log.String(), "device grant: revoked")
				})
			}
		})
	}
}

// TestOperatorRefused: what an operator cannot ask, and who is none.
func TestOperatorRefused(t *testing.T) {
	p := serve(t, "-admin-secret", adminSecret)
	defer p.end(t)
	d := newDevice(t)
	a := d.authorize(p)
	form := func() url.Values { return url.Values{"user_code": {a.UserCode}} }
	for _, path := range []string{"/admin/grants/list", "/admin/grants/revoke"} {
		for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer another", "Basic " + basicCLI, "Basic " + adminSecret} {
			got := d.post(p, path, form(), "Authorization", authorization)
			assert.Equal(t, http.StatusUnauthorized, got.Status, authorization)
			assert.Equal(t, "invalid_token", got.Error)
			assert.Equal(t, "Bearer", got.Header.Get("WWW-Authenticate"))
		}
		got := d.post(p, path+"?user_code="+a.UserCode, url.Values{}, "Authorization", "Bearer "+adminSecret)
		assert.Equal(t, http.StatusBadRequest, got.Status, "a code in the URL is not read")
		assert.Equal(t, "invalid_request", got.Error)
	}
	assert.JSONEq(t, `{"grants":[],"more":false}`, d.operator(p, "list", url.Values{"user_code": {"nonsense"}}).Body)
	assert.Equal(t, "authorization_pending", d.poll(p, a.DeviceCode).Error)
}

// TestNoOperator: without the option, there is no such endpoint.
func TestNoOperator(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	for _, path := range []string{"list", "revoke"} {
		resp, err := newDevice(t).client.PostForm(p.origin+"/admin/grants/"+path, url.Values{"client_id": {"tv"}})
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, http.StatusNotFound, resp.StatusCode)
	}
}
