package oci

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

var validTag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func TestSanitize(t *testing.T) {
	for s, want := range map[string]string{
		"1.0.0": "1.0.0", "1.0+cu121": "1.0_cu121", "-x": "_x", ".x": "_x", "a/b:c": "a_b_c", "grün": "gr_n", "../..": "_._..",
		strings.Repeat("v", 200): strings.Repeat("v", 128),
	} {
		got := sanitize(s)
		if got != want || !validTag.MatchString(got) || sanitize(got) != got {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

// tags puts versions and returns their tags.
func tags(t *testing.T, x *index, refs ...string) (all []string) {
	t.Helper()
	for _, ref := range refs {
		n, v, _ := strings.Cut(ref, ":")
		tag, _, err := x.put(&registry.Model{Name: n, Version: v}, descriptor{MediaType: typeManifest})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tag)
	}
	return all
}

func TestTags(t *testing.T) {
	x := newIndex()
	got := tags(t, x, "bert:1", "team/resnet:1", "team_resnet:1", "bert:1", "bert:2", "bert:1+a", "bert:1_a", "team_resnet:1")
	hashed := got[2]
	want := []string{"1", "team_resnet-1", hashed, "1", "2", "1_a", "bert-1_a", hashed}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(hashed, "team_resnet-1-") {
		t.Errorf("third tag is %q", hashed)
	}
	if len(x.entries) != 6 {
		t.Errorf("%d entries, not 6", len(x.entries))
	}

	long := strings.Repeat("v", 128)
	got = tags(t, newIndex(), "a:"+long, "b:"+long, "c:"+long)
	slices.Sort(got)
	if len(slices.Compact(got)) != 3 {
		t.Errorf("tags of long labels are %q", got)
	}
	for _, tag := range got {
		if !validTag.MatchString(tag) {
			t.Errorf("%q is no tag", tag)
		}
	}
}

// A tag that somebody else has put on another image too is given up.
func TestTagTaken(t *testing.T) {
	x := newIndex()
	tags(t, x, "bert:1")
	x.entries = append(x.entries, entry{json.RawMessage("{}"), map[string]string{keyRefName: "1"}})
	if got := tags(t, x, "bert:1"); got[0] != "bert-1" {
		t.Errorf("its tag is %q", got[0])
	}
}

// What others wrote stays: entries, their order, and fields nobody knows.
func TestIndexForeign(t *testing.T) {
	const text = `{
		"schemaVersion": 2, "x-field": {"b": 1.50, "a": [null]}, "annotations": {"k": "v"},
		"manifests": [
			{"mediaType": "m", "digest": "sha256:aa", "size": 1, "platform": {"os": "linux"}, "annotations": {"org.opencontainers.image.ref.name": "1"}},
			{"mediaType": "m", "digest": "sha256:bb", "size": 2, "annotations": {"io.github.heftstore.heft.name": "bert", "io.github.heftstore.heft.version": "1", "org.opencontainers.image.ref.name": "bad tag"}},
			{"mediaType": "m", "digest": "sha256:cc", "size": 3}
		]}`
	x, err := parseIndex([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tag, replaced, err := x.put(&registry.Model{Name: "bert", Version: "1"}, descriptor{MediaType: typeManifest, Digest: "sha256:dd", Size: 4})
	if err != nil || tag != "bert-1" || !replaced {
		t.Fatal(tag, replaced, err)
	}
	got, err := x.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"annotations":{"k":"v"},"manifests":[` +
		`{"annotations":{"org.opencontainers.image.ref.name":"1"},"digest":"sha256:aa","mediaType":"m","platform":{"os":"linux"},"size":1},` +
		`{"annotations":{"io.github.heftstore.heft.name":"bert","io.github.heftstore.heft.version":"1","org.opencontainers.image.ref.name":"bert-1"},"digest":"sha256:dd","mediaType":"application/vnd.oci.image.manifest.v1+json","size":4},` +
		`{"digest":"sha256:cc","mediaType":"m","size":3}` +
		`],"schemaVersion":2,"x-field":{"a":[null],"b":1.50}}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestParseIndexBad(t *testing.T) {
	for _, text := range []string{
		"", "{", "null", "[]", "7", "{}", `{"schemaVersion":1}`, `{"schemaVersion":"2"}`, `{"schemaVersion":2,"manifests":{}}`,
		`{"schemaVersion":2,"manifests":["x"]}`, `{"schemaVersion":2,"manifests":[{"annotations":{"a":1}}]}`,
		`{"schemaVersion":2,"schemaVersion":2}`, "{\"schemaVersion\":2,\"x\":\"\xff\"}", `{"schemaVersion":2}x`,
		`{"schemaVersion":2,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
	} {
		if _, err := parseIndex([]byte(text)); err == nil {
			t.Errorf("%.60q was read", text)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`), "bert", "1")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:aa","annotations":{"org.opencontainers.image.ref.name":"1"}},null]}`), "../x", "-+")
	f.Add([]byte(`{"schemaVersion":2,"x":"\ufffd","manifests":null}`), "a/b", "größe")
	f.Fuzz(func(t *testing.T, text []byte, name, version string) {
		x, err := parseIndex(text)
		if err != nil {
			return
		}
		m := &registry.Model{Name: name, Version: version}
		var foreign []string
		for _, e := range x.entries {
			if !e.is(m) {
				foreign = append(foreign, string(e.raw))
			}
		}
		tag, _, err := x.put(m, descriptor{MediaType: typeManifest})
		if err != nil {
			if utf8.ValidString(name) && utf8.ValidString(version) && len(x.entries) < 3 {
				t.Fatal(err)
			}
			return
		}
		if !validTag.MatchString(tag) {
			t.Fatalf("%q is no tag", tag)
		}
		once, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(once) {
			t.Fatalf("not JSON: %s", once)
		}
		y, err := parseIndex(once)
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, e := range y.entries {
			if !e.is(m) {
				kept = append(kept, string(e.raw))
			}
		}
		if d := cmp.Diff(foreign, kept); d != "" {
			t.Fatal(d)
		}
		if again, replaced, err := y.put(m, descriptor{MediaType: typeManifest}); err != nil || !replaced || again != tag {
			t.Fatal(again, tag, replaced, err)
		}
		if twice, err := y.encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: then\n%s\nnow\n%s", err, once, twice)
		}
	})
}
