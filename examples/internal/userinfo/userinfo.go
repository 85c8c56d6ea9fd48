// Package userinfo asks an authorization server who has signed in.
package userinfo

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
	timeout = 10 * time.Second
	maxBody = 64 << 10 // bytes of an answer
)

// Person is what the server says of who has signed in (OpenID Connect Core section 5.1).
type Person struct {
	Subject string `json:"sub"`
	Name    string `json:"name"`
}

// Ask asks a userinfo endpoint whose a token is (RFC 6750 section 2.1), over the client's
// connections. It follows no redirect.
func Ask(ctx context.Context, client *http.Client, endpoint string, token *deviceclient.Token) (who Person, err error) {
	if endpoint == "" {
		return who, errors.New("it has no userinfo endpoint")
	}
	if !strings.EqualFold(token.TokenType, "Bearer") {
		return who, errors.New("its token is of another type than Bearer")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return who, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // The token is for this address alone.
	}
	resp, err := direct.Do(r)
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
