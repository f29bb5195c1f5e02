package blob

import (
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// brought is a history of what comes from elsewhere: from another store, and from
// the trash in the place of a damaged file.
func brought(t testing.TB, m *durable.Mem, fsys durable.FS) *history {
	t.Helper()
	x := newHistory(t, m, fsys, rand.New(rand.NewPCG(1, 1)))
	other, _ := newMem(t, nil)
	chain := chain()[:3]
	put(t, other, chain[0])
	putLike(t, other, chain[1], Sum(chain[0]))
	putLike(t, other, chain[2], Sum(chain[1]))
	x.try(chain...)
	if did := transfer(t, other, x.s, chain...); did.Files != 3 {
		t.Fatalf("%+v", did)
	}
	x.acked(chain...)

	twice := lines(4000)
	for range 2 {
		b := x.s.Batch()
		x.into(b, twice)
		x.sync(b)
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
		if names(m, "trash") == nil {
			collect(t, x.s, marksOf(t, x.s, chain...))
		}
	}
	out := outage{from: m.Ops(), blobs: map[Digest]bool{Sum(twice): true}}
	flip(t, m, blobPath(Sum(twice)), format.HeaderSize, 1)
	if done, err := x.s.ReplaceFromTrash(t.Context(), Sum(twice)); err != nil || !done {
		t.Fatalf("%v, %v", done, err)
	}
	out.to = m.Ops()
	x.outages = append(x.outages, out)
	x.acked(twice)
	x.do([]byte("last"))
	return x
}
