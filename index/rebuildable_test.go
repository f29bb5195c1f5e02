package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/promise"
)

// everything is all that an index says, with the whole lineage of each version.
func everything(t testing.TB, x *Index) []string {
	t.Helper()
	list := listing(t, x)
	if err := x.View(t.Context(), func(tx *Tx) error {
		list = slices.DeleteFunc(list, func(s string) bool { return len(s) > 8 && s[:8] == "lineage " })
		for v, err := range tx.All() {
			if err != nil {
				return err
			}
			for id, n := v.Parent, 0; id != uuid.Nil && n < 100; n++ {
				p, err := tx.Version(id)
				if err != nil {
					list = append(list, fmt.Sprintf("lineage %s: %s is deleted", v.ID, id))
					break
				}
				list, id = append(list, fmt.Sprintf("lineage %s: %s", v.ID, p.ID)), p.Parent
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// scramble damages a database in one of many ways; nil is no file.
func scramble(good []byte, rng *rand.Rand) (bad []byte, how string) {
	bad = slices.Clone(good)
	page := os.Getpagesize()
	pages := len(good) / page
	some := func() []byte { return bad[page*rng.IntN(pages):][:page] }
	switch how = []string{
		"deleted", "empty", "text", "noise", "cut", "grown", "pages of noise", "zero pages", "pages swapped",
		"pages copied", "bytes", "bits", "one meta page", "both meta pages", "shifted", "sectors lost",
	}[rng.IntN(16)]; how {
	case "deleted":
		return nil, how
	case "empty":
		return []byte{}, how
	case "text":
		return bytes.Repeat([]byte("not a database\n"), 1+rng.IntN(9000)), how
	case "noise":
		for i := range bad {
			bad[i] = byte(rng.Uint32())
		}
	case "cut":
		return bad[:rng.IntN(len(bad))], how
	case "grown":
		return append(bad, make([]byte, rng.IntN(100000))...), how
	case "pages of noise":
		for range 1 + rng.IntN(3) {
			p := some()
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
		}
	case "zero pages":
		for range 1 + rng.IntN(3) {
			clear(some())
		}
	case "pages swapped":
		a, b := some(), some()
		c := slices.Clone(a)
		copy(a, b)
		copy(b, c)
	case "pages copied":
		copy(some(), some())
	case "bytes":
		for range 1 + rng.IntN(200) {
			bad[rng.IntN(len(bad))] = byte(rng.Uint32())
		}
	case "bits":
		for range 1 + rng.IntN(200) {
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
	case "one meta page":
		clear(bad[page*rng.IntN(2):][:page])
	case "both meta pages":
		clear(bad[:2*page])
	case "shifted":
		return append(make([]byte, 1+rng.IntN(5000)), bad...), how
	case "sectors lost":
		for range 1 + rng.IntN(8) {
			clear(bad[512*rng.IntN(len(bad)/512):][:512])
		}
	}
	return bad, how
}

// TestPromiseIndexRebuildable deletes and scrambles index.db, and compares all
// that it says of names afterwards: versions, aliases, statuses, files, metadata,
// SHA-256, lineage.
func TestPromiseIndexRebuildable(t *testing.T) {
	s := newStoreIn(t, fastDir(t))
	x := openIndex(t, s, &Options{Now: clock()})
	sample(t, s, x)
	want := everything(t, x)
	path := filepath.Join(s.Dir(), databaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	times := promise.Times(32, 2000)
	ways := map[string]int{}
	for n := range times {
		bad, how := scramble(good, rng)
		ways[how]++
		replace(t, path, bad)
		switch n % 4 {
		case 0:
			if err := x.Rebuild(t.Context()); err != nil {
				t.Fatalf("%s: rebuilding: %v", how, err)
			}
		case 1:
			// A change meets it first.
			update(t, x, "none", func(tx *Tx) error {
				for _, err := range tx.All() {
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if got := everything(t, x); !slices.Equal(got, want) {
			t.Fatalf("%s: another listing: %s", how, firstDifference(got, want))
		}
		if _, err := x.CheckJournal(t.Context()); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
	}
	promise.Kept(t, "%d damaged or deleted in %d ways, %d lines listed, 0 differences", times, len(ways), len(want))
}
