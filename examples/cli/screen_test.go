package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
)

const (
	page     = "https://example.com/device"
	complete = page + "?user_code=WDJB-MJHT"
)

// authorization is what a server answers whose codes live for 15 minutes.
func authorization(t *testing.T, complete string) *deviceclient.Authorization {
	t.Helper()
	answer, err := json.Marshal(map[string]any{
		"device_code":               "secret",
		"user_code":                 "WDJB-MJHT",
		"verification_uri":          page,
		"verification_uri_complete": complete,
		"expires_in":                900,
	})
	require.NoError(t, err)
	a := new(deviceclient.Authorization)
	require.NoError(t, json.Unmarshal(answer, a))
	return a
}

var (
	drawings = regexp.MustCompile(`(?m)^[ ▀▄█]{37}$\n(?:^[ ▀▄█]{37}$\n)+`)
	drawn    = regexp.MustCompile(`(?m)^[ ▀▄█]{37}`)
	escapes  = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

const column = `To sign in, open this page in any browser:

  https://example.com/device

and enter this code there, or compare it if it is filled in:

  WDJB-MJHT

Or scan the QR code, or follow this link:
  https://example.com/device?user_code=WDJB-MJHT

[QR]

`

const bare = `To sign in, open this page in any
browser:

  https://example.com/device

and enter this code there, or compare it
if it is filled in:

  WDJB-MJHT

There is a QR code as well, but it does
not fit into this window.

`

// sideBySide is a screen of 80 by 24, with the QR code for a bar.
const sideBySide = `|
|
|
|
|
|   To sign in, open this page in any
|   browser:
|
|     https://example.com/device
|
|   and enter this code there, or compare it
|   if it is filled in:
|
|     WDJB-MJHT
|
|
|
|
|

`

func TestScreen(t *testing.T) {
	a := authorization(t, complete)
	for _, size := range []view{{}, {width: 60, height: 33}} {
		assert.Equal(t, column, drawings.ReplaceAllString(screen(a, size), "[QR]\n"))
	}
	linked := strings.TrimSuffix(sideBySide, "\n") + "\nOr scan the QR code, or follow this link:\n  " + complete + "\n\n"
	assert.Equal(t, sideBySide, drawn.ReplaceAllString(screen(a, view{width: 80, height: 24}), "|"))
	assert.Equal(t, linked, drawn.ReplaceAllString(screen(a, view{width: 80, height: 25}), "|"))
	assert.Equal(t, bare, screen(a, view{width: 40, height: 15}))
	link := "Or follow this link:\n  " + complete + "\n\nThere is"
	assert.Equal(t, strings.Replace(bare, "There is", link, 1), screen(a, view{width: 40, height: 19}))
	assert.Equal(t, bare, screen(a, view{width: 40, height: 18}), "the link takes two lines")
}

func TestScreenWithoutCompleteURI(t *testing.T) {
	want, _, _ := strings.Cut(column, "Or scan")
	assert.Equal(t, want, screen(authorization(t, ""), view{width: 80, height: 24}))
}

func TestScreenWithBrowser(t *testing.T) {
	shown := screen(authorization(t, complete), view{opened: true})
	assert.True(t, strings.HasPrefix(shown, "Your browser opens a page to sign in. If it does not, open this one:\n\n  "+page+"\n"), shown)
}

func TestScreenColors(t *testing.T) {
	a := authorization(t, complete)
	assert.NotContains(t, screen(a, view{}), "\x1b")
	shown := screen(a, view{rich: true})
	assert.Contains(t, shown, "\n  \x1b[1mWDJB-MJHT\x1b[0m\n")
	assert.Equal(t, screen(a, view{}), escapes.ReplaceAllString(shown, ""), "colors change nothing else")
}

// TestScreenFits tries many windows: whatever is left out, a person can go there and enter
// the code, and a QR code is whole.
func TestScreenFits(t *testing.T) {
	kinds := map[string]bool{}
	for _, uri := range []string{complete, complete + strings.Repeat("x", 100)} {
		a := authorization(t, uri)
		for width := 20; width <= 120; width += 7 {
			for height := 10; height <= 60; height += 5 {
				shown := screen(a, view{width: width, height: height, rich: true})
				require.Contains(t, shown, "  "+page)
				require.Contains(t, shown, "  \x1b[1mWDJB-MJHT\x1b[0m")
				rows, qr := 2, strings.Contains(shown, "▀")
				for l := range strings.SplitSeq(strings.TrimSuffix(escapes.ReplaceAllString(shown, ""), "\n"), "\n") {
					n := utf8.RuneCountInString(l)
					if !strings.Contains(l, "://") || strings.ContainsAny(l, "▀▄█") {
						require.LessOrEqual(t, n, width, "%d by %d: %s", width, height, l)
					}
					rows += 1 + max(0, n-1)/width
				}
				if qr {
					require.LessOrEqual(t, rows, height, "%d by %d:\n%s", width, height, shown)
				}
				require.NotEqual(t, qr, strings.Contains(strings.Join(strings.Fields(shown), " "), "it does not fit"))
				kinds[map[bool]string{true: "QR", false: "none"}[qr]] = true
			}
		}
	}
	assert.Len(t, kinds, 2, "both were tried")
}

func TestMinutes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                     "00:00",
		0:                                "00:00",
		time.Nanosecond:                  "00:01",
		time.Second:                      "00:01",
		59*time.Second + 1:               "01:00",
		15 * time.Minute:                 "15:00",
		14*time.Minute + 59*time.Second:  "14:59",
		2*time.Hour + 5*time.Millisecond: "120:01",
	} {
		assert.Equal(t, want, minutes(d), d)
	}
}

func TestWaiting(t *testing.T) {
	const long, short = "Waiting for your decision. 01:00 left, Ctrl-C cancels.", "Waiting, 01:00 left."
	for width, want := range map[int]string{0: long, 80: long, 57: long, 56: short, 23: short, 22: "01:00", 5: "01:00"} {
		assert.Equal(t, want, waiting(time.Minute, width), width)
	}
}

func TestWrapped(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 0, "one two three"},
		{"one two three", 13, "one two three"},
		{"one two three", 12, "one two\nthree"},
		{"one two three", 7, "one two\nthree"},
		{"one two three", 1, "one\ntwo\nthree"},
		{"über uns\nhinaus", 8, "über uns\nhinaus"},
		{"", 8, ""},
	} {
		assert.Equal(t, tt.want, wrapped(tt.text, tt.width), "%q in %d", tt.text, tt.width)
	}
}
