package crash

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// postgres is a PostgreSQL of the test's own, to be killed.
type postgres struct {
	dir, dsn string
	bin      string // the directory of its programs
	attr     *syscall.SysProcAttr
	log      output
	cmd      *exec.Cmd
	check    *sql.DB // keeps no connection
}

// startPostgres makes a database and starts its server, which ends with the test.
func startPostgres(t *testing.T) *postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "crash") //nolint:usetesting // Another user has to get there.
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	p := &postgres{
		dir:  dir,
		dsn:  fmt.Sprintf("host=%s user=postgres dbname=postgres sslmode=disable", dir),
		bin:  findPostgres(t),
		attr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT},
	}
	if os.Getuid() == 0 {
		p.asPostgres(t)
	}
	out, err := p.command("initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.check, err = sql.Open("pgx", p.dsn)
	require.NoError(t, err)
	p.check.SetMaxIdleConns(-1)
	t.Cleanup(func() { assert.NoError(t, p.check.Close()) })
	require.NoError(t, p.start())
	t.Cleanup(func() { p.stop(t) })
	return p
}

// findPostgres returns the directory of PostgreSQL's programs.
func findPostgres(t *testing.T) string {
	t.Helper()
	var found []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		found = append(found, strings.TrimSpace(string(out)))
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	found = slices.DeleteFunc(append(found, debian...), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		return err != nil
	})
	require.NotEmpty(t, found, "PostgreSQL's server is not installed")
	return found[0]
}

// asPostgres has the programs run as the user postgres: they refuse to be root's.
func (p *postgres) asPostgres(t *testing.T) {
	t.Helper()
	u, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(t, err)
	require.NoError(t, os.Chown(p.dir, uid, gid))
	p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = p.dir, p.attr
	return cmd
}

// start starts the server and waits until it has recovered.
func (p *postgres) start() error {
	p.cmd = p.command("postgres", "-D", p.data(), "-c", "listen_addresses=", "-c", "unix_socket_directories="+p.dir,
		"-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "fsync=on")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return within(patience, func() error { return p.check.PingContext(context.Background()) })
}

// crash kills the server and all its processes, and returns when they are gone.
func (p *postgres) crash() error {
	postmaster := p.cmd.Process.Pid
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // It cannot fork any more,
		return err
	}
	if err := within(patience, func() error { return hasState(postmaster, "T") }); err != nil { // once it has stopped.
		return err
	}
	pids := append(children(postmaster), postmaster)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // One that has just ended is dead as well.
	}
	_ = p.cmd.Wait() // It was killed.
	return within(patience, func() error { return allGone(pids) })
}

// stop ends the server, which must leave nothing behind.
func (p *postgres) stop(t *testing.T) {
	assert.NoError(t, p.cmd.Process.Signal(syscall.SIGINT)) // It rolls back what is under way.
	assert.NoError(t, p.cmd.Wait(), "%s", &p.log)
	for _, cwd := range processes("cwd") {
		target, _ := os.Readlink(cwd) // It may be gone by now.
		assert.NotEqual(t, p.data(), target, "%s is a process of the database", cwd)
	}
}

// crashes kills the database again and again, each time after a random life, and
// starts it again at once.
func (p *postgres) crashes(t *testing.T, random *rand.Rand, stop <-chan struct{}, kills *atomic.Int64) {
	const shortest, longest = 200 * time.Millisecond, 1200 * time.Millisecond
	for {
		select {
		case <-stop:
			return
		case <-time.After(shortest + time.Duration(random.Int64N(int64(longest-shortest)))):
		}
		if !assert.NoError(t, p.crash()) {
			return
		}
		kills.Add(1)
		if !assert.NoError(t, p.start(), "the database does not recover") {
			return
		}
	}
}

// recoveries is how often the server has found that it had been killed.
func (p *postgres) recoveries() int {
	return strings.Count(p.log.String(), "automatic recovery in progress")
}

// within tries until it succeeds, or the time is over.
func within(d time.Duration, try func() error) error {
	over := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return err
		case <-tick.C:
		}
	}
}

// processes returns a file of each process in /proc.
func processes(file string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/" + file) // The pattern is well-formed.
	return files
}

// children returns the processes that a process has started.
func children(parent int) (pids []int) {
	for _, file := range processes("stat") {
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if fields := stat(pid); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat returns what /proc says of a process, from its state on; nothing if it is
// gone.
func stat(pid int) []string {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // It may be gone.
	_, after, _ := strings.Cut(string(content), ") ")
	return strings.Fields(after)
}

func hasState(pid int, state string) error {
	if fields := stat(pid); len(fields) == 0 || fields[0] != state {
		return fmt.Errorf("process %d is %v and not in state %s", pid, fields, state)
	}
	return nil
}

// allGone reports processes that still run. A zombie does not; who its parent is now
// may not care.
func allGone(pids []int) error {
	for _, pid := range pids {
		if fields := stat(pid); len(fields) > 0 && fields[0] != "Z" && fields[0] != "X" {
			return fmt.Errorf("process %d is still there: %v", pid, fields)
		}
	}
	return nil
}
