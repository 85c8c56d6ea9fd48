package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// detached starts a program without this console.
var detached = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}

// takesEscapes reports whether a console takes escape sequences, which it has to be told
// to.
func takesEscapes(console *os.File) bool {
	handle := windows.Handle(console.Fd())
	var mode uint32
	return windows.GetConsoleMode(handle, &mode) == nil &&
		windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
