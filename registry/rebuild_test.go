package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// populate makes a store with some of everything.
func populate(t testing.TB, r *Registry) {
	t.Helper()
	ctx := t.Context()
	n := Note{Actor: "ann", Reason: "because"}
	first := addModel(t, r, everything(), "first")
	child := Model{Name: "team/model", Version: "1.0.0", Parent: first.ID}
	addModel(t, r, child, "second")
	addFiles(t, r, "team/tree:main", map[string][]byte{"a/w.bin": weights(1, 2<<20), "b.json": []byte("{}")})
	addFiles(t, r, "team/tree:next", map[string][]byte{"a/w.bin": weights(1, 2<<20), "c.bin": weights(2, 3000)})
	for _, ref := range []string{"gone:1", "gone:2", "half:1", "half:2", "half"} {
		add(t, r, ref)
	}
	for _, ref := range []string{"half:1", "half:2", "team/tree:main", "gone:2"} {
		_, err := r.Promote(ctx, ref, n)
		must(t, err)
	}
	_, err := r.Rollback(ctx, "half", n)
	must(t, err)
	must(t, r.SetAlias(ctx, "half", "stable", "1", n))
	must(t, r.SetAlias(ctx, "half", "dropped", "2", n))
	must(t, r.SetAlias(ctx, "team/tree", "best", "next", n))
	must(t, r.DeleteAlias(ctx, "half", "dropped", n))
	_, err = r.Edit(ctx, "half:1", n, func(m *Model) error { m.Metadata.Tags = []string{"x"}; return nil })
	must(t, err)
	must(t, r.ForceDelete(ctx, first.Ref(), n))
	must(t, r.ForceDelete(ctx, "gone:1", n))
	must(t, r.ForceDelete(ctx, "gone:2", n))
	d, err := r.Begin(ctx, ofRef("draft"))
	must(t, err)
	_, err = d.Put(ctx, "w", bytes.NewReader(weights(3, 4000)))
	must(t, err)
	must(t, d.Close())
}

func TestIndexRebuilt(t *testing.T) {
	r := newRegistry(t)
	populate(t, r)
	want := list(t, r)
	file := filepath.Join(r.Dir(), "index.db")
	for _, tt := range []struct {
		name   string
		damage func() error
	}{
		{"deleted", func() error { return os.Remove(file) }},
		{"emptied", func() error { return os.Truncate(file, 0) }},
		{"garbage", func() error { return os.WriteFile(file, weights(4, 1<<16), 0o600) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, tt.damage())
			same(t, "the same handle", list(t, r), want)
			must(t, tt.damage())
			same(t, "a new handle", list(t, again(t, r)), want)
		})
	}
	// And it still works.
	if m := add(t, r, "half"); m.Version != "4" {
		t.Errorf("the next version is %s", m.Version)
	}
	c, err := r.Rollback(t.Context(), "team/tree", Note{})
	wantErr(t, "nothing to roll back to", err, ErrNotFound)
	if c.Model != nil {
		t.Errorf("a change beside an error: %+v", c)
	}
}

func TestStatsCountsWhatIsStored(t *testing.T) {
	r := newRegistry(t)
	populate(t, r)
	s, err := r.Stats(t.Context())
	must(t, err)
	var files, bytes int64
	for p, size := range onDisk(t, filepath.Join(r.Dir(), "blobs")) {
		if len(filepath.Base(p)) == 64 { // a blob's name is its digest
			files++
			bytes += size
		}
	}
	if int64(s.Blobs) != files || s.Stored != bytes {
		t.Errorf("%d blobs of %d bytes, on disk %d of %d", s.Blobs, s.Stored, files, bytes)
	}
	big := int64(2<<20 + 2<<20 + 2 + 3000)
	want := Stats{
		Models: 3, Versions: 6, Files: 8, Blobs: s.Blobs, Stored: s.Stored,
		Logical: big + int64(len("second")+2*len("weights of half:1")+len("weights of half")),
		Unique:  big - 2<<20 + int64(len("second")+2*len("weights of half:1")+len("weights of half")),
	}
	perModel, p := s.PerModel, s.Parts
	if n := p.Raw.Size + p.Self.Size + p.Delta.Size + p.Borrowed.Size; n != want.Unique || p.Raw.Frames == 0 || p.Raw.Stored != p.Raw.Size {
		t.Errorf("the parts have %d bytes of %d: %+v", n, want.Unique, p)
	}
	s.PerModel, s.Parts = nil, blob.Parts{}
	same(t, "Stats", s, want)
	if len(perModel) != 3 || perModel[2].Name != "team/tree" || perModel[2].Files != 4 || perModel[2].Unique != big-2<<20 || perModel[2].Stored <= 2<<20 {
		t.Errorf("per model: %+v", perModel)
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	_, err := Open(ctx, dir, nil)
	wantErr(t, "a folder that is no store", err, ErrNotFound)
	_, err = Open(ctx, filepath.Join(dir, "none"), nil)
	wantErr(t, "no folder", err, ErrNotFound)
	if !strings.Contains(err.Error(), "none") || strings.Contains(err.Error(), "registry: registry") {
		t.Errorf("the error is %q", err)
	}
	r := newRegistry(t)
	_, err = Create(ctx, r.Dir(), nil)
	wantErr(t, "a store already", err, os.ErrExist)
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	_, err = Create(ctx, dir, nil)
	wantErr(t, "a folder with other files", err, os.ErrExist)

	add(t, r, "m:1")
	must(t, os.Remove(filepath.Join(r.Dir(), "journal")))
	_, err = Open(ctx, r.Dir(), nil)
	if _, ok := errors.AsType[*index.JournalError](err); !ok {
		t.Errorf("without a journal: got %v, want a *JournalError", err)
	}
}

func TestCreateTempLeavesNothing(t *testing.T) {
	r, err := CreateTemp(t.Context(), nil)
	must(t, err)
	dir := r.Dir()
	if r.CreatedAt() == 0 || r.ID().String() == "" {
		t.Errorf("created at %d, id %s", r.CreatedAt(), r.ID())
	}
	must(t, r.Close())
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// TestJournalAndIndexGone opens a store that has lost both: an empty registry
// in their place would make the loss final.
func TestJournalAndIndexGone(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "a:1")
	for _, name := range []string{"journal", "index.db"} {
		must(t, os.Remove(filepath.Join(r.Dir(), name)))
	}
	o, err := Open(t.Context(), r.Dir(), nil)
	if err == nil {
		must(t, o.Close())
	}
	if _, ok := errors.AsType[*index.JournalError](err); !ok {
		t.Errorf("%v is not a *index.JournalError", err)
	}
}

// TestUnreadableBlob has a blob that can't be read at all, for which a folder
// stands here: other models are registered, and the index is rebuilt.
func TestUnreadableBlob(t *testing.T) {
	r := newRegistry(t)
	for i := range 4 {
		shared := weights(uint64(10+i), 1<<20)
		bad := slices.Concat(shared, weights(1, 100))
		addModel(t, r, Model{Name: "a"}, string(bad))
		file := blobFile(r, blob.Sum(bad))
		must(t, os.Remove(file))
		must(t, os.Mkdir(file, 0o700))
		addModel(t, r, Model{Name: "b"}, string(slices.Concat(shared, weights(2, 100))))
	}
	must(t, os.Remove(filepath.Join(r.Dir(), "index.db")))
	if o := again(t, r); get(t, o, "b:4").Ref() != "b:4" {
		t.Error("b:4 is not there")
	}
}
