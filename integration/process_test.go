package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// process is a program under test that is running, or has ended.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{}
}

// start runs a program under test until the end of the test at the longest.
func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return startCommand(t, filepath.Join(programs, program), args...)
}

// startCommand does so with any program.
func startCommand(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{
		cmd:    exec.Command(program, args...),
		stdout: output{changed: make(chan struct{})},
		stderr: output{changed: make(chan struct{})},
		ended:  make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // It would end a second later.
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // ProcessState has the outcome.
		close(p.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			assert.Fail(t, program+" is still running")
			_ = p.cmd.Process.Kill() // It may be ending just now.
			<-p.ended
		}
		if t.Failed() {
			t.Logf("%s wrote to stderr:\n%s", program, p.stderr.String())
		}
	})
	return p
}

// printed waits until stdout matches, and returns the match and its groups.
func (p *process) printed(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for running := true; running; {
		changed := p.stdout.next()
		if m := re.FindStringSubmatch(p.stdout.String()); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.ended:
			running = false
		case <-deadline:
			running = false
		}
	}
	m := re.FindStringSubmatch(p.stdout.String())
	require.NotNil(t, m, "%q is not in:\n%s", pattern, p.stdout.String())
	return m
}

// stop sends a signal and returns the exit code.
func (p *process) stop(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
	return p.exitCode(t)
}

// exitCode waits for the end; it is -1 if a signal ended the program.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.Fail(t, "the program does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is what a program has written so far.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// next is closed by the next Write.
func (o *output) next() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}
