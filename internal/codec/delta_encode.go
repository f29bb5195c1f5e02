package codec

import (
	"encoding/binary"
	"math/bits"
)

// deltaEncoder keeps what encoding a delta needs.
type deltaEncoder struct {
	head   deltaHead
	class  classOf
	counts [slots][256]uint32
	runs   [classes][]uint32 // of the quiet classes: their runs, in order
	codes  [slots][256]code
	rcodes [classes][256]code
}

// quietShare is from which share of zeros on, in hundredths, a class stores
// runs: below about one bit an element a prefix code loses to its whole bits.
const quietShare = 58

// appendDelta appends plain as a delta to base, which is as long.
func (e *Encoder) appendDelta(dst, plain, base []byte, k Kind) []byte {
	if e.delta == nil {
		e.delta = new(deltaEncoder)
	}
	d, f := e.delta, k.Elem.field()
	mid, n := whole(plain, k.Lead, f.width)
	bmid, _ := whole(base, k.Lead, f.width)
	dst = k.appendHead(dst)
	dst = append(dst, plain[:k.Lead]...)
	dst = append(dst, plain[k.Lead+len(mid):]...)
	d.measure(mid, bmid, &f)
	dst = d.head.append(dst)
	sizes := len(dst) - 12
	for i := range 4 {
		at := len(dst)
		// At most 10 bits of a token and the extra bits, or for quiet elements
		// twice as much: at most 4 times the element's own bits.
		from, to := quarterOf(n, i)
		dst = room(dst, d.most(to-from, &f))
		if f.width == 2 && d.head.quiet == 0 && d.head.shift == 0 {
			dst = d.stream16(dst, mid[2*from:2*to], bmid[2*from:2*to], &f)
		} else {
			dst = d.stream(dst, mid[from*f.width:to*f.width], bmid[from*f.width:to*f.width], &f)
		}
		put24(dst[sizes+3*i:], len(dst)-at)
	}
	return dst
}

// quarterOf returns where the i-th of four parts of n elements is.
func quarterOf(n, i int) (from, to int) {
	q := (n + 3) / 4
	return min(i*q, n), min((i+1)*q, n)
}

// most bounds the bytes of a stream of n elements.
func (d *deltaEncoder) most(n int, f *field) int {
	each := tokenBits + 8*f.width
	if d.head.quiet != 0 {
		each += tokenBits + 18
	}
	return n*each/8 + 24
}

// measure counts tokens, and chooses classes and codes.
func (d *deltaEncoder) measure(mid, base []byte, f *field) {
	h := &d.head
	*h = deltaHead{shift: commonZeros(mid, base, f), top: uint16(topExponent(base, f))}
	d.class.set(int(h.top))
	d.counts = [slots][256]uint32{}
	if f.width == 2 && h.shift == 0 {
		d.count16(mid, base, f)
	} else {
		down := 64 - uint(8*f.width) + uint(h.shift)
		for i := 0; i < len(mid); i += f.width {
			t, _ := token(difference(f.ordered(mid[i:]), f.ordered(base[i:]), down), f.mantissa)
			d.counts[d.class[f.exp(base[i:])]][t]++
		}
	}
	for c := range classes {
		var total uint32
		for _, n := range d.counts[c] {
			total += n
		}
		if total > 0 {
			h.used |= 1 << c
		}
		if total >= minHuffman && uint64(d.counts[c][0])*100 > quietShare*uint64(total) {
			h.quiet |= 1 << c
			d.counts[c][0] = 0
		}
	}
	if h.quiet != 0 {
		d.measureRuns(mid, base, f)
	}
	for c := range classes {
		if h.used>>c&1 == 1 {
			h.token[c].set(&d.counts[c])
			h.token[c].codes(&d.codes[c])
		}
		if h.quiet>>c&1 == 1 {
			var counts [256]uint32
			for _, r := range d.runs[c] {
				t, _ := token(uint64(r), 3)
				counts[t]++
			}
			h.run[c].set(&counts)
			h.run[c].codes(&d.rcodes[c])
		}
	}
}

// difference returns y-b, both shifted down, with its sign in the low bit.
func difference(y, b uint64, down uint) uint64 {
	v := int64((y>>down-b>>down)<<down) >> down
	return uint64(v<<1) ^ uint64(v>>63)
}

// count16 counts the tokens of 16-bit elements.
func (d *deltaEncoder) count16(mid, base []byte, f *field) {
	n := len(mid) / 2
	base = base[:2*n]
	for i := 0; i+2 <= len(mid); i += 2 {
		x, b := binary.LittleEndian.Uint16(mid[i:]), binary.LittleEndian.Uint16(base[i:])
		z := difference16(x, b)
		extra := uint(bits.Len16(z|8)) - 4
		d.counts[d.class[uint64(b)>>(f.exponent&15)&f.mask]&(slots-1)][uint8(extra<<3+uint(z>>(extra&15)))]++
	}
}

