package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

// registered is when every version of these tests was: half a second past.
const registered = 1_700_000_000_500_000

func newRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	r, err := registry.CreateTemp(t.Context(), nil)
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

func add(t testing.TB, r *registry.Registry, ref string, files map[string]string) *registry.Model {
	t.Helper()
	n, v, _ := strings.Cut(ref, ":")
	d, err := r.Begin(t.Context(), registry.Model{Name: n, Version: v, RegisteredAt: registered})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if _, err := d.Put(t.Context(), p, strings.NewReader(files[p])); err != nil {
			t.Fatal(err)
		}
	}
	m, err := d.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// damage changes the stored bytes of a file.
func damage(t testing.TB, r *registry.Registry, m *registry.Model, path string) {
	t.Helper()
	file := stored(t, r, m, path)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[16] ^= 1 // the first byte after the header
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// stored returns where the store keeps a file.
func stored(t testing.TB, r *registry.Registry, m *registry.Model, path string) string {
	t.Helper()
	for f, err := range m.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == path {
			hex := f.Digest.String()
			return filepath.Join(r.Dir(), "blobs", hex[:2], hex)
		}
	}
	t.Fatalf("no file %s", path)
	return ""
}

type entry struct {
	Name    string
	Mode    int64
	Format  tar.Format
	Content string
}

// unpack reads a whole tar; it fails as a tar reader does.
func unpack(t testing.TB, b []byte) (all []entry, err error) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if h.Name == unfinished {
			_, err := io.ReadAll(r)
			return all, err
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Unix(1_700_000_000, 0)) || h.Typeflag != tar.TypeReg {
			t.Errorf("entry %+v", h)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return all, err
		}
		all = append(all, entry{h.Name, h.Mode, h.Format, string(content)})
	}
}

func TestWrite(t *testing.T) {
	long := strings.Repeat("d/", 200) + "model.bin"
	files := map[string]string{
		"config.json": "{}", "a/b.bin": strings.Repeat("w", 3<<20), "a.bin": "", "größe.txt": "umlaut", long: "deep", "full": strings.Repeat("b", 512),
	}
	r := newRegistry(t)
	m := add(t, r, "team/resnet:1.0.0", files)

	for _, flat := range []bool{false, true} {
		t.Run(fmt.Sprintf("flat %v", flat), func(t *testing.T) {
			folder := "resnet-1.0.0/"
			if flat {
				folder = ""
			}
			var want []entry
			var size int64
			for _, p := range slices.Sorted(maps.Keys(files)) {
				format := tar.FormatUSTAR
				if p == long || p == "größe.txt" {
					format = tar.FormatPAX
				}
				want = append(want, entry{folder + p, 0o644, format, files[p]})
				size += int64(len(files[p]))
			}
			var first []byte
			for range 2 {
				var buf bytes.Buffer
				var heard int64
				done, err := Write(t.Context(), &buf, m, &Options{Flat: flat, Progress: func(n int64) { heard += n }})
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(Report{strings.TrimSuffix(folder, "/"), len(files), size}, done); d != "" {
					t.Error(d)
				}
				if heard != size {
					t.Errorf("heard of %d bytes, not %d", heard, size)
				}
				got, err := unpack(t, buf.Bytes())
				if d := cmp.Diff(want, got); err != nil || d != "" {
					t.Errorf("%v\n%s", err, d)
				}
				if first != nil && !bytes.Equal(first, buf.Bytes()) {
					t.Error("the same version gave other bytes")
				}
				first = buf.Bytes()
			}
		})
	}
}

func TestWriteNoFiles(t *testing.T) {
	var buf bytes.Buffer
	done, err := Write(t.Context(), &buf, add(t, newRegistry(t), "m:1", nil), nil)
	got, readErr := unpack(t, buf.Bytes())
	if err != nil || readErr != nil || len(got) != 0 || done.Files != 0 || buf.Len() != 1024 {
		t.Fatal(err, readErr, got, done, buf.Len())
	}
}

