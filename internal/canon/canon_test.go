package canon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompact(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"null", "null", "null"},
		{"space around", " \t\r\n true \n", "true"},
		{"space inside", "{ \"a\" : [ 1 , 2 ] , \"b\" : { } , \"c\" : [ ] }", `{"a":[1,2],"b":{},"c":[]}`},
		{"numbers as spelled", `[0,-0,1.0,1e5,1E+05,-12.50e-3,123456789012345678901234567890]`,
			`[0,-0,1.0,1e5,1E+05,-12.50e-3,123456789012345678901234567890]`},
		{"sorted keys", `{"b":1,"a":2,"B":3,"":4,"aa":5}`, `{"":4,"B":3,"a":2,"aa":5,"b":1}`},
		{"first out of order last", `{"a":1,"b":2,"c":3,"0":4}`, `{"0":4,"a":1,"b":2,"c":3}`},
		{"sorted at each level", `{"z":{"y":[{"d":1,"c":{"f":1,"e":2}}],"x":0},"w":{"b":1,"a":2}}`,
			`{"w":{"a":2,"b":1},"z":{"x":0,"y":[{"c":{"e":2,"f":1},"d":1}]}}`},
		{"keys by bytes, not by UTF-16", `{"😀":1,"` + "\ufb33" + `":2}`, `{"` + "\ufb33" + `":2,"😀":1}`},
		{"keys by decoded bytes", `{"\\":1,"\n":2,"\u0001":3,"!":4,"\"":5,"]":6,"[":7}`,
			`{"\u0001":3,"\n":2,"!":4,"\"":5,"[":7,"\\":1,"]":6}`},
		{"shortest escapes", `"\u0022\u005c\/\u002f\u0008\u000c\u000a\u000D\u0009\u0000\u001F\u007f"`,
			`"\"\\//\b\f\n\r\t\u0000\u001f` + "\x7f" + `"`},
		{"nothing for HTML", `"\u003c\u003E\u0026\u2028\u2029<>&"`, `"<>&` + "\u2028\u2029" + `<>&"`},
		{"letters as themselves", `"\u00e9\uABCD\uabcd"`, `"éꯍꯍ"`},
		{"surrogate pair", `"a\ud83d\ude00b"`, `"a😀b"`},
		{"replacement character", `"\ufffd` + "\ufffd" + `"`, `"` + "\ufffd\ufffd" + `"`},
		{"other case of a key is another key", `{"a":1,"A":2}`, `{"A":2,"a":1}`},
		{"deepest", nested(MaxDepth), nested(MaxDepth)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Compact([]byte(tt.in))
			if err != nil {
				t.Fatalf("Compact(%s): %v", tt.in, err)
			}
			if string(got) != tt.want {
				t.Errorf("Compact(%s)\n got %s\nwant %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestCompactKeepsInput(t *testing.T) {
	in := `{"b":"\u0041","a":1}`
	raw := []byte(in)
	out, err := Compact(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(out)
	if string(raw) != in {
		t.Errorf("Compact changed its input to %s", raw)
	}
}

func TestCompactErrors(t *testing.T) {
	tests := []struct {
		name, in string
		rule     Rule
		offset   int
	}{
		{"empty", "", RuleSyntax, 0},
		{"only space", "  ", RuleSyntax, 2},
		{"byte-order mark", "\ufeff1", RuleSyntax, 0},
		{"two values", "1 2", RuleTrailing, 2},
		{"comma at the end", "[1],", RuleTrailing, 3},
		{"nul at the end", "1\x00", RuleTrailing, 1},
		{"half a word", "tru", RuleSyntax, 0},
		{"wrong word", "nulL", RuleSyntax, 0},
		{"word and more", "truex", RuleTrailing, 4},
		{"leading zero", "01", RuleTrailing, 1},
		{"minus alone", "-", RuleSyntax, 1},
		{"plus", "+1", RuleSyntax, 0},
		{"no fraction", "1.", RuleSyntax, 2},
		{"no integer part", ".5", RuleSyntax, 0},
		{"no exponent", "1e", RuleSyntax, 2},
		{"no exponent after sign", "1e+", RuleSyntax, 3},
		{"not a number", "NaN", RuleSyntax, 0},
		{"open array", "[1", RuleSyntax, 2},
		{"array with a comma too many", "[1,]", RuleSyntax, 3},
		{"array with the wrong end", "[1}", RuleSyntax, 2},
		{"open object", `{"a":1`, RuleSyntax, 6},
		{"object with a comma too many", `{"a":1,}`, RuleSyntax, 7},
		{"object without colon", `{"a" 1}`, RuleSyntax, 5},
		{"object without value", `{"a":}`, RuleSyntax, 5},
		{"key without quotes", `{a:1}`, RuleSyntax, 1},
		{"open string", `"a`, RuleSyntax, 2},
		{"control character", "\"a\nb\"", RuleSyntax, 2},
		{"last control character", "\"\x1f\"", RuleSyntax, 1},
		{"unknown escape", `"\x"`, RuleSyntax, 2},
		{"open escape", `"\`, RuleSyntax, 2},
		{"short unicode escape", `"\u12"`, RuleSyntax, 5},
		{"not hexadecimal", `"\u00g0"`, RuleSyntax, 5},
		{"not UTF-8", "[\"ab\xff\"]", RuleUTF8, 4},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", RuleUTF8, 1},
		{"overlong UTF-8", "\"\xc0\xaf\"", RuleUTF8, 1},
		{"not UTF-8 in a key", "{\"\x80\":1}", RuleUTF8, 2},
		{"high surrogate alone", `"\ud83d"`, RuleSurrogate, 1},
		{"high surrogate and a letter", `"a\ud83d\u0041"`, RuleSurrogate, 2},
		{"high surrogate and another escape", `"\ud83d\nde00"`, RuleSurrogate, 1},
		{"two high surrogates", `"\ud83d\ud83d"`, RuleSurrogate, 1},
		{"low surrogate first", `"\ude00\ud83d"`, RuleSurrogate, 1},
		{"high surrogate, half an escape", `"\ud83d\u12"`, RuleSyntax, 11},
		{"too deep", nested(MaxDepth + 1), RuleTooDeep, MaxDepth},
		{"too deep with objects", strings.Repeat(`{"":`, MaxDepth) + "{}", RuleTooDeep, 4 * MaxDepth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Compact([]byte(tt.in))
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("Compact(%q) = %q, %v; want an *Error", tt.in, out, err)
			}
			if e.Rule != tt.rule || e.Offset != tt.offset {
				t.Errorf("Compact(%q): %s at %d, want %s at %d", tt.in, e.Rule, e.Offset, tt.rule, tt.offset)
			}
			if out != nil || !errors.Is(err, ErrInvalid) || !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("Compact(%q) = %q, %v; want no bytes and ErrInvalid", tt.in, out, err)
			}
			var v any
			if derr := Decode([]byte(tt.in), &v); derr == nil || derr.Error() != err.Error() {
				t.Errorf("Decode(%q): %v, want %v", tt.in, derr, err)
			}
		})
	}
}

func TestCompactDuplicateKey(t *testing.T) {
	tests := []struct {
		name, in, key string
		offset        int
	}{
		{"side by side", `{"a":1,"a":1}`, "a", 7},
		{"apart", `{"b":1,"a":2,"b":3}`, "b", 13},
		{"in order before", `{"a":1,"b":2,"a":3}`, "a", 13},
		{"by an escape", `{"a":1,"\u0061":2}`, "a", 7},
		{"that needs an escape", `{"\n":1,"\u000a":2}`, "\n", 8},
		{"empty", `{"":1,"":2}`, "", 6},
		{"inner", `[{"x":{"k":1,"j":2,"k":3}}]`, "k", 19},
		{"first of two", `{"z":1,"a":2,"z":3,"a":4}`, "z", 13},
		{"among many", "{" + strings.Repeat(`"b":1,"a":2,`, 20) + `"c":3}`, "b", 13},
		{"three times", `{"a":1,"a":2,"a":3}`, "a", 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v map[string]any
			_, err := Compact([]byte(tt.in))
			for _, err := range []error{err, Decode([]byte(tt.in), &v)} {
				e, ok := errors.AsType[*DuplicateKeyError](err)
				if !ok || e.Key != tt.key || e.Offset != tt.offset || !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: %v, want key %q at %d", tt.in, err, tt.key, tt.offset)
				}
			}
		})
	}
}

func TestCompactSize(t *testing.T) {
	raw := []byte(`"` + strings.Repeat("a", MaxBytes-2) + `"`)
	if out, err := Compact(raw); err != nil || len(out) != MaxBytes {
		t.Errorf("Compact of MaxBytes: %d bytes, %v", len(out), err)
	}
	_, err := Compact(append(raw, ' '))
	if e, ok := errors.AsType[*Error](err); !ok || e.Rule != RuleTooLarge || e.Offset != MaxBytes {
		t.Errorf("Compact of one byte more: %v", err)
	}
	_, err = Marshal(string(raw))
	if e, ok := errors.AsType[*Error](err); !ok || e.Rule != RuleTooLarge {
		t.Errorf("Marshal past MaxBytes: %v", err)
	}
	// Spelled by encoding/json as six bytes each, this is too large on the way only.
	if out, err := Marshal(strings.Repeat("\u2028", MaxBytes/4)); err != nil || len(out) != MaxBytes/4*3+2 {
		t.Errorf("Marshal of separators: %d bytes, %v", len(out), err)
	}
}

func TestMarshal(t *testing.T) {
	type inner struct {
		Z int `json:"z"`
		A int `json:"a,omitzero"`
	}
	type record struct {
		Time  time.Time       `json:"time"`
		Name  string          `json:"name"`
		Raw   json.RawMessage `json:"raw"`
		Num   json.Number     `json:"num"`
		Bytes []byte          `json:"bytes"`
		Map   map[int]string  `json:"map"`
		Inner inner           `json:"inner"`
		Twice string          `json:"twice,string"`
	}
	got, err := Marshal(record{
		Time:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Name:  "<a&b>\u2028\"\x01",
		Raw:   json.RawMessage(`{ "y": 1.50, "x": "\u00e9" }`),
		Num:   "1.00",
		Bytes: []byte("hi"),
		Map:   map[int]string{10: "ten", 9: "nine"},
		Inner: inner{Z: 1},
		Twice: "<",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"bytes":"aGk=","inner":{"z":1},"map":{"10":"ten","9":"nine"},` +
		`"name":"<a&b>` + "\u2028" + `\"\u0001","num":1.00,"raw":{"x":"é","y":1.50},"time":"2026-01-02T03:04:05Z","twice":"\"<\""}`
	if string(got) != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestMarshalRefuses(t *testing.T) {
	rules := []struct {
		name string
		v    any
		rule Rule
	}{
		{"string that is not UTF-8", "a\xffb", RuleUTF8},
		{"key that is not UTF-8", map[string]int{"\xff": 1}, RuleUTF8},
		{"raw message that is not UTF-8", json.RawMessage("\"\xff\""), RuleUTF8},
		{"raw message with the mark of a filling", json.RawMessage(`"\ufffd"`), RuleUTF8},
		{"raw message with half a pair", json.RawMessage(`"\ud800"`), RuleSurrogate},
		{"too deep", json.RawMessage(nested(MaxDepth + 1)), RuleTooDeep},
	}
	for _, tt := range rules {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Marshal(tt.v)
			if e, ok := errors.AsType[*Error](err); !ok || e.Rule != tt.rule || out != nil {
				t.Errorf("%q, %v; want %s", out, err, tt.rule)
			}
		})
	}
	if out, err := Marshal("a\ufffdb"); err != nil || string(out) != "\"a\ufffdb\"" {
		t.Errorf("a true U+FFFD: %q, %v", out, err)
	}
	if _, err := Marshal(json.RawMessage(`{"a":1,"a":2}`)); !is[*DuplicateKeyError](err) {
		t.Errorf("duplicate key: %v", err)
	}
	if _, err := Marshal(math.NaN()); !is[*json.UnsupportedValueError](err) {
		t.Errorf("not a number: %v", err)
	}
	if _, err := Marshal(make(chan int)); !is[*json.UnsupportedTypeError](err) {
		t.Errorf("channel: %v", err)
	}
}

func TestDecode(t *testing.T) {
	type record struct {
		A int             `json:"a"`
		R json.RawMessage `json:"r"`
		M map[string]any  `json:"m"`
	}
	var got record
	if err := Decode([]byte(`{"r":{"y":1,"x":2},"m":{"n":1.0},"a":7} `), &got); err != nil {
		t.Fatal(err)
	}
	want := record{7, json.RawMessage(`{"x":2,"y":1}`), map[string]any{"n": json.Number("1.0")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	out, err := Marshal(got)
	if want := `{"a":7,"m":{"n":1.0},"r":{"x":2,"y":1}}`; err != nil || string(out) != want {
		t.Errorf("marshalled again: %s, %v", out, err)
	}

	err = Decode([]byte(`{"a":1,"b":2}`), &got)
	if err == nil || !strings.Contains(err.Error(), `unknown field "b"`) {
		t.Errorf("unknown field: %v", err)
	}
	if err := Decode([]byte(`{"a":"x"}`), &got); !is[*json.UnmarshalTypeError](err) {
		t.Errorf("wrong type: %v", err)
	}
	if err := Decode([]byte(`{}`), nil); !is[*json.InvalidUnmarshalError](err) {
		t.Errorf("nil: %v", err)
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&Error{3, RuleSyntax, "expected ':'"}, "canon: at byte 3: not JSON: expected ':'; correct the text"},
		{&Error{3, RuleTrailing, ""}, "canon: at byte 3: more text follows the value; give one value only"},
		{&Error{3, RuleUTF8, ""}, "canon: at byte 3: a string is not UTF-8; convert it or store it as bytes"},
		{&Error{3, RuleSurrogate, ""}, `canon: at byte 3: a \u escape is half of a surrogate pair; write both halves or the character itself`},
		{&Error{3, RuleTooDeep, ""}, "canon: at byte 3: nested deeper than 64 levels; flatten it"},
		{&Error{3, RuleTooLarge, ""}, "canon: at byte 3: longer than 16777216 bytes; store the data as a file instead"},
		{&DuplicateKeyError{"a\x1b", 9}, `canon: at byte 9: key "a\x1b" is there twice in one object; keep one`},
		{&DuplicateKeyError{strings.Repeat("k", 65), 9},
			`canon: at byte 9: key "` + strings.Repeat("k", 64) + `"... is there twice in one object; keep one`},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("\n got %s\nwant %s", got, tt.want)
		}
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}
