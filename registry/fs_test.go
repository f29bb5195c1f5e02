package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
)

// nested is a version with folders in folders, many files and an empty one.
func nested() map[string][]byte {
	files := map[string][]byte{
		"config.json": []byte("{}"), "a/b/c/d/deep.bin": weights(1, 3000), "a/b.txt": []byte("b"), "a/b/x": []byte("x"),
		"empty": nil, "large.bin": weights(2, 1<<20+5), ":odd@name": []byte("odd"), "a-": []byte("sorts before a/"),
	}
	for i := range 60 {
		files[fmt.Sprintf("shards/%02d-of-60.bin", i)] = weights(uint64(i), 50)
	}
	return files
}

func TestModelFS(t *testing.T) {
	r := newRegistry(t)
	files := nested()
	m := addFiles(t, r, "m:1", files)
	var names []string
	for p := range files {
		names = append(names, p)
	}
	fsys := m.FS()
	if err := fstest.TestFS(fsys, names...); err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.ModTime().UnixMicro() != m.RegisteredAt || info.Mode() != 0o444 {
			t.Errorf("%s: %v, %v", p, info.ModTime(), info.Mode())
		}
		got[p], err = fs.ReadFile(fsys, p)
		return err
	})
	must(t, err)
	same(t, "files", got, files)
	for p, want := range map[string]error{"none": fs.ErrNotExist, "a/b/c/none": fs.ErrNotExist, "../m": fs.ErrInvalid, "/a": fs.ErrInvalid, "": fs.ErrInvalid} {
		_, err := fsys.Open(p)
		wantErr(t, "Open "+p, err, want)
		_, err = fs.Stat(fsys, p)
		wantErr(t, "Stat "+p, err, want)
		_, err = fs.ReadDir(fsys, p)
		wantErr(t, "ReadDir "+p, err, want)
	}
	_, err = fs.ReadDir(fsys, "empty")
	wantErr(t, "ReadDir of a file", err, fs.ErrInvalid)
}

func TestModelFSConcurrent(t *testing.T) {
	r := newRegistry(t)
	files := nested()
	fsys := addFiles(t, r, "m:1", files).FS()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for p, want := range files {
				got, err := fs.ReadFile(fsys, p)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", p, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestModelFSGone(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, "m:1")
	must(t, r.Delete(t.Context(), "m:1", Note{}))
	_, err := fs.ReadDir(m.FS(), ".")
	wantErr(t, "a deleted version", err, ErrNotFound)
}

// What a caller does to a Model changes nothing of what is read.
func TestModelTampered(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	other := add(t, r, "other:1")
	m := add(t, r, "m:1")
	m.ID, m.Name, m.Version, m.WeightsHash, m.Manifest, m.WeightsSize, m.Files = other.ID, "other", "1", other.WeightsHash, other.Manifest, 1, 7
	const want = "weights of m:1"
	if got := read(t, m, WeightsFile); string(got) != want {
		t.Errorf("Open: %q", got)
	}
	if got, err := fs.ReadFile(m.FS(), WeightsFile); err != nil || string(got) != want {
		t.Errorf("FS: %q, %v", got, err)
	}
	if got := all(t, m.List(ctx)); len(got) != 1 || got[0].Digest != blob.Sum([]byte(want)) {
		t.Errorf("List: %+v", got)
	}
	dir := t.TempDir()
	_, err := m.Extract(ctx, dir, nil)
	must(t, err)
	same(t, "Extract", contents(t, dir), map[string]string{WeightsFile: want})

	foreign := &Model{ID: other.ID, Name: "other", Version: "1"}
	for what, err := range map[string]error{
		"Open": failureOf(foreign.Open(ctx, WeightsFile)), "List": failure(foreign.List(ctx)),
		"Extract": failureOf(foreign.Extract(ctx, t.TempDir(), nil)), "FS": failureOf(foreign.FS().Open(WeightsFile)),
	} {
		wantErr(t, what, err, ErrInvalid)
	}
}

func TestReader(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	want := weights(3, 2<<20+17)
	m := addFiles(t, r, "m:1", map[string][]byte{"sub/w.bin": want, "empty": nil})
	open := func() *Reader {
		f, err := m.Open(ctx, "sub/w.bin")
		must(t, err)
		t.Cleanup(func() { must(t, f.Close()) })
		return f
	}
	must(t, iotest.TestReader(open(), want))
	var b bytes.Buffer
	n, err := open().WriteTo(&b)
	if err != nil || n != int64(len(want)) || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	f := open()
	_, err = f.Seek(-9, io.SeekEnd)
	must(t, err)
	b.Reset()
	if _, err := f.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), want[len(want)-9:]) {
		t.Errorf("the end: %v, %v", b.Bytes(), err)
	}
	if f.Size() != int64(len(want)) || f.Digest() != blob.Sum(want) {
		t.Errorf("size %d, digest %s", f.Size(), f.Digest())
	}
	must(t, iotest.TestReader(bytes.NewReader(read(t, m, "empty")), nil))

	for p, want := range map[string]error{"none": ErrNotFound, "sub": ErrNotFound, "../w.bin": fs.ErrInvalid} {
		_, err := m.Open(ctx, p)
		wantErr(t, "Open "+p, err, want)
	}
	if _, ok := errors.AsType[*NameError](failureOf(m.Open(ctx, "/w.bin"))); !ok {
		t.Error("a bad path was taken")
	}
	// The folder of a:b holds the files of a/b:c too, but they are not its own.
	outer := addFiles(t, r, "a:b", map[string][]byte{"x": []byte("x")})
	addFiles(t, r, "a/b:c", map[string][]byte{"y": []byte("y")})
	wantErr(t, "another version's file", failureOf(outer.Open(ctx, "c/y")), ErrNotFound)
	if got := all(t, outer.List(ctx)); len(got) != 1 {
		t.Errorf("List: %+v", got)
	}
	wantErr(t, "unknown id", failureOf(r.Get(ctx, uuid.NewString())), ErrNotFound)
}
