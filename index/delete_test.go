package index

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
)

// checkpoint returns a version whose manifest is stored already.
func checkpoint(t testing.TB, n string, i int, manifest blob.Digest) *Version {
	t.Helper()
	v := fmt.Sprintf("checkpoint-%08d", i)
	return &Version{
		ID: uuid.NewSHA1(uuid.Nil, []byte(n+":"+v)), Name: parseName(t, n), Version: parseVersion(t, v),
		Status: "ready", Manifest: manifest,
	}
}

// Pages that a transaction has emptied stay in the tree until it commits; what
// looks for the entry before another has to pass them.
func TestIndexDeleteManyInOneTransaction(t *testing.T) {
	const versions = 150
	names := []string{"a", "m", "z"} // so that what is deleted is at no end of a bucket
	for what, order := range map[string]func([]*Version){
		"ascending":  func([]*Version) {},
		"descending": slices.Reverse[[]*Version],
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			x := openIndex(t, s, nil)
			file := put(t, s, "weights")
			manifest := put(t, s, "manifest").Digest
			var doomed []*Version
			for _, n := range names {
				update(t, x, "register", func(tx *Tx) error {
					for i := range versions {
						v := checkpoint(t, n, i, manifest)
						if err := tx.Register(v, []File{file}); err != nil {
							return err
						}
						if n == "m" && i > 0 {
							doomed = append(doomed, v)
						}
					}
					return nil
				})
			}
			order(doomed)
			update(t, x, "prune", func(tx *Tx) error {
				for _, v := range doomed {
					if err := tx.Delete(v.ID); err != nil {
						return err
					}
				}
				// Both sides of the gap are still found, and something fits into it.
				if left := collect(t, tx.Versions(doomed[0].Name)); len(left) != 1 {
					t.Errorf("%d versions are left within the transaction", len(left))
				}
				return tx.Register(checkpoint(t, "m", 70, manifest), []File{file})
			})
			check := func(x *Index) {
				t.Helper()
				err := x.View(t.Context(), func(tx *Tx) error {
					if got := len(collect(t, tx.All())); got != 2*versions+2 {
						t.Errorf("%d versions are left, want %d", got, 2*versions+2)
					}
					if got := len(collect(t, tx.Paths("m/"))); got != 2 {
						t.Errorf("%d paths are left, want 2", got)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			check(x)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(s.Dir(), databaseName)); err != nil {
				t.Fatal(err)
			}
			check(openIndex(t, s, nil))
		})
	}
}

// What the index lacks is applied in one transaction for many records, such as
// the deletions of many days.
func TestIndexReplayManyDeletions(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Exclusive: true})
	file := put(t, s, "weights")
	manifest := put(t, s, "manifest").Digest
	var all []*Version
	update(t, x, "register", func(tx *Tx) error {
		for i := range 120 {
			v := checkpoint(t, "m", i, manifest)
			if err := tx.Register(v, []File{file}); err != nil {
				return err
			}
			all = append(all, v)
		}
		return nil
	})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(s.Dir(), databaseName)
	old, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	x = openIndex(t, s, &Options{Exclusive: true})
	for _, v := range all[:len(all)-1] {
		update(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.ID) })
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(database, old, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	err = openIndex(t, s, &Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))}).View(t.Context(), func(tx *Tx) error {
		if got := len(collect(t, tx.All())); got != 1 {
			t.Errorf("%d versions are left, want 1", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if log.Len() > 0 {
		t.Errorf("the index was not taken as it was: %s", &log)
	}
}
