package main

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUsage(t *testing.T) {
	if runtime.GOOS != "linux" {
		_, err := usageOf(os.Getpid())
		require.Error(t, err)
		return
	}
	u, err := usageOf(os.Getpid())
	require.NoError(t, err)
	assert.Greater(t, u.rss, int64(1<<20))
	assert.GreaterOrEqual(t, u.peak, u.rss)
	_, err = usageOf(-1)
	assert.Error(t, err)
}

func TestParseStat(t *testing.T) {
	cpu, err := parseStat("7 (a ) 1 2 b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 11 12 20 0 5 0 100")
	require.NoError(t, err)
	assert.Equal(t, 3*time.Second, cpu)
	for _, stat := range []string{"", "7 (a) S", "7 (a) S 1 7 7 0 -1 4194560 1 0 0 0 x 50 11 12", "7 (a) S 1 7 7 0 -1 4194560 1 0 0 0 250 y 11 12"} {
		_, err := parseStat(stat)
		assert.Error(t, err, stat)
	}
}

func TestParseStatus(t *testing.T) {
	const status = "Name:\tVmRSS: 1 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"
	assert.EqualValues(t, 1<<20, parseStatus(status, "VmRSS"))
	assert.EqualValues(t, 2<<20, parseStatus(status, "VmHWM"))
	assert.Zero(t, parseStatus(status, "Name"))
	assert.Zero(t, parseStatus("", "VmRSS"))
}
