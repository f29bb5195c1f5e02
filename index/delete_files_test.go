package index

import (
	"fmt"
	"testing"
)

// TestIndexDeletesManyFiles deletes versions whose entries fill several pages,
// between others, and makes changes around the gap in the same transaction.
func TestIndexDeletesManyFiles(t *testing.T) {
	for _, files := range []int{1, 40, 400, 3000} {
		s := newStore(t)
		x := openIndex(t, s, nil)
		f := put(t, s, "content")
		var all []File
		for i := range files {
			all = append(all, at(t, f, fmt.Sprintf("shards/model-%05d-of-%05d.safetensors", i, files)))
		}
		register(t, x, version(t, s, "a", "1"), at(t, f, "x"))
		middle := register(t, x, version(t, s, "b", "1"), all...)
		last := register(t, x, version(t, s, "b", "2"), all...)
		register(t, x, version(t, s, "c", "1"), at(t, f, "x"))
		again := version(t, s, "b", "1.5") // its paths sort between the two
		update(t, x, "delete", func(tx *Tx) error {
			if err := tx.Delete(middle.ID); err != nil {
				return err
			}
			if err := tx.Register(again, []File{at(t, f, "y")}); err != nil {
				return err
			}
			return tx.Delete(last.ID)
		})
		err := x.View(t.Context(), func(tx *Tx) error {
			if got := collect(t, tx.Paths("")); len(got) != 3 {
				t.Errorf("%d files: %d paths are left, want 3: %v", files, len(got), got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := dump(t, s)
		if err := x.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
		sameDump(t, dump(t, s), want)
	}
}

// TestIndexEntryBeforeEmptiedPages looks for the entry before pages that a
// transaction has emptied from their first entry on.
func TestIndexEntryBeforeEmptiedPages(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	const n = 2000
	key := func(i int) []byte { return fmt.Appendf(nil, "a/1/%06d", i) }
	db, err := openWriter(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.close() }()
	step := func(fn func(*kv) error) {
		t.Helper()
		if err := db.write(fn); err != nil {
			t.Fatal(err)
		}
	}
	step(func(s *kv) error {
		for i := range n {
			if err := s.put(bucketPaths, key(i), []byte("value")); err != nil {
				return err
			}
		}
		return nil
	})
	step(func(s *kv) error {
		for i := 1; i < n-1; i++ {
			if err := s.del(bucketPaths, key(i)); err != nil {
				return err
			}
		}
		return s.put(bucketPaths, key(n/2), []byte("back"))
	})
	step(func(s *kv) error {
		got := 0
		for _, err := range s.scan(bucketPaths, nil) {
			if err != nil {
				return err
			}
			got++
		}
		if got != 3 {
			t.Errorf("%d entries, want 3", got)
		}
		return nil
	})
}

// TestTxDeleteManyFiles removes so much in one transaction that bbolt has leaves
// without an entry until it commits.
func TestTxDeleteManyFiles(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	f := put(t, s, "weights")
	var files []File
	for i := range 1000 {
		files = append(files, at(t, f, fmt.Sprintf("dir/%04d", i)))
	}
	before := register(t, x, version(t, s, "m", "0"), f)
	v := register(t, x, version(t, s, "m", "1"), files...)
	after := register(t, x, version(t, s, "m", "2"), f)
	update(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.ID) })
	want := dump(t, s)
	if err := x.View(t.Context(), func(tx *Tx) error {
		paths := collect(t, tx.Paths(""))
		if len(paths) != 2 || paths[0].Version != before.ID || paths[1].Version != after.ID {
			t.Errorf("%d paths: %v", len(paths), paths)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), want)
}
