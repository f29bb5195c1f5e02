package registry

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// bulkPut begins a version of a bulk with one file.
func bulkPut(t *testing.T, b *Bulk, m Model, content string) *Draft {
	t.Helper()
	d, err := b.Begin(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PutSHA256(t.Context(), "w.bin", strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestBulk(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	b := r.Bulk()
	parent := Model{ID: uuid.New(), Name: "m", Version: "1", RegisteredAt: 5, UpdatedAt: 7, Status: Production}
	child := Model{ID: uuid.New(), Name: "m", Version: "2", Parent: parent.ID, Aliases: []string{"best"}, Origin: &Origin{Source: "x", LegacyID: "17", Details: json.RawMessage(`{"b": 1, "a":2}`)}}
	one, two := bulkPut(t, b, parent, "one"), bulkPut(t, b, child, "two")
	if _, err := r.Get(ctx, "m:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("before Commit: %v", err)
	}
	models, err := b.Commit(ctx, Note{Reason: "because"}, one, two)
	must(t, err)
	if len(models) != 2 || models[0].ID != parent.ID || models[1].Parent != parent.ID || models[0].UpdatedAt != 7 || models[0].RegisteredAt != 5 {
		t.Errorf("committed %+v", models)
	}
	if diff := cmp.Diff([]uuid.UUID{child.ID}, models[0].Children); diff != "" {
		t.Error("a child of the same bulk is missing:", diff)
	}
	m, err := r.Get(ctx, "m:best")
	must(t, err)
	want := &Origin{Source: "x", LegacyID: "17", Details: json.RawMessage(`{"a":2,"b":1}`)}
	if diff := cmp.Diff(want, m.Origin); m.ID != child.ID || diff != "" {
		t.Errorf("the alias means %s, of origin %s", m.Ref(), diff)
	}
	sum, err := m.SHA256(ctx, "w.bin")
	if must(t, err); sum != sha256.Sum256([]byte("two")) {
		t.Errorf("SHA-256 %s", sum)
	}
	seqs := map[uint64]int{}
	for e, err := range r.History(ctx, "") {
		must(t, err)
		seqs[e.Seq]++
		if e.Verb != "import" || e.Reason != "because" {
			t.Errorf("event %+v", e)
		}
	}
	if len(seqs) != 1 {
		t.Errorf("one commit made %d records", len(seqs))
	}
	for c, err := range r.Verify(ctx, "", nil) {
		if must(t, err); c.Err != nil {
			t.Error(c.Err)
		}
	}
	if _, err := b.Commit(ctx, Note{}, one); err == nil {
		t.Error("a draft was committed twice")
	}

	// A second version in production stages the first.
	third := bulkPut(t, b, Model{Name: "m", Version: "3", Status: Production}, "three")
	if _, err := b.Commit(ctx, Note{}, third); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Get(ctx, "m:1"); err != nil || m.Status != Staged {
		t.Errorf("m:1 is %v, %v", m, err)
	}
}

// TestBulkAllOrNothing has one version that can't be registered among others.
func TestBulkAllOrNothing(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	b := r.Bulk()
	good := bulkPut(t, b, Model{Name: "m", Version: "1"}, "one")
	late := bulkPut(t, b, Model{Name: "m", Version: "2"}, "two")
	if _, err := r.Register(ctx, Model{Name: "m", Version: "2"}, strings.NewReader("faster")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(ctx, Note{}, good, late); !errors.Is(err, ErrDuplicate) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := r.Get(ctx, "m:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("one of two was registered: %v", err)
	}
	if _, err := b.Commit(ctx, Note{}, good); err != nil {
		t.Errorf("the good one by itself: %v", err)
	}
	must(t, late.Close())
}

func TestBulkRefuses(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	b := r.Bulk()
	for name, m := range map[string]Model{
		"no version":      {Name: "m"},
		"unknown parent":  {Name: "m", Version: "1", Parent: uuid.New()},
		"bad alias":       {Name: "m", Version: "1", Aliases: []string{"a/b"}},
		"before 1970":     {Name: "m", Version: "1", UpdatedAt: -1},
		"no source":       {Name: "m", Version: "1", Origin: &Origin{}},
		"list as details": {Name: "m", Version: "1", Origin: &Origin{Source: "x", Details: json.RawMessage("[]")}},
		"bad details":     {Name: "m", Version: "1", Origin: &Origin{Source: "x", Details: json.RawMessage("{")}},
		"long details":    {Name: "m", Version: "1", Origin: &Origin{Source: "x", Details: json.RawMessage(`{"a":"` + strings.Repeat("x", maxOrigin) + `"}`)}},
	} {
		_, err := b.Begin(ctx, m)
		if err == nil || name != "unknown parent" && !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "unknown parent" && name != "no version" {
			if err := m.Check(); !errors.Is(err, os.ErrInvalid) {
				t.Errorf("%s: Check says %v", name, err)
			}
		}
	}
	other := bulkPut(t, r.Bulk(), Model{Name: "m", Version: "1"}, "x")
	if _, err := b.Commit(ctx, Note{}, other); !errors.Is(err, ErrInvalid) {
		t.Errorf("a draft of another bulk: %v", err)
	}
	twice := bulkPut(t, b, Model{Name: "m", Version: "1"}, "x")
	if _, err := b.Commit(ctx, Note{}, twice, twice); !errors.Is(err, ErrInvalid) {
		t.Errorf("a draft twice: %v", err)
	}
}

// TestBulkReadsBack damages what was stored before it is committed.
func TestBulkReadsBack(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	b := r.Bulk()
	d := bulkPut(t, b, Model{Name: "m", Version: "1"}, "content")
	flip(t, r, d.Files()[0].Digest)
	_, err := b.Commit(ctx, Note{}, d)
	if _, ok := errors.AsType[*blob.CorruptError](err); !ok {
		t.Errorf("Commit: %v", err)
	}
	if _, err := r.Get(ctx, "m:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("it was registered: %v", err)
	}
}

// TestBulkDeltas stores a version as a difference to one of the same bulk: its
// parent, or the one of the same name before.
func TestBulkDeltas(t *testing.T) {
	ctx := t.Context()
	parent, _ := network(1, 0)
	child, _ := network(1, 1)
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprint(declared), func(t *testing.T) {
			r := newRegistry(t)
			b := r.Bulk()
			one := Model{ID: uuid.New(), Name: "m", Version: "1"}
			two := Model{Name: "m", Version: "2"}
			if declared {
				two.Parent, two.Name = one.ID, "n"
			}
			d1 := bulkPut(t, b, one, string(parent))
			d2 := bulkPut(t, b, two, string(child))
			if p := d2.Files()[0].Parts; p.Delta.Frames == 0 {
				t.Errorf("it is stored as %+v", p)
			}
			_, err := b.Commit(ctx, Note{}, d1, d2)
			must(t, err)
		})
	}
}

func TestAdopt(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	m, err := r.Register(ctx, Model{Name: "m", Version: "1"}, strings.NewReader("content"))
	must(t, err)
	d, err := r.Begin(ctx, Model{Name: "m", Version: "2"})
	must(t, err)
	defer d.Close()
	s, err := d.Adopt(ctx, "a/b", m.WeightsHash)
	if must(t, err); !s.Known || s.Size != 7 || s.Digest != m.WeightsHash || s.Path != "a/b" {
		t.Errorf("adopted %+v", s)
	}
	if _, err := d.Adopt(ctx, "c", blob.Sum([]byte("other"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := d.Adopt(ctx, "a", m.WeightsHash); !errors.Is(err, ErrDuplicate) {
		t.Errorf("a folder: %v", err)
	}
	path := blobFile(r, m.WeightsHash)
	raw, err := os.ReadFile(path)
	must(t, err)
	for i := range raw {
		bad := append([]byte(nil), raw...)
		bad[i] ^= 4
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := d.Adopt(ctx, "c", m.WeightsHash); !errors.Is(err, ErrNotFound) {
			t.Fatalf("with byte %d of %d changed: %v", i, len(raw), err)
		}
	}
	if _, err := d.Put(ctx, "c", strings.NewReader("content")); err != nil {
		t.Errorf("putting what is damaged: %v", err)
	}
	if _, err := d.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestExisting(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	m, err := r.Register(ctx, Model{Name: "m", Version: "1", Status: Production, Aliases: []string{"best"}}, strings.NewReader("x"))
	must(t, err)
	found, err := r.Existing(ctx, []Wanted{
		{Model: &Model{Name: "m", Version: "1"}},
		{Model: &Model{ID: m.ID, Name: "n", Version: "2", Parent: m.ID}},
		{Model: &Model{Name: "m", Version: "9", Status: Production, Aliases: []string{"best", "new", "a/b"}}},
		{Model: &Model{Name: "../", Version: "1"}},
		{Model: &Model{Name: "m", Version: "a/b"}},
		{Model: &Model{Name: "m/1", Version: "weights.bin"}, Paths: []string{"../x", "file"}},
	})
	must(t, err)
	for i, f := range found {
		if _, taken := errors.AsType[*index.PathConflictError](f.InTheWay); taken != (i == 5) {
			t.Errorf("version %d: in the way is %v", i, f.InTheWay)
		}
	}
	if a := found[2].Aliases; len(a) != 1 || a["best"].ID != m.ID {
		t.Errorf("aliases %v", a)
	}
	ref := func(m *Model) string {
		if m == nil {
			return ""
		}
		return m.Ref()
	}
	var got []string
	for _, f := range found {
		got = append(got, strings.Join([]string{ref(f.ByID), ref(f.ByName), ref(f.Parent), ref(f.Production)}, " "))
	}
	if diff := cmp.Diff([]string{" m:1  ", "m:1  m:1 ", "   m:1", "   ", "   ", "   "}, got); diff != "" {
		t.Error(diff)
	}
}

// TestOriginKept rebuilds the index: the origin, the aliases and the times are in
// the journal.
func TestOriginKept(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "store")
	r, err := Create(ctx, dir, nil)
	must(t, err)
	d, err := r.Begin(ctx, Model{Name: "m", Version: "1", RegisteredAt: 3, UpdatedAt: 4, Origin: &Origin{Source: "x", LegacyID: "y"}})
	must(t, err)
	want, err := d.Commit(ctx)
	must(t, err)
	must(t, r.Close())
	must(t, os.Remove(filepath.Join(dir, "index.db")))
	r, err = Open(ctx, dir, nil)
	must(t, err)
	defer r.Close()
	got, err := r.Get(ctx, "m")
	must(t, err)
	if got.UpdatedAt != 4 || got.RegisteredAt != 3 || !cmp.Equal(got.Origin, want.Origin) || got.Manifest != want.Manifest {
		t.Errorf("after a rebuild it is %+v, want %+v", got, want)
	}
	// The manifest has the origin too, and is compared with the index.
	must(t, r.update(ctx, index.Change{Verb: "register"}, func(v *view) error {
		rec, err := v.tx.Version(got.ID)
		if err != nil {
			return err
		}
		if err := v.tx.Delete(got.ID); err != nil {
			return err
		}
		rec.Origin = json.RawMessage(`{"source":"z"}`)
		return v.tx.Register(rec, nil)
	}))
	checked := all(t, r.Verify(ctx, "m:1", nil))
	if len(checked) != 1 {
		t.Fatalf("checked %+v", checked)
	}
	wantCorrupt(t, "manifest", checked[0].Err, "m:1", "")
}

// TestBulkOverlap commits the same two Drafts in both orders at once: one commit
// gets them, and neither waits for the other for ever.
func TestBulkOverlap(t *testing.T) {
	r := newRegistry(t)
	for round := range 20 {
		b := r.Bulk()
		x := bulkPut(t, b, Model{Name: "m", Version: fmt.Sprint("x", round)}, "x")
		y := bulkPut(t, b, Model{Name: "m", Version: fmt.Sprint("y", round)}, "y")
		var errs [2]error
		var wg sync.WaitGroup
		wg.Go(func() { _, errs[0] = b.Commit(t.Context(), Note{}, x, y) })
		wg.Go(func() { _, errs[1] = b.Commit(t.Context(), Note{}, y, x) })
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("%v, and %v", errs[0], errs[1])
		}
	}
}

// TestBulkTimes checks that what comes with a registration leaves its times as
// they are, also after a rebuild, and that what comes later does not.
func TestBulkTimes(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "store")
	r, err := Create(ctx, dir, nil)
	must(t, err)
	b := r.Bulk()
	d := bulkPut(t, b, Model{Name: "m", Version: "1", RegisteredAt: 3, UpdatedAt: 4, Aliases: []string{"a"}}, "x")
	must(t, d.Amend(Metadata{Tags: []string{"t"}}, "later"))
	_, err = b.Commit(ctx, Note{}, d)
	must(t, err)
	for range 2 {
		if m := get(t, r, "m:a"); m.UpdatedAt != 4 || m.Description != "later" {
			t.Errorf("registered with an alias and an edit, it is %+v", m)
		}
		must(t, r.Close())
		must(t, os.Remove(filepath.Join(dir, "index.db")))
		r, err = Open(ctx, dir, nil)
		must(t, err)
	}
	must(t, r.DeleteAlias(ctx, "m", "a", Note{}))
	if m := get(t, r, "m:1"); m.UpdatedAt == 4 {
		t.Error("an alias that was removed later left no trace")
	}
	must(t, r.Close())
}

func TestAmend(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	b := r.Bulk()
	plain := bulkPut(t, b, Model{ID: uuid.New(), Name: "m", Version: "1", RegisteredAt: 1, Description: "first", Metadata: Metadata{Tags: []string{"a"}}}, "x")
	must(t, plain.Amend(Metadata{Tags: []string{"b"}}, "second"))
	wantErr(t, "a bad amendment", plain.Amend(Metadata{Tags: []string{""}}, "x"), ErrInvalid)
	models, err := b.Commit(ctx, Note{}, plain)
	must(t, err)
	m := models[0]
	if m.Description != "second" || !cmp.Equal(m.Metadata.Tags, []string{"b"}) {
		t.Errorf("amended, it is %+v", m)
	}
	was, err := m.AsRegistered(ctx)
	must(t, err)
	if was.Description != "first" || !cmp.Equal(was.Metadata.Tags, []string{"a"}) || was.Manifest != m.Manifest {
		t.Errorf("as registered, it is %+v", was)
	}
	for c, err := range r.Verify(ctx, "m:1", nil) {
		must(t, err)
		must(t, c.Err)
	}
	flip(t, r, m.Manifest)
	if _, err := m.AsRegistered(ctx); err == nil {
		t.Error("a damaged manifest was read")
	} else {
		wantCorrupt(t, "as registered", err, "m:1", "")
	}
}
