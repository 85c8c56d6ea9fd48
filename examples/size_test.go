package examples_test

import (
	"bytes"
	"go/format"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a reader copies is as short as this, and fits a window.
const (
	maxGlueLines   = 60
	maxGlueColumns = 120
)

// TestGlue: embedding the device grant in a server that exists takes one short file.
func TestGlue(t *testing.T) {
	for _, host := range []string{"zitadel", "fosite", "gooauth2", "stdlib"} {
		t.Run(host, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(host, "devicegrant.go"))
			require.NoError(t, err)
			lines := codeLines(t, source)
			t.Logf("%d lines of code", lines)
			assert.LessOrEqual(t, lines, maxGlueLines)
			formatted, err := format.Source(source)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(formatted, source), "it is not as gofmt has it")
			for i, line := range strings.Split(string(source), "\n") {
				columns := len(strings.ReplaceAll(line, "\t", "    "))
				assert.LessOrEqual(t, columns, maxGlueColumns, "line %d", i+1)
			}
		})
	}
}

// TestCustomStore: a Store takes no more than this.
func TestCustomStore(t *testing.T) {
	const maxLines = 200
	files, err := filepath.Glob(filepath.Join("customstore", "*.go"))
	require.NoError(t, err)
	lines := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		lines += codeLines(t, source)
	}
	t.Logf("%d lines of code", lines)
	assert.Positive(t, lines)
	assert.LessOrEqual(t, lines, maxLines)
}

// codeLines counts the lines that hold more than blanks and comments.
func codeLines(t *testing.T, source []byte) int {
	t.Helper()
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, func(pos token.Position, msg string) { t.Errorf("%s: %s", pos, msg) }, 0)
	lines := map[int]bool{}
	for {
		pos, tok, text := s.Scan()
		switch {
		case tok == token.EOF:
			return len(lines)
		case tok == token.SEMICOLON && text == "\n": // Nobody has written it.
			continue
		}
		first := file.Line(pos)
		for i := range strings.Count(text, "\n") + 1 { // A raw string has several.
			lines[first+i] = true
		}
	}
}

func TestCodeLines(t *testing.T) {
	assert.Equal(t, 6, codeLines(t, []byte(`// A comment.
package x // 1

/* A comment
of two lines. */
const text = `+"`2\n3 // no comment\n\n5`"+`

var a = /* Code before and after. */ 6
`)))
}
