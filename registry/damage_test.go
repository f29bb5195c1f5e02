package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// wantCorrupt fails unless err is a *CorruptError for the file.
func wantCorrupt(t testing.TB, what string, err error, ref, path string) {
	t.Helper()
	bad, ok := errors.AsType[*CorruptError](err)
	if !ok {
		t.Fatalf("%s: got %v, want a *CorruptError", what, err)
	}
	if bad.Ref != ref || bad.Path != path {
		t.Errorf("%s: names %q of %q, want %q of %q", what, bad.Path, bad.Ref, path, ref)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), ref) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestDamagedFile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, r *Registry, d blob.Digest)
		blob   bool // a *blob.CorruptError is wrapped
	}{
		{"a flipped bit", func(t *testing.T, r *Registry, d blob.Digest) { flip(t, r, d) }, true},
		{"cut short", func(t *testing.T, r *Registry, d blob.Digest) {
			must(t, os.Truncate(blobFile(r, d), 1000))
		}, true},
		{"empty", func(t *testing.T, r *Registry, d blob.Digest) { must(t, os.Truncate(blobFile(r, d), 0)) }, true},
		{"missing", func(t *testing.T, r *Registry, d blob.Digest) { must(t, os.Remove(blobFile(r, d))) }, false},
		{"another blob", func(t *testing.T, r *Registry, d blob.Digest) {
			b, err := os.ReadFile(blobFile(r, blob.Sum([]byte("sound"))))
			must(t, err)
			must(t, os.WriteFile(blobFile(r, d), b, 0o600))
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			ctx := t.Context()
			content := weights(9, 1<<20+100)
			m := addFiles(t, r, "m:1", map[string][]byte{"sub/w.bin": content, "sound": []byte("sound")})
			tt.damage(t, r, blob.Sum(content))
			const ref, path = "m:1", "sub/w.bin"
			readAll := func(f *Reader, err error) error {
				if err != nil {
					return err
				}
				defer f.Close()
				got, err := io.ReadAll(f)
				if len(got) > 0 && string(got) != string(content[:len(got)]) {
					t.Error("wrong bytes were read")
				}
				return err
			}
			writeAll := func(f *Reader, err error) error {
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteTo(io.Discard)
				return err
			}
			dir := t.TempDir()
			for what, err := range map[string]error{
				"Open":    readAll(m.Open(ctx, path)),
				"WriteTo": writeAll(m.Open(ctx, path)),
				"Load":    readAll(r.Load(ctx, "m/1/sub/w.bin")),
				"FS":      failureOf(fs.ReadFile(m.FS(), path)),
				"Extract": failureOf(m.Extract(ctx, dir, nil)),
			} {
				wantCorrupt(t, what, err, ref, path)
				if _, ok := errors.AsType[*blob.CorruptError](err); ok != tt.blob {
					t.Errorf("%s: %v wraps a *blob.CorruptError: %v", what, err, ok)
				}
			}
			got := contents(t, dir)
			delete(got, "sub/"+partOf(content))
			same(t, "what was extracted", got, map[string]string{"sound": "sound"})
			bad := 0
			for _, c := range all(t, r.Verify(ctx, "", nil)) {
				if c.Err != nil {
					bad++
					wantCorrupt(t, "Verify", c.Err, ref, path)
				}
			}
			if bad != 1 {
				t.Errorf("Verify found %d damaged blobs", bad)
			}

			// To put the same content again heals it.
			addFiles(t, r, "m:2", map[string][]byte{"again": content})
			if got := read(t, m, path); string(got) != string(content) {
				t.Error("putting the content again did not heal it")
			}
		})
	}
}

