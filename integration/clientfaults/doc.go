// Package clientfaults holds tests that log devices in, a hundred for each fault and each
// client, while connections fail, answers are lost and clocks are set: deviceclient beside
// golang.org/x/oauth2. There is no network and no waiting: the clients' requests are handed
// to a server's handlers, and time is that of testing/synctest.
package clientfaults
