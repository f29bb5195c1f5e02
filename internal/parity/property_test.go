package parity

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestAnyDamageWithinTheBudget damages files of random sizes at random places of
// both files, up to what each column can lose.
func TestAnyDamageWithinTheBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 5000), rapid.IntRange(1, 400_000), rapid.IntRange(1<<20, 4<<20)).Draw(rt, "size")
		percent := rapid.IntRange(MinPercent, MaxPercent).Draw(rt, "percent")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		content := randomBytes(rng.Uint64(), size)
		par := protect(t, content, percent)
		f := open(t, par)
		damaged, broken := clone(content), clone(par)

		worst := 0
		for c := range f.columns {
			n := rng.IntN(f.extra + 1)
			if rapid.Bool().Draw(rt, "all of it") {
				n = f.extra
			}
			had := 0
			for _, r := range rng.Perm(f.rows + f.extra)[:n] {
				switch i := int64(r)*f.columns + c; {
				case r >= f.rows:
					spoil(broken[f.front():f.front()+f.body()], int64(r-f.rows)*f.columns+c, f.shard, rng)
				case i < f.shards():
					spoil(damaged, i, f.shard, rng)
				default:
					continue // there is nothing of it
				}
				had++
			}
			worst = max(worst, had)
		}
		l := f.list()
		for c := range l.columns {
			for _, r := range rng.Perm(2 * l.rows)[:rng.IntN(l.rows+1)] {
				at := f.blockAt(int64(r)*l.columns + c)
				spoil(broken[at:at+int64(f.block)], 0, f.block, rng)
			}
		}
		if rapid.Bool().Draw(rt, "longer") {
			damaged = append(damaged, content[:1+rng.IntN(size)]...)
			broken = append(broken, par[:1+rng.IntN(len(par))]...)
		}
		got, d, err := repair(t, broken, damaged)
		if err != nil || !bytes.Equal(got, content) {
			rt.Fatalf("%+v: %v", d, err)
		}
		if d.Worst != worst {
			rt.Fatalf("%d shards of a column are bad, not %d", worst, d.Worst)
		}
	})
}

// TestAnyDamageAtAll never gets other bytes back, whatever is damaged, and
// repairs if and only if no column has lost more than its budget.
func TestAnyDamageAtAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 3000).Draw(rt, "size")
		content := randomBytes(uint64(size), size)
		par := protect(t, content, rapid.IntRange(MinPercent, MaxPercent).Draw(rt, "percent"))
		damaged, broken := clone(content), clone(par)
		for _, b := range []*[]byte{&damaged, &broken} {
			for range rapid.IntRange(0, 6).Draw(rt, "runs") {
				from := rapid.IntRange(0, len(*b)).Draw(rt, "from")
				to := rapid.IntRange(from, len(*b)).Draw(rt, "to")
				switch rapid.IntRange(0, 2).Draw(rt, "how") {
				case 0:
					clear((*b)[from:to])
				case 1:
					*b = append((*b)[:from], (*b)[to:]...)
				case 2:
					copy((*b)[from:to], *b)
				}
			}
		}
		f, err := Open(at(broken), int64(len(broken)))
		if err != nil {
			return
		}
		got, d, err := repairFrom(t, f, at(damaged), int64(len(damaged)))
		if (err == nil) != (d.Worst <= d.Budget || d.Shards == 0) {
			rt.Fatalf("%+v: %v", d, err)
		}
		if err == nil && !bytes.Equal(got, content) {
			rt.Fatal("other bytes")
		}
		if err != nil && got != nil {
			rt.Fatalf("wrote %d bytes, then %v", len(got), err)
		}
	})
}
