package storetest

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"sync"
	"testing"
)

// recorder is a tb that fails in nobody's name: it keeps what was said, by clause.
type recorder struct {
	ctx  context.Context
	name string
	only string // the clause to run; empty for all

	mu       sync.Mutex
	failures []failure
}

type failure struct{ clause, message string }

func newRecorder(t *testing.T, only string) *recorder { return &recorder{ctx: t.Context(), only: only} }

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, failure{r.name, fmt.Sprintf(format, args...)})
}

// Fatalf ends the goroutine of the subtest, as testing.T does.
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Run gives the subtest a goroutine to end, and takes a panic for a failure.
func (r *recorder) Run(name string, f func(tb)) bool {
	sub := &recorder{ctx: r.ctx, only: r.only, name: path.Join(r.name, name)}
	if r.only != "" && r.only != sub.name && path.Dir(r.only) != sub.name {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				sub.Errorf("panic: %v", p)
			}
		}()
		f(sub)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, sub.failures...)
	return len(sub.failures) == 0
}
