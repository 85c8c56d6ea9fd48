package crash

import (
	"context"
	"crypto/rand"
	"database/sql"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const (
	logins = 1000
	wave   = 50 // logins begin at once

	lifetime     = 8 * time.Minute  // so that no device is unlucky in every try, on a slow machine either
	slowest      = 12 * time.Minute // that a machine may be, with all of it
	claimTimeout = 5 * time.Second
)

// modes are the two ways to redeem.
var modes = map[string]bool{"claim": false, "transaction": true}

// Two replicas are killed at random moments. What a request makes of its server's
// death is hidden from golang.org/x/oauth2 by a transport that repeats it, as a load
// balancer does: the client itself ends at the first refused connection.
func TestServersAreKilled(t *testing.T) {
	t.Parallel()
	for mode, transactional := range modes {
		t.Run("PostgreSQL/"+mode, func(t *testing.T) {
			t.Parallel()
			killServers(t, databases.PostgreSQL, startPostgres(t).dsn, transactional)
		})
	}
	for _, kind := range []databases.Kind{databases.MariaDB, databases.SQLite} {
		t.Run(kind.Name+"/transaction", func(t *testing.T) {
			t.Parallel()
			killServers(t, kind, kind.Create(t), true)
		})
	}
}

func killServers(t *testing.T, kind databases.Kind, dsn string, transactional bool) {
	s := newScenario(t, kind, dsn, transactional)
	s.network.retries = true
	s.run(t, func(random *mathrand.Rand, stop <-chan struct{}) {
		var all sync.WaitGroup
		for _, r := range s.replicas {
			own := mathrand.New(mathrand.NewPCG(random.Uint64(), 0))
			all.Go(func() { r.crashes(t, own, stop, &s.kills) })
		}
		all.Wait()
	})
	s.verify(t)
}

// The database is killed at random moments, while the servers live. Nothing stands
// between them and golang.org/x/oauth2, which has to survive every outage.
func TestDatabaseIsKilled(t *testing.T) {
	t.Parallel()
	for mode, transactional := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := startPostgres(t)
			s := newScenario(t, databases.PostgreSQL, p.dsn, transactional)
			s.run(t, func(random *mathrand.Rand, stop <-chan struct{}) { p.crashes(t, random, stop, &s.kills) })
			assert.EqualValues(t, s.kills.Load(), p.recoveries(), "the database did not recover each time:\n%s", &p.log)
			survivors := 0
			for _, d := range s.devices {
				if d.slowDowns > 0 && d.token != "" {
					survivors++
				}
			}
			t.Logf("%d devices polled during an outage and had their token afterwards", survivors)
			assert.Positive(t, survivors)
			s.verify(t)
		})
	}
}

// scenario is many logins on two replicas.
type scenario struct {
	db            *sql.DB
	store         *sqlstore.Store
	transactional bool
	replicas      []*replica
	log           *output
	network       *network
	devices       []*device
	kills         atomic.Int64
	again         int // deliveries to devices that had no answer
}

func newScenario(t *testing.T, kind databases.Kind, dsn string, transactional bool) *scenario {
	t.Helper()
	s := &scenario{db: kind.Open(t, dsn), transactional: transactional}
	s.store = kind.NewStore(t, s.db, storeConfig)
	_, err := s.db.ExecContext(t.Context(), createTokens)
	require.NoError(t, err)
	pause := longestPause
	if kind.Name == databases.SQLite.Name {
		pause = 2 * time.Millisecond // All wait for the one that writes.
	}
	key := make([]byte, 32)
	rand.Read(key)
	s.replicas, s.log = startReplicas(t, settings{
		Kind: kind.Name, DSN: dsn, Transactional: transactional, Key: key,
		Lifetime: lifetime, ClaimTimeout: claimTimeout, IssuePause: pause,
	}, 2)
	s.network = &network{transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(s.network.transport.CloseIdleConnections)
	for _, r := range s.replicas {
		s.network.addrs = append(s.network.addrs, r.settings.Addr)
	}
	return s
}

// run has the devices log in while kill goes on, until nine of ten have ended. Then
// each polls once more.
func (s *scenario) run(t *testing.T, kill func(random *mathrand.Rand, stop <-chan struct{})) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), slowest)
	defer cancel()
	count := logins
	if os.Getenv("DEVICEGRANT_SOAK") != "" {
		count *= 5
	}
	random := mathrand.New(mathrand.NewPCG(1, 8628))
	s.devices = newDevices(ctx, s.network, random, count)
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	var killer, running sync.WaitGroup
	killer.Go(func() { kill(random, stop) })
	var ended atomic.Int64
	for next := 0; next < count && ctx.Err() == nil; {
		for _, d := range s.devices[next : next+wave] {
			running.Go(func() {
				d.login()
				if ended.Add(1) == int64(count*9/10) {
					end()
				}
			})
		}
		next += wave
		// Each wave meets a death, as long as there are any, and a slow machine gets no
		// more than it can bear.
		deathIsDue := func() bool { return int(s.kills.Load()) < next/wave && int(ended.Load()) < count*9/10 }
		for wait(ctx, interval/4) && (deathIsDue() || next-int(ended.Load()) > 4*wave) {
		}
	}
	running.Wait()
	end() // Where the time was over before that many could begin.
	killer.Wait()
	s.again = s.deliveries()
	t.Logf("%d kills during %d logins, %v", s.kills.Load(), count, time.Since(began).Round(time.Second))
	for some := range slices.Chunk(s.devices, wave) {
		for _, d := range some {
			running.Go(d.pollAgain)
		}
		running.Wait()
	}
}

