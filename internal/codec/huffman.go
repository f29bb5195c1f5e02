package codec

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Huffman coding of bytes, as docs/format.md, "Code lengths", specifies it:
// canonical codes of at most maxBits bits, written from the low bit up. It is
// our own because the bytes on disk then depend on no library's version, and
// because a table that yields several symbols a look-up decodes exponents at
// about twice the speed of the library's (docs/codec.md has the figures).

// maxBits is the longest code. 11 keeps the decoding table at 2,048 entries,
// within the L1 cache; on exponents it costs under 0.1% against no limit.
const maxBits = 11

// code is a symbol's bits in the low 16, and how many they are above.
type code uint32

func (c code) bits() uint64 { return uint64(c & 0xffff) }
func (c code) len() uint    { return uint(c >> 16) }

// lengths are the code lengths of the symbols, 0 for one that does not occur.
type lengths [256]uint8

// makeLengths computes the lengths of an optimal prefix code for the counts,
// none longer than limit. At least two counts must not be zero. Its method is
// the two queues of van Leeuwen (1976), then Kraft's sum brought down by
// lengthening the rarest symbols first.
func makeLengths(l *lengths, counts *[256]uint32, limit uint8) {
	*l = lengths{}
	var leaves [256]uint32 // symbols, the rarest first
	n := 0
	for s, c := range counts {
		if c > 0 {
			leaves[n] = uint32(s)
			n++
		}
	}
	slices.SortFunc(leaves[:n], func(a, b uint32) int {
		return cmp.Or(cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b))
	})
	// Nodes 0 to n-1 are leaves, the others inner ones in the order of their
	// weights.
	var weight [511]uint64
	var parent [511]uint16
	for i := range n {
		weight[i] = uint64(counts[leaves[i]])
	}
	leaf, inner := 0, n
	for next := n; next < 2*n-1; next++ {
		for range 2 {
			i := leaf
			if leaf < n && (inner >= next || weight[leaf] <= weight[inner]) {
				leaf++
			} else {
				i = inner
				inner++
			}
			weight[next] += weight[i]
			parent[i] = uint16(next)
		}
	}
	var depth [511]uint8
	kraft, full := 0, 1<<limit
	for i := 2*n - 3; i >= 0; i-- {
		depth[i] = depth[parent[i]] + 1
		if i < n {
			d := min(depth[i], limit)
			l[leaves[i]] = d
			kraft += full >> d
		}
	}
	// Too long codes were cut, so the sum may be over: lengthen others, the
	// rarest first, the ones just below the limit at the least cost.
	for d := limit - 1; kraft > full; d-- {
		for i := 0; i < n && kraft > full; i++ {
			for s := leaves[i]; l[s] == d && kraft > full; {
				kraft -= full>>d - full>>(d+1)
				l[s]++
			}
		}
		if d == 1 {
			d = limit // once more: what was lengthened can be lengthened again
		}
	}
	// What is left over shortens the most frequent that it suffices for.
	for kraft < full {
		for i := n - 1; i >= 0; i-- {
			if s := leaves[i]; l[s] > 1 && kraft+full>>l[s] <= full {
				kraft += full >> l[s]
				l[s]--
			}
		}
	}
}

// complete reports whether the lengths make a complete prefix code.
func (l *lengths) complete(limit uint8) bool {
	kraft := 0
	for _, n := range l {
		if n > limit {
			return false
		}
		if n > 0 {
			kraft += 1 << (limit - n)
		}
	}
	return kraft == 1<<limit
}

// codes assigns the canonical codes: shorter before longer, then by symbol,
// the first one all zeros, each with its bits reversed.
func (l *lengths) codes(t *[256]code) {
	var next [maxBits + 2]uint16
	for _, n := range l {
		if n > 0 {
			next[n+1]++
		}
	}
	for n := 2; n < len(next); n++ {
		next[n] = (next[n] + next[n-1]) << 1
	}
	// next[n] now begins the codes of length n: those of n-1, doubled.
	for s, n := range l {
		if n == 0 {
			t[s] = 0
			continue
		}
		t[s] = code(bits.Reverse16(next[n])>>(16-n)) | code(n)<<16
		next[n]++
	}
}

// append writes the lengths: the first symbol that has a code, the last one,
// and four bits for each between.
func (l *lengths) append(b []byte) []byte {
	first, last := 0, 255
	for l[first] == 0 {
		first++
	}
	for l[last] == 0 {
		last--
	}
	b = append(b, byte(first), byte(last))
	for s := first; s <= last; s += 2 {
		pair := l[s]
		if s < last {
			pair |= l[s+1] << 4
		}
		b = append(b, pair)
	}
	return b
}

