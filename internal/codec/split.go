package codec

import "encoding/binary"

// Splitting elements into planes and back: docs/format.md, "Planes". The first
// plane of a float holds its exponent, the sign is at the top of what follows.

// Lanes of 16 bits, of which these are parts.
const (
	lanes    = 0x0001000100010001
	laneLow  = 0x00ff * lanes
	laneHigh = 0xff00 * lanes
)

// ones has a one in each byte, and laneEven are the even ones of the lanes.
const (
	ones     = 0x0101010101010101
	laneEven = 0x0000ffff0000ffff
)

// split16 writes the high bytes of the rotated elements of p to hi and the low
// ones to lo, len(p)/2 each. Of each eight elements, as far as there are eight,
// it writes the first four to the even places and the last four to the odd
// ones: their order is 0, 4, 1, 5, 2, 6, 3, 7. An order of its own costs the
// codes of planes nothing, and spares moving bytes to their neighbours, which
// took more than half the time of decoding a frame.
func split16(hi, lo, p []byte, e Elem) {
	n := len(p) / 2
	hi, lo = hi[:n], lo[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		q := p[2*i : 2*i+16 : 2*i+16]
		a, b := binary.LittleEndian.Uint64(q), binary.LittleEndian.Uint64(q[8:])
		if e == BF16 {
			binary.LittleEndian.PutUint64(hi[i:i+8:i+8], a>>7&laneLow|b<<1&laneHigh)
			binary.LittleEndian.PutUint64(lo[i:i+8:i+8], a&(0x7f*lanes)|a>>8&(0x80*lanes)|b<<8&(0x7f00*lanes)|b&(0x8000*lanes))
			continue
		}
		a = a<<1&(0xf800*lanes) | a>>5&(0x0400*lanes) | a&(0x03ff*lanes)
		b = b<<1&(0xf800*lanes) | b>>5&(0x0400*lanes) | b&(0x03ff*lanes)
		binary.LittleEndian.PutUint64(hi[i:i+8:i+8], a>>8&laneLow|b&laneHigh)
		binary.LittleEndian.PutUint64(lo[i:i+8:i+8], a&laneLow|b<<8&laneHigh)
	}
	for ; i < n; i++ {
		r := rotate16(binary.LittleEndian.Uint16(p[2*i:]), e)
		hi[i], lo[i] = byte(r>>8), byte(r)
	}
}

// merge16 is split16's inverse.
func merge16(p, hi, lo []byte, e Elem) {
	n := len(p) / 2
	hi, lo = hi[:n], lo[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		q := p[2*i : 2*i+16 : 2*i+16]
		h, l := binary.LittleEndian.Uint64(hi[i:i+8:i+8]), binary.LittleEndian.Uint64(lo[i:i+8:i+8])
		if e == BF16 {
			binary.LittleEndian.PutUint64(q, h&laneLow<<7|l&(0x7f*lanes)|l&(0x80*lanes)<<8)
			binary.LittleEndian.PutUint64(q[8:], h>>1&(0x7f80*lanes)|l>>8&(0x7f*lanes)|l&(0x8000*lanes))
			continue
		}
		a, b := h&laneLow<<8|l&laneLow, h&laneHigh|l>>8&laneLow
		binary.LittleEndian.PutUint64(q, a>>1&(0x7c00*lanes)|a<<5&(0x8000*lanes)|a&(0x03ff*lanes))
		binary.LittleEndian.PutUint64(q[8:], b>>1&(0x7c00*lanes)|b<<5&(0x8000*lanes)|b&(0x03ff*lanes))
	}
	for ; i < n; i++ {
		binary.LittleEndian.PutUint16(p[2*i:], restore16(uint16(hi[i])<<8|uint16(lo[i]), e))
	}
}

// rotate16 moves the sign of an element below its exponent.
func rotate16(x uint16, e Elem) uint16 {
	if e == BF16 {
		return x<<1&0xff00 | x>>8&0x80 | x&0x7f
	}
	return x<<1&0xf800 | x>>5&0x0400 | x&0x03ff
}

func restore16(r uint16, e Elem) uint16 {
	if e == BF16 {
		return r>>1&0x7f80 | r<<8&0x8000 | r&0x7f
	}
	return r>>1&0x7c00 | r<<5&0x8000 | r&0x03ff
}

func rotate32(x uint32) uint32  { return x<<1&0xff000000 | x>>8&0x00800000 | x&0x007fffff }
func restore32(r uint32) uint32 { return r>>1&0x7f800000 | r<<8&0x80000000 | r&0x007fffff }

// rotate64 has the low 8 bits of the exponent on top, its high 3, the sign and
// the mantissa below: weights seldom differ in the high ones.
func rotate64(x uint64) uint64 {
	return x<<4&(0xff<<56) | x>>7&(7<<53) | x>>11&(1<<52) | x&(1<<52-1)
}

func restore64(r uint64) uint64 {
	return r>>4&(0xff<<52) | r<<7&(7<<60) | r<<11&(1<<63) | r&(1<<52-1)
}

