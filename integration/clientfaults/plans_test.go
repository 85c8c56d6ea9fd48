package clientfaults

import (
	"math/rand/v2"
	"testing"
	"time"
)

// fault is what goes wrong in each of a hundred logins.
type fault struct {
	name     string
	host     func(t *testing.T) *host
	plan     func(rng *rand.Rand, answer time.Duration) plan
	harmless bool // to every client
}

// plan is what goes wrong in one login. The person answers after it has begun.
type plan struct {
	fate    func(request) fate
	clock   func(since time.Duration) time.Duration // by how much the server's is wrong, for pacing; nil for right
	restart *restart                                // of the device; nil for none
}

// outage is how long a server or a proxy is away.
const outage = 10 * time.Second

var faults = []fault{
	{name: "none", host: inMemory, plan: always(arrives), harmless: true},
	{name: "the server restarts: connections are refused for 10 s", host: inMemory, plan: window(refused)},
	{name: "a proxy answers 502 for 10 s", host: inMemory, plan: window(badGateway)},
	{name: "a proxy answers 502 to 20 % of requests", host: inMemory, plan: chances(badGateway, badGateway)},
	{name: "10 % of requests are lost, and 10 % of answers", host: inMemory, plan: chances(requestLost, answerLost)},
	{name: "the same, and the Store is a Redeemer", host: inTransactions, plan: chances(requestLost, answerLost)},
	{name: "10 % of connections break before a request, and 10 % during the answer; the Store is a Redeemer", host: inTransactions, plan: chances(requestCut, answerCut)},
	{name: "slow_down, one to three times", host: inMemory, plan: someCopies, harmless: true},
	{name: "the server's clock steps back by 30 s, and later forward by 60 s", host: inMemory, plan: steppingClock, harmless: true},
	{name: "the device restarts, and goes on from JSON", host: inMemory, plan: restarting(asJSON), harmless: true},
	{name: "the same with gob, and the device's clock is set forward by an hour", host: inMemory, plan: restarting(asGob)},
}

func always(f fate) func(*rand.Rand, time.Duration) plan {
	return func(*rand.Rand, time.Duration) plan { return plan{fate: func(request) fate { return f }} }
}

// window is an outage that begins at a random time before the person answers.
func window(f fate) func(*rand.Rand, time.Duration) plan {
	return func(rng *rand.Rand, answer time.Duration) plan {
		begins := between(rng, 0, answer)
		return plan{fate: func(r request) fate {
			if r.since >= begins && r.since < begins+outage {
				return f
			}
			return arrives
		}}
	}
}

// chances gives each request one chance in ten to meet one of two fates.
func chances(one, other fate) func(*rand.Rand, time.Duration) plan {
	return func(rng *rand.Rand, _ time.Duration) plan {
		return plan{fate: func(request) fate {
			switch rng.IntN(10) {
			case 0:
				return one
			case 1:
				return other
			default:
				return arrives
			}
		}}
	}
}

// someCopies sends a copy before each of the first polls, which makes these early. A copy
// after the person's answer would be given the token.
func someCopies(rng *rand.Rand, answer time.Duration) plan {
	left := 1 + rng.IntN(3)
	return plan{fate: func(r request) fate {
		if left == 0 || r.again || r.since+time.Second > answer {
			return arrives
		}
		left--
		return copied
	}}
}

func steppingClock(rng *rand.Rand, answer time.Duration) plan {
	back := between(rng, 0, answer)
	forward := between(rng, back, answer)
	p := always(arrives)(rng, answer)
	p.clock = func(since time.Duration) time.Duration {
		switch {
		case since < back:
			return 0
		case since < forward:
			return -30 * time.Second
		default:
			return 30 * time.Second
		}
	}
	return p
}

// restarting has the device killed at a random time before the person answers.
func restarting(k keeping) func(*rand.Rand, time.Duration) plan {
	return func(rng *rand.Rand, answer time.Duration) plan {
		p := always(arrives)(rng, answer)
		p.restart = &restart{after: between(rng, 0, answer), off: between(rng, time.Second, time.Minute), keeping: k}
		return p
	}
}

// between returns a random duration that is not less than low, and less than high.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}