// parseLengths reads what append wrote and returns the rest.
func parseLengths(l *lengths, b []byte, limit uint8) ([]byte, error) {
	*l = lengths{}
	if len(b) < 2 || b[0] >= b[1] {
		return nil, damaged("code lengths: no range of symbols")
	}
	first, last := int(b[0]), int(b[1])
	n := (last-first)/2 + 1
	if b = b[2:]; len(b) < n {
		return nil, damaged("code lengths: cut short")
	}
	for i, pair := range b[:n] {
		s := first + 2*i
		l[s] = pair & 15
		if s < last {
			l[s+1] = pair >> 4
		} else if pair>>4 != 0 {
			return nil, damaged("code lengths: a length beyond the last symbol")
		}
	}
	if l[first] == 0 || l[last] == 0 || !l.complete(limit) {
		return nil, damaged("code lengths: not a complete prefix code")
	}
	return b[n:], nil
}

// cost returns the bits that coding these counts takes.
func (l *lengths) cost(counts *[256]uint32) (total uint64) {
	for s, c := range counts {
		total += uint64(c) * uint64(l[s])
	}
	return total
}

// pairLimit is up to how many symbols pairs of them are coded at once: the table
// of pairs takes 0.1 ms to fill at 256 symbols, and outgrows the cache.
const pairLimit = 64

// pairs has the codes of two symbols, the first one in the low byte of the
// index: their bits from bit 8 up, how many they are below. Entries of symbols
// that do not occur are left over from other codes.
type pairs [1 << 16]uint32

// set fills the table for the codes of the symbols, and reports whether there
// are few enough for n symbols to repay that.
func (t *pairs) set(codes *[256]code, n int) bool {
	var used [256]uint8
	k := 0
	for s, c := range codes {
		if c != 0 {
			used[k] = uint8(s)
			k++
		}
	}
	if k > pairLimit || 4*k*k > n {
		return false
	}
	for _, b := range used[:k] {
		d := codes[b]
		row := t[int(b)<<8 : int(b)<<8+256 : int(b)<<8+256]
		for _, a := range used[:k] {
			c := codes[a]
			row[a] = uint32(c.bits()|d.bits()<<(c.len()&63))<<8 | uint32(c.len()+d.len())
		}
	}
	return true
}

// encode appends the codes of p to dst, which must have room for
// len(p)*maxBits/8 + 16 bytes more. t is for the same codes.
func (t *pairs) encode(dst, p []byte, codes *[256]code) []byte {
	at := len(dst)
	dst = dst[:cap(dst)]
	var acc uint64
	var n uint
	i := 0
	for ; i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i : i+8 : i+8])
		a, b, c, d := t[w&0xffff], t[w>>16&0xffff], t[w>>32&0xffff], t[w>>48]
		ab, cd := uint64(a>>8)|uint64(b>>8)<<(a&63), uint64(c>>8)|uint64(d>>8)<<(c&63)
		nab, ncd := uint(a+b)&255, uint(c+d)&255 // at most 44 each, but mostly all fits at once
		acc |= ab << (n & 63)
		if n+nab+ncd > 63 {
			binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
			n += nab
			at += int(n >> 3)
			acc >>= n & 56
			n &= 7
			nab = 0
		}
		n += nab
		acc |= cd << (n & 63)
		n += ncd
		binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	return encodeHuffman(dst[:at], p[i:], codes, acc, n)
}

