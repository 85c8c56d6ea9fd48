package devicegrant

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This file shows people what a device sends for programs: JSON and URIs. What they see
// has to be what a program reads, so nothing in it can hide, or move what is beside it.

// DetailView is one of the authorization details that are asked for.
type DetailView struct {
	Type string
	// Text is what Page.Detail says of it. When that is empty, JSON is to be shown: the
	// object, indented, with characters escaped that cannot be seen.
	Text string
	JSON string
}

// Pieces is JSON, of which the strings are values for a template to mark up, such as in
// <bdi>: text that runs from right to left then moves nothing beside it.
func (d DetailView) Pieces() []Piece {
	var pieces []Piece
	for rest := d.JSON; rest != ""; {
		start := strings.IndexByte(rest, '"')
		if start < 0 {
			return append(pieces, Piece{Text: rest})
		}
		end := start + quoted(rest[start:])
		pieces = append(pieces, Piece{Text: rest[:start]}, Piece{Text: rest[start:end], Value: true})
		rest = rest[end:]
	}
	return pieces
}

// quoted returns the length of the JSON string that s begins with.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// detailViews splits authorization details (RFC 9396 section 2) into those that a page
// shows. Whatever cannot be split is shown as it is: nothing is left out.
func detailViews(details string) []DetailView {
	if details == "" {
		return nil
	}
	var objects []json.RawMessage
	if json.Unmarshal([]byte(details), &objects) != nil {
		return []DetailView{{JSON: details}}
	}
	views := make([]DetailView, len(objects))
	for i, object := range objects {
		var members map[string]json.RawMessage // A struct would take Type for type.
		var name string
		if json.Unmarshal(object, &members) == nil {
			_ = json.Unmarshal(members["type"], &name) // What has none is shown without.
		}
		views[i] = DetailView{Type: name, JSON: string(object)}
	}
	return views
}

// maxIndent is how deep JSON is indented: deeper, there would be more space than text.
const maxIndent = 8

// readable returns JSON indented, and with each character in a string as itself if that
// can be seen, however it was sent. JSON that is malformed is only made visible.
func readable(value string) string {
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(value)) != nil {
		return visible(value)
	}
	var b strings.Builder
	depth := 0
	line := func() {
		b.WriteByte('\n')
		b.WriteString(strings.Repeat("  ", min(depth, maxIndent)))
	}
	for rest := compact.String(); rest != ""; {
		n := 1
		switch rest[0] {
		case '{', '[':
			if len(rest) > 1 && (rest[1] == '}' || rest[1] == ']') {
				n = 2
				b.WriteString(rest[:n])
				break
			}
			b.WriteByte(rest[0])
			depth++
			line()
		case '}', ']':
			depth--
			line()
			b.WriteByte(rest[0])
		case ',':
			b.WriteByte(',')
			line()
		case ':':
			b.WriteString(": ")
		case '"':
			n = quoted(rest)
			b.WriteString(readableString(rest[:n]))
		default:
			b.WriteByte(rest[0])
		}
		rest = rest[n:]
	}
	return b.String()
}

// readableString does for one JSON string what readable does.
func readableString(literal string) string {
	var text string
	if json.Unmarshal([]byte(literal), &text) != nil {
		return visible(literal)
	}
	return `"` + visible(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)) + `"`
}

// visible returns text with whatever cannot be seen in it escaped as JSON does: control
// and format characters, such as those that turn text around, fillers, and spaces that
// are not the plain one.
func visible(text string) string {
	if !strings.ContainsFunc(text, invisible) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !invisible(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			const hex = "0123456789abcdef"
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[unit>>shift&0xf])
			}
		}
	}
	return b.String()
}

func invisible(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
