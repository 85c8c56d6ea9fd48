package program

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// build returns a server that says what it was built with.
func build(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error) {
	host := demo.NewHost(origin, demo.InMemory(), logger)
	grant, err := devicegrant.New(devicegrant.Config{
		Store:              memstore.New(0),
		Keys:               demo.NewKeys(),
		VerificationURI:    origin + "/device",
		AuthenticateClient: host.AuthenticateClient,
		SignedIn:           host.SignedIn,
		IssueToken:         host.IssueToken,
		Interval:           interval,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logger.InfoContext(r.Context(), "asked")
		fmt.Fprint(w, origin, " ", interval)
	}), grant, err
}

// It says where it serves, and ends well.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	done := make(chan error, 1)
	var log strings.Builder
	go func() {
		done <- runHost(ctx, "name", []string{"-addr", "127.0.0.1:0", "-interval", "3s"}, w, &log, build)
		w.Close()
	}()
	stdout := bufio.NewScanner(r)
	require.True(t, stdout.Scan(), "it never served")
	origin, ok := strings.CutPrefix(stdout.Text(), "listening on ")
	require.True(t, ok, stdout.Text())

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(origin)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, origin+" 3s", string(body))

	stop()
	require.False(t, stdout.Scan(), stdout.Text())
	require.NoError(t, <-done)
	assert.Contains(t, log.String(), "asked")
	_, err = client.Get(origin)
	require.Error(t, err, "the server is still there")
}

func TestRunRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, `unexpected argument "serve"`},
		{[]string{"-nope"}, "wrong usage"},
		{[]string{"-addr", "nowhere"}, `"nowhere" is not HOST:PORT`},
		{[]string{"-addr", taken.Addr().String()}, "is in use by another program"},
		{[]string{"-addr", "127.0.0.1:0", "-interval", "1ms"}, "Interval is 1ms"},
		{[]string{"-h"}, flag.ErrHelp.Error()},
	} {
		require.ErrorContains(t, runHost(t.Context(), "name", tt.args, io.Discard, io.Discard, build), tt.want)
	}
	err = runHost(t.Context(), "name", []string{"-addr", "127.0.0.1:0"}, failing{}, io.Discard, build)
	require.ErrorIs(t, err, errGone, "nobody would know where it serves")
}

var errGone = errors.New("gone")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errGone }
