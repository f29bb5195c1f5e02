package codec

import (
	"encoding/binary"
	"math/bits"
)

// deltaEncoder keeps what encoding a delta needs.
type deltaEncoder struct {
	head   deltaHead
	class  classOf
	low    [4096]uint8 // tokens of the lowest differences
	index  []uint16    // class and token of each element
	counts [slots << 8]uint32
	others [slots << 8]uint32 // of every other element: equal ones don't wait for each other
	runs   [classes][]uint32  // of the quiet classes: their runs, in order
	codes  [slots << 8]tokenCode
	rcodes [classes][256]code
}

// tokenCode has what coding an element takes: shifted up by bits 0 to 4, its
// difference added, and shifted down by 11, it is the code and the extra bits,
// as many as bits 5 to 10 say. For that, what is above is the code less the
// token's least difference behind it; it may well be negative.
type tokenCode uint64

func (e tokenCode) of(z uint64) uint64 { return (z<<(e&31) + uint64(e)) >> 11 }
func (e tokenCode) len() uint          { return uint(e >> 5 & 63) }

// quietShare is from which share of zeros on, in hundredths, a class stores
// runs: below about one bit an element a prefix code loses to its whole bits.
const quietShare = 58

// deltas returns the delta encoder.
func (e *Encoder) deltas() *deltaEncoder {
	if e.delta == nil {
		e.delta = new(deltaEncoder)
		for z := range e.delta.low {
			e.delta.low[z], _ = token(uint64(z), 3)
		}
	}
	return e.delta
}