// A damaged file ends the tar, wherever it is and however large, so that every
// reader notices.
func TestWriteDamaged(t *testing.T) {
	sizes := []int{1, 511, 512, 1024, 3 << 20}
	for at := range 3 {
		for _, size := range sizes {
			t.Run(fmt.Sprintf("file %d of %d bytes", at, size), func(t *testing.T) {
				r := newRegistry(t)
				files := map[string]string{}
				for i := range 3 {
					files[fmt.Sprint(i)] = strings.Repeat(fmt.Sprint(i), size)
				}
				m := add(t, r, "m:1", files)
				damage(t, r, m, fmt.Sprint(at))
				var buf bytes.Buffer
				_, err := Write(t.Context(), &buf, m, nil)
				if _, ok := errors.AsType[*registry.CorruptError](err); !ok {
					t.Fatalf("got error %v", err)
				}
				wantBroken(t, buf.Bytes(), files)
			})
		}
	}
}

// So it is with one that is gone, before or after files that end where a block
// does.
func TestWriteMissing(t *testing.T) {
	for at := range 3 {
		r := newRegistry(t)
		files := map[string]string{"0": strings.Repeat("a", 512), "1": strings.Repeat("b", 512), "2": ""}
		m := add(t, r, "m:1", files)
		if err := os.Remove(stored(t, r, m, fmt.Sprint(at))); err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		_, err := Write(t.Context(), &buf, m, nil)
		if _, ok := errors.AsType[*registry.CorruptError](err); !ok {
			t.Fatalf("got error %v", err)
		}
		wantBroken(t, buf.Bytes(), files)
	}
}

// wantBroken fails unless readers of the tar report it, and what they read
// before is right.
func wantBroken(t *testing.T, b []byte, files map[string]string) {
	t.Helper()
	got, err := unpack(t, b)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading the tar: got error %v", err)
	}
	for _, e := range got {
		if e.Content != files[filepath.Base(e.Name)] {
			t.Errorf("%s has a wrong content", e.Name)
		}
	}
	system, err := exec.LookPath("tar")
	if err != nil {
		return
	}
	c := exec.CommandContext(t.Context(), system, "-tf", "-")
	c.Stdin = bytes.NewReader(b)
	if out, err := c.CombinedOutput(); err == nil {
		t.Errorf("the system's tar found nothing wrong:\n%s", out)
	}
}

func TestWriteInterrupted(t *testing.T) {
	files := map[string]string{"0": strings.Repeat("a", 512), "1": "", "2": strings.Repeat("c", 2<<20)}
	m := add(t, newRegistry(t), "m:1", files)
	cause := errors.New("enough")
	for _, after := range []int64{1, 512, 513} { // in a file, and between two
		ctx, cancel := context.WithCancelCause(t.Context())
		var buf bytes.Buffer
		var heard int64
		_, err := Write(ctx, &buf, m, &Options{Progress: func(n int64) {
			if heard += n; heard >= after {
				cancel(cause)
			}
		}})
		if !errors.Is(err, cause) {
			t.Fatalf("after %d: got error %v", after, err)
		}
		wantBroken(t, buf.Bytes(), files)
	}
}

type brokenWriter struct{ left int }

var errDisk = errors.New("disk is full")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content", "b": "content"})
	for left := range 3072 { // two entries of a header and a block, and the end
		if _, err := Write(t.Context(), &brokenWriter{left}, m, nil); !errors.Is(err, errDisk) {
			t.Fatalf("room for %d bytes: got error %v", left, err)
		}
	}
	if _, err := Write(t.Context(), &brokenWriter{3072}, m, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWriteHostileName(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content"})
	for _, bad := range []struct{ name, version string }{{"../../x", "1"}, {"a/..", "1"}, {"", "1"}, {"/m", "1"}, {"m", "../1"}, {"m", "1/2"}, {"m", "a\x00b"}, {"m", ""}} {
		c := *m
		c.Name, c.Version = bad.name, bad.version
		var buf bytes.Buffer
		_, err := Write(t.Context(), &buf, &c, nil)
		if _, ok := errors.AsType[*registry.NameError](err); !ok || buf.Len() > 0 {
			t.Errorf("%q: got error %v and %d bytes", bad, err, buf.Len())
		}
	}
	if _, err := Write(t.Context(), io.Discard, &registry.Model{Name: "m", Version: "1"}, nil); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a Model of no registry: got error %v", err)
	}
}