func TestVerify(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	shared := weights(1, 5000)
	one := addFiles(t, r, "m:1", map[string][]byte{"a/shared.bin": shared, "own": []byte("own")})
	two := addFiles(t, r, "n:2", map[string][]byte{"x": shared, "y": shared})
	d, err := r.Begin(ctx, ofRef("draft"))
	must(t, err)
	orphan, err := d.Put(ctx, "w", strings.NewReader("never committed"))
	must(t, err)
	must(t, d.Close())

	byDigest := func(ref string) map[blob.Digest]Checked {
		got := map[blob.Digest]Checked{}
		var total, progress int64
		for _, c := range all(t, r.Verify(ctx, ref, &VerifyOptions{Progress: func(n int64) { progress += n }})) {
			if _, ok := got[c.Digest]; ok {
				t.Errorf("%s was yielded twice", c.Digest)
			}
			got[c.Digest] = c
			total += c.Size
		}
		size, err := r.VerifySize(ctx, ref)
		if err != nil || size != total || progress != total {
			t.Errorf("VerifySize %d, %v; yielded %d, progress %d", size, err, total, progress)
		}
		return got
	}
	clean := byDigest("")
	if len(clean) != 5 {
		t.Errorf("%d blobs, want 5", len(clean))
	}
	for d, c := range clean {
		if c.Err != nil {
			t.Errorf("%s: %v", d, c.Err)
		}
	}
	same(t, "uses of what is shared", clean[blob.Sum(shared)].Uses, []string{"m:1/a/shared.bin", "n:2/x", "n:2/y"})
	same(t, "uses of a manifest", clean[one.Manifest].Uses, []string{"m:1/" + ManifestUse})
	same(t, "uses of an orphan", clean[orphan.Digest].Uses, []string(nil))
	if got := clean[blob.Sum(shared)].Size; got != 5000 {
		t.Errorf("size %d", got)
	}
	same(t, "uses within one version", byDigest("n:2")[blob.Sum(shared)].Uses, []string{"n:2/x", "n:2/y"})
	wantErr(t, "unknown", failure(r.Verify(ctx, "q", nil)), ErrNotFound)

	flip(t, r, blob.Sum(shared))
	flip(t, r, two.Manifest)
	flip(t, r, orphan.Digest)
	damaged := byDigest("")
	wantCorrupt(t, "shared", damaged[blob.Sum(shared)].Err, "m:1", "a/shared.bin")
	same(t, "uses of the damaged", damaged[blob.Sum(shared)].Uses, []string{"m:1/a/shared.bin", "n:2/x", "n:2/y"})
	wantCorrupt(t, "manifest", damaged[two.Manifest].Err, "n:2", "")
	if _, ok := errors.AsType[*blob.CorruptError](damaged[orphan.Digest].Err); !ok {
		t.Errorf("the orphan: %v", damaged[orphan.Digest].Err)
	}
	for _, d := range []blob.Digest{one.Manifest, blob.Sum([]byte("own"))} {
		must(t, damaged[d].Err)
	}
	wantCorrupt(t, "n:2 alone", byDigest("n:2")[blob.Sum(shared)].Err, "n:2", "x")
}

// A manifest that is sound, but another version's.
func TestVerifyWrongManifest(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, "m:1")
	rec := ofRef("m:2")
	must(t, r.update(t.Context(), index.Change{Verb: "register"}, func(v *view) error {
		old, err := v.tx.Version(m.ID)
		if err != nil {
			return err
		}
		parsed, err := r.record(&rec)
		if err != nil {
			return err
		}
		parsed.Manifest = old.Manifest
		return v.tx.Register(&parsed, nil)
	}))
	got := all(t, r.Verify(t.Context(), "m:2", nil))
	if len(got) != 1 {
		t.Fatalf("checked %+v", got)
	}
	wantCorrupt(t, "manifest", got[0].Err, "m:2", "")
}

// expiring is cancelled once it was asked so many times.
type expiring struct {
	context.Context
	left *atomic.Int64
}

func (c expiring) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// What could not be read because the context ended is not damaged.
func TestVerifyCancelled(t *testing.T) {
	r := newRegistry(t)
	for i := range 3 {
		add(t, r, fmt.Sprintf("m:%d", i))
	}
	for n := range int64(1000) {
		left := new(atomic.Int64)
		left.Store(n)
		var last error
		for c, err := range r.Verify(expiring{context.Background(), left}, "", nil) {
			if last = err; err == nil && c.Err != nil {
				t.Fatalf("cancelled at %d: %s is reported as %v", n, c.Digest, c.Err)
			}
		}
		if last == nil {
			if n < 10 {
				t.Errorf("all was verified though the context ended after %d questions", n)
			}
			return
		}
		wantErr(t, fmt.Sprintf("cancelled at %d", n), last, context.Canceled)
	}
	t.Error("Verify never came to an end")
}
