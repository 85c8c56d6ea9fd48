package crash

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// patience is how long something may take that takes no time on an idle machine.
const patience = 60 * time.Second

// TestMain is also the server under test, in the processes that the tests start.
func TestMain(m *testing.M) {
	if content := os.Getenv(settingsEnv); content != "" {
		fmt.Fprintln(os.Stderr, "the server ended:", serve(content))
		os.Exit(1)
	}
	// More of them at once only take longer, each of them. The command line overrides this.
	if err := flag.Set("test.parallel", "2"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// output is what a program has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
