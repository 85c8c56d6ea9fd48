// Package integration holds tests that run the example programs as a user would
// and meet them with real clients: golang.org/x/oauth2, cli/oauth, deviceclient, openid-client
// and oauth4webapi from npm, plain HTTP and Chromium.
//
// The browser is the program named by the environment variable CHROMIUM, or
// chromium on the PATH. With SCREENSHOTS set to a directory, the tests leave
// pictures of every page there.
package integration
