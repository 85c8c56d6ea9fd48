package integration

import (
	"image"
	"image/color"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// screen is a program under test in a terminal of its own.
type screen struct {
	*process
	t       *testing.T
	in      size
	keys    *os.File
	written output // all that came, as it came

	mu      sync.Mutex
	display *vt.Emulator
}

// startInTerminal runs a program under test until the end of the test at the longest.
func startInTerminal(t *testing.T, in size, env []string, program string, args ...string) *screen {
	t.Helper()
	s := &screen{
		process: &process{cmd: exec.Command(filepath.Join(programs, program), args...), ended: make(chan struct{})},
		t:       t,
		in:      in,
		written: output{changed: make(chan struct{})},
		display: vt.NewEmulator(in.width, in.height),
	}
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "TERM=xterm-256color", "NO_COLOR=")
	s.cmd.Env = append(s.cmd.Env, env...)
	var err error
	s.keys, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: uint16(in.height), Cols: uint16(in.width)})
	require.NoError(t, err)
	go func() {
		_, _ = io.Copy(s, s.keys) // It ends with an error, when the program has let go of the terminal.
		_ = s.cmd.Wait()          // ProcessState has the outcome.
		close(s.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-s.ended:
		default:
			assert.Fail(t, program+" is still running")
			_ = s.cmd.Process.Kill() // It may be ending just now.
			<-s.ended
		}
		_ = s.keys.Close()
		if t.Failed() {
			t.Logf("%s showed:\n%s", program, s.text())
		}
	})
	return s
}

// Write shows what the program writes.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	_, err := s.display.Write(b)
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return s.written.Write(b)
}

// press types on the keyboard.
func (s *screen) press(keys string) {
	s.t.Helper()
	_, err := io.WriteString(s.keys, keys)
	require.NoError(s.t, err)
}

// until waits for the screen to match, and returns the match and its groups.
func (s *screen) until(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for running := true; running; {
		changed := s.written.next()
		if m := re.FindStringSubmatch(s.text()); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-s.ended:
			running = false
		case <-deadline:
			running = false
		}
	}
	m := re.FindStringSubmatch(s.text())
	require.NotNil(s.t, m, "%q is not in:\n%s", pattern, s.text())
	return m
}

// text is what can be seen, without what is blank at the ends of lines and below the last.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.textOf(s.in.height, s.display.CellAt)
}

// history is that with what has left the screen above.
func (s *screen) history() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.textOf(s.display.ScrollbackLen(), s.display.ScrollbackCellAt)
	return gone + s.textOf(s.in.height, s.display.CellAt)
}

func (s *screen) textOf(height int, at func(x, y int) *uv.Cell) string {
	var b strings.Builder
	for y := range height {
		var row strings.Builder
		for x := range s.in.width {
			if cell := at(x, y); cell != nil {
				row.WriteString(cell.Content)
			}
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// cells are those on the screen, row by row.
func (s *screen) cells() (cells []uv.Cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for y := range s.in.height {
		for x := range s.in.width {
			cells = append(cells, *s.display.CellAt(x, y))
		}
	}
	return cells
}

// requireBold demands that of a text that is on the screen once, and of nothing else.
func (s *screen) requireBold(text string) {
	s.t.Helper()
	var found strings.Builder
	for _, cell := range s.cells() {
		if cell.Style.Attrs&uv.AttrBold != 0 {
			found.WriteString(cell.Content)
		}
	}
	require.Equal(s.t, text, found.String())
}

// requireEnd demands that the program has left the terminal as it should: its last words,
// wrapped, are where it counted down, and the cursor can be seen in the empty line below.
// It returns all that is there, on one line.
func (s *screen) requireEnd(words string) string {
	s.t.Helper()
	shown := s.history()
	oneLine := strings.Join(strings.Fields(shown), " ")
	at := strings.LastIndex(oneLine, words)
	require.GreaterOrEqual(s.t, at, 0, "%q is not in:\n%s", words, shown)
	assert.NotContains(s.t, oneLine, "Waiting", "the time is up")
	assert.NotContains(s.t, oneLine, "^C")
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.False(s.t, s.display.CursorHidden())
	assert.False(s.t, s.display.IsAltScreen())
	cursor := s.display.CursorPosition()
	assert.Zero(s.t, cursor.X)
	assert.Equal(s.t, strings.Count(s.textOf(s.in.height, s.display.CellAt), "\n")+1, cursor.Y)
	return oneLine[at:]
}

// readQR reads the QR code on the screen, as somebody with a phone does. In a terminal that
// is dark, which shows light text, it takes colors of its own.
func (s *screen) readQR(dark bool) string {
	s.t.Helper()
	const scale = 4 // pixels to a module
	picture := image.NewGray(image.Rect(0, 0, scale*s.in.width, 2*scale*s.in.height))
	for i, cell := range s.cells() {
		x, y := i%s.in.width, i/s.in.width
		for half, set := range [2]bool{strings.Contains("▀█", cell.Content), strings.Contains("▄█", cell.Content)} {
			shade := shadeOf(cell.Style, set, dark)
			for j := range scale * scale {
				picture.SetGray(scale*x+j%scale, scale*(2*y+half)+j/scale, shade)
			}
		}
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	require.NoError(s.t, err)
	found, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	require.NoError(s.t, err)
	return found.GetText()
}

// shadeOf is the color of a half of a cell: that of text if it is set, or that behind it.
func shadeOf(style uv.Style, set, dark bool) color.Gray {
	own := style.Bg
	if set {
		own = style.Fg
	}
	switch {
	case own != nil:
		return color.GrayModel.Convert(own).(color.Gray)
	case set == dark:
		return color.Gray{Y: 255}
	default:
		return color.Gray{}
	}
}
