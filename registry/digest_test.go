package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

func TestParseSHA256(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, good := range []string{empty, "sha256:" + empty, strings.ToUpper(empty), "sha256:" + strings.ToUpper(empty)} {
		if got, err := ParseSHA256(good); got != sha256.Sum256(nil) || err != nil {
			t.Errorf("%q: %s, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "sha256:", empty[:63], empty + "0", "b3:" + empty, "SHA256:" + empty, empty[:63] + "x"} {
		got, err := ParseSHA256(bad)
		wantErr(t, bad, err, ErrInvalid)
		wantErr(t, bad, err, fs.ErrInvalid)
		if got != (SHA256{}) {
			t.Errorf("%q: %s beside an error", bad, got)
		}
	}
}

// sumOf fails if the SHA-256 of a file is not that of the content.
func sumOf(t *testing.T, what string, m *Model, path string, content []byte) {
	t.Helper()
	got, err := m.SHA256(t.Context(), path)
	if err != nil || got != sha256.Sum256(content) {
		t.Errorf("%s: SHA-256 of %s is %s, %v", what, path, got, err)
	}
}

// records returns how many records the journal has.
func records(t *testing.T, r *Registry) uint64 {
	t.Helper()
	n, err := r.index.CheckJournal(t.Context())
	must(t, err)
	return n
}

// TestSHA256Once damages a file after it was hashed: whatever has to read it
// from then on fails.
func TestSHA256Once(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	content := weights(1, 1<<20+77)
	m := addFiles(t, r, "m:1", map[string][]byte{"w.bin": content, "empty": nil})
	other := addFiles(t, r, "other:1", map[string][]byte{"same.bin": content})
	before := list(t, r)
	sumOf(t, "computed", m, "w.bin", content)
	sumOf(t, "computed", m, "empty", nil)
	n := records(t, r)

	flip(t, r, blob.Sum(content))
	_, err := io.ReadAll(open(t, m, "w.bin"))
	wantCorrupt(t, "reading", err, "m:1", "w.bin")
	sumOf(t, "again", m, "w.bin", content)
	sumOf(t, "in another version", other, "same.bin", content)
	sumOf(t, "by another process", get(t, again(t, r), "m:1"), "w.bin", content)
	must(t, os.Remove(filepath.Join(r.Dir(), "index.db")))
	sumOf(t, "with an index that was built anew", m, "w.bin", content)
	must(t, r.ForceDelete(ctx, "m:1", Note{}))
	sumOf(t, "after the other version is gone", other, "same.bin", content)
	if got := records(t, r); got != n+1 {
		t.Errorf("%d records, want that of the deletion on top of %d", got, n)
	}

	// Nothing else of what the registry tells has changed.
	addFiles(t, r, "healed:1", map[string][]byte{"w": content})
	must(t, r.ForceDelete(ctx, "healed:1", Note{}))
	after := list(t, r)
	if len(after.History) != len(before.History)+3 || after.History[len(before.History)].Verb != "delete" {
		t.Errorf("history: %+v", after.History[len(before.History):])
	}
	same(t, "history", after.History[:len(before.History)], before.History)
	same(t, "a version", after.Versions["other"], before.Versions["other"])
}

func open(t *testing.T, m *Model, path string) *Reader {
	t.Helper()
	f, err := m.Open(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// putHashed registers a version as a Draft does that hashes what it stores.
func putHashed(t *testing.T, r *Registry, ref string, content []byte, sum SHA256) error {
	t.Helper()
	m := ofRef(ref)
	d, err := r.Begin(t.Context(), m)
	must(t, err)
	defer d.Close()
	src, hashed := newHashing(bytes.NewReader(content))
	s, err := d.Put(t.Context(), "w.bin", src)
	must(t, err)
	if got := hashed(); got != sha256.Sum256(content) {
		t.Errorf("hashed %s", got)
	}
	manifest, err := d.Put(t.Context(), "manifest", strings.NewReader("stands for the manifest of "+ref))
	must(t, err)
	must(t, d.batch.Sync(t.Context()))
	c, err := r.change("register", Note{})
	must(t, err)
	return r.update(t.Context(), c, func(v *view) error {
		rec := d.rec
		rec.Manifest = manifest.Digest
		p, err := name.ParsePath("w.bin")
		if err != nil {
			return err
		}
		if err := v.tx.Register(&rec, []index.File{{Path: p, Digest: s.Digest, Size: s.Size}}); err != nil {
			return err
		}
		return recordSHA256(v.tx, map[blob.Digest]SHA256{s.Digest: sum})
	})
}

// TestSHA256AtPut records it with the version, so that the file is never read.
func TestSHA256AtPut(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	content := weights(2, 700_000)
	n := records(t, r)
	must(t, putHashed(t, r, "m:1", content, sha256.Sum256(content)))
	if got := records(t, r); got != n+1 {
		t.Errorf("%d records on top of %d", got, n)
	}
	flip(t, r, blob.Sum(content))
	sumOf(t, "put", get(t, r, "m:1"), "w.bin", content)
	if size, err := get(t, r, "m:1").SHA256Size(ctx, nil); size != 0 || err != nil {
		t.Errorf("there are %d bytes to read, %v", size, err)
	}

	// What does not agree is not registered.
	err := putHashed(t, r, "m:2", content, SHA256{1})
	wantErr(t, "another SHA-256", err, ErrConflict)
	if ce, ok := errors.AsType[*index.SHA256ConflictError](err); !ok || ce.Blob != blob.Sum(content) || ce.Given != (SHA256{1}) {
		t.Errorf("got %v", err)
	}
	_, err = r.Get(ctx, "m:2")
	wantErr(t, "the version", err, ErrNotFound)
	if got := records(t, r); got != n+1 {
		t.Errorf("%d records after the conflict", got)
	}
}

func TestSHA256s(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	files := map[string][]byte{"b": weights(1, 5000), "a/x": weights(2, 3000), "a/twin": weights(1, 5000), "c": []byte("c")}
	m := addFiles(t, r, "m:1", files)
	var want []FileSHA256
	for f, err := range m.List(ctx) {
		must(t, err)
		want = append(want, FileSHA256{f, sha256.Sum256(files[f.Path])})
	}
	sumOf(t, "one before", m, "c", files["c"])
	n := records(t, r)
	var read int64
	o := &SHA256Options{Progress: func(n int64) { read += n }}
	size, err := m.SHA256Size(ctx, o)
	must(t, err)
	same(t, "all", all(t, m.SHA256s(ctx, o)), want)
	if size != 8000 || read != size {
		t.Errorf("SHA256Size %d, progress %d, want 8000: what is known is not read, and twins are read once", size, read)
	}
	if got := records(t, r); got != n+1 {
		t.Errorf("%d records on top of %d", got, n)
	}
	read = 0
	same(t, "all again", all(t, m.SHA256s(ctx, o)), want)
	same(t, "some", all(t, m.SHA256s(ctx, &SHA256Options{Only: []string{"c", "a/x", "c"}})), []FileSHA256{want[1], want[3]})
	same(t, "none", all(t, m.SHA256s(ctx, &SHA256Options{Only: []string{}})), []FileSHA256(nil))
	if read != 0 {
		t.Errorf("%d bytes were read again", read)
	}
	for _, err := range m.SHA256s(ctx, nil) {
		must(t, err)
		break // is no error
	}

	_, err = m.SHA256(ctx, "d")
	wantErr(t, "no such file", err, ErrNotFound)
	_, err = m.SHA256(ctx, "a")
	wantErr(t, "a folder", err, ErrNotFound)
	_, err = m.SHA256(ctx, "../c")
	if _, ok := errors.AsType[*NameError](err); !ok {
		t.Errorf("a bad path: %v", err)
	}
	wantErr(t, "one of several", failure(m.SHA256s(ctx, &SHA256Options{Only: []string{"c", "d"}})), ErrNotFound)
	_, err = (&Model{Name: "m", Version: "1"}).SHA256(ctx, "c")
	wantErr(t, "a Model of nobody's", err, ErrInvalid)
	must(t, r.Delete(ctx, "m:1", Note{}))
	_, err = m.SHA256(ctx, "c")
	wantErr(t, "a version that is gone", err, ErrNotFound)
	_, err = m.SHA256Size(ctx, nil)
	wantErr(t, "the size of one that is gone", err, ErrNotFound)
}

// TestSHA256sMany has more files than are recorded at once.
func TestSHA256sMany(t *testing.T) {
	r := newRegistry(t)
	files := map[string][]byte{}
	for i := range 300 {
		files[fmt.Sprintf("f%03d", i)] = fmt.Append(nil, i)
	}
	m := addFiles(t, r, "m:1", files)
	n := records(t, r)
	seen := 0
	for f, err := range m.SHA256s(t.Context(), nil) {
		must(t, err)
		if f.SHA256 != sha256.Sum256(files[f.Path]) {
			t.Errorf("%s: %s", f.Path, f.SHA256)
		}
		if seen++; seen == 1 { // what was yielded is recorded
			flip(t, r, f.Digest)
			sumOf(t, "first", m, f.Path, files[f.Path])
		}
	}
	if got := records(t, r); seen != 300 || got != n+2 {
		t.Errorf("%d files, %d records on top of %d", seen, got, n)
	}
}

func TestSHA256Damaged(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	files := map[string][]byte{"a": weights(1, 4000), "b": weights(2, 4000), "c": weights(3, 4000)}
	m := addFiles(t, r, "m:1", files)
	flip(t, r, blob.Sum(files["b"]))
	var got []string
	var last error
	for f, err := range m.SHA256s(ctx, nil) {
		if last = err; err == nil {
			got = append(got, f.Path)
		}
	}
	same(t, "before the damage", got, []string{"a"})
	wantCorrupt(t, "SHA256s", last, "m:1", "b")
	flip(t, r, blob.Sum(files["a"]))
	sumOf(t, "what was computed before", m, "a", files["a"])
	_, err := m.SHA256(ctx, "b")
	wantCorrupt(t, "SHA256", err, "m:1", "b")
	must(t, os.Remove(blobFile(r, blob.Sum(files["b"]))))
	_, err = m.SHA256(ctx, "b")
	wantCorrupt(t, "a missing blob", err, "m:1", "b")
	// Nothing was recorded of what could not be read.
	addFiles(t, r, "m:2", map[string][]byte{"b": files["b"]})
	sumOf(t, "healed", m, "b", files["b"])

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = m.SHA256(ended, "c")
	wantErr(t, "cancelled", err, context.Canceled)
}

// TestSHA256Race has another process record the SHA-256 while it is computed.
func TestSHA256Race(t *testing.T) {
	for name, tt := range map[string]struct {
		sum  SHA256
		want error
	}{
		"the same":  {sha256.Sum256([]byte("weights of m:1")), nil},
		"a strange": {SHA256{1}, ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			m := add(t, r, "m:1")
			o := &SHA256Options{Progress: func(int64) {
				must(t, r.update(t.Context(), index.Change{Verb: "sha256"}, func(v *view) error {
					return recordSHA256(v.tx, map[blob.Digest]SHA256{m.WeightsHash: tt.sum})
				}))
			}}
			var got []FileSHA256
			var last error
			for f, err := range m.SHA256s(t.Context(), o) {
				if last = err; err == nil {
					got = append(got, f)
				}
			}
			wantErr(t, "SHA256s", last, tt.want)
			if (len(got) == 1) != (tt.want == nil) {
				t.Errorf("yielded %v", got)
			}
		})
	}
}

// TestSHA256ReadOnly has a journal that this process can't write to.
func TestSHA256ReadOnly(t *testing.T) {
	for _, err := range []error{syscall.EROFS, syscall.EACCES, syscall.EPERM} {
		if err := fmt.Errorf("registry: %w", &fs.PathError{Op: "open", Path: "journal", Err: err}); !readOnly(err) {
			t.Errorf("%v is not taken for a store that can't be written to", err)
		}
	}
	for _, err := range []error{syscall.EIO, syscall.ENOSPC, context.Canceled, ErrConflict} {
		if readOnly(err) {
			t.Errorf("%v is taken for a store that can't be written to", err)
		}
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write to anything")
	}
	r := newRegistry(t)
	files := map[string][]byte{"a": weights(1, 4000), "b": weights(2, 4000)}
	m := addFiles(t, r, "m:1", files)
	sumOf(t, "recorded", m, "a", files["a"])
	n := records(t, r)
	must(t, os.Chmod(filepath.Join(r.Dir(), "journal"), 0o400))
	for range 2 {
		sumOf(t, "not recorded", m, "b", files["b"])
		if got := all(t, m.SHA256s(t.Context(), nil)); len(got) != 2 || got[1].SHA256 != sha256.Sum256(files["b"]) {
			t.Errorf("got %v", got)
		}
	}
	if got := records(t, r); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
	must(t, os.Chmod(filepath.Join(r.Dir(), "journal"), 0o600))
	sumOf(t, "recorded now", m, "b", files["b"])
	if got := records(t, r); got != n+1 {
		t.Errorf("%d records, want %d", got, n+1)
	}
}

func TestFindSHA256(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	content := weights(1, 4000)
	sum := SHA256(sha256.Sum256(content))
	one := addFiles(t, r, "m:1", map[string][]byte{"x": content, "dir/y": content, "z": []byte("z")})
	add(t, r, "m:2")
	addFiles(t, r, "a/b:1", map[string][]byte{"w": content})
	find := func() []string {
		var got []string
		for _, h := range all(t, r.FindSHA256(ctx, sum)) {
			got = append(got, h.Ref()+" "+h.Path)
		}
		return got
	}
	wantErr(t, "before it is known", failure(r.FindSHA256(ctx, sum)), ErrNotFound)
	sumOf(t, "m:1", one, "x", content)
	same(t, "found", find(), []string{"a/b:1 w", "m:1 dir/y", "m:1 x"})
	addFiles(t, r, "m:3", map[string][]byte{"w": content})
	must(t, r.Delete(ctx, "m:1", Note{}))
	same(t, "found later", find(), []string{"a/b:1 w", "m:3 w"})
	must(t, os.Remove(filepath.Join(r.Dir(), "index.db")))
	same(t, "found with a new index", find(), []string{"a/b:1 w", "m:3 w"})
	for _, ref := range []string{"a/b:1", "m:3"} {
		must(t, r.Delete(ctx, ref, Note{}))
	}
	wantErr(t, "when all are gone", failure(r.FindSHA256(ctx, sum)), ErrNotFound)
	wantErr(t, "never heard of", failure(r.FindSHA256(ctx, SHA256{})), ErrNotFound)
}

// TestOptionsSHA256 registers with Options.SHA256: what a put computed is there
// without reading, when a file is read as a stream, sought in, or known already.
func TestOptionsSHA256(t *testing.T) {
	r, err := Create(t.Context(), filepath.Join(t.TempDir(), "store"), &Options{SHA256: true})
	must(t, err)
	defer func() { must(t, r.Close()) }()
	content := weights(3, 300_000)
	for version, src := range map[string]io.Reader{
		"a": bytes.NewReader(content), "b": io.MultiReader(bytes.NewReader(content)), "c": bytes.NewReader(nil),
	} {
		_, err := r.Register(t.Context(), Model{Name: "m", Version: version}, src)
		must(t, err)
	}
	flip(t, r, blob.Sum(content))
	for _, ref := range []string{"m:a", "m:b"} {
		sumOf(t, ref, get(t, r, ref), WeightsFile, content)
	}
	sumOf(t, "nothing", get(t, r, "m:c"), WeightsFile, nil)
	if size, err := get(t, r, "m:a").SHA256Size(t.Context(), nil); size != 0 || err != nil {
		t.Errorf("there are %d bytes to read, %v", size, err)
	}
}
