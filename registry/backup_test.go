package registry

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// openAt opens the store in a folder until the test ends.
func openAt(t testing.TB, dir string) *Registry {
	t.Helper()
	r, err := Open(t.Context(), dir, &Options{Actor: "tester", Now: clock()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

// backUp makes a backup that finds nothing damaged.
func backUp(t testing.TB, r *Registry, dir string, o *BackupOptions) Backed {
	t.Helper()
	b, err := r.Backup(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Damaged) > 0 {
		t.Fatalf("damaged: %+v", b.Damaged)
	}
	return b
}

// collectGarbage does what a collection does: all that no version needs goes to
// the trash, donors are thinned, and what no pin holds is purged.
func collectGarbage(ctx context.Context, r *Registry, now int64) error {
	return r.index.Update(ctx, index.Change{Verb: "gc"}, func(tx *index.Tx) (err error) {
		marks := r.store.Marks(func(_ context.Context, d blob.Digest) ([]blob.Digest, bool) {
			b, err := tx.Blob(d)
			return b.Donors, err == nil
		})
		for rec, err := range tx.All() {
			if err != nil {
				return err
			}
			if err := marks.Add(ctx, rec.Manifest); err != nil {
				return err
			}
			for f, err := range tx.Files(rec.ID) {
				if err != nil {
					return err
				}
				if err := marks.Add(ctx, f.Digest); err != nil {
					return err
				}
			}
		}
		c, err := r.store.Collect(ctx, now)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		pinned := c.Pinned().Blobs
		for d, err := range r.store.All(ctx) {
			if err != nil {
				return err
			}
			if _, ok := pinned[d]; ok || marks.Whole(d) {
				continue
			}
			if !marks.Needed(d) {
				if _, err := c.Trash(ctx, d); err != nil {
					return err
				}
				continue
			}
			x, err := r.store.Thin(ctx, d, marks)
			if err != nil {
				return err
			}
			if _, err := c.Replace(ctx, x, marks); err != nil {
				return err
			}
		}
		for x, err := range r.store.Trash(ctx) {
			if err != nil {
				return err
			}
			if !x.Held {
				if err := r.store.Purge(ctx, x); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// busy fills a store with two models in several states, aliases and a deleted
// version.
func busy(t testing.TB, r *Registry) {
	t.Helper()
	ctx := t.Context()
	w := weights(1, 300_000)
	for i := range 4 {
		copy(w[i*1000:], "changed")
		addFiles(t, r, "org/m:"+string(rune('1'+i)), map[string][]byte{"w.bin": w, "config.json": []byte(`{"n":1}`)})
	}
	add(t, r, "other:1.0")
	_, err := r.Promote(ctx, "org/m:2", Note{Reason: "good"})
	must(t, err)
	must(t, r.SetAlias(ctx, "org/m", "stable", "org/m:3", Note{}))
	must(t, r.Delete(ctx, "org/m:1", Note{}))
}

func TestBackup(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	dir := filepath.Join(t.TempDir(), "new", "backup")
	plan := backUp(t, r, dir, &BackupOptions{DryRun: true})
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a dry run made the folder: %v", err)
	}
	var total, seen int64
	b := backUp(t, r, dir, &BackupOptions{Verify: true, Begin: func(n int64) { total += n }, Progress: func(n int64) { seen += n }})
	if plan.Copied != b.Copied || plan.Written != b.Written || b.Written == 0 || plan.Blobs != b.Blobs || plan.Records != b.Records {
		t.Errorf("planned %+v, did %+v", plan, b)
	}
	if total == 0 || seen != total {
		t.Errorf("%d of %d bytes were told", seen, total)
	}
	if b.ID != r.ID() || b.Versions != 4 || b.Encoded != 0 {
		t.Errorf("%+v", b)
	}
	got := openAt(t, dir)
	if got.ID() != r.ID() || got.CreatedAt() != r.CreatedAt() {
		t.Errorf("it is the store %s of %d", got.ID(), got.CreatedAt())
	}
	must(t, collectGarbage(t.Context(), r, 1)) // so that both have what is needed
	want, have := list(t, r), list(t, got)
	want.Stats, have.Stats = Stats{}, Stats{} // how it is stored may differ
	same(t, "the backup", have, want)

	if again := backUp(t, r, dir, nil); again.Copied != 0 || again.Written != 0 {
		t.Errorf("once more: %+v", again)
	}
	add(t, r, "late")
	if more := backUp(t, r, dir, nil); more.Copied != 2 || more.Records != b.Records+1 {
		t.Errorf("one version more: %+v", more)
	}
	get(t, got, "late") // seen by those who have it open, too
	wantClean(t, got)
}

// What goes away once a backup has begun is in it all the same.
func TestBackupKeepsTheMoment(t *testing.T) {
	r := newRegistry(t)
	w := weights(3, 1<<20)
	for i := range 4 {
		copy(w[len(w)-1000:], string(rune('a'+i)))
		addFiles(t, r, "m:"+string(rune('1'+i)), map[string][]byte{"w": w})
	}
	want := stated(t, r)
	records := len(all(t, r.index.Records(t.Context(), 0)))
	unpin(t, r)
	dir := t.TempDir()
	b := backUp(t, r, dir, &BackupOptions{Verify: true, Begin: func(int64) {
		for _, ref := range []string{"m:1", "m:3", "m:4"} {
			must(t, r.ForceDelete(t.Context(), ref, Note{}))
		}
		must(t, collectGarbage(t.Context(), r, 1))
		must(t, collectGarbage(t.Context(), r, 2))
	}})
	if b.Records != uint64(records) || b.Versions != 4 {
		t.Errorf("%+v, want %d records", b, records)
	}
	same(t, "the backup", stated(t, openAt(t, dir)), want)
}

func TestBackupRefuses(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	tmp := t.TempDir()
	at := func(name string) string { return filepath.Join(tmp, name) }
	other, err := Create(t.Context(), at("other"), nil)
	must(t, err)
	must(t, other.Close())
	backUp(t, r, at("written"), nil)
	add(t, openAt(t, at("written")), "own:1")
	backUp(t, r, at("ahead"), nil)
	backUp(t, r, at("broken"), nil)
	journal, err := os.ReadFile(filepath.Join(at("broken"), "journal"))
	must(t, err)
	journal[100] ^= 1
	must(t, os.WriteFile(filepath.Join(at("broken"), "journal"), journal, 0o600))
	backUp(t, r, at("unsure"), nil)
	must(t, os.WriteFile(filepath.Join(at("unsure"), "heft.json"), []byte("{}"), 0o600))
	must(t, os.Mkdir(at("full"), 0o700))
	must(t, os.WriteFile(filepath.Join(at("full"), "notes.txt"), nil, 0o600))

	old := at("old")
	if _, err := Restore(t.Context(), at("ahead"), old, nil); err != nil {
		t.Fatal(err)
	}
	add(t, r, "m:2")
	backUp(t, r, at("ahead"), nil)
	older := openAt(t, old)

	for _, tt := range []struct {
		name string
		from *Registry
		is   func(error) bool
	}{
		{"other", r, func(err error) bool { _, ok := errors.AsType[*blob.OtherStoreError](err); return ok }},
		{"full", r, func(err error) bool { _, ok := errors.AsType[*blob.OtherStoreError](err); return ok }},
		{"written", r, func(err error) bool { _, ok := errors.AsType[*index.OtherHistoryError](err); return ok }},
		{"ahead", older, func(err error) bool { _, ok := errors.AsType[*index.OtherHistoryError](err); return ok }},
		{"broken", r, func(err error) bool { _, ok := errors.AsType[*index.JournalError](err); return ok }},
		{"unsure", r, func(err error) bool { return errors.Is(err, blob.ErrDamagedStore) }},
	} {
		before := onDisk(t, at(tt.name))
		for _, dry := range []bool{true, false} {
			_, err := tt.from.Backup(t.Context(), at(tt.name), &BackupOptions{DryRun: dry})
			if !tt.is(err) {
				t.Errorf("%s, dry run %v: %v", tt.name, dry, err)
			}
		}
		after := onDisk(t, at(tt.name))
		delete(after, filepath.Join(at(tt.name), "backup.lock"))
		delete(before, filepath.Join(at(tt.name), "backup.lock"))
		same(t, tt.name, after, before)
	}
	_, err = r.Backup(t.Context(), filepath.Join(r.Dir(), "backup"), nil)
	if _, ok := errors.AsType[*blob.IntoItselfError](err); !ok {
		t.Errorf("into itself: %v", err)
	}
}

// What is damaged is told, and the rest is copied; once it is healed it is copied
// too.
func TestBackupOfDamage(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	dir := t.TempDir()
	bad := blob.Sum([]byte("weights of other:1.0"))
	flip(t, r, bad)
	b, err := r.Backup(t.Context(), dir, &BackupOptions{Verify: true})
	must(t, err)
	if len(b.Damaged) != 1 || b.Damaged[0].Digest != bad || !slices.Equal(b.Damaged[0].Uses, []string{"other:1.0/" + WeightsFile}) {
		t.Fatalf("%+v", b.Damaged)
	}
	wantCorrupt(t, "in the report", b.Damaged[0].Err, "other:1.0", WeightsFile)
	got := openAt(t, dir)
	for _, c := range all(t, got.Verify(t.Context(), "", nil)) {
		if (c.Err != nil) != (c.Digest == bad) {
			t.Errorf("%s: %v", c.Digest, c.Err)
		}
	}
	addModel(t, r, ofRef("other:2.0"), "weights of other:1.0") // heals
	if b := backUp(t, r, dir, &BackupOptions{Verify: true}); b.Copied == 0 {
		t.Errorf("%+v", b)
	}
	wantClean(t, got)

	// The other way round: what is damaged in the backup is seen with Verify.
	flip(t, got, bad)
	b, err = r.Backup(t.Context(), dir, &BackupOptions{Verify: true})
	must(t, err)
	if len(b.Damaged) != 1 || b.Damaged[0].Digest != bad {
		t.Errorf("%+v", b.Damaged)
	}
}

// A backup that is interrupted anywhere leaves the earlier one as it was, and the
// next one completes it.
func TestBackupInterrupted(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	earlier := t.TempDir()
	backUp(t, r, earlier, nil)
	records := len(all(t, openAt(t, earlier).History(t.Context(), "")))
	w := weights(7, 200_000)
	for i := range 3 {
		copy(w, string(rune('a'+i)))
		addFiles(t, r, "more:"+string(rune('1'+i)), map[string][]byte{"w": w})
	}
	want := list(t, r)
	fresh := filepath.Join(t.TempDir(), "fresh")
	interrupted := 0
	for n := int64(0); ; n += 1 + n/8 {
		for _, dir := range []string{earlier, fresh} {
			var left atomic.Int64
			left.Store(n)
			_, err := r.Backup(expiring{t.Context(), &left}, dir, nil)
			if err != nil {
				wantErr(t, "interrupted", err, context.Canceled)
				interrupted++
			}
			_, statErr := os.Stat(filepath.Join(dir, "heft.json"))
			if dir == fresh && statErr != nil {
				continue // it is none yet
			}
			got := openAt(t, dir)
			wantClean(t, got)
			if n := len(all(t, got.History(t.Context(), ""))); n != records && n != len(want.History) {
				t.Fatalf("%d records, want %d or %d", n, records, len(want.History))
			}
		}
		if _, err := os.Stat(filepath.Join(fresh, "heft.json")); err == nil && n > 50 {
			break
		}
		if n > 100_000 {
			t.Fatal("it never came to an end")
		}
	}
	if interrupted < 10 {
		t.Errorf("only %d were interrupted", interrupted)
	}
	for _, dir := range []string{earlier, fresh} {
		backUp(t, r, dir, nil)
		have := list(t, openAt(t, dir))
		have.Stats, want.Stats, have.Checked, want.Checked = Stats{}, Stats{}, nil, nil
		same(t, "the backup", have, want)
	}
}

func TestRestore(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	dir := t.TempDir()
	backUp(t, r, dir, nil)
	to := filepath.Join(t.TempDir(), "restored")
	b, err := Restore(t.Context(), dir, to, &BackupOptions{Verify: true})
	must(t, err)
	if b.ID != r.ID() || len(b.Damaged) != 0 || b.Versions != 4 {
		t.Errorf("%+v", b)
	}
	got := openAt(t, to)
	have, want := list(t, got), list(t, openAt(t, dir))
	same(t, "what was restored", have, want)
	add(t, got, "goes:on")
	_, err = Restore(t.Context(), dir, to, nil)
	wantErr(t, "over a store", err, fs.ErrExist)
	_, err = Restore(t.Context(), filepath.Join(dir, "none"), to+"2", nil)
	wantErr(t, "from nothing", err, ErrNotFound)
	if _, err := os.Stat(to + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("restoring from nothing made a folder: %v", err)
	}
}

// state is what the journal says of a version.
type state struct {
	Status  string
	Hash    string
	Aliases []string
}

// replayed works out from a journal what there is, without an index.
func replayed(recs []index.Record) map[string]state {
	byID := map[string]string{}
	got := map[string]state{}
	aliases := map[string]string{}
	for _, rec := range recs {
		for _, op := range rec.Ops {
			switch {
			case op.Register != nil:
				v := op.Register.Version
				ref := refOf(&v)
				byID[v.ID.String()] = ref
				got[ref] = state{Status: v.Status, Hash: v.Hash.String()}
			case op.Status != nil:
				ref := byID[op.Status.ID.String()]
				s := got[ref]
				s.Status = op.Status.To
				got[ref] = s
			case op.Alias != nil:
				key := op.Alias.Name.String() + ":" + op.Alias.Alias.String()
				aliases[key] = byID[op.Alias.To.String()]
			case op.Delete != nil:
				ref := byID[op.Delete.ID.String()]
				delete(got, ref)
				maps.DeleteFunc(aliases, func(_, to string) bool { return to == ref })
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(aliases)) {
		if s, ok := got[aliases[key]]; ok {
			s.Aliases = append(s.Aliases, key[strings.LastIndex(key, ":")+1:])
			got[aliases[key]] = s
		}
	}
	return got
}

// stated is what a registry says, in the form of replayed.
func stated(t testing.TB, r *Registry) map[string]state {
	t.Helper()
	got := map[string]state{}
	for _, m := range all(t, r.Find(t.Context(), Query{})) {
		got[m.Ref()] = state{Status: string(m.Status), Hash: m.WeightsHash.String(), Aliases: m.Aliases}
	}
	return got
}
