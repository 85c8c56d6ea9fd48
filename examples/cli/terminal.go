package main

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// What is written to a rich terminal beside text.
const (
	bold      = "\x1b[1m"
	plain     = "\x1b[0m"
	emptyLine = "\r\x1b[K" // goes to the start of the line, and erases it
)

// terminal is what the program is started on.
//
// The cursor is left visible, at the end of the line that counts down: nothing has to be
// undone when the program is stopped or killed.
type terminal struct {
	out  io.Writer
	here bool // a person looks at it
	rich bool // it takes colors, and lines that are written over
	size func() (width, height int, err error)
	// browse opens a page and reports whether there is a browser to do so.
	browse func(uri string) bool
}

// newTerminal takes NO_COLOR (no-color.org) and TERM=dumb for a wish for plain lines.
func newTerminal(out *os.File, getenv func(string) string) terminal {
	fd := int(out.Fd())
	here := term.IsTerminal(fd)
	return terminal{
		out:  out,
		here: here,
		rich: here && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && takesEscapes(out),
		size: func() (int, int, error) { return term.GetSize(fd) },
		browse: func(uri string) bool {
			stdin := int(os.Stdin.Fd())
			return here && term.IsTerminal(stdin) && start(browserCommand(runtime.GOOS, getenv, uri))
		},
	}
}

// view is what fits.
func (t terminal) view() view {
	v := view{rich: t.rich}
	if t.here {
		v.width, v.height, _ = t.size() // Unknown is zero: unbounded.
	}
	return v
}

func (t terminal) print(s string) {
	_, _ = io.WriteString(t.out, s) // A screen that is gone has nobody to be told.
}

// status replaces the line that the cursor is in, by one that stays a single line. Plain
// terminals do not have it.
func (t terminal) status(line string) {
	if !t.rich {
		return
	}
	shown := []rune(line)
	if width := t.view().width; width > 0 {
		shown = shown[:min(len(shown), max(0, width-spared))]
	}
	t.print(emptyLine + string(shown))
}

// clear empties the line of the status, and whatever was typed there.
func (t terminal) clear() { t.status("") }

// end writes the last lines, which may be on the standard error, below the screen.
func (t terminal) end(out io.Writer, text string) {
	t.clear()
	if t.here && !t.rich {
		text = "\n" + text // There may be a ^C on the line.
	}
	_, _ = io.WriteString(out, wrapped(text, t.view().width)+"\n")
}