// appendDelta appends plain as a delta to base, which is as long.
func (e *Encoder) appendDelta(dst, plain, base []byte, k Kind) []byte {
	d, f := e.deltas(), k.Elem.field()
	mid, n := whole(plain, k.Lead, f.width)
	bmid, _ := whole(base, k.Lead, f.width)
	dst = k.appendHead(dst)
	dst = append(dst, plain[:k.Lead]...)
	dst = append(dst, plain[k.Lead+len(mid):]...)
	e.grow(len(mid))
	z := e.parts
	d.measure(z, mid, bmid, &f)
	dst = d.head.append(dst)
	sizes := len(dst) - 12
	var runs [classes][]uint32
	copy(runs[:], d.runs[:])
	for i := range 4 {
		at := len(dst)
		from, to := quarterOf(n, i)
		dst = room(dst, d.most(to-from, &f))
		z, index := z[from*f.width:to*f.width], d.index[from:to]
		switch {
		case f.width == 2 && d.head.quiet == 0:
			dst = d.stream16(dst, z, index)
		case f.width == 2:
			dst = stream[uint16](d, dst, z, index, &runs)
		case f.width == 4:
			dst = stream[uint32](d, dst, z, index, &runs)
		default:
			dst = stream[uint64](d, dst, z, index, &runs)
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

// most bounds the bytes of a stream of n elements: at most 10 bits of a token
// and the extra bits, and for quiet ones a run behind each and one at first.
func (d *deltaEncoder) most(n int, f *field) int {
	each := tokenBits + 8*f.width
	if d.head.quiet != 0 {
		each += tokenBits + 18
	}
	return n*each/8 + 4*classes + 24
}

// measure fills z with differences, counts their tokens, and chooses classes
// and codes.
func (d *deltaEncoder) measure(z, mid, base []byte, f *field) {
	h := &d.head
	*h = deltaHead{shift: commonZeros(mid, base, f), top: uint16(topExponent(base, f))}
	d.begin(f, int(h.top), len(mid)/f.width)
	d.add(z, d.index, mid, base, f, uint(h.shift))
	d.end()
	for c := range classes {
		counts := (*[256]uint32)(d.counts[c<<8:])
		var total uint32
		for _, n := range counts {
			total += n
		}
		if total == 0 {
			continue
		}
		h.used |= 1 << c
		if total >= minHuffman && uint64(counts[0])*100 > quietShare*uint64(total) {
			h.quiet |= 1 << c
			counts[0] = 0
		}
		h.token[c].set(counts)
		h.token[c].tokenCodes((*[256]tokenCode)(d.codes[c<<8:]), f)
	}
	if h.quiet == 0 {
		return
	}
	d.measureRuns()
	for c := range classes {
		if h.quiet>>c&1 == 1 {
			var counts [256]uint32
			for _, r := range d.runs[c] {
				t, _ := token(uint64(r), runMantissa)
				counts[t]++
			}
			h.run[c].set(&counts)
			h.run[c].codes(&d.rcodes[c])
		}
	}
}

// begin makes ready for counting n elements.
func (d *deltaEncoder) begin(f *field, top, n int) {
	d.class.set(f, top, 8)
	clear(d.counts[:classes<<8])
	clear(d.others[:classes<<8])
	if cap(d.index) < n {
		d.index = make([]uint16, n)
	}
	d.index = d.index[:n]
}

// add fills z with differences and index with classes and tokens, and counts
// them.
func (d *deltaEncoder) add(z []byte, index []uint16, mid, base []byte, f *field, shift uint) {
	switch f.width {
	case 2:
		if shift == 0 {
			subtract16(z, mid, base)
		} else {
			subtract[uint16](z, mid, base, shift)
		}
		d.index16(z, index, base, f)
	case 4:
		if shift == 0 {
			subtract32(z, mid, base)
		} else {
			subtract[uint32](z, mid, base, shift)
		}
		indexOf[uint32](d, z, index, base, f)
	default:
		subtract[uint64](z, mid, base, shift)
		indexOf[uint64](d, z, index, base, f)
	}
}

// end adds up the counts.
func (d *deltaEncoder) end() {
	for i, n := range d.others[:classes<<8] {
		d.counts[i] += n
	}
}

// indexOf fills index for the differences z.
func indexOf[T word](d *deltaEncoder, z []byte, index []uint16, base []byte, f *field) {
	shift, mask, mantissa := f.exponent&63, f.mask, f.mantissa&3
	w := int(bitsOf[T]() / 8)
	for i := range index {
		t, _ := token(uint64(load[T](z[i*w:i*w+w])), mantissa)
		x := d.class[uint64(load[T](base[i*w:i*w+w]))>>shift&mask&2047] | uint16(t)
		index[i] = x
		d.counts[x&(slots<<8-1)]++
	}
}

// index16 is indexOf for 16 bits.
func (d *deltaEncoder) index16(z []byte, index []uint16, base []byte, f *field) {
	i := 0
	shift := f.exponent & 15
	for ; i+4 <= len(index); i += 4 {
		q := binary.LittleEndian.Uint64(z[2*i : 2*i+8 : 2*i+8])
		if q&(0xf000*lanes) != 0 {
			indexOf[uint16](d, z[2*i:2*i+8], index[i:i+4], base[2*i:2*i+8], f)
			continue
		}
		b := binary.LittleEndian.Uint64(base[2*i:2*i+8:2*i+8]) >> shift
		x := index[i : i+4 : i+4]
		x0 := d.class[b&255] | uint16(d.low[q&4095])
		x1 := d.class[b>>16&255] | uint16(d.low[q>>16&4095])
		x2 := d.class[b>>32&255] | uint16(d.low[q>>32&4095])
		x3 := d.class[b>>48&255] | uint16(d.low[q>>48&4095])
		x[0], x[1], x[2], x[3] = x0, x1, x2, x3
		d.counts[x0&(slots<<8-1)]++
		d.others[x1&(slots<<8-1)]++
		d.counts[x2&(slots<<8-1)]++
		d.others[x3&(slots<<8-1)]++
	}
	indexOf[uint16](d, z[2*i:], index[i:], base[2*i:], f)
}

// tokenCodes fills c with what coding the table's tokens takes.
func (t *deltaTable) tokenCodes(c *[256]tokenCode, f *field) {
	var codes [256]code
	t.codes(&codes)
	for s := range codes {
		base, extra := tokenBase(uint8(s), f.mantissa)
		n := codes[s].len()
		c[s] = tokenCode((codes[s].bits()-base<<n)<<11 | uint64(n+extra)&63<<5 | uint64(n+11))
	}
}

// stream16 appends the codes of 16-bit elements without quiet classes. dst has
// the room.
func (d *deltaEncoder) stream16(dst, z []byte, index []uint16) []byte {
	at := len(dst)
	dst = dst[:cap(dst)]
	var acc uint64
	var n uint
	i := 0
	for ; i+4 <= len(index); i += 4 {
		q, x := binary.LittleEndian.Uint64(z[2*i:2*i+8:2*i+8]), index[i:i+4:i+4]
		a, b, c, e := d.codes[x[0]&(slots<<8-1)], d.codes[x[1]&(slots<<8-1)], d.codes[x[2]&(slots<<8-1)], d.codes[x[3]&(slots<<8-1)]
		ab, ce := a.len()+b.len(), c.len()+e.len() // at most 44 each, but mostly all fits at once
		acc |= (a.of(q&0xffff) | b.of(q>>16&0xffff)<<(a.len()&63)) << (n & 63)
		n += ab
		if n+ce > 63 {
			binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
			at += int(n >> 3)
			acc >>= n & 56
			n &= 7
		}
		acc |= (c.of(q>>32&0xffff) | e.of(q>>48)<<(c.len()&63)) << (n & 63)
		n += ce
		binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	for ; i < len(index); i++ {
		e := d.codes[index[i]&(slots<<8-1)]
		at, acc, n = putBits(dst, at, acc, n, e.of(uint64(load[uint16](z[2*i:]))), e.len())
	}
	return endBits(dst, at, acc, n)
}

// stream appends the codes of any elements. dst has the room.
func stream[T word](d *deltaEncoder, dst, z []byte, index []uint16, runs *[classes][]uint32) []byte {
	at := len(dst)
	dst = dst[:cap(dst)]
	var acc uint64
	var n uint
	width := int(bitsOf[T]() / 8)
	// How many elements of each class are left to the next one that has a
	// code, that one included.
	var left [slots]uint32
	run := func(c uint16) (v uint64, more uint) {
		r := runs[c][0]
		runs[c] = runs[c][1:]
		t, extra := token(uint64(r), runMantissa)
		e := d.rcodes[c][t]
		left[c] = r + 1
		return e.bits() | uint64(r)&(1<<extra-1)<<(e.len()&63), e.len() + extra
	}
	var quiet [slots]bool
	for c := range uint16(classes) {
		if quiet[c] = d.head.quiet>>c&1 == 1; quiet[c] {
			v, more := run(c)
			at, acc, n = putBits(dst, at, acc, n, v, more)
		}
	}
	for i, x := range index {
		c := x >> 8 & (slots - 1)
		if left[c] > 1 {
			left[c]--
			continue
		}
		e := d.codes[x&(slots<<8-1)]
		v := uint64(load[T](z[i*width : i*width+width]))
		if bitsOf[T]() < 64 {
			at, acc, n = putBits(dst, at, acc, n, e.of(v), e.len())
		} else {
			// Up to 61 extra bits: in two parts.
			k := uint(e&31) - 11
			_, extra := tokenBase(uint8(x), 2)
			v &= 1<<extra - 1
			at, acc, n = putBits(dst, at, acc, n, uint64(e)>>11&(1<<k-1)|v&(1<<32-1)<<(k&63), k+min(extra, 32))
			at, acc, n = putBits(dst, at, acc, n, v>>32, max(extra, 32)-32)
		}
		if quiet[c] {
			v, more := run(c)
			at, acc, n = putBits(dst, at, acc, n, v, more)
		}
	}
	return endBits(dst, at, acc, n)
}

// measureRuns lists the runs of zeros of the quiet classes, those of each
// quarter for themselves: the one before each other element, and the last one.
func (d *deltaEncoder) measureRuns() {
	for c := range d.runs {
		d.runs[c] = d.runs[c][:0]
	}
	var quiet [slots]bool
	for c := range classes {
		quiet[c] = d.head.quiet>>c&1 == 1
	}
	for q := range 4 {
		from, to := quarterOf(len(d.index), q)
		var run [slots]uint32
		for _, x := range d.index[from:to] {
			c := x >> 8 & (slots - 1)
			if x&255 == 0 {
				run[c]++
			} else if quiet[c] {
				d.runs[c] = append(d.runs[c], run[c])
				run[c] = 0
			}
		}
		for c, r := range run {
			if quiet[c] {
				d.runs[c] = append(d.runs[c], r)
			}
		}
	}
}

// commonZeros returns how many low bits are zero in all elements of both, at
// most all but one. It gives up at the first that has none, as almost always.
func commonZeros(mid, base []byte, f *field) uint8 {
	low := uint64(1) // of each element in 8 bytes
	for w := f.width; w < 8; w *= 2 {
		low |= low << (8 * w)
	}
	var all uint64
	i := 0
	for ; i+8 <= len(mid); i += 8 {
		all |= binary.LittleEndian.Uint64(mid[i:i+8]) | binary.LittleEndian.Uint64(base[i:i+8])
		if all&low != 0 {
			return 0
		}
	}
	for ; i < len(mid); i += f.width {
		all |= (f.load(mid[i:]) | f.load(base[i:])) >> (64 - 8*f.width)
	}
	for w := 4; w >= f.width; w /= 2 {
		all |= all >> (8 * w)
	}
	return uint8(min(bits.TrailingZeros64(all), 8*f.width-1))
}

// topExponent returns the highest exponent of base that is not rare: with those
// above it one element in 512, of those that it looks at.
func topExponent(base []byte, f *field) int {
	var h [2048]uint16
	const stretch = 64
	n, seen := len(base)/f.width, 0
	for at := 0; at < n; at += max(n/(2*sampled/stretch), stretch) {
		for i := at; i < min(at+stretch, n); i++ {
			h[f.exp(base[i*f.width:])]++
			seen++
		}
	}
	above := 0
	for e := int(f.mask); e > 0; e-- {
		if above += int(h[e]); above > seen/512 {
			return e
		}
	}
	return 0
}

// putBits writes the low more bits of v, at most 57, the others being zero, to b
// at at, behind n bits of acc, at most 7. It returns these three as they are
// then: in a struct they would not stay in registers. b needs 8 bytes of room.
func putBits(b []byte, at int, acc uint64, n uint, v uint64, more uint) (int, uint64, uint) {
	acc |= v << (n & 63)
	n += more
	binary.LittleEndian.PutUint64(b[at:at+8:at+8], acc)
	return at + int(n>>3), acc >> (n & 56), n & 7
}

// endBits writes what is left over, and returns b up to there.
func endBits(b []byte, at int, acc uint64, n uint) []byte {
	if n > 0 {
		b[at] = byte(acc)
		at++
	}
	return b[:at]
}
