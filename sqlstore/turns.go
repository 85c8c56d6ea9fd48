package sqlstore

import (
	"context"
	"sync"

	"github.com/devicegrant/devicegrant"
)

// turns lets those who poll one grant go one after the other, in the order in which they
// came. The zero turns is ready. It is safe for concurrent use.
type turns struct {
	mu sync.Mutex
	of map[devicegrant.DeviceCodeDigest]*turn
}

type turn struct {
	users int
	taken chan struct{}
}

// wait waits for the turn of a grant. Who gets it has to end it.
func (t *turns) wait(ctx context.Context, code devicegrant.DeviceCodeDigest) error {
	its := t.join(code)
	select {
	case its.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		t.part(code)
		return ctx.Err()
	}
}

// try takes the turn of a grant that nobody polls.
func (t *turns) try(code devicegrant.DeviceCodeDigest) bool {
	its := t.join(code)
	select {
	case its.taken <- struct{}{}:
		return true
	default:
		t.part(code)
		return false
	}
}

// end gives the turn to the next.
func (t *turns) end(code devicegrant.DeviceCodeDigest) {
	<-t.part(code).taken
}

func (t *turns) join(code devicegrant.DeviceCodeDigest) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[devicegrant.DeviceCodeDigest]*turn)
	}
	its := t.of[code]
	if its == nil {
		its = &turn{taken: make(chan struct{}, 1)}
		t.of[code] = its
	}
	its.users++
	return its
}

func (t *turns) part(code devicegrant.DeviceCodeDigest) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	its := t.of[code]
	its.users--
	if its.users == 0 {
		delete(t.of, code)
	}
	return its
}
