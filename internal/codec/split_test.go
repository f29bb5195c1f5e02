package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestSplitAsSpecified makes planes bit by bit: the exponent's low eight bits
// first, then its others, then the sign, then the mantissa; of 16-bit elements
// each whole eight in the order 0, 4, 1, 5, 2, 6, 3, 7.
func TestSplitAsSpecified(t *testing.T) {
	for _, c := range []struct {
		elem               Elem
		exponent, mantissa int
	}{{BF16, 8, 7}, {F16, 5, 10}, {F32, 8, 23}, {F64, 11, 52}} {
		w := c.elem.Width()
		for _, n := range []int{0, 1, 7, 8, 9, 100, 1003} {
			plain := make([]byte, n*w)
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for i := range plain {
				plain[i] = byte(rng.Uint32())
			}
			want := make([][]byte, w)
			for at := range n {
				i := at
				if c.elem.Width() == 2 && at < n/8*8 {
					i = at/8*8 + []int{0, 4, 1, 5, 2, 6, 3, 7}[at%8]
				}
				var b [8]byte
				copy(b[:], plain[i*w:(i+1)*w])
				x := binary.LittleEndian.Uint64(b[:])
				bits := func(from, n int) uint64 { return x >> from & (1<<n - 1) }
				low := min(c.exponent, 8)
				r := bits(c.mantissa, low)
				r = r<<(c.exponent-low) | bits(c.mantissa+low, c.exponent-low)
				r = r<<1 | bits(8*w-1, 1)
				r = r<<c.mantissa | bits(0, c.mantissa)
				for k := range want {
					want[k] = append(want[k], byte(r>>(8*(w-1-k))))
				}
			}
			e := NewEncoder(Auto)
			got := e.split(plain, n, Kind{Elem: c.elem})
			for k := range want {
				if !bytes.Equal(got[k], want[k]) {
					t.Fatalf("%s, %d elements: plane %d is % x, want % x", c.elem, n, k, got[k], want[k])
				}
			}
		}
	}
}

// TestDifferences compares with arithmetic on numbers that are in the order of
// the floats.
func TestDifferences(t *testing.T) {
	order := func(x uint64, bits int) int64 {
		if x>>(bits-1) == 1 {
			return -1 - int64(x&(1<<(bits-1)-1))
		}
		return int64(x)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, elem := range []Elem{BF16, F16, F32, F64} {
		f, w := elem.field(), elem.Width()
		for _, shift := range []uint{0, 1, 5, uint(8*w - 1)} {
			const n = 1001
			p, base, z := make([]byte, n*w), make([]byte, n*w), make([]byte, n*w)
			for _, b := range [][]byte{p, base} {
				for i := 0; i < len(b); i += w {
					x := rng.Uint64()
					if rng.IntN(2) == 0 {
						x &= 0xff // near 0
					}
					var e [8]byte
					binary.LittleEndian.PutUint64(e[:], x>>shift<<shift)
					copy(b[i:i+w], e[:])
				}
			}
			d := NewEncoder(Auto).deltas()
			d.begin(&f, 0, n)
			d.add(z, d.index, p, base, &f, shift)
			for i := 0; i < len(z); i += w {
				got, x, b := f.load(z[i:])>>(64-8*w), f.load(p[i:])>>(64-8*w), f.load(base[i:])>>(64-8*w)
				v := order(x, 8*w)>>shift - order(b, 8*w)>>shift
				v = v << (64 - 8*w + int(shift)) >> (64 - 8*w + int(shift)) // as much as an element holds
				if want := uint64(v<<1) ^ uint64(v>>63); got != want {
					t.Fatalf("%s, shift %d: %x from %x is %x, want %x", elem, shift, x, b, got, want)
				}
			}
			switch back := bytes.Clone(z); {
			case w == 2 && shift == 0:
				if add16(back, base); !bytes.Equal(back, p) {
					t.Errorf("%s: added up to other elements", elem)
				}
			case w == 2:
				if add[uint16](back, base, shift); !bytes.Equal(back, p) {
					t.Errorf("%s, shift %d: added up to other elements", elem, shift)
				}
			}
		}
	}
}

func TestTokens(t *testing.T) {
	for _, elem := range []Elem{BF16, F16, F32, F64} {
		f := elem.field()
		next := uint64(0)
		for s := range int(f.last) + 1 {
			base, extra := tokenBase(uint8(s), f.mantissa)
			if base != next {
				t.Fatalf("%s: token %d begins at %x, want %x", elem, s, base, next)
			}
			last := base + 1<<extra - 1
			for _, z := range []uint64{base, last} {
				if got, n := token(z, f.mantissa); got != uint8(s) || n != extra {
					t.Fatalf("%s: %x has token %d and %d bits, want %d and %d", elem, z, got, n, s, extra)
				}
			}
			next = last + 1
		}
		// The last token ends with the largest difference.
		if end := uint64(1) << (8 * f.width % 64); f.width < 8 && next != end || f.width == 8 && next != 0 {
			t.Errorf("%s: the tokens end at %x", elem, next)
		}
	}
	if got, _ := token(1<<20, runMantissa); got > lastRun {
		t.Errorf("a run of a frame has token %d", got)
	}
}
