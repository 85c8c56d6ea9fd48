package devicegrant

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDetailViews(t *testing.T) {
	assert.Empty(t, detailViews(""))
	assert.Empty(t, detailViews("[]"))
	assert.Equal(t, []DetailView{
		{Type: "payment", JSON: `{"type":"payment","Type":"gift"}`}, {Type: "", JSON: `{"TYPE":"x"}`}, {JSON: "7"},
	}, detailViews(` [{"type":"payment","Type":"gift"} , {"TYPE":"x"},7]`))
	assert.Equal(t, []DetailView{{JSON: `{"type":"no array"`}}, detailViews(`{"type":"no array"`), "nothing is left out")
}

func TestReadable(t *testing.T) {
	for value, want := range map[string]string{
		`{"a":1,"b":[true,null,"x:y,{}"],"c":{},"d":[]}`: "{\n  \"a\": 1,\n  \"b\": [\n    true,\n    null,\n    \"x:y,{}\"\n  ],\n  \"c\": {},\n  \"d\": []\n}",
		"\t{ \"a\" :\n1 , \"c\": { } }\r\n":              "{\n  \"a\": 1,\n  \"c\": {}\n}",
		`"say \"\\\" \n\u001b"`:                          `"say \"\\\" \u000a\u001b"`,
		`"\u0070ay \u05d0 \u202e"`:                       `"pay א \u202e"`,
		"\"1\u202e001\u200b\u00a0\u2028\u007f\"":         `"1\u202e001\u200b\u00a0\u2028\u007f"`,
		"\"\u115f\ufe0f\u3164\U000e0041e\u0301😀\"":       "\"\\u115f\\ufe0f\\u3164\\udb40\\udc41e\u0301😀\"",
		`"\ud800"`:        "\"\ufffd\"",
		"{not JSON\u202e": `{not JSON\u202e`,
	} {
		assert.Equal(t, want, readable(value), "%q", value)
	}
}

// Whoever nests deeply makes no page that is longer than what they sent is.
func TestReadableIsBounded(t *testing.T) {
	deep := strings.Repeat("[", 8000) + "1" + strings.Repeat("]", 8000)
	assert.Less(t, len(readable(deep)), 20*len(deep))
}

// What runs from right to left turns nothing around beside it.
func TestDetailPieces(t *testing.T) {
	d := DetailView{JSON: readable(`{"א \" ב":"ג","n":12}`)}
	assert.Equal(t, []Piece{
		{Text: "{\n  "}, {Text: `"א \" ב"`, Value: true}, {Text: ": "}, {Text: `"ג"`, Value: true}, {Text: ",\n  "},
		{Text: `"n"`, Value: true}, {Text: ": 12\n}"},
	}, d.Pieces())
	assert.Empty(t, DetailView{}.Pieces())
}

func TestLongDetails(t *testing.T) {
	short := DetailView{Type: "a", JSON: "{\n  \"type\": \"a\"\n}"}
	assert.False(t, (&ReviewView{Details: []DetailView{short, short}}).LongDetails())
	for name, details := range map[string][]DetailView{
		"many":     slices.Repeat([]DetailView{short}, 20),
		"long":     {{JSON: strings.Repeat("x", 3000)}},
		"tall":     {{JSON: strings.Repeat("\n", 80)}},
		"in words": {{Text: strings.Repeat("words ", 500), JSON: "{}"}},
	} {
		assert.True(t, (&ReviewView{Details: details}).LongDetails(), name)
	}
}

// What is shown is the JSON that was sent, whole, and without anything that hides.
func FuzzReadable(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"\u202e",{}]}`, "\"\u202e\"", `[[],{"":""}]`, `"\\"`, "{", "", "\xff", `[1e5,-0.5]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		shown := readable(value)
		var whole strings.Builder
		for _, piece := range (DetailView{JSON: shown}).Pieces() {
			whole.WriteString(piece.Text)
		}
		assert.Equal(t, shown, whole.String(), "all of it is in the pieces")
		var sent, read any
		if err := json.Unmarshal([]byte(value), &sent); err != nil || !utf8.ValidString(value) {
			return
		}
		require.NoError(t, json.Unmarshal([]byte(shown), &read), shown)
		assert.Equal(t, sent, read)
		assert.False(t, strings.ContainsFunc(strings.ReplaceAll(shown, "\n", ""), invisible), "%q", shown)
	})
}
