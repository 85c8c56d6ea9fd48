package sqlstore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// Whoever has a dump of the database, or its disk, can neither finish a login nor use
// what one has yielded.
func TestDumpHoldsNoSecret(t *testing.T) {
	for _, kind := range databases.Each {
		for _, m := range modes {
			t.Run(kind.Name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				dsn := kind.Create(t)
				db := kind.Open(t, dsn)
				createTokens(t, db)
				secrets := newSecrets()
				server := newServer(t, m.store(kind.NewStore(t, db, sqlstore.Config{})), issuing(m, secrets))
				undelivered := newServer(t, stuckStore{kind.NewStore(t, db, sqlstore.Config{}).Transactional()}, issuing(mode{transactional: true}, secrets))
				var last *devicegrant.Authorization
				for i := range 1000 {
					last = authorize(t, server)
					secrets.add(last.DeviceCode, last.UserCode, strings.ReplaceAll(last.UserCode, "-", ""))
					leaveAt(t, i, server, undelivered, last, m)
				}
				dump := dumpOf(t, kind, dsn)
				grants := bytes.Count(dump, []byte(scope)) + bytes.Count(dump, fmt.Appendf(nil, "0x%X", scope))
				require.GreaterOrEqual(t, grants, 1000, "grants in the dump")
				assert.Empty(t, secrets.in(dump))
				dump = append(dump, hex.EncodeToString([]byte(last.UserCode))...)
				assert.Len(t, secrets.in(dump), 1, "a secret would be found")
			})
		}
	}
}

// leaveAt takes a login to one of the places where it can be.
func leaveAt(t *testing.T, i int, server, undelivered *devicegrant.Server, a *devicegrant.Authorization, m mode) {
	t.Helper()
	_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
	requirePending(t, err)
	switch i % 6 {
	case 0: // Pending.
	case 1:
		review, err := server.Lookup(t.Context(), a.UserCode, alice)
		require.NoError(t, err)
		require.NoError(t, server.Deny(t.Context(), review.Ticket, alice))
	case 2:
		approve(t, server, a)
	case 3:
		approve(t, server, a)
		if m.transactional { // The receipt stays.
			server = undelivered
		}
		_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
		require.NoError(t, err)
	default:
		approve(t, server, a)
		_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
		require.NoError(t, err)
	}
}

// stuckStore cannot commit a claim, so that the receipt of a redemption stays.
type stuckStore struct{ sqlstore.Transactional }

func (stuckStore) Swap(context.Context, *devicegrant.Grant) error { return errors.New("stuck") }

// issuing remembers what is issued.
func issuing(m mode, secrets *secretSet) func(*devicegrant.Config) {
	return func(cfg *devicegrant.Config) {
		cfg.IssueToken = func(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			f := issue
			if m.transactional {
				f = issueInTransaction
			}
			token, err := f(ctx, g)
			if err == nil {
				secrets.add(token.AccessToken, token.RefreshToken, token.Extra["id_token"].(string))
			}
			return token, err
		}
	}
}

// secretSet is what must not be found in the clear, nor in an encoding of it. It is
// looked for by its beginning.
type secretSet struct {
	byPrefix map[[secretPrefix]byte][][]byte
}

const secretPrefix = 8

func newSecrets() *secretSet {
	s := &secretSet{map[[secretPrefix]byte][][]byte{}}
	s.add(string(secret))
	return s
}

func (s *secretSet) add(secrets ...string) {
	for _, text := range secrets {
		raw := []byte(text)
		forms := [][]byte{raw, []byte(strings.ToLower(text))}
		if decoded, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(decoded) > secretPrefix {
			forms = append(forms, decoded, []byte(hex.EncodeToString(decoded)), []byte(strings.ToUpper(hex.EncodeToString(decoded))))
		}
		forms = append(forms, []byte(hex.EncodeToString(raw)), []byte(strings.ToUpper(hex.EncodeToString(raw))),
			bytes.TrimRight([]byte(base64.StdEncoding.EncodeToString(raw[:len(raw)/3*3])), "="))
		for _, form := range forms {
			prefix := [secretPrefix]byte(form)
			s.byPrefix[prefix] = append(s.byPrefix[prefix], form)
		}
	}
}

// in returns the secrets that are in a dump.
func (s *secretSet) in(dump []byte) (found []string) {
	for i := range len(dump) - secretPrefix + 1 {
		for _, secret := range s.byPrefix[[secretPrefix]byte(dump[i:])] {
			if bytes.HasPrefix(dump[i:], secret) {
				found = append(found, string(secret))
			}
		}
	}
	return found
}

// dumpOf returns everything that is in a database.
func dumpOf(t *testing.T, kind databases.Kind, dsn string) []byte {
	t.Helper()
	switch kind.Name {
	case databases.PostgreSQL.Name:
		return output(t, "pg_dump", dsn)
	case databases.MariaDB.Name:
		cfg, err := mysql.ParseDSN(dsn)
		require.NoError(t, err)
		return output(t, "mariadb-dump", append(clientOptions(cfg), "--hex-blob", "--routines", cfg.DBName)...)
	default:
		path, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
		files, err := filepath.Glob(path + "*") // The log too.
		require.NoError(t, err)
		require.Len(t, files, 3, fmt.Sprint(files))
		var dump []byte
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			dump = append(dump, content...)
		}
		return dump
	}
}

// clientOptions are how MariaDB's own programs find a server.
func clientOptions(cfg *mysql.Config) []string {
	u := url.URL{Host: cfg.Addr}
	return []string{"--host=" + u.Hostname(), "--port=" + u.Port(), "--user=" + cfg.User, "--password=" + cfg.Passwd}
}

func output(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return out
}
