package integration

import (
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/integration/internal/databases"
)

// storeURLs are the databases that a server can be given, each one of the test's own.
var storeURLs = map[string]func(t *testing.T) string{
	"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "a file?.db") },
	"postgres": func(t *testing.T) string { return databases.PostgreSQL.Create(t) },
	"mysql": func(t *testing.T) string {
		cfg, err := mysql.ParseDSN(databases.MariaDB.Create(t))
		require.NoError(t, err)
		user := url.User(cfg.User)
		if cfg.Passwd != "" {
			user = url.UserPassword(cfg.User, cfg.Passwd)
		}
		return (&url.URL{Scheme: "mysql", User: user, Host: cfg.Addr, Path: "/" + cfg.DBName}).String()
	},
}

// Two servers on one database are one server, also when one of them is replaced.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for name, create := range storeURLs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"-store", create(t), "-key", filepath.Join(t.TempDir(), "key"), "-interval", "1s"}
			one, two := startAuthServer(t, args...), startAuthServer(t, args...)
			a := one.authorize(t)
			assert.Equal(t, "authorization_pending", two.poll(t, a.DeviceCode).Error)
			a.VerificationURI = two.origin + "/device"
			newAlice(t).approve(t, a)

			require.Zero(t, two.stop(t, syscall.SIGTERM))
			three := startAuthServer(t, args...)
			token := three.poll(t, a.DeviceCode)
			require.Equal(t, http.StatusOK, token.status, token.raw)
			assert.Equal(t, "invalid_grant", three.poll(t, a.DeviceCode).Error)

			assert.Equal(t, "alice", one.userinfo(t, token.AccessToken).Sub)
			next := one.refresh(t, "tv", token.RefreshToken)
			require.Equal(t, http.StatusOK, next.status, next.raw)
			assert.Equal(t, "alice", three.userinfo(t, next.AccessToken).Sub)
			assert.Equal(t, "invalid_grant", three.refresh(t, "tv", token.RefreshToken).Error, "it was used before")
			assert.Equal(t, http.StatusUnauthorized, one.userinfo(t, next.AccessToken).status, "both holders lose the login")
		})
	}
}

// Replicas count wrong codes together: what is wrong at one is not to be tried at
// another.
func TestReplicasShareGuesses(t *testing.T) {
	t.Parallel()
	for name, create := range storeURLs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"-store", create(t), "-key", filepath.Join(t.TempDir(), "key")}
			replicas := []*authServer{startAuthServer(t, args...), startAuthServer(t, args...)}
			alice := newAlice(t)
			first := alice.submit(t, alice.open(t, replicas[0].origin+"/device"), map[string]string{"user_code": "BBBB-BBBB"})
			require.Equal(t, titleLogin, first.heading())
			guess := alice.submit(t, first, map[string]string{"username": "alice", "password": "wonderland"})
			statuses := []int{guess.status}
			for i := range 4 {
				guess = alice.submit(t, alice.open(t, replicas[(i+1)%2].origin+"/device"), map[string]string{"user_code": "BBBB-BBBB"})
				statuses = append(statuses, guess.status)
			}
			assert.Equal(t, []int{400, 400, 400, 429, 429}, statuses)
		})
	}
}

// What a device asks for beyond scopes is the same when it has been through a database,
// and what a person unticks is gone.
func TestAskedOnDatabases(t *testing.T) {
	t.Parallel()
	const details = `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Märchant","n":1.50e2}]`
	for name, create := range storeURLs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startAuthServer(t, "-store", create(t), "-admin-secret", "an operator's secret")
			resources := []string{server.origin + "/userinfo", "https://api.example.com/"}
			authorize := func() answer {
				a := server.post(t, "/device_authorization", "client_id", "tv", "scope", "openid profile",
					"resource", resources[0], "resource", resources[1], "authorization_details", details)
				require.Equal(t, http.StatusOK, a.status, a.raw)
				return a
			}
			a, alice := authorize(), newAlice(t)
			review := alice.submit(t, alice.open(t, a.VerificationURIComplete), map[string]string{"username": "alice", "password": "wonderland"})
			require.Equal(t, titleReview, review.heading())
			for _, want := range append(resources, "payment_initiation", "Märchant", "1.50e2") {
				assert.Contains(t, review.text(), want)
			}
			fields := hiddenFields(review.find("form"))
			fields.Set("narrow", "yes") // And no scope, so that profile is not allowed.
			fields.Set("action", "approve")
			require.Equal(t, titleApproved, alice.post(t, review.url, fields).heading())

			token := server.poll(t, a.DeviceCode)
			require.Equal(t, http.StatusOK, token.status, token.raw)
			assert.Equal(t, "openid", token.Scope)
			assert.Contains(t, token.raw, `"authorization_details":`+details)
			assert.JSONEq(t, `{"sub":"alice","scope":"openid","aud":["`+resources[0]+`","`+resources[1]+`"]}`, server.userinfo(t, token.AccessToken).raw)

			pending := authorize()
			r := server.postRequest(t, "/admin/grants/revoke", "client_id=tv")
			r.Header.Set("Authorization", "Bearer an operator's secret")
			assert.JSONEq(t, `{"revoked":1}`, server.do(t, r).raw)
			assert.Equal(t, "access_denied", server.poll(t, pending.DeviceCode).Error)
		})
	}
}

// The client that most Go programs use, on the database that TestClients leaves out.
func TestOAuth2OnMySQL(t *testing.T) { // Not beside tests that keep the machine busy.
	server := startAuthServer(t, "-store", storeURLs["mysql"](t), "-interval", "2s")
	c := oauth2Clients["tv auto-detected"]
	d := newDevice(t, server.origin, c)
	result := d.poll(t, d.authorization)
	d.recorder.await(t, pendingPolls*c.perPoll)
	newAlice(t).approve(t, d.shown())
	token := requireToken(t, result)
	d.requirePolls(t)
	assert.Equal(t, "alice", server.userinfo(t, token.AccessToken).Sub)
	requireRefresh(t, server, d, token)
}
