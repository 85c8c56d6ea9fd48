package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// shutdownTime is how long requests may take to end when the server does.
const shutdownTime = 3 * time.Second

// Listen opens addr, HOST:PORT, and returns the URL at which this computer reaches
// it. Port 0 takes any that is free.
func Listen(addr string) (listener net.Listener, origin string, err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", fmt.Errorf("%q is not HOST:PORT", addr)
	}
	listener, err = net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("%s is in use by another program; choose another address with -addr", addr)
	}
	if err != nil {
		return nil, "", err
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return listener, "http://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// Serve serves until ctx ends, and returns when all requests have ended, or have
// been cut off after a while. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // More than issuing a token may take.
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // Those that are left had their time.
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
