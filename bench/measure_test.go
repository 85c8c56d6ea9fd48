package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errBroken = errors.New("broken")

func TestRoundsTakeTurns(t *testing.T) {
	var turns []string
	opened := 0
	made := func(name string) contestant {
		return contestant{name, false, func(int) (operation, error) {
			opened++
			return func() error {
				if len(turns) == 0 || turns[len(turns)-1] != name {
					turns = append(turns, name)
				}
				return nil
			}, nil
		}}
	}
	load := workload{contestants: []contestant{made("a"), made("b"), {name: "none"}, made("c")}}
	results, err := load.measure(settings{rounds: 4, slice: time.Microsecond, grants: 1})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c", "b", "c", "a", "c", "a", "b", "c", "a", "b"}, turns)
	assert.Equal(t, 3*2, opened)
	for i, rounds := range []int{4, 4, 0, 4} {
		assert.Equal(t, load.contestants[i].name, results[i].name)
		assert.Len(t, results[i].rounds, rounds)
	}
}

func TestMeasureFails(t *testing.T) {
	fails := func() error { return errBroken }
	for name, open := range map[string]func(int) (operation, error){
		"opening":   func(int) (operation, error) { return nil, errBroken },
		"measuring": func(int) (operation, error) { return fails, nil },
	} {
		_, err := workload{name: "load", contestants: []contestant{{name, false, open}}}.measure(settings{rounds: 1, slice: 1})
		assert.ErrorIs(t, err, errBroken)
		assert.ErrorContains(t, err, "load: "+name)
	}
	_, err := together(func(string) error { return errBroken }, [][]string{{"code"}}, 1)
	assert.ErrorIs(t, err, errBroken)
}

var sink *[64]byte

func TestMeasureCounts(t *testing.T) {
	s, err := measure(func() error {
		sink = new([64]byte)
		sink = new([64]byte)
		return nil
	}, time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, sample{elapsed: s.elapsed, cpu: s.cpu, bytes: 128, allocs: 2}, s)
	assert.Positive(t, s.elapsed)
	assert.Positive(t, s.cpu)
}

func TestRepeat(t *testing.T) {
	n, err := repeat(func() error { return nil }, 0)
	assert.NoError(t, err)
	assert.Equal(t, 50, n)

	left := 7
	n, err = repeat(func() error {
		if left--; left == 0 {
			return errBroken
		}
		return nil
	}, time.Minute)
	assert.ErrorIs(t, err, errBroken)
	assert.Equal(t, 7, n)
}

// Each goroutine polls its own share.
func TestTogether(t *testing.T) {
	var polled [2]string
	_, err := together(func(code string) error {
		polled[code[0]-'a'] += code
		return nil
	}, [][]string{{"a1", "a2"}, {"b1"}}, 3)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"a1a2a1", "b1b1b1"}, polled)
}
