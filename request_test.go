package devicegrant_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// tvWithMore may ask for resources and authorization details.
var tvWithMore = devicegrant.Client{
	ID: "tv", DeviceGrant: true, Scopes: []string{"openid"},
	Resources:                 []string{"https://api.example.com/", "https://api.example.com/v2?x=1", "urn:example:films"},
	AuthorizationDetailsTypes: []string{"payment", "films"},
}

// Which scope a client gets (RFC 6749 section 3.3). Nothing of the host's own changes.
func TestScopes(t *testing.T) {
	client := devicegrant.Client{
		ID: "tv", DeviceGrant: true, Scopes: []string{"openid", "profile", "email"},
		DefaultScopes: []string{"profile", "profile", "email", "openid"},
	}
	f := newFixture(t, nil)
	for _, tt := range []struct{ asked, want string }{
		{"", "profile email openid"},
		{"openid", "openid"},
		{"email openid", "email openid"},
		{"openid openid email openid", "openid email"},
	} {
		a, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{Scope: tt.asked})
		require.NoError(t, err)
		assert.Equal(t, strings.Fields(tt.want), f.review(a.UserCode, alice).Scopes, tt.asked)
	}
	assert.Equal(t, []string{"profile", "profile", "email", "openid"}, client.DefaultScopes)
	for _, asked := range []string{"admin", "openid admin", " ", "openid ", "openid  email"} {
		_, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{Scope: asked})
		require.ErrorIs(t, err, devicegrant.ErrInvalidScope, asked)
	}
}

// Which resources are taken (RFC 8707 section 2).
func TestResources(t *testing.T) {
	many := make([]string, 1000)
	long := tvWithMore
	for i := range many {
		many[i] = "urn:" + strings.Repeat("x", i)
	}
	long.Resources = many
	for name, tt := range map[string]struct {
		client devicegrant.Client
		asked  []string
		want   string
		ok     bool
	}{
		"none":               {tvWithMore, nil, "", true},
		"one":                {tvWithMore, []string{"urn:example:films"}, "urn:example:films", true},
		"several, as sent":   {tvWithMore, []string{"urn:example:films", "https://api.example.com/"}, "urn:example:films https://api.example.com/", true},
		"twice":              {tvWithMore, []string{"urn:example:films", "urn:example:films"}, "urn:example:films", true},
		"with a query":       {tvWithMore, []string{"https://api.example.com/v2?x=1"}, "https://api.example.com/v2?x=1", true},
		"another":            {tvWithMore, []string{"https://api.example.com"}, "", false},
		"one of them":        {tvWithMore, []string{"urn:example:films", "urn:example:books"}, "", false},
		"in another case":    {tvWithMore, []string{"HTTPS://api.example.com/"}, "", false},
		"relative":           {devicegrant.Client{DeviceGrant: true, Resources: []string{"/api"}}, []string{"/api"}, "", false},
		"with a fragment":    {devicegrant.Client{DeviceGrant: true, Resources: []string{"urn:a#b"}}, []string{"urn:a#b"}, "", false},
		"an empty fragment":  {devicegrant.Client{DeviceGrant: true, Resources: []string{"urn:a#"}}, []string{"urn:a#"}, "", false},
		"two in one":         {devicegrant.Client{DeviceGrant: true, Resources: []string{"urn:a urn:b"}}, []string{"urn:a urn:b"}, "", false},
		"no URI":             {devicegrant.Client{DeviceGrant: true, Resources: []string{":"}}, []string{":"}, "", false},
		"more than are kept": {long, many[:100], "", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			a, err := f.Authorize(t.Context(), tt.client, devicegrant.AuthorizationRequest{Resources: tt.asked})
			if !tt.ok {
				require.ErrorIs(t, err, devicegrant.ErrInvalidTarget)
				assert.Empty(t, f.events)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, strings.Fields(tt.want), f.review(a.UserCode, alice).Resources)
		})
	}
}