func difference16(x, b uint16) uint16 {
	x ^= uint16(int16(x)>>15) | 0x8000
	b ^= uint16(int16(b)>>15) | 0x8000
	v := int16(x - b)
	return uint16(v<<1) ^ uint16(v>>15)
}

// stream16 appends the codes of 16-bit elements without quiet classes. dst has
// the room.
func (d *deltaEncoder) stream16(dst, mid, base []byte, f *field) []byte {
	at := len(dst)
	dst = dst[:cap(dst)]
	base = base[:len(mid)]
	var acc uint64
	var n uint
	for i := 0; i+2 <= len(mid); i += 2 {
		x, b := binary.LittleEndian.Uint16(mid[i:]), binary.LittleEndian.Uint16(base[i:])
		z := difference16(x, b)
		extra := uint(bits.Len16(z|8)) - 4
		c := d.codes[d.class[uint64(b)>>(f.exponent&15)&f.mask]&(slots-1)][uint8(extra<<3+uint(z>>(extra&15)))]
		acc |= (c.bits() | uint64(z&(1<<(extra&15)-1))<<(c.len()&63)) << (n & 63)
		n += c.len() + extra // at most 7 + 10 + 12, and the same again
		if n >= 32 {
			binary.LittleEndian.PutUint32(dst[at:], uint32(acc))
			at += 4
			acc >>= 32
			n -= 32
		}
	}
	for ; n > 0; n -= min(n, 8) {
		dst[at] = byte(acc)
		at++
		acc >>= 8
	}
	return dst[:at]
}

// stream appends the codes of any elements. dst has the room.
func (d *deltaEncoder) stream(dst, mid, base []byte, f *field) []byte {
	w := bitWriter{b: dst}
	down := 64 - uint(8*f.width) + uint(d.head.shift)
	var zeros [classes]int64 // left of the run; -1 when the next one begins
	for c := range zeros {
		zeros[c] = -1
	}
	for i := 0; i < len(mid); i += f.width {
		c := d.class[f.exp(base[i:])]
		z := difference(f.ordered(mid[i:]), f.ordered(base[i:]), down)
		if d.head.quiet>>c&1 == 1 {
			if zeros[c] < 0 {
				r := d.runs[c][0]
				d.runs[c] = d.runs[c][1:]
				w.token(uint64(r), 3, &d.rcodes[c])
				zeros[c] = int64(r)
			}
			if zeros[c]--; zeros[c] >= 0 {
				continue
			}
		}
		w.token(z, f.mantissa, &d.codes[c])
	}
	return w.end()
}

// measureRuns lists the runs of zeros of the quiet classes, those of each
// quarter for themselves. A run ends with another element, or with the quarter.
func (d *deltaEncoder) measureRuns(mid, base []byte, f *field) {
	for c := range d.runs {
		d.runs[c] = d.runs[c][:0:0]
	}
	n := len(mid) / f.width
	for q := range 4 {
		from, to := quarterOf(n, q)
		var run [classes]uint32
		for i := from * f.width; i < to*f.width; i += f.width {
			c := d.class[f.exp(base[i:])]
			if d.head.quiet>>c&1 == 0 {
				continue
			}
			if f.load(mid[i:]) == f.load(base[i:]) {
				run[c]++
				continue
			}
			d.runs[c] = append(d.runs[c], run[c])
			run[c] = 0
		}
		for c, r := range run {
			if r > 0 {
				d.runs[c] = append(d.runs[c], r)
			}
		}
	}
}

// commonZeros returns how many low bits are zero in all elements of both.
func commonZeros(mid, base []byte, f *field) uint8 {
	var all uint64
	for i := 0; i < len(mid); i += f.width {
		if all |= f.load(mid[i:]) | f.load(base[i:]); all>>(64-8*f.width)&1 == 1 {
			return 0 // as almost always
		}
	}
	return uint8(min(bits.TrailingZeros64(all)-(64-8*f.width), 8*f.width-1))
}

// topExponent returns the highest exponent of base that is not rare: with those
// above it one element in 512.
func topExponent(base []byte, f *field) int {
	var h [2048]uint32
	n := 0
	for i := 0; i < len(base); i += f.width * 4 { // one in four
		h[f.exp(base[i:])]++
		n++
	}
	above := 0
	for e := int(f.mask); e > 0; e-- {
		if above += int(h[e]); above > n/512 {
			return e
		}
	}
	return 0
}

// bitWriter appends bits to b, from the low one up. b needs the room.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint
}

// put appends the low n bits of v, at most 32; the others are zero.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

// token appends a value's token and extra bits.
func (w *bitWriter) token(z uint64, mantissa uint, codes *[256]code) {
	t, extra := token(z, mantissa)
	c := codes[t]
	w.put(c.bits(), c.len())
	rest := z & (1<<extra - 1)
	if extra > 32 {
		w.put(rest&(1<<32-1), 32)
		rest >>= 32
		extra -= 32
	}
	w.put(rest, extra)
}

func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc))
	}
	return w.b
}
