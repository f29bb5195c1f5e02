package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/registry"
)

var errDisk = errors.New("disk is full")

func damage(t testing.TB, r *registry.Registry, m *registry.Model, path string) {
	t.Helper()
	for f, err := range m.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path != path {
			continue
		}
		hex := f.Digest.String()
		file := filepath.Join(r.Dir(), "blobs", hex[:2], hex)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[16] ^= 1 // the first byte after the header
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// inFolders tries an Export that fails in a folder that is not there, in an
// empty one, and in a layout, and wants each as it was.
func inFolders(t *testing.T, fail func(t *testing.T, dir string)) {
	t.Helper()
	r := newRegistry(t)
	first := add(t, r, named("first", "1"), map[string]string{"a": "first"})
	for _, state := range []string{"missing", "empty", "layout"} {
		t.Run(state, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "x")
			if state != "missing" {
				if err := os.Mkdir(dir, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if state == "layout" {
				mustExport(t, r, dir, nil, first)
			}
			before := tree(t, outer)
			fail(t, dir)
			if d := cmp.Diff(before, tree(t, outer)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestExportDamaged(t *testing.T) {
	for _, c := range []struct {
		when     string
		recorded bool // the SHA-256, so that the damage is met only when the blob is written
	}{{"when it is hashed", false}, {"when it is copied", true}} {
		t.Run(c.when, func(t *testing.T) {
			r := newRegistry(t)
			good := add(t, r, named("m", "1"), map[string]string{"a": "content"})
			bad := add(t, r, named("m", "2"), map[string]string{"a": "content", "b": strings.Repeat("x", 2<<20), "c": "more"})
			if c.recorded {
				if _, err := bad.SHA256(t.Context(), "b"); err != nil {
					t.Fatal(err)
				}
			}
			damage(t, r, bad, "b")
			inFolders(t, func(t *testing.T, dir string) {
				_, err := Export(t.Context(), r, these(nil, good, bad), dir, nil)
				if c, ok := errors.AsType[*registry.CorruptError](err); !ok || c.Path != "b" {
					t.Errorf("got error %v", err)
				}
			})
		})
	}
}

func TestExportInterrupted(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content", "b": strings.Repeat("x", 3<<20)})
	cause := errors.New("enough")
	for _, after := range []int64{0, 1, 8, m.WeightsSize} {
		inFolders(t, func(t *testing.T, dir string) {
			ctx, cancel := context.WithCancelCause(t.Context())
			if after == 0 {
				cancel(cause)
			}
			var heard int64
			_, err := Export(ctx, r, these(nil, m), dir, &Options{Progress: func(n int64) {
				if heard += n; heard >= after {
					cancel(cause)
				}
			}})
			if !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
				t.Errorf("after %d: got error %v", after, err)
			}
		})
	}
}

func TestExportListFails(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content"})
	foreign := &registry.Model{Name: "m", Version: "1"}
	inFolders(t, func(t *testing.T, dir string) {
		if _, err := Export(t.Context(), r, these(errDisk, m), dir, nil); !errors.Is(err, errDisk) {
			t.Errorf("got error %v", err)
		}
		if _, err := Export(t.Context(), r, these(nil, m, foreign), dir, nil); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("a Model of no registry: got error %v", err)
		}
	})
}

// Folders that are not ours to write to are left alone.
func TestExportRefused(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content"})
	for what, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"other things":       {map[string]string{"notes.txt": "x"}, registry.ErrConflict},
		"only an index":      {map[string]string{"index.json": "{}"}, registry.ErrConflict},
		"other version":      {map[string]string{markFile: `{"imageLayoutVersion":"2.0.0"}`}, registry.ErrInvalid},
		"no version":         {map[string]string{markFile: `{}`}, registry.ErrInvalid},
		"mark is no JSON":    {map[string]string{markFile: `hello`}, nil},
		"mark is too large":  {map[string]string{markFile: mark + strings.Repeat(" ", maxMark)}, durable.ErrTooLarge},
		"index is no JSON":   {map[string]string{markFile: mark, indexFile: "{"}, nil},
		"index is empty":     {map[string]string{markFile: mark, indexFile: ""}, nil},
		"blobs is a file":    {map[string]string{markFile: mark, "blobs": ""}, nil},
		"index is a folder":  {map[string]string{markFile: mark, "index.json/x": ""}, nil},
		"a folder as a blob": {map[string]string{markFile: mark, "blobs/sha256/ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73/x": ""}, registry.ErrConflict},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			for p, content := range c.files {
				p = filepath.Join(dir, p)
				if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o777), os.WriteFile(p, []byte(content), 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			_, err := Export(t.Context(), r, these(nil, m), dir, nil)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got error %v", err)
			}
			if d := cmp.Diff(before, tree(t, dir)); d != "" {
				t.Error(d)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), r, these(nil, m), file, nil); err == nil {
		t.Error("exported to a file")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// Links in a layout that lead out of it are not followed.
func TestExportLinks(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content"})
	for _, link := range []string{"blobs", "blobs/sha256", indexFile, markFile, lockFile, partFile} {
		outer := t.TempDir()
		outside, dir := filepath.Join(outer, "outside"), filepath.Join(outer, "layout")
		for _, p := range []string{outside, filepath.Join(dir, filepath.Dir(link))} {
			if err := os.MkdirAll(p, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		if link != markFile {
			if err := os.WriteFile(filepath.Join(dir, markFile), []byte(mark), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		target := outside
		if strings.Contains(link, ".") || link == markFile {
			target = filepath.Join(outside, "file")
			if err := os.WriteFile(target, []byte(mark), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
		before := tree(t, outside)
		_, err := Export(t.Context(), r, these(nil, m), dir, nil)
		if err == nil && link != partFile { // which is removed as any leftover
			t.Errorf("%s: no error", link)
		}
		if d := cmp.Diff(before, tree(t, outside)); d != "" {
			t.Errorf("%s: %s", link, d)
		}
	}
	// One to a folder that is not there is nothing to be removed.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Skip(err)
	}
	if _, err := Export(t.Context(), r, these(nil, m), link, nil); err == nil {
		t.Error("a dangling link: no error")
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error(err)
	}
}

// One at a time exports to a folder; what a killed one left is no obstacle.
func TestExportLocked(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content"})
	dir := t.TempDir()
	tries := 0
	mustExport(t, r, dir, &Options{Progress: func(int64) {
		tries++
		if _, err := Export(t.Context(), r, these(nil, m), dir, nil); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("at the same time: got error %v", err)
		}
	}}, m)
	if tries == 0 {
		t.Error("nothing was tried")
	}
	want := tree(t, dir)
	for _, left := range []string{lockFile, partFile} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	mustExport(t, r, dir, nil, m)
	if d := cmp.Diff(want, tree(t, dir)); d != "" {
		t.Error(d)
	}
}
