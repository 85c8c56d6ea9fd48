package dpop

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A nonce is good for the window, also at a replica whose clock is five seconds behind.
func TestNonceAge(t *testing.T) {
	n, err := newNonces([][]byte{make([]byte, minKeyBytes)}, time.Minute)
	require.NoError(t, err)
	made := time.UnixMilli(1_700_000_000_123)
	nonce := n.fresh(made)
	for age, good := range map[time.Duration]bool{
		0: true, time.Minute: true, time.Minute + time.Millisecond: false,
		-5 * time.Second: true, -5*time.Second - time.Millisecond: false,
	} {
		got, ok := n.verify(nonce, made.Add(age))
		require.Equal(t, good, ok, age)
		require.True(t, got.Equal(made))
	}
}
