package oauth2client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"golang.org/x/oauth2"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/oauth2client"
)

// A device signs in with deviceclient, and goes on with golang.org/x/oauth2. Its access
// token expires at once, so that the first use refreshes it.
func ExampleToken() {
	server := newServer()
	defer server.Close()
	ctx := context.Background()

	client, err := deviceclient.New(deviceclient.Config{
		ClientID:                    "tv",
		DeviceAuthorizationEndpoint: server.URL + "/device_authorization",
		TokenEndpoint:               server.URL + "/token",
	})
	if err != nil {
		log.Fatal(err)
	}
	authorization, err := client.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	signedIn, err := client.Poll(ctx, authorization)
	if err != nil {
		log.Fatal(err)
	}

	token := oauth2client.Token(signedIn)
	fmt.Println(token.Type(), token.Extra("scope"), token.Valid())

	// AuthStyleInParams is what a client without a secret needs.
	config := oauth2.Config{
		ClientID: "tv",
		Endpoint: oauth2.Endpoint{TokenURL: server.URL + "/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	source := config.TokenSource(ctx, token)
	refreshed, err := source.Token()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(refreshed.Type(), refreshed.AccessToken, refreshed.Valid())
	// From here on: oauth2.NewClient(ctx, source).Get("https://api.example.com/")

	// Output:
	// Bearer openid profile false
	// Bearer second true
}

// newServer stands for an authorization server whose person has said yes already.
func newServer() *httptest.Server {
	answers := map[string]string{
		"": `{"device_code":"code","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device","expires_in":900,"interval":1}`,
		"urn:ietf:params:oauth:grant-type:device_code": `{"access_token":"first","token_type":"Bearer","expires_in":1,"refresh_token":"again","scope":"openid profile"}`,
		"refresh_token": `{"access_token":"second","token_type":"Bearer","expires_in":3600,"refresh_token":"again"}`,
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answers[r.PostFormValue("grant_type")])
	}))
}
