//go:build unix

package main

import (
	"os"
	"syscall"
)

// detached starts a program in a session of its own, which has no terminal.
var detached = &syscall.SysProcAttr{Setsid: true}

// takesEscapes reports whether a terminal takes escape sequences.
func takesEscapes(*os.File) bool { return true }
