// Package crash holds tests that kill servers and databases with SIGKILL at random
// moments, while devices log in with golang.org/x/oauth2: nobody may get two tokens,
// and nobody may be left waiting.
//
// The database that is killed is a PostgreSQL of the test's own. Its programs are
// found with pg_config, or where Debian installs them; root runs them as the user
// postgres. All of it needs Linux: /proc tells which processes are left. With
// DEVICEGRANT_SOAK=1 there are five times as many logins.
package crash
