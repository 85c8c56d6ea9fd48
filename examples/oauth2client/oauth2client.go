// Package oauth2client hands a token of deviceclient to golang.org/x/oauth2, which uses it
// for requests and refreshes it. See the example.
package oauth2client

import (
	"golang.org/x/oauth2"

	"github.com/devicegrant/devicegrant/deviceclient"
)

// Token is the same token for golang.org/x/oauth2, whose Extra has what else the server
// sent, such as scope and id_token. It is for tokens of the type Bearer: oauth2 knows
// nothing of DPoP.
func Token(t *deviceclient.Token) *oauth2.Token {
	token := &oauth2.Token{
		AccessToken:  t.AccessToken,
		TokenType:    t.TokenType,
		RefreshToken: t.RefreshToken,
		Expiry:       t.Expiry,
	}
	return token.WithExtra(t.Parameters)
}
