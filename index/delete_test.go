package index

import (
	"fmt"
	"testing"
)

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
