package blob

import (
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

// withCollections is a history of collections: of states from which one that stays is
// detached, of a donor that is thinned, and thinned in vain, and of what comes back
// from the trash.
func withCollections(t testing.TB, m *durable.Mem, fsys durable.FS) *history {
	t.Helper()
	x := newHistory(t, m, fsys, rand.New(rand.NewPCG(1, 1)))
	// unnamed puts what no version names.
	unnamed := func(content []byte, like ...Digest) Info {
		b := x.s.Batch()
		info := x.into(b, content, like...)
		x.sync(b)
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
		return info
	}
	must := func(done bool, err error) {
		t.Helper()
		if err != nil || !done {
			t.Fatalf("%v, %v", done, err)
		}
	}
	release := func(b *Batch) {
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
	}

	// A chain of which the last state stays.
	chain := chain()[:3]
	unnamed(chain[0])
	unnamed(chain[1], Sum(chain[0]))
	b := x.s.Batch()
	if info := x.into(b, chain[2], Sum(chain[1])); info.Parts.Delta.Frames == 0 {
		t.Fatalf("%+v", info)
	}
	x.sync(b, chain[2])
	release(b)
	marks := marksOf(t, x.s, chain[2])
	plan, err := x.s.Detachable(t.Context(), marks)
	if err != nil || len(plan.Frames) != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	for d, rows := range plan.Frames {
		r, err := x.s.Detach(t.Context(), d, rows)
		if err != nil {
			t.Fatal(err)
		}
		must(r.Publish(t.Context()))
	}
	collect(t, x.s, marksOf(t, x.s, chain[2]))
	purge(t, x.s)

	// A donor of two frames, one of which is borrowed, thinned while somebody pins
	// it, and then once more.
	first, second := lines(3000), lines(5000)
	donor := safetensors(tensor{"a", "U8", first}, tensor{"content", "F32", second})
	x.learn(unnamed(donor).Digest)
	b = x.s.Batch()
	if info := x.into(b, around(second)); info.Parts.Borrowed.Frames == 0 {
		t.Fatalf("%+v", info)
	}
	x.sync(b, around(second))
	release(b)
	marks = marksOf(t, x.s, chain[2], around(second))
	r, err := x.s.Thin(t.Context(), Sum(donor), marks)
	if err != nil {
		t.Fatal(err)
	}
	c := collection(t, x.s)
	var pin *Pin
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRename && op.To == blobPath(Sum(donor)) {
			m.Fail(nil)
			pin = pinned(t, x.s, Sum(donor))
		}
		return nil
	})
	if done, err := c.Replace(t.Context(), r, marks); err != nil || done || pin == nil {
		t.Fatalf("replaced what is pinned: %v, %v", done, err)
	}
	if err := pin.Close(); err != nil {
		t.Fatal(err)
	}
	b = x.s.Batch()
	if info := x.into(b, donor); !info.Known {
		t.Fatalf("%+v", info)
	}
	x.sync(b, donor)
	release(b)
	gone := safetensors(tensor{"c", "U8", lines(4000)}, tensor{"content", "F32", lines(6000)})
	x.learn(unnamed(gone).Digest)
	b = x.s.Batch()
	x.into(b, around(lines(6000)))
	x.sync(b, around(lines(6000)))
	release(b)
	kept := [][]byte{chain[2], around(second), donor, around(lines(6000))}
	collect(t, x.s, marksOf(t, x.s, kept...))

	// What moved to the trash and comes back.
	back := []byte("deleted by mistake")
	unnamed(back)
	collect(t, x.s, marksOf(t, x.s, kept...))
	must(x.s.Restore(t.Context(), Sum(back)))
	x.acked(back)
	purge(t, x.s)
	x.do([]byte("last"))
	return x
}
