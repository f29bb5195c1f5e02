package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// gc collects without a time of grace.
func gc(t testing.TB, r *Registry) Collected {
	t.Helper()
	c, err := r.GC(t.Context(), &GCOptions{Grace: -1})
	must(t, err)
	return c
}

func (m *Model) content(t testing.TB, path string) []byte {
	t.Helper()
	f, err := m.Open(t.Context(), path)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return b
}

// files counts the files in a folder of the store.
func files(t testing.TB, r *Registry, folder string) (n int) {
	t.Helper()
	must(t, filepath.WalkDir(filepath.Join(r.Dir(), folder), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func sound(t testing.TB, r *Registry) {
	t.Helper()
	for c, err := range r.Verify(t.Context(), "", nil) {
		must(t, err)
		must(t, c.Err)
	}
}

// TestGC deletes one of two versions: what it had alone goes, at first to the
// trash.
func TestGC(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	shared := weights(1, 3<<20)
	kept := addFiles(t, r, "m:1", map[string][]byte{"a": shared, "b": weights(2, 1000)})
	gone := addFiles(t, r, "m:2", map[string][]byte{"a": shared, "c": weights(3, 2<<20)})
	_, err := r.PlanGC(ctx, nil)
	must(t, err)
	if c := gc(t, r); c.Trashed.Count != 0 || c.Named.Count != 5 || c.Freed != 0 {
		t.Errorf("with nothing to collect: %+v", c)
	}
	must(t, r.Delete(ctx, gone.Ref(), Note{}))
	plan, err := r.PlanGC(ctx, &GCOptions{Grace: -1})
	must(t, err)
	if plan.Trashed.Count != 2 || plan.Trashed.Bytes < 2<<20 || plan.Named.Count != 3 || files(t, r, "blobs") != 5 {
		t.Errorf("the plan: %+v", plan)
	}
	c, err := r.GC(ctx, &GCOptions{Grace: time.Hour})
	must(t, err)
	if c.Trashed != plan.Trashed || c.Purged.Count != 0 || c.Freed != 0 || files(t, r, "trash") != 2 || files(t, r, "blobs") != 3 {
		t.Errorf("the first one: %+v", c)
	}
	if c, err := r.GC(ctx, &GCOptions{Grace: time.Hour}); err != nil || c.Waiting.Count != 2 || c.Purged.Count != 0 {
		t.Errorf("within the time of grace: %+v, %v", c, err)
	}
	if c := gc(t, r); c.Purged.Count != 2 || c.Freed != plan.Trashed.Bytes || files(t, r, "trash") != 0 {
		t.Errorf("after it: %+v", c)
	}
	if !bytes.Equal(kept.content(t, "a"), shared) {
		t.Error("the other version has changed")
	}
	sound(t, r)
	must(t, r.index.View(ctx, func(tx *index.Tx) error {
		n := 0
		for _, err := range tx.Blobs() {
			must(t, err)
			n++
		}
		if n != 3 {
			t.Errorf("the index knows %d blobs", n)
		}
		return nil
	}))
	if _, err := r.index.CheckJournal(ctx); err != nil {
		t.Error(err)
	}
}

// TestGCChain deletes checkpoints from which later ones are deltas: these are
// written anew, and everything else goes.
func TestGCChain(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	var last *Model
	contents := map[string][]byte{}
	for i := range 5 {
		wide, _ := network(1, i)
		m := ofRef("net")
		m.Version = string(rune('a' + i))
		if last != nil {
			m.Parent = last.ID
		}
		var err error
		last, err = putFiles(ctx, r, m, map[string][]byte{"w": wide})
		must(t, err)
		contents[last.Ref()] = wide
	}
	before, err := r.Stats(ctx)
	must(t, err)
	for _, v := range []string{"a", "b", "c", "d"} {
		must(t, r.ForceDelete(ctx, "net:"+v, Note{}))
	}
	plan, err := r.PlanGC(ctx, &GCOptions{Grace: -1})
	must(t, err)
	c := gc(t, r)
	if plan.Detached.Count != 1 || c.Detached.Count != 1 || c.Trashed.Count < 8 || c.Partly.Count != 0 {
		t.Errorf("the plan: %+v\ndone: %+v", plan, c)
	}
	after, err := r.Stats(ctx)
	must(t, err)
	if got := before.Stored - after.Stored; got != c.Freed {
		t.Errorf("%d bytes are free, and the report says %d", got, c.Freed)
	}
	if after.Blobs != 2 {
		t.Errorf("%d blobs are left", after.Blobs)
	}
	if !bytes.Equal(last.content(t, "w"), contents[last.Ref()]) {
		t.Error("the last state has changed")
	}
	sound(t, r)
	if c := gc(t, r); c.Trashed.Count+c.Thinned.Count+c.Detached.Count != 0 {
		t.Errorf("once more: %+v", c)
	}
	// Its frames are found by a version to come.
	wide, _ := network(1, 4)
	m, err := putFiles(ctx, r, ofRef("other:1"), map[string][]byte{"again": wide})
	must(t, err)
	s, err := m.Storage(ctx)
	must(t, err)
	if s.Stored != after.PerModel[0].Stored {
		t.Errorf("%+v is not shared", s)
	}
}

// TestGCThins deletes a version whose frames another one borrows.
func TestGCThins(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	first, second := weights(1, 1<<20), weights(2, 1<<20)
	addFiles(t, r, "m:1", map[string][]byte{"w": append(bytes.Clone(first), second...)})
	kept := addFiles(t, r, "m:2", map[string][]byte{"w": append(bytes.Clone(second), weights(3, 1000)...)})
	s, err := kept.Storage(ctx)
	must(t, err)
	if s.Parts.Borrowed.Size == 0 {
		t.Skip("the content is cut so that nothing is borrowed")
	}
	must(t, r.Delete(ctx, "m:1", Note{}))
	before, err := r.Stats(ctx)
	must(t, err)
	plan, err := r.PlanGC(ctx, &GCOptions{Grace: -1})
	must(t, err)
	c := gc(t, r)
	after, err := r.Stats(ctx)
	must(t, err)
	if c.Thinned.Count != 1 || plan.Thinned.Count != 1 || c.Partly.Count != 1 || before.Stored-after.Stored != c.Freed || c.Freed < 900<<10 {
		t.Errorf("%d bytes became %d, plan %+v, done %+v", before.Stored, after.Stored, plan, c)
	}
	sound(t, r)
	must(t, r.index.Rebuild(ctx))
	sound(t, r)
	// What was deleted can come back.
	addFiles(t, r, "m:3", map[string][]byte{"w": append(bytes.Clone(first), second...)})
	sound(t, r)
}

// TestGCSparesDrafts collects while a draft has stored what no version names yet.
func TestGCSparesDrafts(t *testing.T) {
	r := newRegistry(t)
	o := again(t, r)
	ctx := t.Context()
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	defer d.Close()
	content := weights(1, 100)
	_, err = d.Put(ctx, "w", bytes.NewReader(content))
	must(t, err)
	if c := gc(t, o); c.Trashed.Count != 0 || c.Pinned.Count != 1 {
		t.Errorf("%+v", c)
	}
	m, err := d.Commit(ctx)
	must(t, err)
	if got := m.content(t, "w"); !bytes.Equal(got, content) {
		t.Errorf("%d bytes", len(got))
	}
	d, err = r.Begin(ctx, ofRef("m:2"))
	must(t, err)
	_, err = d.Put(ctx, "w", strings.NewReader("given up"))
	must(t, err)
	must(t, d.Close())
	if c := gc(t, o); c.Trashed.Count != 1 || c.Purged.Count != 1 {
		t.Errorf("%+v", c)
	}
	if n := files(t, r, "pins"); n != 1 { // that of the generation
		t.Errorf("pins has %d files", n)
	}
}

// TestCommitRestores commits a draft whose blobs, and whose donor, moved to the
// trash meanwhile, as if it had not been pinned.
func TestCommitRestores(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	base, _ := network(1, 0)
	next, _ := network(1, 1)
	addFiles(t, r, "m:1", map[string][]byte{"w": base})
	m := ofRef("m:2")
	d, err := r.Begin(ctx, m)
	must(t, err)
	defer d.Close()
	s, err := d.Put(ctx, "w", bytes.NewReader(next))
	must(t, err)
	if s.Parts.Delta.Frames == 0 {
		t.Fatalf("no delta: %+v", s)
	}
	must(t, r.Delete(ctx, "m:1", Note{}))
	must(t, d.batch.Release())
	if c, err := r.GC(ctx, &GCOptions{Grace: time.Hour}); err != nil || c.Trashed.Count != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	got, err := d.Commit(ctx)
	must(t, err)
	if !bytes.Equal(got.content(t, "w"), next) {
		t.Error("another content")
	}
	sound(t, r)

	// Without a trash it is an error, and nothing is registered.
	d, err = r.Begin(ctx, ofRef("m:3"))
	must(t, err)
	defer d.Close()
	_, err = d.Put(ctx, "w", strings.NewReader("lost"))
	must(t, err)
	must(t, d.batch.Release())
	gc(t, r)
	_, err = d.Commit(ctx)
	if e, ok := errors.AsType[*index.MissingBlobError](err); !ok || e.Digest != blob.Sum([]byte("lost")) {
		t.Errorf("commit: %v", err)
	}
	if _, err := r.Get(ctx, "m:3"); !errors.Is(err, ErrNotFound) {
		t.Errorf("registered: %v", err)
	}
}

// TestGCMeetsCommit registers a version that needs what a collection is about to
// remove.
func TestGCMeetsCommit(t *testing.T) {
	for _, how := range []string{"between marking and removing", "before thinning"} {
		t.Run(how, func(t *testing.T) {
			r := newRegistry(t)
			o := again(t, r)
			ctx := t.Context()
			content := weights(1, 3<<20)
			addFiles(t, r, "m:1", map[string][]byte{"w": content})
			if how == "before thinning" {
				addFiles(t, r, "m:2", map[string][]byte{"w": content[2<<20:]})
			}
			must(t, r.Delete(ctx, "m:1", Note{}))
			once := false
			_, err := r.GC(ctx, &GCOptions{Grace: -1, Progress: func(string, int) {
				if !once {
					once = true
					addFiles(t, o, "m:3", map[string][]byte{"w": content})
				}
			}})
			must(t, err)
			if !once && how == "before thinning" {
				t.Fatal("the collection told nothing")
			}
			if !once {
				addFiles(t, o, "m:3", map[string][]byte{"w": content})
			}
			sound(t, r)
			m, err := r.Get(ctx, "m:3")
			must(t, err)
			if !bytes.Equal(m.content(t, "w"), content) {
				t.Error("another content")
			}
		})
	}
}

// TestGCStopsAtDamage: what a damaged file needs is asked of the index, and if
// that does not know either, nothing is removed.
func TestGCStopsAtDamage(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	base, _ := network(1, 0)
	next, _ := network(1, 1)
	addFiles(t, r, "m:1", map[string][]byte{"w": base})
	kept := addFiles(t, r, "m:2", map[string][]byte{"w": next})
	must(t, r.Delete(ctx, "m:1", Note{}))
	path := filepath.Join(r.Dir(), "blobs", kept.WeightsHash.String()[:2], kept.WeightsHash.String())
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte("damaged"), 0o600))
	if c := gc(t, r); c.Trashed.Count != 1 || c.Lost.Count != 1 { // the manifest of m:1
		t.Errorf("%+v", c)
	}
	must(t, r.index.Rebuild(ctx))
	addFiles(t, r, "m:3", map[string][]byte{"w": []byte("to be collected")})
	must(t, r.Delete(ctx, "m:3", Note{}))
	if c, err := r.GC(ctx, &GCOptions{Grace: -1}); !errors.Is(err, ErrConflict) || c.Trashed.Count != 0 || !strings.Contains(err.Error(), kept.WeightsHash.String()) {
		t.Errorf("%+v, %v", c, err)
	}
	must(t, os.WriteFile(path, whole, 0o600))
	if !bytes.Equal(kept.content(t, "w"), next) {
		t.Error("another content")
	}
	gc(t, r)
	sound(t, r)
}

// TestGCInterrupted cancels a collection at each report of its progress.
func TestGCInterrupted(t *testing.T) {
	for at := 1; ; at++ {
		r := newRegistry(t)
		var kept *Model
		for i := range 4 {
			wide, _ := network(1, i)
			kept = addFiles(t, r, "m", map[string][]byte{"w": wide})
		}
		for _, v := range []string{"1", "2", "3"} {
			must(t, r.Delete(t.Context(), "m:"+v, Note{}))
		}
		want := kept.content(t, "w")
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := r.GC(ctx, &GCOptions{Grace: -1, Progress: func(string, int) {
			if n++; n == at {
				cancel()
			}
		}})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if !bytes.Equal(kept.content(t, "w"), want) {
			t.Fatal("another content")
		}
		sound(t, r)
		if c := gc(t, r); c.Partly.Count != 0 {
			t.Errorf("after an interrupt: %+v", c)
		}
		if s, err := r.Stats(t.Context()); err != nil || s.Blobs != 2 {
			t.Errorf("%d blobs, %v", s.Blobs, err)
		}
		if n < at {
			break
		}
	}
}

// TestGCKeepsParity: what is written anew is protected as before, and no parity is
// left of what is gone.
func TestGCKeepsParity(t *testing.T) {
	r, err := CreateTemp(t.Context(), &Options{Parity: 10, Now: clock()})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	ctx := t.Context()
	var kept *Model
	for i := range 3 {
		wide, _ := network(1, i)
		kept = addFiles(t, r, "m", map[string][]byte{"w": wide})
	}
	for _, v := range []string{"1", "2"} {
		must(t, r.Delete(ctx, "m:"+v, Note{}))
	}
	if c := gc(t, r); c.Detached.Count != 1 {
		t.Fatalf("%+v", c)
	}
	var left []blob.Digest
	for d, err := range r.store.Parities(ctx) {
		must(t, err)
		left = append(left, d)
	}
	if len(left) != 2 {
		t.Errorf("%d parity files are left", len(left))
	}
	p, err := r.store.ParityOf(ctx, kept.WeightsHash)
	if err != nil || p.Percent != 10 || p.Stale {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestGCKeepsWhatQuarantineNeeds rebuilds the index while a named blob is in
// quarantine: its donors stay, so that it can come back.
func TestGCKeepsWhatQuarantineNeeds(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	base, _ := network(1, 0)
	next, _ := network(1, 1)
	addFiles(t, r, "m:1", map[string][]byte{"w": base})
	kept := addFiles(t, r, "m:2", map[string][]byte{"w": next})
	must(t, r.Delete(ctx, "m:1", Note{}))
	path := filepath.Join(r.Dir(), "blobs", kept.WeightsHash.String()[:2], kept.WeightsHash.String())
	aside := filepath.Join(r.Dir(), "quarantine", kept.WeightsHash.String()+".1")
	must(t, os.Rename(path, aside))
	must(t, r.index.Rebuild(ctx))
	gc(t, r)
	for q, err := range r.store.Quarantined(ctx) {
		must(t, err)
		must(t, r.store.Release(ctx, q))
	}
	if !bytes.Equal(kept.content(t, "w"), next) {
		t.Error("another content")
	}
	must(t, r.index.Rebuild(ctx))
	sound(t, r)
}
