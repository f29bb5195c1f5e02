package codec

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// leastCost returns the bits that the best code of at most limit bits takes for
// the counts: package-merge (Larmore and Hirschberg 1990), slowly. Each round
// pairs up what there is and adds the leaves; the best 2n-2 at the end are it.
func leastCost(counts *[256]uint32, limit int) uint64 {
	var leaves []uint64
	for _, c := range counts {
		if c > 0 {
			leaves = append(leaves, uint64(c))
		}
	}
	slices.Sort(leaves)
	list := slices.Clone(leaves)
	for range limit - 1 {
		var next []uint64
		for i := 0; i+1 < len(list); i += 2 {
			next = append(next, list[i]+list[i+1])
		}
		list = slices.Concat(next, leaves)
		slices.Sort(list)
	}
	var sum uint64
	for _, w := range list[:2*len(leaves)-2] {
		sum += w
	}
	return sum
}

// histograms draws counts of at least two symbols: alike, growing like
// Fibonacci's numbers or by powers of two, of exponents, and of anything.
func histograms(t *rapid.T) *[256]uint32 {
	var h [256]uint32
	kinds := rapid.IntRange(2, 256).Draw(t, "symbols")
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	symbols := rng.Perm(256)[:kinds]
	a, b := uint32(1), uint32(1)
	shape := rapid.SampledFrom([]string{"equal", "fibonacci", "powers", "normal", "any"}).Draw(t, "shape")
	for i, s := range symbols {
		switch shape {
		case "equal":
			h[s] = 7
		case "fibonacci":
			h[s] = a
			if b < 1<<20 {
				a, b = b, a+b
			}
		case "powers":
			h[s] = 1 << min(i, 20)
		case "normal":
			h[s] = 1 + uint32(1e5*math.Exp(-float64(i)*float64(i)/50))
		default:
			h[s] = 1 + uint32(rng.Uint64()%(1<<(1+rng.IntN(20))))
		}
	}
	return &h
}

func TestMakeLengths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histograms(t)
		for _, limit := range []uint8{tokenBits, maxBits} {
			var l lengths
			makeLengths(&l, h, limit)
			if !l.complete(limit) {
				t.Fatalf("limit %d: not complete: %v", limit, l)
			}
			for s, c := range h {
				if (c > 0) != (l[s] > 0) {
					t.Fatalf("limit %d: symbol %d occurs %d times and has %d bits", limit, s, c, l[s])
				}
			}
			// Bringing Kraft's sum down is no more than nearly the best: at the
			// worst, with Fibonacci's numbers, 2.1% were seen.
			if got, best := l.cost(h), leastCost(h, int(limit)); got < best || float64(got) > 1.05*float64(best) {
				t.Fatalf("limit %d: %d bits, the best code takes %d", limit, got, best)
			}
			stored := append(l.append(nil), "behind"...)
			var back lengths
			rest, err := parseLengths(&back, stored, limit)
			if err != nil || back != l || string(rest) != "behind" {
				t.Fatalf("lengths %v: %v, rest %q: %v", l, back, rest, err)
			}
		}
	})
}

// TestMakeLengthsTypical compares with the entropy: of the exponents of normal
// values, a whole number of bits for each loses little.
func TestMakeLengthsTypical(t *testing.T) {
	plain, _ := weights(BF16, 1<<20, 1, 0)
	hi, lo := make([]byte, len(plain)/2), make([]byte, len(plain)/2)
	split16(hi, lo, plain, BF16)
	var h [256]uint32
	count(&h, hi)
	var l lengths
	makeLengths(&l, &h, maxBits)
	if got, least := float64(l.cost(&h)), entropy(h[:]); got < 0.999*least || got > 1.02*least+8*64 {
		t.Errorf("%.0f bits, the entropy is %.0f", got, least)
	}
}

func TestEntropy(t *testing.T) {
	for _, c := range []struct {
		counts []uint32
		want   float64
	}{
		{nil, 0},
		{[]uint32{0, 0}, 0},
		{[]uint32{9}, 0},
		{[]uint32{1, 1}, 2},
		{[]uint32{1 << 19, 1 << 19}, 1 << 20},
		{[]uint32{4, 2, 1, 1}, 14},
		{[]uint32{99_999, 1}, 99_999*math.Log2(100_000./99_999) + math.Log2(100_000)},
		{[]uint32{333_333, 333_333, 333_333}, 999_999 * math.Log2(3)},
	} {
		if got := entropy(c.counts); math.Abs(got-c.want) > 0.001*c.want+1 && math.Abs(got-c.want) > 60 {
			t.Errorf("%d: %f, want %f", c.counts, got, c.want)
		}
	}
}

// TestPlaneRoundTrip codes planes of every shape and length.
func TestPlaneRoundTrip(t *testing.T) {
	e, dec := NewEncoder(Auto), new(Decoder)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 40_000)).Draw(t, "length")
		h := histograms(t)
		var p []byte
		var bag []byte
		for s, c := range h {
			bag = append(bag, bytes.Repeat([]byte{byte(s)}, int(min(c, 5000)))...)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed of bytes"), 1))
		often := rapid.SampledFrom([]float64{0, 0, 0.5, 0.9, 0.999, 1}).Draw(t, "share of one byte")
		for range n {
			if rng.Float64() < often {
				p = append(p, 42)
			} else {
				p = append(p, bag[rng.IntN(len(bag))])
			}
		}
		stored := append(e.appendPlane([]byte("before"), p), "behind"...)
		got, rest, err := dec.plane(make([]byte, n), stored[6:], n)
		if err != nil || !bytes.Equal(got, p) || string(rest) != "behind" {
			t.Fatalf("mode %d: %v, rest of %d bytes", stored[6], err, len(rest))
		}
		if len(stored) > n+1+12 {
			t.Fatalf("mode %d: %d bytes for %d", stored[6], len(stored)-12, n)
		}
		// With one stream byte less it is cut short, if it is not raw.
		if _, _, err := dec.plane(make([]byte, n), stored[6:len(stored)-7], n); !errors.Is(err, ErrDamaged) {
			t.Fatalf("mode %d, cut: %v", stored[6], err)
		}
	})
}
