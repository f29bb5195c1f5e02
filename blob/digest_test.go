package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseDigest(t *testing.T) {
	const low = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	want := Sum(nil)
	for _, c := range []struct {
		in string
		ok bool
	}{
		{low, true},
		{strings.ToUpper(low), true},
		{"b3:" + low, true},
		{"b3:" + strings.ToUpper(low), true},
		{"", false},
		{"b3:", false},
		{low[:63], false},
		{low + "0", false},
		{low[:63] + "g", false},
		{" " + low[:63], false},
		{low + "\n", false},
		{"B3:" + low, false},
		{"b3:b3:" + low, false},
		{"b3:" + low[:61], false},
		{low[:62] + "é", false},
		{strings.Repeat(low, 1000), false},
	} {
		d, err := ParseDigest(c.in)
		switch {
		case c.ok && (err != nil || d != want):
			t.Errorf("ParseDigest(%q): %v, %v", c.in, d, err)
		case !c.ok && (!errors.Is(err, ErrDigest) || !d.IsZero()):
			t.Errorf("ParseDigest(%q): %v, %v", c.in, d, err)
		case !c.ok && len(err.Error()) > 400:
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
	if want.String() != low || want.Short() != low[:12] || want.IsZero() || !(Digest{}).IsZero() {
		t.Errorf("%s, %s", want, want.Short())
	}
}

func TestDigestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		b, err := json.Marshal(map[Digest]Digest{d: d})
		if err != nil {
			t.Fatal(err)
		}
		var m map[Digest]Digest
		if err := json.Unmarshal(b, &m); err != nil || m[d] != d || len(m) != 1 {
			t.Fatalf("%s became %v, %v", b, m, err)
		}
	})
	var d Digest
	if err := d.UnmarshalText([]byte("xyz")); !errors.Is(err, ErrDigest) {
		t.Errorf("UnmarshalText: %v", err)
	}
}

func TestParseCompression(t *testing.T) {
	for c := Auto; c <= Zstd; c++ {
		if got, err := ParseCompression(c.String()); got != c || err != nil {
			t.Errorf("%s: %v, %v", c, got, err)
		}
	}
	for _, text := range []string{"", "Auto", "gzip", "Compression(3)"} {
		if _, err := ParseCompression(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	if got := Compression(3).String(); got != "Compression(3)" {
		t.Error(got)
	}
}

func TestResolve(t *testing.T) {
	s, m := newMem(t, nil)
	d := put(t, s, []byte("one")).Digest
	text := d.String()
	// Names are all that Resolve looks at, so twins may be empty files.
	twin := text[:60] + "0000"
	if twin == text {
		t.Fatal("the digest ends in zeros")
	}
	saveFile(t, m, "blobs/"+text[:2]+"/"+twin, nil)
	alone := put(t, s, []byte("two")).Digest.String()
	// Files that are no blobs are passed over.
	for _, name := range []string{"notes.txt", alone + ".tmp", strings.ToUpper(alone), alone[:63]} {
		saveFile(t, m, "blobs/"+alone[:2]+"/"+name, nil)
	}
	saveFile(t, m, "blobs/"+alone[:3], nil)

	for _, prefix := range []string{alone, alone[:4], alone[:5], alone[:63], "b3:" + alone[:8], strings.ToUpper(alone[:9]), "b3:" + strings.ToUpper(alone)} {
		if got, err := s.Resolve(t.Context(), prefix); err != nil || got.String() != alone {
			t.Errorf("Resolve(%q): %s, %v", prefix, got, err)
		}
	}
	if got, err := s.Resolve(t.Context(), text); err != nil || got != d {
		t.Errorf("a whole digest with a twin: %s, %v", got, err)
	}
	for _, n := range []int{4, 20, 60} {
		_, err := s.Resolve(t.Context(), strings.ToUpper(text[:n]))
		ae, ok := errors.AsType[*AmbiguousError](err)
		if !ok || ae.Prefix != text[:n] || ae.First[0] == ae.First[1] || bytes.Compare(ae.First[0][:], ae.First[1][:]) > 0 {
			t.Errorf("Resolve(%q): %v", text[:n], err)
		}
	}
	for _, prefix := range []string{"", "b3:", alone[:3], "b3:" + alone[:3], "xyzw", alone[:5] + " ", alone + "00", "B3:" + alone[:8], "../../../heft"} {
		if _, err := s.Resolve(t.Context(), prefix); !errors.Is(err, ErrDigest) {
			t.Errorf("Resolve(%q): %v", prefix, err)
		}
	}
	none := "0000"
	if strings.HasPrefix(alone, none) || strings.HasPrefix(text, none) {
		t.Fatal("a digest begins with zeros")
	}
	if _, err := s.Resolve(t.Context(), none); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve(%q): %v", none, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Resolve(ended, alone[:4]); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}
