package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
)

func TestDraftInvisibleBeforeCommit(t *testing.T) {
	r := newRegistry(t)
	other := again(t, r)
	ctx := t.Context()
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	defer d.Close()
	for _, p := range []string{"b/w.bin", "a.json"} {
		_, err := d.Put(ctx, p, strings.NewReader("content of "+p))
		must(t, err)
	}
	_, err = other.Get(ctx, "m:1")
	wantErr(t, "Get", err, ErrNotFound)
	wantErr(t, "Versions", failure(other.Versions(ctx, "m")), ErrNotFound)
	if names, paths := all(t, other.Names(ctx, "")), all(t, other.List(ctx, "")); len(names)+len(paths) != 0 {
		t.Fatalf("before Commit: names %v, paths %v", names, paths)
	}
	if got := d.Files(); len(got) != 2 || got[0].Path != "a.json" || got[1].Path != "b/w.bin" {
		t.Fatalf("Files: %+v", got)
	}

	m, err := d.Commit(ctx)
	must(t, err)
	seen := get(t, other, "m:1")
	same(t, "what the other handle sees", seen, m)
	if seen.Files != 2 || seen.WeightsHash != seen.Manifest || seen.WeightsSize != int64(len("content of b/w.bin")+len("content of a.json")) {
		t.Errorf("files %d, size %d, hash %s, manifest %s", seen.Files, seen.WeightsSize, seen.WeightsHash, seen.Manifest)
	}
	if got := read(t, seen, "b/w.bin"); string(got) != "content of b/w.bin" {
		t.Errorf("read %q", got)
	}
	if seen.RegisteredBy != "tester" || seen.Status != Pending || seen.RegisteredAt == 0 || seen.ID == uuid.Nil {
		t.Errorf("defaults: %+v", seen)
	}
}

func TestDraftCloseDiscards(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	_, err = d.Put(ctx, "w.bin", strings.NewReader("x"))
	must(t, err)
	must(t, d.Close())
	must(t, d.Close())
	_, err = d.Put(ctx, "v.bin", strings.NewReader("x"))
	wantErr(t, "Put after Close", err, fs.ErrClosed)
	_, err = d.Commit(ctx)
	wantErr(t, "Commit after Close", err, fs.ErrClosed)
	_, err = r.Get(ctx, "m:1")
	wantErr(t, "Get", err, ErrNotFound)
}

func TestDraftClosedByCommit(t *testing.T) {
	r := newRegistry(t)
	d, err := r.Begin(t.Context(), ofRef("m:1"))
	must(t, err)
	_, err = d.Commit(t.Context())
	must(t, err)
	_, err = d.Commit(t.Context())
	wantErr(t, "second Commit", err, fs.ErrClosed)
	if m := get(t, r, "m:1"); m.Files != 0 || m.WeightsSize != 0 {
		t.Errorf("a version without files: %+v", m)
	}
}

func TestDraftDuplicates(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	tests := []struct {
		name  string
		paths []string // the last one is refused
	}{
		{"same path", []string{"a", "a"}},
		{"file where a folder is", []string{"a/b/c", "a/b"}},
		{"folder where a file is", []string{"a/b", "a/b/c/d"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := r.Begin(ctx, ofRef("dup"))
			must(t, err)
			defer d.Close()
			last := len(tt.paths) - 1
			for _, p := range tt.paths[:last] {
				_, err := d.Put(ctx, p, strings.NewReader(p))
				must(t, err)
			}
			_, err = d.Put(ctx, tt.paths[last], iotest.ErrReader(errors.New("was read")))
			wantErr(t, "Put", err, ErrDuplicate)
			if got := d.Files(); len(got) != last {
				t.Errorf("files %v", got)
			}
		})
	}
	t.Run("a failed put frees its path and folders", func(t *testing.T) {
		d, err := r.Begin(ctx, ofRef("freed"))
		must(t, err)
		defer d.Close()
		if _, err := d.Put(ctx, "a/b", iotest.ErrReader(errors.New("broken"))); err == nil {
			t.Fatal("no error")
		}
		_, err = d.Put(ctx, "a", strings.NewReader("x"))
		must(t, err)
	})
	t.Run("versions and ids", func(t *testing.T) {
		first := add(t, r, "m:1")
		_, err := r.Begin(ctx, ofRef("m:1"))
		wantErr(t, "Begin", err, ErrDuplicate)
		wantErr(t, "Begin", err, fs.ErrExist)
		_, err = r.Register(ctx, Model{Name: "n", Version: "1", ID: first.ID}, strings.NewReader("x"))
		wantErr(t, "id of another name", err, ErrDuplicate)
		_, err = r.Register(ctx, Model{Name: "m", ID: first.ID}, strings.NewReader("x"))
		wantErr(t, "id of the same name, next number", err, ErrDuplicate)
		if _, err := r.Get(ctx, "n:1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("n:1 was registered: %v", err)
		}
	})
}

func TestDraftOvertaken(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	defer d.Close()
	_, err = d.Put(ctx, "mine.bin", strings.NewReader("mine"))
	must(t, err)
	theirs := add(t, again(t, r), "m:1")
	_, err = d.Commit(ctx)
	wantErr(t, "Commit", err, ErrDuplicate)
	same(t, "the version", get(t, r, "m:1"), theirs)
	if paths := all(t, r.List(ctx, "")); len(paths) != 1 || paths[0].Path != "m/1/"+WeightsFile {
		t.Errorf("paths %+v", paths)
	}
}

