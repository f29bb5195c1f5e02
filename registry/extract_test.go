package registry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/heftstore/heft/blob"
)

// contents reads every file below a folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		got[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// partOf is the base name of the unfinished file for the content.
func partOf(content []byte) string { return "." + blob.Sum(content).Short() + ".heft-part" }

func asText(files map[string][]byte) map[string]string {
	got := map[string]string{}
	for p, b := range files {
		got[p] = string(b)
	}
	return got
}

func extract(t testing.TB, m *Model, dir string, o *ExtractOptions) Extracted {
	t.Helper()
	done, err := m.Extract(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestExtract(t *testing.T) {
	r := newRegistry(t)
	files := nested()
	m := addFiles(t, r, "m:1", files)
	dir := filepath.Join(t.TempDir(), "new", "folder")
	var progress int64
	o := &ExtractOptions{Progress: func(n int64) { progress += n }}
	n := len(files)
	same(t, "the first time", extract(t, m, dir, o), Extracted{Files: n, Written: n, Bytes: m.WeightsSize})
	same(t, "on disk", contents(t, dir), asText(files))
	if progress != m.WeightsSize {
		t.Errorf("progress %d, want %d", progress, m.WeightsSize)
	}
	same(t, "again", extract(t, m, dir, nil), Extracted{Files: n, Skipped: n})

	// One is gone and one differs in a byte, at the same length.
	must(t, os.Remove(filepath.Join(dir, "a/b/x")))
	large := filepath.Join(dir, "large.bin")
	changed := bytes.Clone(files["large.bin"])
	changed[77] ^= 1
	must(t, os.WriteFile(large, changed, 0o600))
	before := contents(t, dir)
	_, err := m.Extract(t.Context(), dir, nil)
	refused, ok := errors.AsType[*ExistsError](err)
	if !ok || refused.Path != large {
		t.Fatalf("got %v, want an *ExistsError for %s", err, large)
	}
	wantErr(t, "a file that differs", err, ErrConflict)
	same(t, "nothing was written", contents(t, dir), before)
	progress = 0
	o.Replace = true
	same(t, "replacing", extract(t, m, dir, o), Extracted{Files: n, Written: 2, Skipped: n - 2, Bytes: int64(len(changed)) + 1})
	same(t, "on disk", contents(t, dir), asText(files))
	if progress != m.WeightsSize {
		t.Errorf("progress %d, want %d", progress, m.WeightsSize)
	}
}

func TestExtractRefusesBeforeWriting(t *testing.T) {
	r := newRegistry(t)
	m := addFiles(t, r, "m:1", map[string][]byte{"a": []byte("a"), "z/file": []byte("right")})
	for _, tt := range []struct {
		name string
		make func(at string) error
		keep bool // even when replacing is asked for
	}{
		{"another file", func(at string) error { return os.WriteFile(at, []byte("wrong"), 0o600) }, false},
		{"a longer file", func(at string) error { return os.WriteFile(at, []byte("right and more"), 0o600) }, false},
		{"a folder", func(at string) error { return os.Mkdir(at, 0o700) }, true},
		{"a link", func(at string) error { return os.Symlink("a", at) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			at := filepath.Join(dir, "z", "file")
			must(t, os.Mkdir(filepath.Dir(at), 0o700))
			must(t, tt.make(at))
			before := onDisk(t, dir)
			_, err := m.Extract(t.Context(), dir, nil)
			wantErr(t, "Extract", err, ErrConflict)
			same(t, "what is on disk", onDisk(t, dir), before)
			_, err = m.Extract(t.Context(), dir, &ExtractOptions{Replace: true})
			if tt.keep {
				wantErr(t, "replacing", err, ErrConflict)
				same(t, "what is on disk", onDisk(t, dir), before)
				return
			}
			must(t, err)
			same(t, "what is on disk", contents(t, dir), map[string]string{"a": "a", "z/file": "right"})
		})
	}
	t.Run("a file where a folder has to be", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "z"), []byte("mine"), 0o600))
		before := onDisk(t, dir)
		for _, o := range []*ExtractOptions{nil, {Replace: true}} {
			_, err := m.Extract(t.Context(), dir, o)
			wantErr(t, "Extract", err, ErrConflict)
			same(t, "what is on disk", onDisk(t, dir), before)
		}
	})
}

func TestExtractOnly(t *testing.T) {
	r := newRegistry(t)
	m := addFiles(t, r, "m:1", nested())
	dir := t.TempDir()
	// What is not asked for is not looked at.
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("mine"), 0o600))
	same(t, "two", extract(t, m, dir, &ExtractOptions{Only: []string{"a/b.txt", "empty"}}), Extracted{Files: 2, Written: 2, Bytes: 1})
	same(t, "on disk", contents(t, dir), map[string]string{"a/b.txt": "b", "empty": "", "config.json": "mine"})
	same(t, "none", extract(t, m, dir, &ExtractOptions{Only: []string{}}), Extracted{})
	_, err := m.Extract(t.Context(), dir, &ExtractOptions{Only: []string{"a/b/x", "none"}})
	wantErr(t, "unknown", err, ErrNotFound)
	same(t, "on disk", contents(t, dir), map[string]string{"a/b.txt": "b", "empty": "", "config.json": "mine"})
}

