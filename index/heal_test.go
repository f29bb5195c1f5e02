package index

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/blob"
)

func sampleStore(t *testing.T) (*blob.Store, *Index, []string) {
	t.Helper()
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	sample(t, s, x)
	return s, x, answers(t, x)
}

func TestIndexRebuildIdentical(t *testing.T) {
	s, x, _ := sampleStore(t)
	want := dump(t, s)
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), want)
	if err := os.Remove(filepath.Join(s.Dir(), databaseName)); err != nil {
		t.Fatal(err)
	}
	answers(t, x)
	sameDump(t, dump(t, s), want)
}

func TestIndexHeals(t *testing.T) {
	s, x, want := sampleStore(t)
	path := filepath.Join(s.Dir(), databaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func() []byte{
		"deleted":         func() []byte { return nil },
		"empty":           func() []byte { return []byte{} },
		"garbage":         func() []byte { return slices.Repeat([]byte("garbage "), 9000) },
		"zeros":           func() []byte { return make([]byte, len(good)) },
		"cut to a page":   func() []byte { return good[:4096] },
		"cut to 4 pages":  func() []byte { return good[:4*4096] },
		"cut in half":     func() []byte { return good[:len(good)/2] },
		"cut by one page": func() []byte { return good[:len(good)-4096] },
	}
	for name, damaged := range tests {
		t.Run(name, func(t *testing.T) {
			replace(t, path, damaged())
			if got := answers(t, x); !slices.Equal(got, want) {
				t.Errorf("other answers than before")
			}
			replace(t, path, damaged())
			if err := x.Update(t.Context(), Change{Verb: "none"}, func(tx *Tx) error {
				for _, err := range tx.All() { // it may meet the damage: then it is run again
					if err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Errorf("Update: %v", err)
			}
			if n, err := x.CheckJournal(t.Context()); err != nil || n == 0 {
				t.Errorf("CheckJournal: %d, %v", n, err)
			}
		})
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return "got  " + got[i] + "\nwant " + want[i]
		}
	}
	return "one list is longer"
}

// replace puts b where index.db is, as another file; nil removes it.
func replace(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if b == nil {
		return
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIndexHealsFlippedBytes(t *testing.T) {
	s, x, want := sampleStore(t)
	path := filepath.Join(s.Dir(), databaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		bad := slices.Clone(good)
		at, flip := rng.IntN(len(bad)), byte(1+rng.IntN(255))
		bad[at] ^= flip
		replace(t, path, bad)
		if got := answers(t, x); !slices.Equal(got, want) {
			t.Fatalf("byte %d ^ %#x: other answers than before, the first:\n%s", at, flip, firstDifference(got, want))
		}
	}
	kept, err := os.ReadDir(filepath.Join(s.Dir(), "quarantine"))
	if err != nil || len(kept) < 20 {
		t.Errorf("%d damaged files in quarantine, %v: the flips did not hit", len(kept), err)
	}
}

// TestIndexHealsMissingEntry hides an entry without breaking a checksum.
func TestIndexHealsMissingEntry(t *testing.T) {
	s, x, want := sampleStore(t)
	healed := 0
	for _, b := range allBuckets() {
		if !b.linked() {
			continue
		}
		t.Run(string(b), func(t *testing.T) {
			db, err := openWriter(x.dir)
			if err != nil {
				t.Fatal(err)
			}
			err = db.write(func(kv *kv) error {
				bb := kv.btx.Bucket([]byte(b))
				_, es, err := around(b, bb.Cursor(), []byte("5"))
				if err != nil {
					return err
				}
				return bb.Delete(es.key)
			})
			if err := errors.Join(err, db.close()); err != nil {
				t.Fatal(err)
			}
			if got := answers(t, x); !slices.Equal(got, want) {
				t.Errorf("other answers than before")
			}
			healed++
			if kept, _ := os.ReadDir(filepath.Join(s.Dir(), "quarantine")); len(kept) != healed {
				t.Errorf("%d files in quarantine, want %d", len(kept), healed)
			}
		})
	}
}

// TestIndexLostCommit has an index that lacks acknowledged records, as after a
// kill between the append and the commit.
func TestIndexLostCommit(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	path := filepath.Join(s.Dir(), databaseName)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := register(t, x, version(t, s, "a", "2"), put(t, s, "two"))
	update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(v.ID, "retired") })
	want := dump(t, s)
	replace(t, path, old)
	err = x.View(t.Context(), func(tx *Tx) error {
		v, err := tx.Version(v.ID)
		if err == nil && v.Status != "retired" {
			t.Errorf("status %q", v.Status)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), want)
	replace(t, path, old)
	update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(v.ID, "ready") })
	if n, err := x.CheckJournal(t.Context()); err != nil || n != 5 {
		t.Errorf("CheckJournal: %d, %v", n, err)
	}
}

func TestIndexCommitFails(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Exclusive: true})
	v := version(t, s, "a", "1")
	update(t, x, "register", func(tx *Tx) error {
		// From here on bbolt can't write.
		return errors.Join(tx.Register(v, []File{put(t, s, "one")}), x.own.file.Close())
	})
	if err := x.View(t.Context(), func(tx *Tx) error {
		_, err := tx.Version(v.ID)
		return err
	}); err != nil {
		t.Errorf("the change is in the journal, but not shown: %v", err)
	}
	register(t, x, version(t, s, "a", "2"), put(t, s, "one"))
	if n, err := x.CheckJournal(t.Context()); err != nil || n != 3 {
		t.Errorf("CheckJournal: %d, %v", n, err)
	}
}

func TestIndexHealsExclusive(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Exclusive: true, Now: clock()})
	sample(t, s, x)
	want := answers(t, x)
	path := filepath.Join(s.Dir(), databaseName)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// In place, under the open memory map; the meta pages were read already.
	info, _ := f.Stat()
	_, err = f.WriteAt(make([]byte, info.Size()-8192), 8192)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := answers(t, x); !slices.Equal(got, want) {
		t.Errorf("other answers than before")
	}
	register(t, x, version(t, s, "z", "1"), put(t, s, "z"))
}
