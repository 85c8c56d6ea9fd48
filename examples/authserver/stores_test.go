package main

import (
	"crypto/tls"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/browser"
)

func TestMySQLConfig(t *testing.T) {
	for _, tt := range []struct {
		name, url, user, password, addr, database string
	}{
		{"all", "mysql://alice:secret@db.example:3307/auth", "alice", "secret", "db.example:3307", "auth"},
		{"default port", "mysql://alice:secret@db.example/auth", "alice", "secret", "db.example:3306", "auth"},
		{"default host", "mysql:///auth", "", "", "127.0.0.1:3306", "auth"},
		{"no password", "mysql://root@127.0.0.1/auth", "root", "", "127.0.0.1:3306", "auth"},
		{"empty password", "mysql://root:@127.0.0.1/auth", "root", "", "127.0.0.1:3306", "auth"},
		{"IPv6", "mysql://root@[::1]:3307/auth", "root", "", "[::1]:3307", "auth"},
		{"encoded password", "mysql://a:%40%3A%2F%3F%23%25%20%5B%29@h/auth", "a", "@:/?#% [)", "h:3306", "auth"},
		{"password with @ and : as they are", "mysql://a:p@s:s@h/auth", "a", "p@s:s", "h:3306", "auth"},
		{"password with brackets", "mysql://a:tcp(x)+1@h/auth", "a", "tcp(x)+1", "h:3306", "auth"},
		{"encoded user", "mysql://a%3Ab%40c:secret@h/auth", "a:b@c", "secret", "h:3306", "auth"},
		{"encoded database", "mysql://a@h/my%2Fdb%3F", "a", "", "h:3306", "my/db?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := mysqlConfig(tt.url)
			require.NoError(t, err)
			assert.Equal(t, []string{tt.user, tt.password, "tcp", tt.addr, tt.database},
				[]string{cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName})
		})
	}
}

func TestMySQLParameters(t *testing.T) {
	cfg, err := mysqlConfig("mysql://a@db.example/auth?timeout=3s&loc=Europe/Berlin&tls=true&time_zone=%27%2B00:00%27&charset=utf8mb4,utf8")
	require.NoError(t, err)
	assert.Equal(t, 3*time.Second, cfg.Timeout)
	assert.Equal(t, "Europe/Berlin", cfg.Loc.String())
	assert.Equal(t, "db.example", cfg.TLS.ServerName)
	assert.Equal(t, map[string]string{"time_zone": "'+00:00'"}, cfg.Params)
}

func TestPostgresConfig(t *testing.T) {
	for _, tt := range []struct {
		name, url, user, password, host string
		port                            uint16
		database                        string
	}{
		{"all", "postgres://alice:secret@db.example:5433/auth", "alice", "secret", "db.example", 5433, "auth"},
		{"other scheme", "postgresql://alice:secret@db.example/auth", "alice", "secret", "db.example", 5432, "auth"},
		{"encoded", "postgres://a%40b:%40%3A%2F%3F%23%25%20@h/my%20db", "a@b", "@:/?#% ", "h", 5432, "my db"},
		{"password with @ and : as they are", "postgres://a:p@s:s@h/auth", "a", "p@s:s", "h", 5432, "auth"},
		{"password as a parameter", "postgres://h/auth?user=a&password=s%26ecret&sslmode=disable", "a", "s&ecret", "h", 5432, "auth"},
		{"IPv6", "postgres://a@[::1]:5433/auth", "a", "", "::1", 5433, "auth"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := postgresConfig(tt.url)
			require.NoError(t, err)
			assert.Equal(t, []string{tt.user, tt.password, tt.host, tt.database}, []string{cfg.User, cfg.Password, cfg.Host, cfg.Database})
			assert.Equal(t, tt.port, cfg.Port)
			assert.NotContains(t, cfg.ConnString(), "secret")
		})
	}
}

func TestPostgresParameters(t *testing.T) {
	cfg, err := postgresConfig("postgres://a:secret@db.example/auth?sslmode=verify-full&application_name=x%20y&connect_timeout=3")
	require.NoError(t, err)
	assert.Equal(t, "db.example", cfg.TLSConfig.ServerName)
	assert.Equal(t, &tls.Config{ServerName: "db.example"}, cfg.TLSConfig)
	assert.Equal(t, "x y", cfg.RuntimeParams["application_name"])
	assert.Equal(t, 3*time.Second, cfg.ConnectTimeout)
}

