package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/qrcode"
)

// view is what a screen is made for.
type view struct {
	width, height int // in characters; zero is no bound
	rich          bool
	opened        bool // the browser opens the page
}

const (
	indent = "  "
	gap    = 3 // columns between a QR code and the text beside it
	spared = 3 // columns at the end of the line that counts down, for a ^C
)

// line is a line as the terminal takes it, and its width as a person sees it. One that is
// rigid makes no sense when the terminal breaks it.
type line struct {
	text  string
	width int
	rigid bool
}

// screen is all that a person needs to decide (RFC 8628 section 3.3), up to the line that
// counts down. It is the first of these layouts that fits: everything in one column; the
// QR code beside the text, with the link or without; no QR code, with the link or without.
func screen(a *deviceclient.Authorization, v view) string {
	steps := v.steps(a, v.width)
	if a.VerificationURIComplete == "" {
		return text(steps)
	}
	link := unbroken(a.VerificationURIComplete)
	byLink := append(v.prose(v.width, "Or follow this link:"), link)
	byEither := append(v.prose(v.width, "Or scan the QR code, or follow this link:"), link)
	none := v.prose(v.width, "There is a QR code as well, but it does not fit into this window.")
	var layouts [][]line
	if code, err := qrcode.New(a.VerificationURIComplete); err == nil {
		drawing := v.drawing(code)
		layouts = append(layouts, join(steps, byEither, drawing))
		if beside := v.beside(drawing, a); beside != nil {
			layouts = append(layouts, join(beside, byEither), beside)
		}
	}
	layouts = append(layouts, join(steps, byLink, none), join(steps, none))
	for _, layout := range layouts {
		if v.fits(layout) {
			return text(layout)
		}
	}
	return text(layouts[len(layouts)-1])
}

// steps say where to go and what to enter there.
func (v view) steps(a *deviceclient.Authorization, width int) []line {
	first := "To sign in, open this page in any browser:"
	if v.opened {
		first = "Your browser opens a page to sign in. If it does not, open this one:"
	}
	code := unbroken(a.UserCode)
	if v.rich {
		code.text = indent + bold + a.UserCode + plain
	}
	return join(
		v.prose(width, first),
		[]line{unbroken(a.VerificationURI)},
		v.prose(width, "and enter this code there, or compare it if it is filled in:"),
		[]line{code},
	)
}

func (v view) drawing(code qrcode.Code) (lines []line) {
	for _, row := range code.Lines(v.rich) {
		lines = append(lines, line{row, code.Width(), true})
	}
	return lines
}

// beside puts the steps into the middle of the right side of a drawing; it is nil if they
// are longer than that.
func (v view) beside(drawing []line, a *deviceclient.Authorization) []line {
	left := drawing[0].width + gap
	steps := v.steps(a, v.width-left)
	top := (len(drawing) - len(steps)) / 2
	if v.width <= left || top < 0 {
		return nil
	}
	lines := slices.Clone(drawing)
	for i, step := range steps {
		if step.width == 0 {
			continue
		}
		row := &lines[top+i]
		row.text += strings.Repeat(" ", gap) + step.text
		row.width = left + step.width
	}
	return lines
}

// fits reports whether everything can be seen at once, with the line that counts down and
// the cursor below it.
func (v view) fits(lines []line) bool {
	rows := 3 // a blank line, the one that counts down, the cursor's
	for _, l := range lines {
		if v.width > 0 && l.rigid && l.width > v.width {
			return false
		}
		rows++
		if v.width > 0 {
			rows += max(0, l.width-1) / v.width
		}
	}
	return v.height == 0 || rows <= v.height
}

// prose breaks a text into lines between words.
func (v view) prose(width int, s string) (lines []line) {
	for l := range strings.SplitSeq(wrapped(s, width), "\n") {
		lines = append(lines, line{text: l, width: utf8.RuneCountInString(l)})
	}
	return lines
}

// unbroken is something to copy. When it is too wide, it is left to the terminal to break,
// which knows then that it is one.
func unbroken(s string) line {
	return line{text: indent + s, width: len(indent) + utf8.RuneCountInString(s)}
}

// join puts a blank line between parts.
func join(parts ...[]line) (lines []line) {
	for i, part := range parts {
		if i > 0 {
			lines = append(lines, line{})
		}
		lines = append(lines, part...)
	}
	return lines
}

// text is the lines and a blank one below.
func text(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return b.String() + "\n"
}

// waiting is the line that counts down, as much of it as fits.
func waiting(left time.Duration, width int) string {
	clock := minutes(left)
	for _, s := range []string{
		fmt.Sprintf("Waiting for your decision. %s left, Ctrl-C cancels.", clock),
		fmt.Sprintf("Waiting, %s left.", clock),
	} {
		if width == 0 || len(s) <= width-spared {
			return s
		}
	}
	return clock
}

// minutes is a time as minutes and seconds; a second that has begun counts.
func minutes(d time.Duration) string {
	seconds := (max(0, d) + time.Second - 1) / time.Second
	return fmt.Sprintf("%02d:%02d", seconds/60, seconds%60)
}

// wrapped breaks lines that are wider than width between words; zero breaks none.
func wrapped(s string, width int) string {
	if width <= 0 {
		return s
	}
	var b strings.Builder
	column := 0
	for i, l := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteByte('\n')
			column = 0
		}
		for word := range strings.FieldsSeq(l) {
			n := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+n > width:
				b.WriteByte('\n')
				column = 0
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += n
		}
	}
	return b.String()
}
