package deviceclient

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answers are what a server can answer to a poll without ending the login by itself.
var answers = []error{
	&Error{StatusCode: 400, Code: "authorization_pending"},
	&Error{StatusCode: 400, Code: "authorization_pending", RetryAfter: 40 * time.Second},
	&Error{StatusCode: 400, Code: "slow_down"},
	&Error{StatusCode: 400, Code: "slow_down", interval: 17 * time.Second},
	&Error{StatusCode: 429, Code: "slow_down", RetryAfter: time.Second},
	&Error{StatusCode: 503, Code: "temporarily_unavailable", RetryAfter: 7 * time.Second},
	&statusError{status: 502, retryAfter: 3 * time.Second},
	&statusError{status: 404},
	&unreadableError{},
	&unansweredError{errors.New("connection refused")},
}

// Whatever a server answers, in whatever order: no poll comes before the interval and
// Retry-After are over, the interval never shrinks, slow_down adds five seconds at least,
// and the login ends within a minute of the codes' end.
func TestPaceRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		p := pace{interval: time.Duration(1+random.IntN(10)) * time.Second}
		lifetime := time.Duration(10+random.IntN(900)) * time.Second
		var at time.Duration
		for polls := 1; ; polls++ {
			require.LessOrEqual(t, at, lifetime+maxOverrun)
			require.LessOrEqual(t, polls, int(lifetime/time.Second)+1)
			answer := answers[random.IntN(len(answers))]
			before := p.interval
			wait, err := p.next(answer, max(0, lifetime-at))
			require.GreaterOrEqual(t, p.interval, before)
			refused, _ := errors.AsType[*Error](answer)
			if refused.is("slow_down") {
				require.Equal(t, max(before+5*time.Second, refused.interval), p.interval)
			} else {
				require.Equal(t, before, p.interval)
			}
			if err != nil {
				require.NotEqual(t, errors.Is(err, ErrExpired), errors.Is(err, ErrFailed), "%v", err)
				break
			}
			require.GreaterOrEqual(t, wait, p.interval)
			require.GreaterOrEqual(t, wait, demanded(answer))
			require.Less(t, at, lifetime, "the poll before the last came in time")
			at += wait
		}
	}
}

func TestBackoff(t *testing.T) {
	const s, ages = time.Second, time.Hour
	for _, test := range []struct {
		interval time.Duration
		lost     int
		left     time.Duration
		want     time.Duration
	}{
		{5 * s, 0, ages, 5 * s},
		{5 * s, 1, ages, 10 * s},
		{5 * s, 2, ages, 20 * s},
		{5 * s, 3, ages, 40 * s},
		{5 * s, 4, ages, 60 * s},
		{5 * s, 1000, ages, 60 * s},
		{90 * s, 1, ages, 90 * s},
		{5 * s, 3, 17 * s, 17 * s},
		{5 * s, 3, 2 * s, 5 * s},
	} {
		assert.Equal(t, test.want, backoff(test.interval, test.lost, test.left), "%+v", test)
	}
}