// TestPasswordsAreNotTold: however a password breaks a URL, no part of it is in the
// error.
func TestPasswordsAreNotTold(t *testing.T) {
	for _, rest := range []string{
		"//u:hunter2%@h/db", "//u:hunter2#@h/db", "//u:#hunter2@h/db", "//u:hunter2/x@h/db", "//u:12/hunter2@h/db",
		"//u:12?hunter2@h/db", "//u:12#hunter2", "//u:hun[ter2hunter2@h/db", "//u:hunter2", "//u:hunter2@h:x/db",
		"//u:hunter2 @h/db", "//u:hunter2\n@h/db", "//u:x@hunter2/@h/db", "u:hunter2@h/db", "/u:hunter2@h/db", "//u:hunter2@[h/db",
		"//u:hunter2@h/db?sslmode=nonsense", "//u:hunter2@h/db?tls=nonsense&sslmode=x", "//h/db?password=hunter2&sslmode=x&tls=x",
		"//u:hunter2@h/db?connect_timeout=x&timeout=x",
	} {
		for _, scheme := range []string{"postgres:", "postgresql:", "mysql:"} {
			_, err := openStores(t.Context(), scheme+rest)
			if assert.Error(t, err, scheme+rest) {
				assert.NotContains(t, err.Error(), "hunter2", scheme+rest)
				assert.Contains(t, err.Error(), scheme+"…")
			}
		}
	}
}

// TestSQLiteFiles: any name is that of the file, in the working directory too.
func TestSQLiteFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("a b", 0o700))
	absolute, err := filepath.Abs("absolute?mode=ro&x#y%20z.db")
	require.NoError(t, err)
	for _, file := range []string{"plain.db", "a b/c d.db", "./what?.db", "100%25.db", ":memory:", "ünï.db", absolute} {
		s, err := openStores(t.Context(), "sqlite:"+file)
		require.NoError(t, err, file)
		require.NoError(t, s.close())
		info, err := os.Stat(file)
		require.NoError(t, err, file)
		assert.NotZero(t, info.Size(), file)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
		require.NoError(t, os.Remove(file))
	}
	left, err := filepath.Glob("*")
	require.NoError(t, err)
	assert.Equal(t, []string{"a b"}, left, "other files are left")
}

func TestSQLiteSettings(t *testing.T) {
	db, err := sqlitePool(filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	defer db.Close()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "1", "busy_timeout": "100"} {
		var got string
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		assert.Equal(t, want, got, pragma)
	}
}

// TestReplicasStartTogether: all of them create the file and its tables.
func TestReplicasStartTogether(t *testing.T) {
	for range 5 {
		file := filepath.Join(t.TempDir(), "new.db")
		var replicas sync.WaitGroup
		for range 4 {
			replicas.Go(func() {
				s, err := openStores(t.Context(), "sqlite:"+file)
				if assert.NoError(t, err) {
					assert.NoError(t, s.close())
				}
			})
		}
		replicas.Wait()
	}
}

// TestOpensWhileOthersWrite: a server starts though another one holds the file for
// longer than the driver waits.
func TestOpensWhileOthersWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
	require.NoError(t, err)
	released := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		_, err := db.ExecContext(t.Context(), "COMMIT")
		released <- err
	})
	s, err := openStores(t.Context(), "sqlite:"+file)
	require.NoError(t, err)
	require.NoError(t, s.close())
	require.NoError(t, <-released)
}

// answer is that of any endpoint for devices.
type answer struct {
	Status       int         `json:"-"`
	Header       http.Header `json:"-"`
	Body         string      `json:"-"`
	Error        string      `json:"error"`
	DeviceCode   string      `json:"device_code"`
	UserCode     string      `json:"user_code"`
	AccessToken  string      `json:"access_token"`
	RefreshToken string      `json:"refresh_token"`
	TokenType    string      `json:"token_type"`
	Scope        string      `json:"scope"`
	Sub          string      `json:"sub"`
	Aud          []string    `json:"aud"`
}

// device is what talks to replicas.
type device struct {
	t      *testing.T
	client *http.Client
}

func newDevice(t *testing.T) *device {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &device{t, &http.Client{Transport: transport}}
}

// post sends a form of the client tv; more are names and values of headers in turn.
func (d *device) post(p *process, path string, form url.Values, more ...string) answer {
	d.t.Helper()
	if !slices.Contains(more, "Authorization") {
		form.Set("client_id", "tv")
	}
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, p.origin+path, strings.NewReader(form.Encode()))
	require.NoError(d.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return d.send(r, more...)
}

func (d *device) send(r *http.Request, more ...string) answer {
	d.t.Helper()
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	resp, err := d.client.Do(r)
	return d.read(resp, err)
}

func (d *device) authorize(p *process) answer {
	d.t.Helper()
	return d.authorizeWith(p, url.Values{})
}

