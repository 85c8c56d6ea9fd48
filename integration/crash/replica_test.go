package crash

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replica is a server process, and those that took its place.
type replica struct {
	settings settings
	log      *output
	cmd      *exec.Cmd
	stdin    io.Closer
}

// startReplicas starts servers that share a database. They end with the test, and
// must have had neither a data race nor a panic.
func startReplicas(t *testing.T, s settings, n int) (replicas []*replica, log *output) {
	t.Helper()
	log = &output{}
	for range n {
		s.Addr = freeAddr(t)
		r := &replica{settings: s, log: log}
		require.NoError(t, r.start())
		t.Cleanup(r.kill)
		replicas = append(replicas, r)
	}
	return replicas, log
}

// freeAddr returns an address that is free, and is nobody's outgoing one while its
// server is being restarted: those are higher up.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.N(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
	require.Fail(t, "no port is free")
	return ""
}

// start starts the process and waits until it listens.
func (r *replica) start() error {
	content, err := json.Marshal(r.settings)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), settingsEnv+"="+string(content), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = r.log
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd = cmd
	_, err = bufio.NewReader(stdout).ReadString('\n')
	return err
}

// kill ends the process as SIGKILL does, and returns when it is gone.
func (r *replica) kill() {
	_ = r.cmd.Process.Kill() // If it has ended by itself, the log says why.
	_ = r.cmd.Wait()         // It was killed.
	_ = r.stdin.Close()
}

// crashes kills the process again and again, each after a random life, and starts
// another at once.
func (r *replica) crashes(t *testing.T, random *rand.Rand, stop <-chan struct{}, kills *atomic.Int64) {
	const shortest, longest = 50 * time.Millisecond, 2000 * time.Millisecond
	for {
		select {
		case <-stop:
			return
		case <-time.After(shortest + time.Duration(random.Int64N(int64(longest-shortest)))):
		}
		r.kill()
		kills.Add(1)
		if !assert.NoError(t, r.start(), "the server does not start") {
			return
		}
	}
}

// requireHealthy looks through the servers' log.
func requireHealthy(t *testing.T, log string) {
	t.Helper()
	for _, bad := range []string{"DATA RACE", "panic", "the server ended"} {
		if i := strings.Index(log, bad); i >= 0 {
			assert.Fail(t, "a server was not healthy", "%s", log[max(0, i-200):min(len(log), i+5000)])
		}
	}
}
