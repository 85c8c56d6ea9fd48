package databases

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a server may take to start.
const patience = time.Minute

// Server is a PostgreSQL server of the test's own, on a port of its own. Anybody on
// this machine can connect to it while the test runs.
type Server struct {
	// DSN is that of the database postgres, as the superuser.
	DSN string

	port    string
	dir     string // of initdb
	owner   *syscall.SysProcAttr
	options []string
	log     *os.File
	cmd     *exec.Cmd
	ended   chan struct{}
}

// StartPostgreSQL starts a server with the settings, each as in "autovacuum=off". It
// ends with the test.
func StartPostgreSQL(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{dir: ownDir(t), port: freePort(t)}
	s.owner = ownerOf(t, s.dir)
	s.DSN = "postgres://postgres@127.0.0.1:" + s.port + "/postgres?sslmode=disable"
	s.options = []string{"-D", s.dir, "-p", s.port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}
	for _, setting := range settings {
		s.options = append(s.options, "-c", setting)
	}
	initdb := s.command(t, "initdb", "-D", s.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, "initdb: %s", out)
	s.log, err = os.Create(filepath.Join(s.dir, "test.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(s.log.Name()) // For whoever reads the failure.
			t.Logf("PostgreSQL wrote:\n%s", log)
		}
		assert.NoError(t, s.log.Close())
	})
	s.start(t)
	return s
}

// start starts the server, which ends with the test, and waits until it answers.
func (s *Server) start(t testing.TB) {
	t.Helper()
	s.cmd = s.command(t, "postgres", s.options...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	require.NoError(t, s.cmd.Start())
	s.ended = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // It is in the log why it ended.
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // It may have ended.
		<-s.ended
	})
	require.True(t, s.answers(time.Now().Add(patience)), "PostgreSQL does not start")
}

// answers waits until the server does, and reports false when it has ended.
func (s *Server) answers(deadline time.Time) bool {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	db, err := sql.Open("pgx", s.DSN)
	if err != nil {
		return false
	}
	defer db.Close() //nolint:errcheck // Of a pool that was only for this, nothing can be lost.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if db.PingContext(ctx) == nil {
			return true
		}
		select {
		case <-s.ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// command is a program of PostgreSQL's, which Debian keeps out of PATH.
func (s *Server) command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // The pattern is well-formed.
		require.NotEmpty(t, found, "%s of PostgreSQL is not installed", name)
		slices.SortFunc(found, func(a, b string) int { return majorVersion(a) - majorVersion(b) })
		path = found[len(found)-1]
	}
	cmd := exec.Command(path, args...) //nolint:gosec // A program of PostgreSQL's and a test's arguments.
	cmd.SysProcAttr, cmd.Dir = s.owner, s.dir
	return cmd
}

func majorVersion(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // Others sort first.
	return n
}

// ownDir returns a directory that the test's server can get to: the parents of
// t.TempDir are the test's alone.
func ownDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgresql") //nolint:usetesting // See above.
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// ownerOf says as whom the server runs, for it refuses to run as root: as the user of
// the Debian package then, to whom the directory is given.
func ownerOf(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	u, err := user.Lookup("postgres")
	require.NoError(t, err, "PostgreSQL does not run as root")
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	require.NoError(t, os.Chown(dir, int(uid), int(gid)))
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