// deliveries is how often a device was given its answer again.
func (s *scenario) deliveries() int { return strings.Count(s.log.String(), "event delivered_again") }

// verify checks what became of every login.
func (s *scenario) verify(t *testing.T) {
	t.Helper()
	log := s.log.String()
	requireHealthy(t, log)
	issued, disowned := s.issued(t, log)
	ends := map[string]int{}
	for i, d := range s.devices {
		require.NotNil(t, d.authorization, "device %d: %v", i, d.problem)
		assert.Empty(t, d.odd, "device %d", i)
		assert.True(t, d.approved, "the person of device %d could not approve", i)
		assert.LessOrEqual(t, len(d.tokens), 1, "device %d was given different tokens", i)
		g, err := s.store.ByDeviceCode(t.Context(), d.digest())
		require.NoError(t, err, "device %d", i)
		require.NoError(t, d.problem, "device %d: it was last told to wait at %v; %+v", i, d.pending, g)
		s.verifyTokens(t, i, d, issued[g.ID.String()])
		s.verifyEnd(t, i, d, g)
		ends[d.code]++
	}
	t.Logf("%d logins with a token, %d told expired_token, %d invalid_grant; %d delivered again, and %d to those who had theirs; "+
		"%d claims stuck; %d tokens disowned by the host, %d of them written", ends[""], ends["expired_token"], ends["invalid_grant"],
		s.again, s.deliveries()-s.again, strings.Count(log, "event claim_stuck"), strings.Count(log, "disowned"), disowned)
	if s.transactional {
		assert.Equal(t, len(s.devices), ends[""], "logins with a token: none is lost; %v", ends)
		assert.Positive(t, s.again+strings.Count(log, "event claim_stuck"), "nobody was killed at the wrong moment: this has shown nothing")
		return
	}
	assert.Equal(t, len(s.devices), ends[""]+ends["expired_token"]+ends["invalid_grant"], "%v", ends)
	assert.Positive(t, ends["expired_token"]+ends["invalid_grant"]+strings.Count(log, "event claim_stuck"), "nobody was killed at the wrong moment: this has shown nothing")
}

var disownedTokens = regexp.MustCompile(`(?m)^disowned (\w+)$`)

// issued returns the tokens in the host's table by grant, but for those that the
// host itself did not know to be written.
func (s *scenario) issued(t *testing.T, log string) (issued map[string][]string, disowned int) {
	t.Helper()
	unknown := map[string]bool{}
	for _, m := range disownedTokens.FindAllStringSubmatch(log, -1) {
		unknown[m[1]] = true
	}
	rows, err := s.db.QueryContext(t.Context(), "SELECT grant_id, token FROM tokens")
	require.NoError(t, err)
	defer rows.Close()
	issued = map[string][]string{}
	for rows.Next() {
		var grant, token string
		require.NoError(t, rows.Scan(&grant, &token))
		if unknown[token] {
			disowned++
			continue
		}
		issued[grant] = append(issued[grant], token)
	}
	require.NoError(t, rows.Err())
	return issued, disowned
}

// verifyTokens compares what a device was given with what the host has issued.
func (s *scenario) verifyTokens(t *testing.T, i int, d *device, issued []string) {
	t.Helper()
	assert.LessOrEqual(t, len(issued), 1, "device %d: tokens of one approval", i)
	for token := range d.tokens {
		assert.Equal(t, []string{token}, issued, "device %d: its token", i)
	}
	if d.code != "" {
		assert.Empty(t, d.tokens, "device %d: it was told %s", i, d.code)
	}
}

// verifyEnd checks that a login ended at its deadline, and in the state that it
// should. golang.org/x/oauth2 has ended by its own deadline, or there is a problem.
func (s *scenario) verifyEnd(t *testing.T, i int, d *device, g *devicegrant.Grant) {
	t.Helper()
	assert.True(t, d.pending.Before(g.ExpiresAt), "device %d was told to wait at %v, and its deadline was %v", i, d.pending, g.ExpiresAt)
	switch {
	case d.code == "invalid_grant":
		assert.Equal(t, devicegrant.Redeemed.String(), g.State.String(), "device %d", i)
	case d.code == "expired_token":
		assert.Equal(t, devicegrant.Redeeming.String(), g.State.String(), "device %d", i)
	}
	if !s.transactional && g.State == devicegrant.Redeeming {
		assert.Less(t, g.ExpiresAt.Sub(g.CreatedAt), lifetime, "device %d: an orphaned claim ends sooner than the grant would", i)
	}
}
