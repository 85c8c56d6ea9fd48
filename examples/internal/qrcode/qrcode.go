// Package qrcode draws QR codes on terminals.
package qrcode

import (
	"strings"

	"rsc.io/qr"
)

const (
	quietZone    = 4 // modules of white around a code, without which readers miss it
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	resetColors  = "\x1b[0m"
)

// blocks are how two modules, one above the other, look in one character.
var blocks = map[[2]bool]string{{}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}

// Code is a QR code.
type Code struct {
	modules *qr.Code
}

// New returns the code of a text. It fails if the text is too long for one, which is above
// 2,953 bytes.
func New(text string) (Code, error) {
	modules, err := qr.Encode(text, qr.L)
	return Code{modules}, err
}

// Width is how many characters each of the Lines has.
func (c Code) Width() int { return c.modules.Size + 2*quietZone }

// Height is how many Lines there are.
func (c Code) Height() int { return (c.Width() + 1) / 2 }

// Lines draws the code in half blocks, two rows of modules to a line. With colors it is
// black on white whatever the terminal's own colors are; without, it is drawn in the color
// of text.
func (c Code) Lines(colors bool) []string {
	lines := make([]string, 0, c.Height())
	for y := -quietZone; y < c.modules.Size+quietZone; y += 2 {
		var b strings.Builder
		if colors {
			b.WriteString(blackOnWhite)
		}
		for x := -quietZone; x < c.modules.Size+quietZone; x++ {
			b.WriteString(blocks[[2]bool{c.modules.Black(x, y), c.modules.Black(x, y+1)}])
		}
		if colors {
			b.WriteString(resetColors)
		}
		lines = append(lines, b.String())
	}
	return lines
}
