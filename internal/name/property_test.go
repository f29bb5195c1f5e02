package name

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// texts draws strings near the edges of the rules.
func texts() *rapid.Generator[string] {
	parts := []string{"a", "B", "é", "0", ".", "..", "-", "/", "//", ":", "@", " ", `\`, "\x00", "\n", "\x7f",
		"\u0085", "\u200b", "\u2028", "\u202e", "\ufeff", "\xff", "con", "b3", "b3:", "abcd", "1.0.0", someID,
		strings.Repeat("x", 127), strings.Repeat("y", 254)}
	return rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(parts), 0, 6), func(p []string) string { return strings.Join(p, "") }),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
	)
}

// fataler is both *testing.T and *rapid.T.
type fataler interface{ Fatalf(string, ...any) }

// checkParsed fails t if s, which was parsed as kind, breaks what every parsed
// text promises, and if an error is not what the package promises.
func checkParsed(t fataler, kind Kind, s string) {
	got, err := parsers[kind](s)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrInvalid) || e.Kind != kind || e.Input != s || got != "" {
			t.Fatalf("%s %q: %q, bad error %#v", kind, s, got, err)
		}
		checkPrintable(t, err)
		return
	}
	if got != s {
		t.Fatalf("%s %q came back as %q", kind, s, got)
	}
	if !fs.ValidPath(s) || s == "." || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, `\`) {
		t.Fatalf("%s %q is not a safe relative path", kind, s)
	}
	if kind != KindOfPath && (strings.ContainsAny(s, ":@") || s[0] == '-') {
		t.Fatalf("%s %q would not fit a reference", kind, s)
	}
	if (kind == KindOfVersion || kind == KindOfAlias) && strings.Contains(s, "/") {
		t.Fatalf("%s %q has a slash", kind, s)
	}
}

// checkPrintable fails t if an error text could upset a terminal or a log.
func checkPrintable(t fataler, err error) {
	if s := err.Error(); len(s) > 600 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("error text is not safe to print: %q", s)
	}
}

func checkRef(t fataler, s string) {
	r, err := ParseRef(s)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrInvalid) || e.Kind != KindOfReference || e.Input != s || !r.IsZero() {
			t.Fatalf("%q: %+v, bad error %#v", s, r, err)
		}
		checkPrintable(t, err)
		return
	}
	if !strings.EqualFold(r.String(), s) {
		t.Fatalf("%q became %q", s, r)
	}
	if again, err := ParseRef(r.String()); err != nil || again != r {
		t.Fatalf("%q: %+v came back as %+v, %v", s, r, again, err)
	}
}

func TestParseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := texts().Draw(t, "s")
		for kind := range parsers {
			checkParsed(t, kind, s)
		}
		checkRef(t, s)
	})
}

// TestEveryNameHasItsReferences: no name or label makes a reference that reads
// as something else.
func TestEveryNameHasItsReferences(t *testing.T) {
	valid := func(kind Kind) *rapid.Generator[string] {
		part := rapid.SampledFrom([]string{"a", "b3", "abcd", "0", "-", ".x", "1.0.0", someID, "é"})
		joined := rapid.Map(rapid.SliceOfN(part, 1, 4), func(p []string) string { return strings.Join(p, "") })
		return joined.Filter(func(s string) bool { return check(kind, s) == nil })
	}
	rapid.Check(t, func(t *rapid.T) {
		n := valid(KindOfName).Draw(t, "name")
		label := valid(KindOfVersion).Draw(t, "label")
		hex := rapid.StringMatching(`[0-9a-f]{4,64}`).Draw(t, "hex")
		for s, want := range map[string]Ref{
			n:               {Kind: KindLatest, Name: Name{n}},
			n + ":" + label: {Kind: KindLabel, Name: Name{n}, Label: label},
			n + "@" + hex:   {Kind: KindHash, Name: Name{n}, Hex: hex},
		} {
			if got, err := ParseRef(s); err != nil || got != want {
				t.Fatalf("ParseRef(%q) = %+v, %v; want %+v", s, got, err, want)
			}
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("team/resnet-50")
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range []Kind{KindOfName, KindOfVersion, KindOfAlias} {
			checkParsed(t, kind, s)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	f.Add("weights/model.bin")
	f.Fuzz(func(t *testing.T, s string) { checkParsed(t, KindOfPath, s) })
}

func FuzzParseRef(f *testing.F) {
	f.Add("team/m:1.0.0")
	f.Fuzz(func(t *testing.T, s string) { checkRef(t, s) })
}
