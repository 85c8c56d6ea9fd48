package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/qrcode"
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
func show(out io.Writer, a *deviceclient.Authorization) error {
	code, err := qrcode.New(a.VerificationURIComplete)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, screen, a.VerificationURI, a.UserCode, a.VerificationURIComplete,
		strings.Join(code.Lines(isTerminal(out)), "\n"), a.ExpiresIn/time.Minute)
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