// encodeHuffman appends n bits of acc, at most 7, and the codes of p to dst,
// which must have room for len(p)*maxBits/8 + 16 bytes more.
func encodeHuffman(dst, p []byte, t *[256]code, acc uint64, n uint) []byte {
	at := len(dst)
	dst = dst[:cap(dst)]
	i := 0
	for ; i+4 <= len(p); i += 4 {
		// Joined in pairs first: only one step of each round waits for the
		// one before it.
		w := binary.LittleEndian.Uint32(p[i : i+4 : i+4])
		a, b, c, d := t[w&255], t[w>>8&255], t[w>>16&255], t[w>>24]
		ab := a.bits() | b.bits()<<(a.len()&63)
		cd := c.bits() | d.bits()<<(c.len()&63)
		nab := a.len() + b.len()
		acc |= (ab | cd<<(nab&63)) << (n & 63)
		n += nab + c.len() + d.len() // at most 7 + 4*11
		binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	for _, s := range p[i:] {
		c := t[s]
		acc |= c.bits() << (n & 63)
		n += c.len()
		binary.LittleEndian.PutUint64(dst[at:at+8:at+8], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	if n > 0 {
		dst[at] = byte(acc)
		at++
	}
	return dst[:at]
}

// multi is a decoding table: the low bits of the stream give up to four
// symbols at once. An entry has the bits that they take in its bits 0 to 7,
// their number in 8 to 15, the bits that the first one takes in 16 to 23, and
// the symbols from 32 up.
type multi [1 << maxBits]uint64

// build fills the table with up to most symbols an entry, 1 to 4.
func (m *multi) build(l *lengths, most int) {
	var t [256]code
	l.codes(&t)
	for s, c := range t {
		if c == 0 {
			continue
		}
		e := uint64(c.len()) | 1<<8 | uint64(c.len())<<16 | uint64(s)<<32
		for i, step := c.bits(), uint64(1)<<c.len(); i < 1<<maxBits; i += step {
			m[i] = e
		}
	}
	if most == 1 {
		return
	}
	var one [1 << maxBits]uint16
	for i, e := range m {
		one[i] = uint16(e&15) | uint16(e>>32)<<8
	}
	for i := range m {
		e := m[i]
		used := uint(e & 15)
		for k := 1; k < most; k++ {
			f := one[i>>used]
			n := uint(f & 15)
			if used+n > maxBits {
				break
			}
			e |= uint64(f>>8) << (32 + 8*k)
			used += n
			e = e&^0xffff | uint64(k+1)<<8 | uint64(used)
		}
		m[i] = e
	}
}

// decode fills d with the symbols of the stream that begins at bit from of
// src, and returns the bit behind it. src may end right behind it.
func (m *multi) decode(d, src []byte, from int) (int, error) {
	o, at := 0, from
	for o+20 <= len(d) && at>>3+8 <= len(src) {
		v := binary.LittleEndian.Uint64(src[at>>3:]) >> (at & 7)
		for range 5 { // 5 * 11 + 7 bits are there
			e := m[v&(1<<maxBits-1)]
			binary.LittleEndian.PutUint32(d[o:], uint32(e>>32))
			o += int(e >> 8 & 255)
			at += int(e & 255)
			v >>= e & 63
		}
	}
	return m.tail(d[o:], src, at)
}

// window is how much room decode2 wants for each of its streams. It is a power
// of two behind the 20 bytes of a round, so that masking an index spares its
// check.
const window = 36

// decode2 decodes two streams side by side, so that one's look-ups fill the
// time that the other's take. Each round takes five entries of each: at most
// 7 + 5*11 bits, 20 symbols. The sums s and t of entries have the bits taken
// and the symbols got in their low bytes; what overflows above is not used.
func (m *multi) decode2(d, e []byte, src []byte, at, bt int) (int, int, error) {
	o, q := 0, 0
	for o+window <= len(d) && q+window <= len(e) && at>>3+8 <= len(src) && bt>>3+8 <= len(src) {
		v := binary.LittleEndian.Uint64(src[at>>3:]) >> (at & 7)
		w := binary.LittleEndian.Uint64(src[bt>>3:]) >> (bt & 7)
		dd, ee := (*[window]byte)(d[o:]), (*[window]byte)(e[q:])
		x, y := m[v&(1<<maxBits-1)], m[w&(1<<maxBits-1)]
		binary.LittleEndian.PutUint32(dd[:], uint32(x>>32))
		binary.LittleEndian.PutUint32(ee[:], uint32(y>>32))
		s, t := x, y
		v, w = v>>(x&63), w>>(y&63)

		x, y = m[v&(1<<maxBits-1)], m[w&(1<<maxBits-1)]
		binary.LittleEndian.PutUint32(dd[s>>8&31:], uint32(x>>32))
		binary.LittleEndian.PutUint32(ee[t>>8&31:], uint32(y>>32))
		s, t = s+x, t+y
		v, w = v>>(x&63), w>>(y&63)

		x, y = m[v&(1<<maxBits-1)], m[w&(1<<maxBits-1)]
		binary.LittleEndian.PutUint32(dd[s>>8&31:], uint32(x>>32))
		binary.LittleEndian.PutUint32(ee[t>>8&31:], uint32(y>>32))
		s, t = s+x, t+y
		v, w = v>>(x&63), w>>(y&63)

		x, y = m[v&(1<<maxBits-1)], m[w&(1<<maxBits-1)]
		binary.LittleEndian.PutUint32(dd[s>>8&31:], uint32(x>>32))
		binary.LittleEndian.PutUint32(ee[t>>8&31:], uint32(y>>32))
		s, t = s+x, t+y
		v, w = v>>(x&63), w>>(y&63)

		x, y = m[v&(1<<maxBits-1)], m[w&(1<<maxBits-1)]
		binary.LittleEndian.PutUint32(dd[s>>8&31:], uint32(x>>32))
		binary.LittleEndian.PutUint32(ee[t>>8&31:], uint32(y>>32))
		s, t = s+x, t+y
		o, q = o+int(s>>8&255), q+int(t>>8&255)
		at, bt = at+int(s&255), bt+int(t&255)
	}
	at, err := m.decode(d[o:], src, at)
	if err != nil {
		return 0, 0, err
	}
	bt, err = m.decode(e[q:], src, bt)
	return at, bt, err
}

// tail decodes the last symbols one by one, within the bounds of src and d.
func (m *multi) tail(d, src []byte, at int) (int, error) {
	for i := range d {
		e := m[peek(src, at)&(1<<maxBits-1)]
		d[i] = byte(e >> 32)
		at += int(e >> 16 & 255)
	}
	if (at+7)>>3 > len(src) {
		return 0, damaged("huffman: the stream is cut short")
	}
	return at, nil
}

// peek returns the bits from at on, as many as there are, at most 57.
func peek(src []byte, at int) uint64 {
	i := at >> 3
	if i+8 <= len(src) {
		return binary.LittleEndian.Uint64(src[i:]) >> (at & 7)
	}
	var b [8]byte
	if i < len(src) {
		copy(b[:], src[i:])
	}
	return binary.LittleEndian.Uint64(b[:]) >> (at & 7)
}
