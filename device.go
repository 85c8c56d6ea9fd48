package devicegrant

import (
	"strings"
	"unicode"
)

// What is kept of what a device says of itself, in bytes.
const (
	maxDeviceName = 128
	maxUserAgent  = 256
)

// clean returns the device as it can be stored and shown: a name cannot pretend to be
// more than one line, nor turn the text around it.
func (d Device) clean() Device {
	d.Name, d.UserAgent = cleanText(d.Name, maxDeviceName), cleanText(d.UserAgent, maxUserAgent)
	if d.Addr.IsValid() {
		d.Addr = d.Addr.Unmap().WithZone("")
	}
	return d
}

// cleanText makes one line of text, of at most the number of bytes.
func cleanText(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "") // A character that is cut in two is not valid.
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.Is(unicode.C, r)
	}), " ")
}
