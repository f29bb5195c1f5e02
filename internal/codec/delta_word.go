package codec

import (
	"encoding/binary"
	"math/bits"
)

// word is the bits of an element. The functions for words are generic, not
// methods of field, so that the compiler makes one of each for every width.
type word interface{ uint16 | uint32 | uint64 }

// bitsOf returns the width of a word: a constant to the compiler. (A shift by
// the whole width in one is taken for a mistake.)
func bitsOf[T word]() uint {
	if ^T(0)>>8>>8 == 0 {
		return 16
	} else if ^T(0)>>8>>8>>8>>8 == 0 {
		return 32
	}
	return 64
}

// load returns the element that begins p.
func load[T word](p []byte) T {
	switch bitsOf[T]() {
	case 16:
		return T(binary.LittleEndian.Uint16(p))
	case 32:
		return T(binary.LittleEndian.Uint32(p))
	}
	return T(binary.LittleEndian.Uint64(p))
}

// store sets the element that begins p.
func store[T word](p []byte, v T) {
	switch bitsOf[T]() {
	case 16:
		binary.LittleEndian.PutUint16(p, uint16(v))
	case 32:
		binary.LittleEndian.PutUint32(p, uint32(v))
	default:
		binary.LittleEndian.PutUint64(p, uint64(v))
	}
}

// flip returns the integer whose order, as a signed one, is that of the floats;
// it is its own inverse.
func flip[T word](x T) T { return x ^ -(x>>(bitsOf[T]()-1))>>1 }

// subtract fills z with the differences of the elements of p to those of base,
// their signs in the low bits. All have no bits below shift.
func subtract[T word](z, p, base []byte, shift uint) {
	mask, w := ^(T(1)<<shift - 1), int(bitsOf[T]()/8)
	for i := 0; i+w <= len(z); i += w {
		d := flip(load[T](p[i:i+w:i+w]))&mask - flip(load[T](base[i:i+w:i+w]))&mask
		sign := -(d >> (bitsOf[T]() - 1))
		store(z[i:i+w:i+w], (d^sign)>>shift<<1|sign&1)
	}
}

// add is subtract's inverse: it replaces the differences z.
func add[T word](z, base []byte, shift uint) {
	mask, w := ^(T(1)<<shift - 1), int(bitsOf[T]()/8)
	for i := 0; i+w <= len(z); i += w {
		d := load[T](z[i : i+w : i+w])
		d = d>>1 ^ -(d & 1)
		store(z[i:i+w:i+w], flip(flip(load[T](base[i:i+w:i+w]))&mask+d<<shift)&mask)
	}
}

// laneTop is the highest bit of each lane.
const laneTop = 0x8000 * lanes

// flip4 is flip in four lanes.
func flip4(x uint64) uint64 {
	sign := x & laneTop
	return x ^ (sign - sign>>15)
}

// subtract16 is subtract for 16 bits and no shift, four elements at once.
func subtract16(z, p, base []byte) {
	p, base = p[:len(z)], base[:len(z)]
	i := 0
	for ; i+8 <= len(z); i += 8 {
		x, b := flip4(binary.LittleEndian.Uint64(p[i:i+8:i+8])), flip4(binary.LittleEndian.Uint64(base[i:i+8:i+8]))
		d := (x | laneTop) - b&^laneTop ^ (x^^b)&laneTop
		binary.LittleEndian.PutUint64(z[i:i+8:i+8], d<<1&^lanes^d>>15&lanes*0xffff)
	}
	subtract[uint16](z[i:], p[i:], base[i:], 0)
}

// add16 is subtract16's inverse.
func add16(z, base []byte) {
	base = base[:len(z)]
	i := 0
	for ; i+8 <= len(z); i += 8 {
		d, b := binary.LittleEndian.Uint64(z[i:i+8:i+8]), flip4(binary.LittleEndian.Uint64(base[i:i+8:i+8]))
		d = d>>1&^laneTop ^ d&lanes*0xffff
		binary.LittleEndian.PutUint64(z[i:i+8:i+8], flip4(b&^laneTop+d&^laneTop^(b^d)&laneTop))
	}
	add[uint16](z[i:], base[i:], 0)
}

// Pairs of 32 bits, as lanes are four of 16.
const (
	pairLow = 0x0000000100000001
	pairTop = pairLow << 31
)

// flip2 is flip for pairs.
func flip2(x uint64) uint64 {
	sign := x & pairTop
	return x ^ (sign - sign>>31)
}

// subtract32 is subtract for 32 bits and no shift, two elements at once.
func subtract32(z, p, base []byte) {
	p, base = p[:len(z)], base[:len(z)]
	i := 0
	for ; i+8 <= len(z); i += 8 {
		x, b := flip2(binary.LittleEndian.Uint64(p[i:i+8:i+8])), flip2(binary.LittleEndian.Uint64(base[i:i+8:i+8]))
		d := (x | pairTop) - b&^pairTop ^ (x^^b)&pairTop
		binary.LittleEndian.PutUint64(z[i:i+8:i+8], d<<1&^pairLow^d>>31&pairLow*0xffffffff)
	}
	subtract[uint32](z[i:], p[i:], base[i:], 0)
}

// add32 is subtract32's inverse.
func add32(z, base []byte) {
	base = base[:len(z)]
	i := 0
	for ; i+8 <= len(z); i += 8 {
		d, b := binary.LittleEndian.Uint64(z[i:i+8:i+8]), flip2(binary.LittleEndian.Uint64(base[i:i+8:i+8]))
		d = d>>1&^pairTop ^ d&pairLow*0xffffffff
		binary.LittleEndian.PutUint64(z[i:i+8:i+8], flip2(b&^pairTop+d&^pairTop^(b^d)&pairTop))
	}
	add[uint32](z[i:], base[i:], 0)
}

// token splits z into a token and how many of its low bits follow as they are.
func token(z uint64, mantissa uint) (t uint8, extra uint) {
	extra = uint(bits.Len64(z|1<<(mantissa&7))) - 1 - mantissa
	return uint8(extra<<(mantissa&7) + uint(z>>(extra&63))), extra
}

// tokenBase is token's inverse: the least value of a token and its extra bits.
func tokenBase(t uint8, mantissa uint) (base uint64, extra uint) {
	if t >= 2<<mantissa {
		extra = uint(t)>>mantissa - 1
	}
	return (uint64(t) - uint64(extra)<<mantissa) << extra, extra
}