// authorizeWith asks for codes with more than a scope.
func (d *device) authorizeWith(p *process, asked url.Values) answer {
	d.t.Helper()
	asked.Set("scope", "openid offline_access")
	a := d.post(p, "/device_authorization", asked)
	require.Equal(d.t, http.StatusOK, a.Status, a.Body)
	return a
}

// pollForm is a poll of the client tv.
func pollForm(deviceCode string) url.Values {
	return url.Values{"grant_type": {devicegrant.GrantType}, "device_code": {deviceCode}}
}

func (d *device) poll(p *process, deviceCode string) answer {
	d.t.Helper()
	return d.post(p, "/token", pollForm(deviceCode))
}

func (d *device) refresh(p *process, token string) answer {
	d.t.Helper()
	return d.post(p, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (d *device) userinfo(p *process, token string) answer {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, p.origin+"/userinfo", nil)
	require.NoError(d.t, err)
	return d.send(r, "Authorization", "Bearer "+token)
}

func (d *device) read(resp *http.Response, err error) (a answer) {
	d.t.Helper()
	require.NoError(d.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	require.NoError(d.t, json.Unmarshal(body, &a), "%s", body)
	a.Status, a.Header, a.Body = resp.StatusCode, resp.Header, string(body)
	return a
}

// person is alice with a browser. Replicas are reached by the same name, as behind a
// proxy: a cookie is sent to all of them.
func newPerson(t *testing.T) (b *browser.Browser, transport *cookieWatcher) {
	transport = &cookieWatcher{Transport: &http.Transport{}}
	b = browser.New(t, transport)
	t.Cleanup(transport.CloseIdleConnections)
	return b, transport
}

// cookieWatcher keeps the last cookie that was set.
type cookieWatcher struct {
	*http.Transport
	cookie string
}

func (w *cookieWatcher) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.Transport.RoundTrip(r)
	if err == nil {
		for _, c := range resp.Cookies() {
			w.cookie = c.Value
		}
	}
	return resp, err
}

func signIn(t *testing.T, b *browser.Browser, p *process) {
	t.Helper()
	b.Open(p.origin + "/login")
	b.Submit("", map[string]string{"username": "alice", "password": "wonderland"})
	require.Contains(t, b.Text, "You are signed in as Alice.")
}

// approve decides at once for whoever is signed in.
func approve(t *testing.T, b *browser.Browser, p *process, userCode string) {
	t.Helper()
	b.Open(p.origin + "/device?user_code=" + userCode)
	require.Equal(t, "/device", b.URL.Path, "nobody is signed in")
	b.Submit("approve", nil)
	require.Equal(t, http.StatusOK, b.Status)
	require.Contains(t, b.Text, "Device connected")
}

// kinds are the stores that need nothing but a file, as arguments.
var kinds = map[string]func(*testing.T) []string{
	"memory": func(*testing.T) []string { return nil },
	"SQLite": replicas,
}

// replicas are the arguments of servers that share a database and keys.
func replicas(t *testing.T) []string {
	dir := t.TempDir()
	return []string{"-store", "sqlite:" + filepath.Join(dir, "auth.db"), "-key", filepath.Join(dir, "key")}
}

// TestRestart: a login goes on when the server ends in the middle of it.
func TestRestart(t *testing.T) {
	args := replicas(t)
	d := newDevice(t)
	b, _ := newPerson(t)

	first := serve(t, args...)
	a := d.authorize(first)
	signIn(t, b, first)
	approve(t, b, first, a.UserCode)
	first.end(t)

	second := serve(t, args...)
	got := d.poll(second, a.DeviceCode)
	require.Equal(t, http.StatusOK, got.Status, got.Error)
	b.Open(second.origin + "/")
	assert.Contains(t, b.Text, "You are signed in as Alice.", "the session was lost")
	second.end(t)

	third := serve(t, args...)
	assert.Equal(t, "alice", d.userinfo(third, got.AccessToken).Sub)
	assert.Equal(t, "invalid_grant", d.poll(third, a.DeviceCode).Error)
	assert.Equal(t, http.StatusOK, d.refresh(third, got.RefreshToken).Status)
	third.end(t)
}

// TestReplicas: it does not matter which replica a request reaches, except for a device that
// polls too early: it hears of a decision first from the replica that it was made at.
func TestReplicas(t *testing.T) {
	args := replicas(t)
	first, second := serve(t, args...), serve(t, args...)
	d := newDevice(t)
	b, _ := newPerson(t)

	a := d.authorize(first)
	require.Equal(t, "authorization_pending", d.poll(second, a.DeviceCode).Error)
	d.poll(first, a.DeviceCode) // The same poll again, or an early one: that depends on how fast this is.
	require.Equal(t, "slow_down", d.poll(first, a.DeviceCode).Error, "replicas do not know of each other's polls")
	signIn(t, b, first)
	approve(t, b, second, a.UserCode)
	got := d.poll(second, a.DeviceCode)
	require.Equal(t, http.StatusOK, got.Status, got.Error)
	assert.Equal(t, "alice", d.userinfo(first, got.AccessToken).Sub)
	require.Eventually(t, func() bool { // It commits once it has answered.
		return d.poll(second, a.DeviceCode).Error == "invalid_grant"
	}, 10*time.Second, 10*time.Millisecond)

	// Whoever uses a refresh token again ends the login, wherever it was used before.
	next := d.refresh(second, got.RefreshToken)
	require.Equal(t, http.StatusOK, next.Status)
	require.Equal(t, "invalid_grant", d.refresh(first, got.RefreshToken).Error)
	for _, p := range []*process{first, second} {
		assert.Equal(t, "invalid_grant", d.refresh(p, next.RefreshToken).Error)
		assert.Equal(t, http.StatusUnauthorized, d.userinfo(p, got.AccessToken).Status)
		assert.Equal(t, http.StatusUnauthorized, d.userinfo(p, next.AccessToken).Status)
	}

	b.Open(second.origin + "/")
	b.Submit("", nil) // Sign out.
	b.Open(first.origin + "/")
	assert.NotContains(t, b.Text, "signed in as", "another replica knows the session")
	first.end(t)
	second.end(t)
}

// TestReplicasRedeemTogether: of polls that race on all replicas, one gets tokens.
func TestReplicasRedeemTogether(t *testing.T) {
	args := replicas(t)
	servers := []*process{serve(t, args...), serve(t, args...)}
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, servers[0])
	for range 5 {
		a := d.authorize(servers[0])
		approve(t, b, servers[1], a.UserCode)
		statuses := make(chan answer, 20)
		var polls sync.WaitGroup
		for i := range cap(statuses) {
			polls.Go(func() { statuses <- d.poll(servers[i%2], a.DeviceCode) })
		}
		polls.Wait()
		close(statuses)
		won := 0
		for got := range statuses {
			if got.Status == http.StatusOK {
				won++
			} else {
				assert.Contains(t, []string{"authorization_pending", "invalid_grant"}, got.Error)
			}
		}
		assert.Equal(t, 1, won)
	}
	for _, p := range servers {
		p.end(t)
		assert.NotContains(t, p.log.String(), "locked")
	}
}

