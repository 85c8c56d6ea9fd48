package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant/deviceclient"
)

const (
	userinfoTimeout = 10 * time.Second
	maxBody         = 64 << 10 // bytes of an answer
)

// person is what the server says of who has signed in (OpenID Connect Core section 5.1).
type person struct {
	Subject string `json:"sub"`
	Name    string `json:"name"`
}

// whoIs asks the server's userinfo endpoint whose a token is (RFC 6750 section 2.1).
func whoIs(ctx context.Context, endpoint string, token *deviceclient.Token) (who person, err error) {
	if endpoint == "" {
		return who, errors.New("it has no userinfo endpoint")
	}
	if !strings.EqualFold(token.TokenType, "Bearer") {
		return who, errors.New("its token is of another type than Bearer")
	}
	ctx, cancel := context.WithTimeout(ctx, userinfoTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return who, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // The token is for this address alone.
	}}
	resp, err := client.Do(r)
	if err != nil {
		return who, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return who, fmt.Errorf("its userinfo endpoint answered %d", resp.StatusCode)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&who)
	if err != nil || who.Subject == "" {
		return who, errors.New("its userinfo endpoint answered without a subject")
	}
	return who, nil
}
