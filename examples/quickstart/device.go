package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/devicegrant/devicegrant/deviceclient"
)

// How signing in can end without a token.
var (
	errDenied  = errors.New("denied: the device was not signed in")
	errExpired = errors.New("expired: nobody allowed the device in time; start it again for a new code")
	errStopped = errors.New("stopped before anybody decided")
)

const maxBody = 64 << 10 // bytes of an answer

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
	name, err := greet(ctx, client, device, token)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Approved: the device is signed in as %s.\n", name)
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

// greet asks the server who signed in.
func greet(ctx context.Context, client *http.Client, device *deviceclient.Client, token *deviceclient.Token) (string, error) {
	server, err := device.Metadata(ctx)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.UserinfoEndpoint, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", token.TokenType+" "+token.AccessToken)
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var person struct{ Sub, Name string }
	err = json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&person)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", server.UserinfoEndpoint, resp.Status)
	}
	return fmt.Sprintf("%s (%s)", person.Name, person.Sub), nil
}
