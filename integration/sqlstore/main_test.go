// Package sqlstore_test holds what package sqlstore is tested for on real databases.
package sqlstore_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long something may take that takes no time on an idle machine.
const patience = 60 * time.Second

// roleEnv names what a process is to do that the tests started from their own program.
const roleEnv = "DEVICEGRANT_TEST_ROLE"

// roles are what such a process can do. It is told more on its standard input, and
// answers on its standard output, until the input ends.
var roles = map[string]func(in *json.Decoder, out *json.Encoder) error{
	"poll":   pollRole,
	"write":  writeRole,
	"schema": schemaRole,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	// Parallel tests wait more than they work. The command line overrides this.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// replica is a process of a role.
type replica struct {
	in  *json.Encoder
	out *json.Decoder
}

// startReplicas starts processes of a role, which end with the test, and tells each
// the same first.
func startReplicas(t *testing.T, n int, role string, first any) []replica {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	replicas := make([]replica, n)
	for i := range replicas {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0") // It would end a second later.
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			assert.NoError(t, in.Close())
			_, _ = io.Copy(io.Discard, out)
			hung := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer hung.Stop()
			assert.NoError(t, cmd.Wait())
		})
		replicas[i] = replica{json.NewEncoder(in), json.NewDecoder(out)}
		require.NoError(t, replicas[i].in.Encode(first))
	}
	return replicas
}
