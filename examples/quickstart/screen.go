package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"rsc.io/qr"
)

const screen = `
On any browser, open   %s
and enter the code     %s

or follow this link, which the QR code holds as well:
%s

%s
The address is this computer's own, so use a browser here.
Sign in as alice / wonderland or bob / builder. Press Ctrl-C to stop.

Waiting for your decision. The code is good for %d minutes.
`

// show writes what a person needs to let the device sign in (RFC 8628 section 3.3).
func show(out io.Writer, a authorization) error {
	code, err := qr.Encode(a.VerificationURIComplete, qr.L)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, screen, a.VerificationURI, a.UserCode, a.VerificationURIComplete,
		render(code, isTerminal(out)), a.ExpiresIn/60)
	return err
}

const (
	quietZone    = 4 // modules of white around a code, without which readers miss it
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	resetColors  = "\x1b[0m"
)

// render draws a QR code in half blocks, two rows of modules to a line. With
// colors it is black on white whatever the terminal's own colors are; without, it
// is drawn in the color of text.
func render(code *qr.Code, colors bool) string {
	blocks := map[[2]bool]string{{}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		if colors {
			b.WriteString(blackOnWhite)
		}
		for x := -quietZone; x < code.Size+quietZone; x++ {
			b.WriteString(blocks[[2]bool{code.Black(x, y), code.Black(x, y+1)}])
		}
		if colors {
			b.WriteString(resetColors)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
