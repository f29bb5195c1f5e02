package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// random returns n bytes.
func random(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// TestSplitLengths compares with what one element at a time gives, around the
// eight that are split at once, with bytes behind that are not theirs.
func TestSplitLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	rotate := map[int]func(p []byte) uint64{
		4: func(p []byte) uint64 { return uint64(rotate32(binary.LittleEndian.Uint32(p))) },
		8: func(p []byte) uint64 { return rotate64(binary.LittleEndian.Uint64(p)) },
	}
	split := map[int]func(*[8][]byte, []byte){4: split32, 8: split64}
	merge := map[int]func([]byte, *[8][]byte){4: merge32, 8: merge64}
	behind := bytes.Repeat([]byte{0xa5}, 64)
	for _, w := range []int{4, 8} {
		for n := range 36 {
			p := random(rng, w*n)
			var got, want [8][]byte
			for k := range w {
				got[k], want[k] = append(make([]byte, n), behind...), append(make([]byte, n), behind...)
			}
			for i := range n {
				r := rotate[w](p[w*i:])
				for k := range w {
					want[k][i] = byte(r >> (8 * (w - 1 - k)))
				}
			}
			split[w](&got, p)
			for k := range w {
				if !bytes.Equal(got[k], want[k]) {
					t.Fatalf("%d elements of %d bytes: plane %d is %x, want %x", n, w, k, got[k], want[k])
				}
			}
			back := append(make([]byte, w*n), behind...)
			if merge[w](back[:w*n], &got); !bytes.Equal(back[:w*n], p) || !bytes.Equal(back[w*n:], behind) {
				t.Fatalf("%d elements of %d bytes: merged to %x, want %x", n, w, back, p)
			}
		}
	}
}

// TestLanes compares the differences of several elements at once with those of
// one at a time, for whole and cut last words.
func TestLanes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	type lanesOf struct {
		subtract, one func(z, p, base []byte)
		add           func(z, base []byte)
	}
	for width, l := range map[int]lanesOf{
		2: {subtract16, func(z, p, base []byte) { subtract[uint16](z, p, base, 0) }, add16},
		4: {subtract32, func(z, p, base []byte) { subtract[uint32](z, p, base, 0) }, add32},
	} {
		for n := range 400 {
			p, base := random(rng, n%20*width), random(rng, n%20*width)
			// Neighbours of a lane that carries or borrows: extremes side by side.
			for i := 0; i+width <= len(p); i += width {
				for _, b := range [][]byte{p, base} {
					if e := rng.IntN(6); e < 4 {
						copy(b[i:i+width], bytes.Repeat([]byte{[]byte{0, 0xff, 0, 0xff}[e]}, width))
						b[i+width-1] = []byte{0, 0xff, 0x80, 0x7f}[e]
					}
				}
			}
			got, want := make([]byte, len(p)), make([]byte, len(p))
			l.subtract(got, p, base)
			if l.one(want, p, base); !bytes.Equal(got, want) {
				t.Fatalf("%x less %x is %x, want %x", p, base, got, want)
			}
			if l.add(got, base); !bytes.Equal(got, p) {
				t.Fatalf("added to %x: %x, want %x", base, got, p)
			}
		}
	}
}

// TestPairsEncode has codes of all lengths follow each other in every way, so
// that those of eight symbols just fit into a word or just don't.
func TestPairsEncode(t *testing.T) {
	var l lengths
	for s := range maxBits + 1 {
		l[s] = min(uint8(s)+1, maxBits)
	}
	if !l.complete(maxBits) {
		t.Fatal("not a code")
	}
	var codes [256]code
	l.codes(&codes)
	rng := rand.New(rand.NewPCG(4, 4))
	table := new(pairs)
	for n := 4 * len(codes); n < 4*len(codes)+20; n++ {
		if !table.set(&codes, n) {
			t.Fatal("no table")
		}
		for range 200 {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.IntN(maxBits + 1))
			}
			room := func() []byte { return make([]byte, 3, 3+n*maxBits/8+16) }
			if got, want := table.encode(room(), p, &codes), encodeHuffman(room(), p, &codes, 0, 0); !bytes.Equal(got, want) {
				t.Fatalf("%d symbols: the codes of pairs are others", n)
			}
		}
	}
}

// TestStream16 compares the streams of elements without quiet classes with what
// codes any elements, with all lengths of codes next to each other.
func TestStream16(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	e, f := NewEncoder(Auto), BF16.field()
	for n := 4096; n < 4110; n++ {
		z, base, p := make([]byte, 2*n), make([]byte, 2*n), make([]byte, 2*n)
		for i := range n {
			v := uint16(1 + rng.ExpFloat64()*3)
			if i%256 >= 192 { // all kinds, which so have the longest codes
				v = uint16(1) << rng.IntN(16)
			}
			store(z[2*i:], v)
			store(base[2*i:], uint16(0x3f80+128*rng.IntN(3)))
		}
		copy(p, z)
		add16(p, base)
		d := e.deltas()
		d.measure(make([]byte, 2*n), p, base, &f)
		if d.head.quiet != 0 {
			t.Fatal("quiet")
		}
		var none [classes][]uint32
		got := d.stream16(make([]byte, 0, d.most(n, &f)), z, d.index)
		if want := stream[uint16](d, make([]byte, 0, d.most(n, &f)), z, d.index, &none); !bytes.Equal(got, want) {
			t.Fatalf("%d elements: the streams differ", n)
		}
	}
}