func TestExtractResumes(t *testing.T) {
	r := newRegistry(t)
	content := weights(7, 6<<20+123)
	m := addFiles(t, r, "m:1", map[string][]byte{"sub/w.bin": content})
	for _, tt := range []struct {
		name   string
		damage func(part []byte) []byte
		keeps  bool // something of it
	}{
		{"as it was left", func(b []byte) []byte { return b }, true},
		{"cut within a frame", func(b []byte) []byte { return b[:len(b)-1] }, true},
		{"damaged at its end", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, true},
		{"damaged at its beginning", func(b []byte) []byte { b[0] ^= 1; return b }, false},
		{"longer than the file", func(b []byte) []byte { return append(b, weights(8, 9<<20)...) }, true},
		{"all of another file", func([]byte) []byte { return weights(8, 9<<20) }, false},
		{"whole", func([]byte) []byte { return bytes.Clone(content) }, true},
		{"emptied", func([]byte) []byte { return nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			written := int64(0)
			_, err := m.Extract(ctx, dir, &ExtractOptions{Progress: func(n int64) {
				if written += n; written >= 3<<20 {
					cancel()
				}
			}})
			wantErr(t, "Extract", err, context.Canceled)
			part := filepath.Join(dir, "sub", partOf(content))
			left, err := os.ReadFile(part)
			must(t, err)
			if len(left) < 3<<20 || len(left) >= len(content) {
				t.Fatalf("%d bytes were left", len(left))
			}
			must(t, os.WriteFile(part, tt.damage(left), 0o600))

			progress := int64(0)
			done := extract(t, m, dir, &ExtractOptions{Progress: func(n int64) { progress += n }})
			same(t, "on disk", contents(t, dir), map[string]string{"sub/w.bin": string(content)})
			if progress != int64(len(content)) || done.Written != 1 || done.Skipped != 0 {
				t.Errorf("progress %d, done %+v", progress, done)
			}
			if (done.Resumed == 1) != tt.keeps || (done.Bytes < int64(len(content))) != tt.keeps {
				t.Errorf("kept something: %+v, want %v", done, tt.keeps)
			}
		})
	}
}

func TestExtractLinksOut(t *testing.T) {
	r := newRegistry(t)
	m := addFiles(t, r, "m:1", map[string][]byte{"sub/w.bin": []byte("weights"), "top": []byte("top")})
	for _, tt := range []struct {
		name string
		link string // below the destination
		to   string // below the outside folder
	}{
		{"a folder", "sub", "."},
		{"a file", "top", "precious"},
		{"a file that is not there", "top", "new"},
		{"an unfinished file", "sub/" + partOf([]byte("weights")), "precious"},
		{"an unfinished file that is not there", partOf([]byte("top")), "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("precious"), 0o600))
			at := filepath.Join(dir, tt.link)
			must(t, os.MkdirAll(filepath.Dir(at), 0o700))
			must(t, os.Symlink(filepath.Join(outside, tt.to), at))
			for _, o := range []*ExtractOptions{nil, {Replace: true}} {
				_, err := m.Extract(t.Context(), dir, o)
				same(t, "outside", contents(t, outside), map[string]string{"precious": "precious"})
				if err == nil && contents(t, dir)["top"] != "top" {
					t.Error("no error, but it is not there")
				}
			}
		})
	}
	t.Run("an unfinished file that leads to another inside", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "mine"), []byte("mine"), 0o600))
		must(t, os.Symlink("mine", filepath.Join(dir, partOf([]byte("top")))))
		_, _ = m.Extract(t.Context(), dir, nil) // it may refuse
		if got := contents(t, dir)["mine"]; got != "mine" {
			t.Errorf("the other file now holds %q", got)
		}
	})
}

func TestExtractTwoAtOnce(t *testing.T) {
	r := newRegistry(t)
	files := map[string][]byte{"a": []byte("a"), "b/c": []byte("c"), "b/d": []byte("a")}
	m := addFiles(t, r, "m:1", files)
	for range 40 {
		dir := t.TempDir()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					_, err := m.Extract(t.Context(), dir, nil)
					if err == nil {
						return
					}
					if !errors.Is(err, ErrConflict) {
						t.Errorf("got %v, want none or a conflict", err)
						return
					}
				}
			})
		}
		wg.Wait()
		same(t, "on disk", contents(t, dir), asText(files))
	}
}

func TestExtractErrors(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, "m:1")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("mine"), 0o600))
	if _, err := m.Extract(t.Context(), file, nil); err == nil || !strings.HasPrefix(err.Error(), "registry: ") {
		t.Errorf("into a file: %v", err)
	}
	must(t, r.Delete(t.Context(), "m:1", Note{}))
	_, err := m.Extract(t.Context(), filepath.Join(t.TempDir(), "new"), nil)
	wantErr(t, "a deleted version", err, ErrNotFound)
}
