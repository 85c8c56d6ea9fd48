package demo

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"

	"github.com/devicegrant/devicegrant"
)

var (
	scopes        = []string{"openid", "profile", "offline_access"}
	defaultScopes = []string{"openid", "profile"}
)

// registration is what the server knows of a client.
type registration struct {
	devicegrant.Client
	public bool
	secret digest // of a confidential client
}

var clients = map[string]registration{
	"tv":  {Client: newClient("tv", "Living-room TV", true), public: true},
	"cli": {Client: newClient("cli", "Command line", true), secret: digestOf("cli-secret")},
	"web": {Client: newClient("web", "Website", false), secret: digestOf("web-secret")},
}

func newClient(id, name string, deviceGrant bool) devicegrant.Client {
	return devicegrant.Client{
		ID: id, Name: name, DeviceGrant: deviceGrant,
		Scopes: scopes, DefaultScopes: defaultScopes, RequiredScopes: []string{"openid"},
	}
}

// otherResource is one that this server issues tokens for, beside its own.
const otherResource = "https://api.example.com/"

// registered returns what is known of a client. The tv may ask for more than others, and
// may be a web page.
func (h *Host) registered(id string) (registration, bool) {
	client, ok := clients[id]
	if id == "tv" {
		client.Resources = []string{h.origin + "/userinfo", otherResource}
		client.AuthorizationDetailsTypes = detailTypes
		client.Origins = h.Origins
	}
	return client, ok
}

// AllowedOrigin is for devicegrant.Config.
func (h *Host) AllowedOrigin(_ context.Context, origin string) bool {
	return slices.Contains(h.Origins, origin)
}

// AuthenticateClient is for devicegrant.Config. A public client has no secret to
// send, and a confidential one must send its own (RFC 6749 section 3.2.1).
func (h *Host) AuthenticateClient(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
	client, ok := h.registered(c.ID)
	if !ok || client.public != (c.Method == devicegrant.AuthNone) {
		return devicegrant.Client{}, devicegrant.ErrInvalidClient
	}
	sent := digestOf(c.Secret)
	if !client.public && subtle.ConstantTimeCompare(sent[:], client.secret[:]) != 1 {
		return devicegrant.Client{}, devicegrant.ErrInvalidClient
	}
	return client.Client, nil
}

// Client is for devicegrant.Config.
func (h *Host) Client(_ context.Context, id string) (devicegrant.Client, error) {
	client, ok := h.registered(id)
	if !ok {
		return devicegrant.Client{}, fmt.Errorf("no client %q is registered", id)
	}
	return client.Client, nil
}
