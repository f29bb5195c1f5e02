package oci

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/registry"
)

const registered = 1_700_000_000_123_456

func newRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	r, err := registry.CreateTemp(t.Context(), &registry.Options{Actor: "tester", Now: func() int64 { return registered + 1_000_000 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func add(t testing.TB, r *registry.Registry, m registry.Model, files map[string]string) *registry.Model {
	t.Helper()
	m.RegisteredAt = registered
	d, err := r.Begin(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if _, err := d.Put(t.Context(), p, strings.NewReader(files[p])); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func named(name, version string) registry.Model { return registry.Model{Name: name, Version: version} }

// these yields models, and then err unless it is nil.
func these(err error, models ...*registry.Model) iter.Seq2[*registry.Model, error] {
	return func(yield func(*registry.Model, error) bool) {
		for _, m := range models {
			if !yield(m, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// export is an Export that has to work.
func mustExport(t testing.TB, r *registry.Registry, dir string, o *Options, models ...*registry.Model) Report {
	t.Helper()
	done, err := Export(t.Context(), r, these(nil, models...), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// tree returns the files below a folder with their contents; folders end in "/".
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() {
			all[rel+"/"] = ""
			return nil
		}
		b, err := os.ReadFile(p)
		all[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// image is an image as a reader sees it.
type image struct {
	Entry    descriptor
	Manifest manifest
	Config   modelConfig
	Files    map[string]string
}

// open reads a layout and checks what every reader relies on: that it has no
// file which does not belong, that blobs are what their names say, and that
// descriptors are right. Images are by tag.
func open(t testing.TB, files map[string]string) map[string]image {
	t.Helper()
	if got := files[markFile]; got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("%s is %q", markFile, got)
	}
	blobs := map[string]string{}
	for p, content := range files {
		hex, isBlob := strings.CutPrefix(p, "blobs/sha256/")
		switch {
		case isBlob && hex != "":
			if got := fmt.Sprintf("%x", sha256.Sum256([]byte(content))); got != hex {
				t.Errorf("blob %s has the SHA-256 %s", hex, got)
			}
			blobs["sha256:"+hex] = content
		case !slices.Contains([]string{markFile, indexFile, "blobs/", "blobs/sha256/"}, p):
			t.Errorf("the layout has %s", p)
		}
	}
	find := func(d descriptor) string {
		content, ok := blobs[d.Digest]
		if !ok || int64(len(content)) != d.Size {
			t.Errorf("blob %s is there: %v, %d bytes, not %d", d.Digest, ok, len(content), d.Size)
		}
		return content
	}
	var x struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	decode(t, files[indexFile], &x)
	if x.SchemaVersion != 2 || x.MediaType != typeIndex {
		t.Errorf("index is %+v", x)
	}
	all := map[string]image{}
	for _, d := range x.Manifests {
		i := image{Entry: d, Files: map[string]string{}}
		decode(t, find(d), &i.Manifest)
		decode(t, find(i.Manifest.Config), &i.Config)
		for _, l := range i.Manifest.Layers {
			content := find(l)
			if p, ok := l.Annotations[keyFilePath]; ok {
				i.Files[p] = content
			}
		}
		tag := d.Annotations[keyRefName]
		if _, twice := all[tag]; twice {
			t.Errorf("two images have the tag %s", tag)
		}
		all[tag] = i
	}
	return all
}

func decode(t testing.TB, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// safetensors returns a file with a tensor of BF16 and a smaller one of F32.
func safetensors() string {
	header := `{"w":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}`
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + strings.Repeat("x", 24)
}
