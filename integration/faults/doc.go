// Package faults holds tests that have the connection to the database fail at every
// point of a login, one after the other, before the point takes effect and after: the
// login goes on, what is stored is right, and every connection is returned.
package faults
