package sqlstore

import (
	"context"
	"testing"
	"testing/synctest"

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
