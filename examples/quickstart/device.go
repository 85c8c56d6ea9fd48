package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/userinfo"
)

// How signing in can end without a token.
var (
	errDenied  = errors.New("denied: the device was not signed in")
	errExpired = errors.New("expired: nobody allowed the device in time; start it again for a new code")
	errStopped = errors.New("stopped before anybody decided")
)

// signIn asks for codes, shows them, waits for a person to decide, and greets them.
func signIn(ctx context.Context, out io.Writer, client *http.Client, origin string) error {
	device, err := deviceclient.New(deviceclient.Config{
		ClientID:   "tv",
		Issuer:     origin,
		Parameters: url.Values{"device_name": {"Quickstart"}},
		HTTPClient: client,
	})
	if err != nil {
		return err
	}
	authorization, err := device.Start(ctx)
	if err != nil {
		return err
	}
	if err = show(out, authorization); err != nil {
		return err
	}
	token, err := device.Poll(ctx, authorization)
	if err != nil {
		return inWords(err)
	}
	server, err := device.Metadata(ctx)
	if err != nil {
		return err
	}
	who, err := userinfo.Ask(ctx, client, server.UserinfoEndpoint, token)
	if err != nil {
		return fmt.Errorf("the server does not say who signed in: %w", err)
	}
	_, err = fmt.Fprintf(out, "Approved: the device is signed in as %s (%s).\n", who.Name, who.Subject)
	return err
}

// inWords is what a person reads when there is no token.
func inWords(err error) error {
	switch {
	case errors.Is(err, deviceclient.ErrDenied):
		return errDenied
	case errors.Is(err, deviceclient.ErrExpired):
		return errExpired
	case errors.Is(err, deviceclient.ErrCancelled):
		return errStopped
	default:
		return err
	}
}
