package codec

import (
	"bytes"
	"encoding/binary"
)

// cast says how wide floats were made narrow.
type cast uint8

// The casts, the parameters of the codec.
const (
	castBF16  cast = 0 // fp32 to bf16, to nearest, ties to even
	castF16   cast = 1 // fp32 to fp16, to nearest, ties to even
	castTrunc cast = 2 // fp32 to bf16, the high half as it is
)

// narrow fills dst with the cast of the fp32 values in wide, twice as long.
func narrow(dst, wide []byte, c cast) {
	for i := range len(dst) / 2 {
		binary.LittleEndian.PutUint16(dst[2*i:], c.of(binary.LittleEndian.Uint32(wide[4*i:])))
	}
}

// of returns the cast of one value.
func (c cast) of(x uint32) uint16 {
	switch c {
	case castTrunc:
		return uint16(x >> 16)
	case castF16:
		return toF16(x)
	}
	if x&0x7fffffff > 0x7f800000 { // a NaN stays one
		return uint16(x>>16) | 0x40
	}
	return uint16((x + 0x7fff + x>>16&1) >> 16)
}

// toF16 rounds an fp32 to fp16, to nearest, ties to even (IEEE 754-2019, 4.3.1).
func toF16(x uint32) uint16 {
	sign := uint16(x >> 16 & 0x8000)
	m := x & 0x7fffffff
	switch {
	case m > 0x7f800000: // NaN: the payload's high bits, quiet
		return sign | 0x7e00 | uint16(m>>13&0x1ff)
	case m >= 0x477ff000: // rounds beyond the largest, 65504
		return sign | 0x7c00
	case m >= 0x38800000: // normal
		return sign | uint16((m-0x38000000+0xfff+m>>13&1)>>13)
	case m <= 0x33000000: // at most half the smallest
		return sign
	}
	// Denormal: the mantissa with its hidden bit, in units of 2^-24.
	shift := 126 - m>>23
	f := m&0x7fffff | 0x800000
	half := uint32(1) << (shift - 1)
	r := f >> shift
	if rest := f & (1<<shift - 1); rest > half || rest == half && r&1 == 1 {
		r++
	}
	return sign | uint16(r)
}

// appendCast looks for a cast that makes plain of wide.
func (e *Encoder) appendCast(dst, plain, wide []byte, skip uint32) (stored []byte, param uint8, ok bool) {
	if len(plain)%2 != 0 || len(wide) != 2*len(plain) {
		return nil, 0, false
	}
	if cap(e.back) < len(plain) {
		e.back = make([]byte, maxPlane)
	}
	const sample = 256
	n := min(len(plain), sample)
	for c := castBF16; c <= castTrunc; c++ {
		// Most frames are no cast: a look at the first values tells.
		if narrow(e.back[:n], wide[:2*n], c); !bytes.Equal(e.back[:n], plain[:n]) {
			continue
		}
		if narrow(e.back[:len(plain)], wide, c); bytes.Equal(e.back[:len(plain)], plain) {
			return binary.LittleEndian.AppendUint32(dst[:0], skip), uint8(c), true
		}
	}
	return nil, 0, false
}

// CastBase returns which bytes of the base a frame of n plain bytes is the cast
// of.
func CastBase(stored []byte, n int) (from, size int, err error) {
	if len(stored) != 4 || n%2 != 0 {
		return 0, 0, damaged("cast: %d stored bytes for %d plain ones", len(stored), n)
	}
	skip := binary.LittleEndian.Uint32(stored)
	if skip >= maxPlane {
		return 0, 0, damaged("cast: begins at %d of a frame", skip)
	}
	return int(skip), 2 * n, nil
}

// decodeCast fills dst from what CastBase said of the base.
func decodeCast(dst, stored, base []byte, param uint8) error {
	if _, size, err := CastBase(stored, len(dst)); err != nil {
		return err
	} else if len(base) != size || cast(param) > castTrunc {
		return damaged("cast: kind %d of %d bytes, to %d", param, len(base), len(dst))
	}
	narrow(dst, base, cast(param))
	return nil
}

// Narrow returns the fp32 with the bits x as a BF16 or F16, rounded to nearest.
func Narrow(x uint32, to Elem) uint16 {
	if to == F16 {
		return castF16.of(x)
	}
	return castBF16.of(x)
}