// TestNothingSecretAtRest looks into the files of a database while it is in use, and
// once it is closed.
func TestNothingSecretAtRest(t *testing.T) {
	args := replicas(t)
	p := serve(t, args...)
	d := newDevice(t)
	b, watcher := newPerson(t)
	a := d.authorize(p)
	signIn(t, b, p)
	approve(t, b, p, a.UserCode)
	pending := d.authorize(p)
	got := d.poll(p, a.DeviceCode)
	next := d.refresh(p, got.RefreshToken)
	require.Equal(t, http.StatusOK, next.Status)
	require.NotEmpty(t, watcher.cookie)

	var secrets []string
	for _, secret := range []string{
		a.DeviceCode, a.UserCode, pending.DeviceCode, pending.UserCode, watcher.cookie,
		got.AccessToken, got.RefreshToken, next.AccessToken, next.RefreshToken,
	} {
		require.NotEmpty(t, secret)
		secrets = append(secrets, secret, strings.ReplaceAll(secret, "-", ""))
		parts := strings.Split(secret, ".")
		if len(parts) == 3 {
			parts = parts[1:] // The first is the grant's id, which is no secret.
		}
		secrets = append(secrets, parts...)
		for _, part := range parts {
			if raw, err := base64.RawURLEncoding.DecodeString(part); err == nil && len(raw) >= 16 {
				secrets = append(secrets, string(raw), string(raw[:16]))
			}
		}
	}
	file := strings.TrimPrefix(args[1], "sqlite:")
	look := func(want ...string) {
		t.Helper()
		files, err := filepath.Glob(file + "*")
		require.NoError(t, err)
		all := ""
		for _, f := range files {
			content, err := os.ReadFile(f)
			require.NoError(t, err)
			all += string(content)
		}
		for _, w := range want {
			require.Contains(t, all, w, "this does not see the tables")
		}
		for _, s := range secrets {
			require.NotContains(t, all, s)
		}
	}
	look("host_logins", "openid offline_access", "alice")
	p.end(t)
	look("host_logins", "openid offline_access", "alice")

	db, err := sql.Open("sqlite", sqliteURI(file))
	require.NoError(t, err)
	defer db.Close()
	var receipts int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM devicegrant_grants WHERE receipt IS NOT NULL").Scan(&receipts))
	assert.Zero(t, receipts, "the answer is kept after it was delivered")
}