func TestDraftPathConflicts(t *testing.T) {
	for _, tt := range []struct{ name, first, file, second, other string }{
		{"equal", "a:b", "c/w.bin", "a/b:c", "w.bin"},
		{"file becomes a folder", "a:b", "c", "a/b:c", "w.bin"},
		{"folder becomes a file", "a/b:c", "w.bin", "a:b", "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			addFiles(t, r, tt.first, map[string][]byte{tt.file: []byte("1")})
			before := list(t, r)
			_, err := putFiles(t.Context(), r, ofRef(tt.second), map[string][]byte{tt.other: []byte("2"), "fine": []byte("3")})
			if _, ok := errors.AsType[*index.PathConflictError](err); !ok {
				t.Fatalf("got %v, want a *PathConflictError", err)
			}
			wantErr(t, "Commit", err, fs.ErrExist)
			after := list(t, r)
			before.Stats, before.Checked, after.Stats, after.Checked = Stats{}, nil, Stats{}, nil // blobs stay until gc
			same(t, "listing", after, before)
		})
	}
}

func TestRegisterNextNumber(t *testing.T) {
	r := newRegistry(t)
	for _, step := range []struct{ register, want string }{
		{"m", "1"}, {"m", "2"}, {"m:v9", "v9"}, {"m:007", "007"}, {"m:1.5.0", "1.5.0"}, {"m", "3"},
		{"m:41", "41"}, {"m", "42"}, {"other", "1"}, {"m:999999999999999998", "999999999999999998"}, {"m", "999999999999999999"},
	} {
		if m := addModel(t, r, ofRef(step.register), "same"); m.Version != step.want {
			t.Fatalf("registering %s gave version %s, want %s", step.register, m.Version, step.want)
		}
	}
	_, err := r.Register(t.Context(), Model{Name: "m"}, strings.NewReader("same"))
	wantErr(t, "after the last number", err, ErrInvalid)
}

func TestRegisterNextNumberConcurrent(t *testing.T) {
	r := newRegistry(t)
	handles := []*Registry{r, again(t, r)}
	const writers, each = 4, 4
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := handles[w%2].Register(t.Context(), Model{Name: "m"}, bytes.NewReader(weights(uint64(w*each+i), 100)))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got []int
	for _, m := range all(t, r.Versions(t.Context(), "m")) {
		n, err := strconv.Atoi(m.Version)
		must(t, err)
		got = append(got, n)
	}
	slices.Sort(got)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("numbers %v", got)
		}
	}
	if len(got) != writers*each {
		t.Fatalf("%d versions, want %d", len(got), writers*each)
	}
}

func TestBeginParent(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	_, err := r.Begin(ctx, Model{Name: "m", Parent: uuid.New()})
	wantErr(t, "Begin", err, ErrNotFound)

	parent := add(t, r, "m:1")
	d, err := r.Begin(ctx, Model{Name: "m", Version: "2", Parent: parent.ID})
	must(t, err)
	defer d.Close()
	must(t, r.Delete(ctx, "m:1", Note{}))
	_, err = d.Commit(ctx)
	wantErr(t, "Commit after the parent was deleted", err, ErrNotFound)
	_, err = r.Get(ctx, "m:2")
	wantErr(t, "Get", err, ErrNotFound)
}

func TestRegisterFailingReader(t *testing.T) {
	r := newRegistry(t)
	broken := errors.New("cable pulled")
	src := io.MultiReader(bytes.NewReader(weights(1, 3<<20)), iotest.ErrReader(broken))
	_, err := r.Register(t.Context(), ofRef("m:1"), src)
	wantErr(t, "Register", err, broken)
	if names := all(t, r.Names(t.Context(), "")); len(names) != 0 {
		t.Errorf("names %v", names)
	}
	for _, dir := range []string{"tmp", "blobs"} {
		for p, size := range onDisk(t, filepath.Join(r.Dir(), dir)) {
			if size > 0 {
				t.Errorf("%s was left behind", p)
			}
		}
	}
}

func TestRegisterCancelled(t *testing.T) {
	r := newRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	defer d.Close()
	_, err = d.Put(ctx, "w.bin", strings.NewReader("x"))
	must(t, err)
	cancel()
	_, err = d.Put(ctx, "v.bin", strings.NewReader("x"))
	wantErr(t, "Put", err, context.Canceled)
	_, err = d.Commit(ctx)
	wantErr(t, "Commit", err, context.Canceled)
	_, err = r.Begin(ctx, ofRef("m:2"))
	wantErr(t, "Begin", err, context.Canceled)
	_, err = r.Get(t.Context(), "m:1")
	wantErr(t, "Get", err, ErrNotFound)

	if _, err := d.Commit(t.Context()); err != nil {
		t.Errorf("Commit again, with a context that lives: %v", err)
	}
}

// lateContext is cancelled as soon as the journal has grown.
type lateContext struct {
	context.Context
	journal string
	size    int64
}

func (c lateContext) Err() error {
	if info, err := os.Stat(c.journal); err == nil && info.Size() > c.size {
		return context.Canceled
	}
	return nil
}

func late(t *testing.T, r *Registry) context.Context {
	journal := filepath.Join(r.Dir(), "journal")
	info, err := os.Stat(journal)
	must(t, err)
	return lateContext{context.Background(), journal, info.Size()}
}

// An error means that nothing was done, so what is done can't be an error.
func TestChangeCancelledTooLate(t *testing.T) {
	r := newRegistry(t)
	m, err := r.Register(late(t, r), ofRef("m:1"), strings.NewReader("x"))
	must(t, err)
	same(t, "Register", m, get(t, r, "m:1"))
	m, err = r.Edit(late(t, r), "m:1", Note{}, func(m *Model) error { m.Description = "new"; return nil })
	must(t, err)
	same(t, "Edit", m, get(t, r, "m:1"))
	c, err := r.Promote(late(t, r), "m:1", Note{})
	must(t, err)
	same(t, "Promote", c.Model, get(t, r, "m:1"))
}
