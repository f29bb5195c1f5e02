package codec

import (
	"math"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// choose returns the codecs worth trying, the best first, as a sample of the
// frame predicts them.
func (e *Encoder) choose(plain []byte, k Kind, base []byte) []ID {
	if e.mode == ZstdOnly {
		return []ID{Zstd}
	}
	raw := 8 * float64(len(plain))
	s := sampler{plain: plain, k: k}
	planes := s.planes()
	least, ids := raw*0.99, []ID(nil)
	if planes < least {
		least, ids = planes, []ID{Planes}
	}
	if k.Elem != Bytes && len(base) == len(plain) {
		// A delta costs a reader a second frame: it has to pay.
		if d := e.sampleDelta(&s, base); d < 0.9*least {
			least, ids = d, append([]ID{Delta}, ids...)
		}
	}
	if z := e.sampleZstd(plain, k); z < least {
		ids = append([]ID{Zstd}, ids...)
	}
	return ids
}

// sampler predicts the bits of a frame from about sampled of its elements.
type sampler struct {
	plain []byte
	k     Kind
}

// stretches calls do with the beginning and end of pieces of elements.
func (s *sampler) stretches(n, each int, do func(from, to int)) int {
	if n <= 2*sampled {
		do(0, n)
		return n
	}
	pieces := max(sampled/each, 1)
	for i := range pieces {
		at := i * ((n - each) / pieces)
		do(at, at+each)
	}
	return pieces * each
}

// bias is by how much the entropy of a sample with that many kinds of symbols
// is too low, in bits for all of it (Miller 1955).
func bias(h []uint32) float64 {
	kinds := 0
	for _, c := range h {
		if c > 0 {
			kinds++
		}
	}
	return float64(max(kinds-1, 0)) / (2 * math.Ln2)
}

// planes predicts Planes.
func (s *sampler) planes() float64 {
	w := s.k.width()
	mid, n := whole(s.plain, s.k.Lead, w)
	rest := 8 * float64(len(s.plain)-len(mid))
	if n == 0 {
		return 8 * float64(len(s.plain))
	}
	f := s.k.Elem.field()
	h := make([][256]uint32, w)
	taken := s.stretches(n, max(64/w, 1)*w, func(from, to int) {
		for i := from * w; i < to*w; i += w {
			if s.k.Elem == Bytes {
				for j := range h {
					h[j][mid[i+j]]++
				}
				continue
			}
			r := f.load(mid[i:])
			switch s.k.Elem {
			case BF16, F16:
				r = uint64(rotate16(uint16(r>>48), s.k.Elem)) << 48
			case F32:
				r = uint64(rotate32(uint32(r>>32))) << 32
			default:
				r = rotate64(r)
			}
			for j := range h {
				h[j][byte(r>>(56-8*j))]++
			}
		}
	})
	for j := range h {
		need := (entropy(h[j][:]) + bias(h[j][:])) / float64(taken) * float64(n)
		if need > 7.92*float64(n) {
			need = 8 * float64(n) // it will be stored as it is
		} else if need > 0 {
			need += 8 * 48 // a code table
		}
		rest += need + 8
	}
	return rest
}

// sampleDelta predicts Delta.
func (e *Encoder) sampleDelta(s *sampler, base []byte) float64 {
	f := s.k.Elem.field()
	mid, n := whole(s.plain, s.k.Lead, f.width)
	bmid, _ := whole(base, s.k.Lead, f.width)
	if n == 0 {
		return math.Inf(1)
	}
	d := e.deltas()
	e.grow(len(mid))
	d.begin(&f, topExponent(bmid, &f), min(n, 2*sampled))
	shift := uint(commonZeros(mid, bmid, &f))
	taken := s.stretches(n, 64, func(from, to int) {
		d.add(e.parts[:(to-from)*f.width], d.index[:to-from], mid[from*f.width:to*f.width], bmid[from*f.width:to*f.width], &f, shift)
	})
	d.end()
	total := 0.0
	for c := range classes {
		h := d.counts[c<<8 : c<<8+256]
		total += entropy(h) + bias(h)
		for t, k := range h[:int(f.last)+1] {
			if k > 0 {
				_, extra := tokenBase(uint8(t), f.mantissa)
				total += float64(k) * float64(extra)
			}
		}
	}
	return total/float64(taken)*float64(n) + 8*400 + 8*float64(len(s.plain)-len(mid))
}

// zstdSample is how much of a frame zstd is tried on, in two pieces: on floats
// less, where only repeats can make it win.
const (
	zstdSample      = 64 << 10
	zstdSampleFloat = 16 << 10
)

// sampleZstd predicts Zstd from two pieces of the frame. Repeats that lie
// further apart are not seen.
func (e *Encoder) sampleZstd(plain []byte, k Kind) float64 {
	size := zstdSample
	if k.Elem != Bytes {
		size = zstdSampleFloat
	}
	if len(plain) <= size {
		if k.Elem == Bytes {
			return 0 // as cheap to try
		}
		size = len(plain)
	}
	if e.repeats(plain, k) {
		e.parts = e.zstd().EncodeAll(plain, e.parts[:0])
		return 8 * float64(len(e.parts))
	}
	if e.quick == nil {
		e.quick = newZstd(zstd.SpeedFastest, false)
	}
	total := 0
	for _, at := range [2]int{len(plain) / 4, max(3*len(plain)/4-size/2, 0)} {
		piece := plain[at:min(at+size/2, len(plain))]
		e.grow(0)
		e.parts = e.quick.EncodeAll(piece, e.parts[:0])
		total += len(e.parts)
	}
	return 8 * float64(total) / float64(size) * float64(len(plain))
}

// repeats reports whether equal elements, or for narrow ones equal groups of
// four, come back throughout the frame, as in tables of sines or copied rows:
// zstd finds those however far they lie apart, a sample of it does not.
func (e *Encoder) repeats(plain []byte, k Kind) bool {
	switch k.Elem {
	case Bytes: // there may be floats in it, at any place
		for lead := range 4 {
			if e.repeatsOf(plain, lead, 4) {
				return true
			}
		}
		return false
	case F32:
		return e.repeatsOf(plain, k.Lead, 4)
	}
	return e.repeatsOf(plain, k.Lead, 8)
}

// repeatsOf reports whether one in fifty of a sample of units of w bytes is one
// that the sample has already.
func (e *Encoder) repeatsOf(plain []byte, lead, w int) bool {
	const size, marks, golden = 2048, 4096, uint64(0x9e3779b97f4a7c15)
	mid, n := whole(plain, lead, w)
	if n < 2*size {
		return false
	}
	if e.marks == nil {
		e.marks = make([]uint64, marks)
	}
	clear(e.marks)
	again := 0
	f := field{width: w}
	for i := range size {
		// At places without a period, which rows would have, and all different:
		// multiples of the golden ratio.
		at, _ := bits.Mul64(uint64(i)*golden, uint64(n))
		x := f.load(mid[int(at)*w:])
		// Few different values are a plane's business: fp32 that holds narrower
		// floats, or zeros.
		if w == 4 && x<<16 == 0 || x == 0 {
			continue
		}
		// Fibonacci hashing (Knuth, volume 3, 6.4).
		if m := &e.marks[x*golden>>52]; *m == x {
			again++
		} else {
			*m = x
		}
	}
	return again*50 > size
}

// PredictDelta predicts the bits of plain as a delta to base: all of its bits
// when they can't be that.
func (e *Encoder) PredictDelta(plain, base []byte, k Kind) float64 {
	if k.Elem == Bytes || !k.valid() || len(base) != len(plain) || k.Lead > len(plain) {
		return 8 * float64(len(plain))
	}
	return e.sampleDelta(&sampler{plain: plain, k: k}, base)
}
