package demo

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestListen(t *testing.T) {
	for _, tt := range []struct{ addr, origin string }{
		{"127.0.0.1:0", "http://127.0.0.1:"},
		{"localhost:0", "http://localhost:"},
		{"0.0.0.0:0", "http://127.0.0.1:"},
		{":0", "http://127.0.0.1:"},
	} {
		listener, origin, err := Listen(tt.addr)
		require.NoError(t, err, tt.addr)
		_, port, err := net.SplitHostPort(listener.Addr().String())
		require.NoError(t, err)
		assert.Equal(t, tt.origin+port, origin)
		require.NoError(t, listener.Close())
	}
}

func TestListenRefuses(t *testing.T) {
	taken, _, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for addr, want := range map[string]string{
		taken.Addr().String(): "is in use by another program",
		"8080":                "is not HOST:PORT",
		"127.0.0.1:http:80":   "is not HOST:PORT",
	} {
		_, _, err := Listen(addr)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "\n")
	}
}

// pipe is a listener that accepts one connection, which needs no network.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipe() (listener *pipe, client net.Conn) {
	client, server := net.Pipe()
	p := &pipe{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	p.conns <- server
	return p, client
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

// TestServeCutsOff: a request that does not end is ended. The bubble fails if any
// goroutine is left.
func TestServeCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, client := newPipe()
		defer client.Close()
		ctx, stop := context.WithCancel(t.Context())
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			stop()
			<-r.Context().Done() // Until it is cut off.
		})
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, listener, handler, slog.New(slog.DiscardHandler)) }()
		_, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		require.NoError(t, err)
		<-ctx.Done()
		ended := time.Now()
		require.NoError(t, <-served)
		assert.Equal(t, shutdownTime, time.Since(ended))
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the connection is still open")
	})
}

func TestServeFails(t *testing.T) {
	listener, _, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, Serve(t.Context(), listener, nil, slog.New(slog.DiscardHandler)), net.ErrClosed)
}

func TestTable(t *testing.T) {
	table, now := newTable[string, int](2), time.Now()
	put := func(key string, value int) { table.put(key, value, now, now.Add(time.Minute)) }
	put("a", 1)
	now = now.Add(time.Second)
	put("b", 2)
	put("a", 3) // Now b is the oldest.
	put("c", 4)
	_, ok := table.get("b", now)
	assert.False(t, ok, "there are more than two")
	got, ok := table.get("a", now)
	assert.True(t, ok)
	assert.Equal(t, 3, got)

	table.remove("a")
	table.remove("nothing")
	_, ok = table.get("a", now)
	assert.False(t, ok)

	now = now.Add(time.Minute)
	_, ok = table.get("c", now)
	assert.False(t, ok, "it never expires")
	table.update("c", now, func(v int, ok bool) (int, time.Time, bool) {
		assert.False(t, ok)
		return v + 1, now.Add(time.Minute), true
	})
	got, _ = table.get("c", now)
	assert.Equal(t, 1, got)
	assert.Len(t, table.entries, 1)
	assert.Equal(t, 1, table.oldest.Len())
}

// TestLoadKeysTogether: replicas that start at once share one key.
func TestLoadKeysTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	loaded := make([][][]byte, 16)
	var replicas sync.WaitGroup
	for i := range loaded {
		replicas.Go(func() {
			keys, err := LoadKeys(file)
			assert.NoError(t, err)
			loaded[i] = keys
		})
	}
	replicas.Wait()
	for _, keys := range loaded {
		require.Len(t, keys, 1)
		require.Len(t, keys[0], keySize)
		require.Equal(t, loaded[0], keys)
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := filepath.Glob(file + ".*")
	require.NoError(t, err)
	assert.Empty(t, left, "temporary files are left")
}

func TestLoadKeys(t *testing.T) {
	dir := t.TempDir()
	key := strings.Repeat("ab", keySize)
	for _, tt := range []struct{ name, content, err string }{
		{"one", key + "\n", ""},
		{"two, to rotate", key + "\n" + key + "\n", ""},
		{"empty", "\n", "holds no key"},
		{"short", key[2:], "key 1 is not"},
		{"not hex", key + "\n" + key[1:] + "x", "key 2 is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, tt.name)
			require.NoError(t, os.WriteFile(file, []byte(tt.content), 0o600))
			keys, err := LoadKeys(file)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				assert.NotContains(t, err.Error(), key[2:], "the error tells the key")
				return
			}
			require.NoError(t, err)
			assert.Len(t, keys, strings.Count(tt.content, "\n"))
		})
	}
	_, err := LoadKeys(dir)
	require.Error(t, err)
	_, err = LoadKeys(filepath.Join(dir, "none", "key"))
	require.Error(t, err)
}
