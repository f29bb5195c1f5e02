package canon

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// values draws what encoding/json can write.
func values(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(),
		rapid.Int64().AsAny(),
		rapid.Float64Range(-1e300, 1e300).AsAny(),
		texts().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	in := values(depth - 1)
	return rapid.OneOf(append(leaves,
		rapid.SliceOfN(in, 0, 4).AsAny(),
		rapid.MapOfN(texts(), in, 0, 5).AsAny())...)
}

// texts draws strings with many of the characters that escapes are for.
func texts() *rapid.Generator[string] {
	special := []rune("\x00\x01\b\f\n\r\t\x1f\"\\/<>&\u2028\u2029\ufffd\ufeffaAé😀\x7f")
	return rapid.StringOf(rapid.OneOf(rapid.SampledFrom(special), rapid.Rune()))
}

// spell writes v as JSON in one of its many forms.
func spell(t *rapid.T, v any) []byte {
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t"})
	pad := func(b []byte) []byte { return append(b, space.Draw(t, "space")...) }
	var b []byte
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		seed := rapid.Uint64().Draw(t, "order")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		b = pad(append(b, '{'))
		for i, k := range keys {
			if i > 0 {
				b = pad(append(b, ','))
			}
			b = pad(append(b, spellText(t, k)...))
			b = pad(append(b, ':'))
			b = pad(append(b, spell(t, v[k])...))
		}
		return append(b, '}')
	case []any:
		b = pad(append(b, '['))
		for i, e := range v {
			if i > 0 {
				b = pad(append(b, ','))
			}
			b = pad(append(b, spell(t, e)...))
		}
		return append(b, ']')
	case string:
		return spellText(t, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spellText(t *rapid.T, s string) []byte {
	b := []byte{'"'}
	for _, r := range s {
		if r >= 0x20 && r != '"' && r != '\\' && rapid.Bool().Draw(t, "as itself") {
			b = utf8.AppendRune(b, r)
			continue
		}
		if r > 0xFFFF {
			high, low := utf16.EncodeRune(r)
			b = appendUnit(appendUnit(b, high), low)
			continue
		}
		b = appendUnit(b, r)
	}
	return append(b, '"')
}

func appendUnit(b []byte, unit rune) []byte {
	const hex = "0123456789aBcDeF"
	return append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}

func TestMarshalIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "v")
		m, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Compact(m)
		if err != nil || !bytes.Equal(c, m) {
			t.Fatalf("Compact(%s) = %s, %v", m, c, err)
		}
	})
}

func TestCompactOfAnySpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "v")
		want, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		raw := spell(t, v)
		got, err := Compact(raw)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Compact(%s)\n got %s, %v\nwant %s", raw, got, err, want)
		}
	})
}

func TestDecodeReadsMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "v")
		m, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := Decode(m, &back); err != nil {
			t.Fatal(err)
		}
		again, err := Marshal(back)
		if err != nil || !bytes.Equal(again, m) {
			t.Fatalf("%s came back as %s, %v", m, again, err)
		}
	})
}

// FuzzCompact holds Compact against encoding/json: what Compact takes means
// the same to both, and what it refuses as syntax is refused by both.
func FuzzCompact(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{"b":1,"a":[true,false,-0.5e+7]}`, `{"a":1,"\u0061":2}`, `"\ud83d\ude00"`,
		`"\ud83d"`, "\"\xff\"", `[[[[]]]]`, `{"a":{"c":{},"b":{"e":1,"d":2}}}`, `"\u2028<>&\/\b"`, `1 2`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		out, err := Compact(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("Compact changed its input")
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: untyped error %v", raw, err)
			}
			e, ok := errors.AsType[*Error](err)
			if ok && (e.Offset < 0 || e.Offset > len(raw)) {
				t.Fatalf("%q: offset %d is outside", raw, e.Offset)
			}
			if ok && (e.Rule == RuleSyntax || e.Rule == RuleTrailing) && json.Valid(raw) {
				t.Fatalf("%q: encoding/json takes it, Compact says %v", raw, err)
			}
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			t.Fatalf("%q: taken, though not valid", raw)
		}
		if len(out) > len(raw) {
			t.Fatalf("%q grew to %q", raw, out)
		}
		if again, err := Compact(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q: Compact of %q is %q, %v", raw, out, again, err)
		}
		if a, b := decodeAny(t, raw), decodeAny(t, out); !reflect.DeepEqual(a, b) {
			t.Fatalf("%q means %v, %q means %v", raw, a, out, b)
		}
	})
}

func decodeAny(t *testing.T, raw []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return v
}

func BenchmarkCompact(b *testing.B) {
	record := `{"sequence":12,"time":1767225600000000,"actor":"ci","kind":"register","payload":` +
		`{"name":"team/resnet-50","version":"1.4.0","files":[{"path":"model.bin","size":1048576,"blob":"` +
		strings.Repeat("ab", 32) + `"}]},"reason":"nightly"}`
	sorted, err := Compact([]byte(record))
	if err != nil {
		b.Fatal(err)
	}
	for name, raw := range map[string][]byte{"sorted": sorted, "unsorted": []byte(record)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compact(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
