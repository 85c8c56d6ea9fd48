package userinfo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
)

var bearer = &deviceclient.Token{AccessToken: "secret", TokenType: "bearer"}

func newUserinfo(t *testing.T, handler http.HandlerFunc) (endpoint string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL + "/userinfo"
}

func TestAsk(t *testing.T) {
	who, err := Ask(t.Context(), http.DefaultClient, newUserinfo(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"sub":"alice","name":"Alice"}`)
	}), bearer)
	require.NoError(t, err)
	assert.Equal(t, Person{"alice", "Alice"}, who)
}

func TestAskFails(t *testing.T) {
	const nobody = "its userinfo endpoint answered without a subject"
	for _, tt := range []struct {
		status int
		body   string
		want   string
	}{
		{http.StatusForbidden, `{"sub":"alice"}`, "its userinfo endpoint answered 403"},
		{http.StatusOK, "{}", nobody},
		{http.StatusOK, "<html>", nobody},
		{http.StatusOK, strings.Repeat(" ", maxBody) + `{"sub":"alice"}`, nobody},
	} {
		_, err := Ask(t.Context(), http.DefaultClient, newUserinfo(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}), bearer)
		assert.EqualError(t, err, tt.want)
	}
	_, err := Ask(t.Context(), http.DefaultClient, "", bearer)
	assert.EqualError(t, err, "it has no userinfo endpoint")
}

func TestAskSendsTheTokenNowhereElse(t *testing.T) {
	asked := func(http.ResponseWriter, *http.Request) { assert.Fail(t, "the token was sent") }
	elsewhere := newUserinfo(t, asked)
	_, err := Ask(t.Context(), http.DefaultClient, newUserinfo(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	}), bearer)
	require.EqualError(t, err, "its userinfo endpoint answered 307")

	_, err = Ask(t.Context(), http.DefaultClient, elsewhere, &deviceclient.Token{AccessToken: "secret", TokenType: "DPoP"})
	require.EqualError(t, err, "its token is of another type than Bearer")
}