// split32 writes the bytes of the rotated elements, the highest first, to the
// four planes.
func split32(planes *[8][]byte, p []byte) {
	n := len(p) / 4
	a, b, c, d := planes[0][:n], planes[1][:n], planes[2][:n], planes[3][:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		q := p[4*i : 4*i+32 : 4*i+32]
		// Elements 0 and 4, 1 and 5, 2 and 6, 3 and 7.
		s := uint64(binary.LittleEndian.Uint32(q)) | uint64(binary.LittleEndian.Uint32(q[16:]))<<32
		t := uint64(binary.LittleEndian.Uint32(q[4:])) | uint64(binary.LittleEndian.Uint32(q[20:]))<<32
		u := uint64(binary.LittleEndian.Uint32(q[8:])) | uint64(binary.LittleEndian.Uint32(q[24:]))<<32
		v := uint64(binary.LittleEndian.Uint32(q[12:])) | uint64(binary.LittleEndian.Uint32(q[28:]))<<32
		// Bytes 0 and 2, and 1 and 3, of 0, 1, 4 and 5, then of the others.
		s, t = s&laneLow|t&laneLow<<8, s>>8&laneLow|t&laneHigh
		u, v = u&laneLow|v&laneLow<<8, u>>8&laneLow|v&laneHigh
		// Of all eight bytes 0, 2, 1 and 3.
		s, u = s&laneEven|u&laneEven<<16, s>>16&laneEven|u&^laneEven
		t, v = t&laneEven|v&laneEven<<16, t>>16&laneEven|v&^laneEven
		binary.LittleEndian.PutUint64(a[i:i+8:i+8], v&(0x7f*ones)<<1|u>>7&ones)
		binary.LittleEndian.PutUint64(b[i:i+8:i+8], v&(0x80*ones)|u&(0x7f*ones))
		binary.LittleEndian.PutUint64(c[i:i+8:i+8], t)
		binary.LittleEndian.PutUint64(d[i:i+8:i+8], s)
	}
	for ; i < n; i++ {
		r := rotate32(binary.LittleEndian.Uint32(p[4*i:]))
		a[i], b[i], c[i], d[i] = byte(r>>24), byte(r>>16), byte(r>>8), byte(r)
	}
}

// merge32 is split32's inverse.
func merge32(p []byte, planes *[8][]byte) {
	n := len(p) / 4
	a, b, c, d := planes[0][:n], planes[1][:n], planes[2][:n], planes[3][:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		q := p[4*i : 4*i+32 : 4*i+32]
		s, t := binary.LittleEndian.Uint64(d[i:i+8:i+8]), binary.LittleEndian.Uint64(c[i:i+8:i+8])
		x, y := binary.LittleEndian.Uint64(a[i:i+8:i+8]), binary.LittleEndian.Uint64(b[i:i+8:i+8])
		// Each step of split32 is its own inverse, but for the order.
		u, v := x&ones<<7|y&(0x7f*ones), x>>1&(0x7f*ones)|y&(0x80*ones)
		s, u = s&laneEven|u&laneEven<<16, s>>16&laneEven|u&^laneEven
		t, v = t&laneEven|v&laneEven<<16, t>>16&laneEven|v&^laneEven
		s, t = s&laneLow|t&laneLow<<8, s>>8&laneLow|t&laneHigh
		u, v = u&laneLow|v&laneLow<<8, u>>8&laneLow|v&laneHigh
		binary.LittleEndian.PutUint32(q, uint32(s))
		binary.LittleEndian.PutUint32(q[4:], uint32(t))
		binary.LittleEndian.PutUint32(q[8:], uint32(u))
		binary.LittleEndian.PutUint32(q[12:], uint32(v))
		binary.LittleEndian.PutUint32(q[16:], uint32(s>>32))
		binary.LittleEndian.PutUint32(q[20:], uint32(t>>32))
		binary.LittleEndian.PutUint32(q[24:], uint32(u>>32))
		binary.LittleEndian.PutUint32(q[28:], uint32(v>>32))
	}
	for ; i < n; i++ {
		r := uint32(a[i])<<24 | uint32(b[i])<<16 | uint32(c[i])<<8 | uint32(d[i])
		binary.LittleEndian.PutUint32(p[4*i:], restore32(r))
	}
}

// split64 is split32 for eight planes.
func split64(planes *[8][]byte, p []byte) {
	n, i := len(p)/8, 0
	for ; i+8 <= n; i += 8 {
		var x [8]uint64
		q := (*[64]byte)(p[8*i:])
		for k := range x {
			x[k] = rotate64(binary.LittleEndian.Uint64(q[8*k:]))
		}
		transpose(&x)
		for k := range x {
			binary.LittleEndian.PutUint64(planes[7-k][i:], x[k])
		}
	}
	for ; i < n; i++ {
		r := rotate64(binary.LittleEndian.Uint64(p[8*i:]))
		for k := range planes {
			planes[k][i] = byte(r >> (56 - 8*k))
		}
	}
}

// merge64 is split64's inverse.
func merge64(p []byte, planes *[8][]byte) {
	n, i := len(p)/8, 0
	for ; i+8 <= n; i += 8 {
		var x [8]uint64
		for k := range x {
			x[k] = binary.LittleEndian.Uint64(planes[7-k][i:])
		}
		transpose(&x)
		q := (*[64]byte)(p[8*i:])
		for k := range x {
			binary.LittleEndian.PutUint64(q[8*k:], restore64(x[k]))
		}
	}
	for ; i < n; i++ {
		var r uint64
		for _, q := range planes {
			r = r<<8 | uint64(q[i])
		}
		binary.LittleEndian.PutUint64(p[8*i:], restore64(r))
	}
}

// transpose makes rows of bytes columns (Warren, Hacker's Delight, 7-3).
func transpose(x *[8]uint64) {
	for i := 0; i < 8; i += 2 {
		x[i], x[i+1] = exchange(x[i], x[i+1], 8, laneLow)
	}
	for _, i := range [...]int{0, 1, 4, 5} {
		x[i], x[i+2] = exchange(x[i], x[i+2], 16, laneEven)
	}
	for i := range 4 {
		x[i], x[i+4] = exchange(x[i], x[i+4], 32, 1<<32-1)
	}
}

// exchange swaps the bits of y in mask with those of x that lie by higher.
func exchange(x, y uint64, by uint, mask uint64) (uint64, uint64) {
	t := (x>>(by&63) ^ y) & mask
	return x ^ t<<(by&63), y ^ t
}
