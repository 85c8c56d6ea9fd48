package qrcode

import (
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	reader "github.com/makiuchi-d/gozxing/qrcode"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRead has what is drawn read by a library that knows nothing of how it was drawn: in
// its own colors, and as dark and as light text.
func TestRead(t *testing.T) {
	const uri = "https://login.example.com/device?user_code=WDJB-MJHT"
	for _, length := range []int{0, 2, 40, 120, 400, 900} {
		text := uri + strings.Repeat("x", length)
		code, err := New(text)
		require.NoError(t, err)
		t.Run(fmt.Sprintf("%d bytes", len(text)), func(t *testing.T) {
			for _, dark := range []bool{true, false} {
				assert.Equal(t, text, read(t, pictureOf(t, code, true, dark)), "in its own colors, dark text: %v", dark)
			}
			assert.Equal(t, text, read(t, pictureOf(t, code, false, true)), "dark text")
			assert.Equal(t, text, read(t, inverted(pictureOf(t, code, false, false))), "light text")
		})
	}
}

func TestTooLong(t *testing.T) {
	_, err := New(strings.Repeat("x", 2954))
	require.Error(t, err)
}

const scale = 4 // pixels to a module

// pictureOf is what a terminal shows of a code, if its own text is dark on white, or white
// on black.
func pictureOf(t *testing.T, code Code, colors, dark bool) *image.Gray {
	t.Helper()
	ink, paper := color.Gray{}, color.Gray{Y: 255}
	if !dark && !colors {
		ink, paper = paper, ink
	}
	lines := code.Lines(colors)
	require.Len(t, lines, code.Height())
	picture := image.NewGray(image.Rect(0, 0, scale*code.Width(), 2*scale*code.Height()))
	for y, line := range lines {
		assert.Equal(t, colors, strings.HasPrefix(line, "\x1b[38;5;16;48;5;231m") && strings.HasSuffix(line, "\x1b[0m"))
		row := []rune(strings.TrimSuffix(strings.TrimPrefix(line, blackOnWhite), resetColors))
		require.Len(t, row, code.Width())
		for x, block := range row {
			require.Contains(t, " ▀▄█", string(block))
			fill(picture, x, 2*y, block == '▀' || block == '█', ink, paper)
			fill(picture, x, 2*y+1, block == '▄' || block == '█', ink, paper)
		}
	}
	return picture
}

func fill(picture *image.Gray, x, y int, set bool, ink, paper color.Gray) {
	shade := paper
	if set {
		shade = ink
	}
	for i := range scale * scale {
		picture.SetGray(scale*x+i%scale, scale*y+i/scale, shade)
	}
}

// inverted is what a reader makes of a picture when it finds no code in it.
func inverted(picture *image.Gray) *image.Gray {
	for i := range picture.Pix {
		picture.Pix[i] = ^picture.Pix[i]
	}
	return picture
}

func read(t *testing.T, picture image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	require.NoError(t, err)
	found, err := reader.NewQRCodeReader().Decode(bitmap, nil)
	require.NoError(t, err)
	return found.GetText()
}
