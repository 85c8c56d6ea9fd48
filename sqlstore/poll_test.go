package sqlstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

func TestLanes(t *testing.T) {
	l := lanes{free: 2}
	f := make([]*flight, 7)
	for i := range f {
		f[i] = &flight{}
		assert.Equal(t, i < 2, l.enter(f[i]), i)
	}
	assert.Nil(t, f[0].landed, "nobody waits for who has a lane")
	assert.NotNil(t, f[2].landed)
	assert.Equal(t, []*flight{f[2], f[3], f[4]}, l.next(3), "in the order in which they came")
	assert.Equal(t, []*flight{f[5], f[6]}, l.next(3))
	assert.Nil(t, l.next(3), "the lane is free")
	assert.True(t, l.enter(&flight{}))
	assert.False(t, l.enter(&flight{}), "the other is not")
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		one, two := devicegrant.DeviceCodeDigest{1}, devicegrant.DeviceCodeDigest{2}
		require.NoError(t, turns.wait(t.Context(), one))
		assert.False(t, turns.try(one))
		assert.True(t, turns.try(two))
		var order []int
		for i := range 3 {
			go func() {
				assert.NoError(t, turns.wait(t.Context(), one))
				order = append(order, i)
				turns.end(one)
			}()
			synctest.Wait()
		}
		gone, leave := context.WithCancel(t.Context())
		go func() { assert.ErrorIs(t, turns.wait(gone, one), context.Canceled) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		assert.Empty(t, order)
		turns.end(one)
		synctest.Wait()
		assert.Equal(t, []int{0, 1, 2}, order)
		turns.end(two)
		assert.Empty(t, turns.of, "nothing is left")
	})
}

// Who waits in line too long gives up, and is not polled for when the turn comes.
func TestWaitingInLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{dialect: PostgreSQL, timeout: time.Second, memory: newMemory(false)} // It has no lane, and no database.
		start := time.Now()
		_, err := s.Poll(t.Context(), devicegrant.DeviceCodeDigest{1}, "tv", noon)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, s.timeout, time.Since(start))

		_, err = s.Poll(t.Context(), devicegrant.DeviceCodeDigest{1}, "tv", noon)
		require.ErrorIs(t, err, context.DeadlineExceeded, "its turn has not ended")
		s.serve(t.Context(), s.lanes.next(2))
		assert.Empty(t, s.turns.of)
		assert.Equal(t, 1, s.lanes.free)
	})
}

// When a statement for several fails, each of them learns of it, and no change is lost.
func TestStatementForSeveralFails(t *testing.T) {
	for _, d := range dialects {
		db := (&fakeDatabase{}).open(t)
		s, err := New(db, d, Config{})
		require.NoError(t, err)
		require.NoError(t, db.Close())
		batch := []*flight{poll(1, 0), poll(2, 0), poll(3, 0)}
		ask(s.memory, poll(2, -time.Second), pending(), nil)
		s.memory.unsaved[batch[1].code] = change{pending().Pace, pending().Pace.Next(noon.Add(time.Second))}
		for _, f := range batch {
			require.NoError(t, s.turns.wait(t.Context(), f.code))
			s.memory.begin(f)
			require.False(t, (&lanes{}).enter(f))
		}
		s.flyAll(t.Context(), batch)
		for _, f := range batch {
			<-f.landed
			assert.ErrorContains(t, f.err, "sqlstore: poll: ", d)
		}
		assert.NotNil(t, s.memory.change(batch[1].code), d)
		assert.Empty(t, s.turns.of, d)
	}
}
