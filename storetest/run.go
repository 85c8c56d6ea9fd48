// Package storetest checks that a devicegrant.Store keeps its contract, and makes
// Stores fail on purpose.
//
// Whoever writes a Store runs [Run] on it in a test of their own:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) devicegrant.Store { return open(t) })
//	}
//
// Whoever uses one and wants to see their server survive it failing wraps it with
// [NewFaulty].
package storetest

import (
	"context"
	"testing"

	"github.com/devicegrant/devicegrant"
)

// Run checks the Store that open returns against the contract of
// devicegrant.Store. Each clause of it is a subtest of its own, named for what it
// demands, on a Store of its own: open returns an empty one, with room for a
// thousand grants, and leaves what is to be closed or dropped to t.Cleanup.
//
// The clauses about devicegrant.Counter, devicegrant.Lister, devicegrant.Redeemer and devicegrant.Tallier are
// for Stores that are one. A wrapper around such a Store, like [Faulty], hides that it is,
// and with it those clauses.
//
// Random sequences have fixed seeds, so that a failure repeats. The clauses about
// concurrent use find most with the race detector on. On a Store in memory all of
// it takes about a second; on a database it is some 30,000 calls, one after another
// but for those, which takes minutes where each waits for a slow disk.
func Run(t *testing.T, open func(t *testing.T) devicegrant.Store) {
	t.Helper()
	run(tester{t}, func(t tb) devicegrant.Store { return open(t.(tester).T) })
}

// tb is what the suite needs of a testing.T. It is an interface so that the
// suite's own tests can watch it fail.
type tb interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Run(name string, f func(tb)) bool
}

type tester struct{ *testing.T }

func (t tester) Run(name string, f func(tb)) bool {
	return t.T.Run(name, func(t *testing.T) { f(tester{t}) })
}

// clause is one demand of the contract.
type clause struct {
	name  string
	check func(*suite)
}

// contract is every clause, by method.
var contract = []struct {
	name    string
	clauses []clause
}{
	{"Create", createClauses},
	{"Read", readClauses},
	{"Swap", swapClauses},
	{"Poll", pollClauses},
	{"Pace", paceClauses},
	{"Purge", purgeClauses},
	{"Context", contextClauses},
	{"Count", countClauses},
	{"List", listClauses},
	{"Redeem", redeemClauses},
	{"Tally", tallyClauses},
	{"Model", modelClauses},
	{"Race", raceClauses},
}

func run(t tb, open func(tb) devicegrant.Store) {
	t.Helper()
	for _, method := range contract {
		t.Run(method.name, func(t tb) {
			for _, c := range method.clauses {
				t.Run(c.name, func(t tb) { c.check(&suite{tb: t, Store: open(t)}) })
			}
		})
	}
}
