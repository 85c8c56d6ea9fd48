package clientfaults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// logins is how many there are for each fault and each client.
const logins = 100

// Each login ends with its token, or else for a reason that is found in what happened to
// it. The first fault is none.
//
// The seeds are the numbers of the logins, so that a failure repeats, and what happens is
// the same for every client.
func TestFaults(t *testing.T) {
	results := make([][]result, len(faults))
	t.Cleanup(func() { t.Log(table(results)) })
	for i, f := range faults {
		results[i] = make([]result, len(devices))
		for j, d := range devices {
			t.Run(f.name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := f.host(t)
					for n := range logins {
						results[i][j].add(run(t, h, f, d, n))
					}
					if i > 0 {
						require.Greater(t, results[i][j].disturbed, logins/2)
					}
				})
			})
		}
	}
}

// login is one login of a device.
type login struct {
	t       *testing.T
	host    *host
	network *network
	plan    plan
	answer  time.Duration // how long the person takes
	people  sync.WaitGroup
}

// run does one login, and checks that it ends as it must.
func run(t *testing.T, h *host, f fault, d device, n int) result {
	rng := rand.New(rand.NewPCG(uint64(n), 0))
	answer := between(rng, 15*time.Second, time.Minute)
	p := f.plan(rng, answer)
	l := &login{t: t, host: h, network: &network{t: t, host: h, rng: rng, plan: p}, plan: p, answer: answer}
	token, err := d.signIn(l)
	l.people.Wait()

	tally, made := &l.network.tally, h.takeTokens()
	seen := fmt.Sprintf("login %d: %+v", n, *tally)
	d.check(l, err, seen)
	require.LessOrEqual(t, len(made), 1, seen)
	if err == nil {
		require.Equal(t, []string{token}, made, seen)
	}
	if f.harmless {
		require.NoError(t, err, seen)
		require.Equal(t, tally.Copies, tally.SlowDowns, seen)
	}
	r := result{lost: tally.Lost}
	if err == nil {
		r.done = 1
	}
	if tally.Disturbed > 0 {
		r.disturbed = 1
	}
	return r
}

// show has a person enter the code that the device shows, and approve after a while. What
// goes wrong does so from now on.
func (l *login) show(userCode string) {
	l.network.began = time.Now()
	l.people.Go(func() {
		time.Sleep(l.answer)
		l.host.approve(l.t, userCode)
	})
}

// result is what came of some logins: how many have their token, to how many something
// happened, and how many tokens were made and lost on their way.
type result struct{ done, disturbed, lost int }

func (r *result) add(more result) {
	r.done += more.done
	r.disturbed += more.disturbed
	r.lost += more.lost
}

func (r result) String() string {
	if r.lost == 0 {
		return fmt.Sprint(r.done)
	}
	return fmt.Sprintf("%d (%d lost)", r.done, r.lost)
}

// table is the results in Markdown.
func table(results [][]result) string {
	var b strings.Builder
	b.WriteString("\n| fault |")
	for _, d := range devices {
		b.WriteString(" " + d.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(devices)) + "\n")
	for i, f := range faults {
		b.WriteString("| " + f.name + " |")
		for _, r := range results[i] {
			b.WriteString(" " + r.String() + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
