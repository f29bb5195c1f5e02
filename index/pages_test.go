package index

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// pointers returns where index.db holds numbers of pages: in
// branches and in the bucket of buckets. It also returns where the freelist is.
func pointers(t *testing.T, dir string) (at []int64, high uint64, freelist int64) {
	t.Helper()
	d, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	db, err := openReader(d)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	btx, err := db.begin(reading)
	if err != nil {
		t.Fatal(err)
	}
	defer db.rollback(btx)
	p, err := newPages(db, btx)
	if err != nil {
		t.Fatal(err)
	}
	var visit func(id uint64)
	visit = func(id uint64) {
		pg, _, err := p.parse(id)
		if err != nil {
			t.Fatal(err)
		}
		branch, children := pg.branch, []uint64{}
		for i := range pg.count {
			element := int64(id)*p.unit + pageHeader + int64(i)*pageElement
			pos, key, _ := pg.element(i)
			switch {
			case branch:
				at = append(at, element+8)
				children = append(children, pg.child(i))
			case binary.NativeEndian.Uint32(pg.elements[i*pageElement:]) == bucketFlag:
				at = append(at, element+int64(pos)+int64(key))
				var root [8]byte
				if _, err := p.file.ReadAt(root[:], element+int64(pos)+int64(key)); err != nil {
					t.Fatal(err)
				}
				if root := binary.NativeEndian.Uint64(root[:]); root != 0 {
					children = append(children, root)
				}
			}
		}
		for _, child := range children {
			visit(child)
		}
	}
	visit(p.root)
	m, _, err := readMeta(db.file, int64(btx.ID()%2)*p.unit)
	if err != nil {
		t.Fatal(err)
	}
	return at, p.high, int64(m.freelist) * p.unit
}

// TestPromiseMisleadingPages makes every number of a page in index.db that of
// every other page: of those above it, beside it, and of the past. Then it does
// the same with the freelist and with the lengths of pages. Nothing goes round
// in circles, and the listing stays what it is.
func TestPromiseMisleadingPages(t *testing.T) {
	tried, noticed := mislead(t, 0, promise.Times(11, 1))
	deep, more := mislead(t, 40, promise.Times(61, 1))
	promise.Kept(t, "%d wrong numbers of pages, %d noticed and healed, 0 wrong listings", tried+deep, noticed+more)
}

func mislead(t *testing.T, files, stride int) (tried, healed int) {
	t.Helper()
	dir, want := smallStore(t, files)
	good, err := os.ReadFile(filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	unit := int64(os.Getpagesize())
	numbers, high, freelist := pointers(t, dir)
	type patch struct {
		at    int64
		value []byte
	}
	var patches []patch
	for i, at := range numbers {
		for id := uint64(i % stride); id <= high; id += uint64(stride) {
			patches = append(patches, patch{at, binary.NativeEndian.AppendUint64(nil, id)})
		}
		if at%unit == pageHeader+8 {
			// The first number of a branch: down there bbolt goes round in circles
			// when it comes from the leaf before.
			patches = append(patches, patch{at, binary.NativeEndian.AppendUint64(nil, uint64(at/unit))})
		}
	}
	for i := range int64(8) {
		for id := uint64(2); id <= high; id += uint64(stride) {
			patches = append(patches, patch{freelist + pageHeader + 8*i, binary.NativeEndian.AppendUint64(nil, id)})
		}
	}
	for id := uint64(2); id < high; id += uint64(1 + stride/8) {
		for _, n := range []uint32{1, 2, uint32(high), 1 << 31} {
			patches = append(patches, patch{int64(id)*unit + 12, binary.NativeEndian.AppendUint32(nil, n)})
		}
		patches = append(patches, patch{int64(id)*unit + 10, []byte{0xff, 0xff}})
	}
	journal, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range patches {
		bad := slices.Clone(good)
		if int(p.at)+len(p.value) > len(bad) {
			continue
		}
		copy(bad[p.at:], p.value)
		if err := os.WriteFile(filepath.Join(dir, databaseName), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, journalName), journal, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := use(t.Context(), t, dir)
		what := fmt.Sprintf("page %d, byte %d: % x instead of % x", p.at/unit, p.at%unit, p.value, good[p.at:][:len(p.value)])
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: another listing: %s", what, firstDifference(got, want))
		}
		if kept, _ := os.ReadDir(filepath.Join(dir, "quarantine")); len(kept) > 0 {
			healed++
			if err := os.RemoveAll(filepath.Join(dir, "quarantine")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if healed < len(patches)/4 {
		t.Errorf("only %d of %d were noticed", healed, len(patches))
	}
	return len(patches), healed
}