// Which authorization details are taken (RFC 9396 sections 2 and 5).
func TestAuthorizationDetails(t *testing.T) {
	for name, tt := range map[string]struct {
		details string
		ok      bool
	}{
		"none":                    {"", true},
		"one":                     {`[{"type":"payment","amount":12.50}]`, true},
		"several, and spaces":     {" [ {\"type\": \"payment\"},\n{\"type\":\"films\", \"deep\": [[{\"a\":null}]]} ] ", true},
		"an escaped type":         {`[{"type":"p\u0061yment"}]`, true},
		"an empty array":          {`[]`, true},
		"no JSON":                 {`[{"type":"payment"]`, false},
		"an object":               {`{"type":"payment"}`, false},
		"null":                    {`null`, false},
		"an array of strings":     {`["payment"]`, false},
		"an array of null":        {`[null]`, false},
		"no type":                 {`[{"amount":1}]`, false},
		"type in another case":    {`[{"Type":"payment"}]`, false},
		"type is no string":       {`[{"type":1}]`, false},
		"type is null":            {`[{"type":null}]`, false},
		"type is empty":           {`[{"type":""}]`, false},
		"another type":            {`[{"type":"payment"},{"type":"admin"}]`, false},
		"a name twice":            {`[{"type":"payment","type":"films"}]`, false},
		"a name twice, escaped":   {`[{"type":"payment","t\u0079pe":"films"}]`, false},
		"a name twice, deep down": {`[{"type":"payment","to":[{"iban":"1","iban":"2"}]}]`, false},
		"something behind it":     {`[{"type":"payment"}] []`, false},
		"no UTF-8":                {"[{\"type\":\"payment\",\"note\":\"\xff\"}]", false},
		"more than is kept":       {`[{"type":"payment","note":"` + strings.Repeat("x", 16<<10) + `"}]`, false},
		"deeply nested":           {`[{"type":"payment","x":` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + `}]`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			a, err := f.Authorize(t.Context(), tvWithMore, devicegrant.AuthorizationRequest{AuthorizationDetails: tt.details})
			if !tt.ok {
				require.ErrorIs(t, err, devicegrant.ErrInvalidAuthorizationDetails)
				assert.Empty(t, f.events)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.details, f.review(a.UserCode, alice).AuthorizationDetails)
		})
	}
}

// Whatever is sent is refused in the form of the protocol, or reaches IssueToken as it is
// and says to every reader what was checked.
func FuzzAuthorizationDetails(f *testing.F) {
	for _, s := range []string{`[{"type":"payment"}]`, `[{"type":"payment","type":"films"}]`, `[{"t\u0079pe":"films"}]`, `[[]]`, `null`, "\xff", `[{"type":"films","a":{"b":[1e400,"\ud800"]}}]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, details string) {
		fix := newFixture(t, nil)
		a, err := fix.Authorize(t.Context(), tvWithMore, devicegrant.AuthorizationRequest{AuthorizationDetails: details})
		if err != nil {
			require.ErrorIs(t, err, devicegrant.ErrInvalidAuthorizationDetails)
			return
		}
		var given string
		fix.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			given = g.AuthorizationDetails
			return nil, nil
		}
		fix.approve(a)
		fix.requirePoll(a, nil)
		require.Equal(t, details, given)
		if details == "" {
			return
		}
		var objects []map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(details), &objects))
		for _, object := range objects {
			var kind string
			require.NoError(t, json.Unmarshal(object["type"], &kind))
			require.Contains(t, tvWithMore.AuthorizationDetailsTypes, kind)
		}
	})
}

// Both over HTTP, where resource can be repeated, and nothing else can.
func TestRequestOnTheWire(t *testing.T) {
	var asked devicegrant.Application
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AuthenticateClient = func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) { return tvWithMore, nil }
		c.Policy = func(_ context.Context, a devicegrant.Application) (devicegrant.Terms, error) {
			asked = a
			return devicegrant.Terms{}, nil
		}
	})
	const details = `[{"type":"payment","amount":"12.50 €"}]`
	form := url.Values{
		"client_id": {"tv"}, "resource": {"urn:example:films", "", "https://api.example.com/"}, "authorization_details": {details},
		"code_challenge": {codeChallenge}, "code_challenge_method": {"S256"},
	}
	require.Equal(t, 200, f.post("/device_authorization", form.Encode()).Code)
	assert.Equal(t, []string{"urn:example:films", "https://api.example.com/"}, asked.Resources)
	assert.Equal(t, details, asked.AuthorizationDetails) //nolint:testifylint // Byte for byte.
	assert.True(t, asked.Challenge)
	for name, tt := range map[string]struct{ parameter, value, want string }{
		"resource":              {"resource", "urn:other", "invalid_target"},
		"authorization_details": {"authorization_details", "{}", "invalid_authorization_details"},
		"code_challenge":        {"code_challenge", "x", "invalid_request"},
	} {
		bad := url.Values{"client_id": {"tv"}, "code_challenge_method": {"S256"}, tt.parameter: {tt.value}}
		if tt.parameter != "code_challenge" {
			bad.Del("code_challenge_method")
		}
		w := f.post("/device_authorization", bad.Encode())
		assert.Equal(t, 400, w.Code, name)
		assert.Equal(t, tt.want, errorCode(t, w), name)
	}
	form["authorization_details"] = []string{details, details}
	assert.Equal(t, "invalid_request", errorCode(t, f.post("/device_authorization", form.Encode())))
}
