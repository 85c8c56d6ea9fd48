package sqlstore_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// Two servers on one database admit as many wrong codes as one of them would, though both
// are asked at once.
func TestReplicasShareTheGuessBudget(t *testing.T) {
	const burst, guessers, guesses = 20, 4, 40
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB, databases.SQLiteMattn} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.Create(t)
			var admitted, refused atomic.Int64
			var wg sync.WaitGroup
			for replica := range 2 {
				server := newServer(t, kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{Timeout: patience}), func(cfg *devicegrant.Config) {
					cfg.Guessing.Global = devicegrant.Limit{Burst: burst, Every: time.Hour}
				})
				for guesser := range guessers {
					wg.Go(func() {
						for i := range guesses {
							by := devicegrant.Person{ // Somebody else each time, from somewhere else.
								Subject: fmt.Sprintf("%d %d %d", replica, guesser, i),
								Addr:    netip.AddrFrom4([4]byte{10, byte(replica), byte(guesser), byte(i)}),
							}
							for guess(t, server, by, &admitted, &refused) {
							}
						}
					})
				}
			}
			wg.Wait()
			assert.EqualValues(t, 2*burst, admitted.Load(), "the budget and its reserve")
			assert.EqualValues(t, 2*guessers*guesses-2*burst, refused.Load())
		})
	}
}

// guess enters a wrong code, and reports whether to try it again because others did so at
// the same moment.
func guess(t *testing.T, server *devicegrant.Server, by devicegrant.Person, admitted, refused *atomic.Int64) (again bool) {
	_, err := server.Lookup(t.Context(), "BBBB-BBBB", by)
	var tooMany *devicegrant.TooManyGuessesError
	switch {
	case errors.Is(err, devicegrant.ErrUserCode):
		admitted.Add(1)
	case errors.As(err, &tooMany):
		if tooMany.RetryAfter <= time.Second {
			return true
		}
		refused.Add(1)
	default:
		assert.NoError(t, err)
	}
	return false
}
