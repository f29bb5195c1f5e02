package registry

import (
	"encoding/binary"
	"math"
)

// element tells how the bytes of a tensor are compared.
type element struct {
	fast  fast
	unit  Unit
	width int // bytes
	// change returns by how much b differs from a, in value, and false when
	// either is NaN or infinite. nil when they aren't numbers.
	change func(a, b []byte) (by float64, finite bool)
}

// fast says which loop of its own an element has.
type fast uint8

const (
	_ fast = iota // none
	fastF32
	fastBF16
)

// elementOf returns the elements of a dtype whose blocks, if it is quantised,
// have that many bytes. A size that isn't a whole number of them is compared
// by bytes: the file lies about its dtype, or it is one that isn't known.
func elementOf(dtype string, block int, size int64) element {
	e := elementOfDType(dtype)
	if e.width == 0 && block > 1 {
		e = element{unit: Blocks, width: block}
	}
	if e.width == 0 || size%int64(e.width) != 0 {
		return element{unit: Bytes, width: 1}
	}
	return e
}

// elementOfDType returns the zero element for what isn't known, and for types
// of less than a byte. Those that begin with ">" are numpy's big-endian ones.
func elementOfDType(dtype string) element {
	le, be := binary.LittleEndian, binary.BigEndian
	switch dtype {
	case "F64":
		return float64Of(le)
	case ">F8":
		return float64Of(be)
	case "F32":
		e := floatOf(4, func(b []byte) float64 { return float32At(b, le) })
		e.fast = fastF32
		return e
	case ">F4":
		return floatOf(4, func(b []byte) float64 { return float32At(b, be) })
	case "F16":
		return floatOf(2, func(b []byte) float64 { return float16(le.Uint16(b)) })
	case ">F2":
		return floatOf(2, func(b []byte) float64 { return float16(be.Uint16(b)) })
	case "BF16":
		e := floatOf(2, func(b []byte) float64 { return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16)) })
		e.fast = fastBF16
		return e
	case "F8_E4M3":
		return floatOf(1, func(b []byte) float64 { return e4m3(b[0]) })
	case "F8_E5M2":
		return floatOf(1, func(b []byte) float64 { return float16(uint16(b[0]) << 8) })
	case "F8_E8M0":
		return floatOf(1, func(b []byte) float64 { return e8m0(b[0]) })
	case "C64":
		return complexOf(4, func(b []byte) float64 { return float32At(b, le) })
	case ">C8":
		return complexOf(4, func(b []byte) float64 { return float32At(b, be) })
	case "C128":
		return complexOf(8, func(b []byte) float64 { return float64At(b, le) })
	case ">C16":
		return complexOf(8, func(b []byte) float64 { return float64At(b, be) })
	case "I64":
		return signed(8, func(b []byte) int64 { return int64(le.Uint64(b)) })
	case ">I8":
		return signed(8, func(b []byte) int64 { return int64(be.Uint64(b)) })
	case "I32":
		return signed(4, func(b []byte) int64 { return int64(int32(le.Uint32(b))) })
	case ">I4":
		return signed(4, func(b []byte) int64 { return int64(int32(be.Uint32(b))) })
	case "I16":
		return signed(2, func(b []byte) int64 { return int64(int16(le.Uint16(b))) })
	case ">I2":
		return signed(2, func(b []byte) int64 { return int64(int16(be.Uint16(b))) })
	case "I8":
		return signed(1, func(b []byte) int64 { return int64(int8(b[0])) })
	case "U64":
		return unsigned(8, le.Uint64)
	case ">U8":
		return unsigned(8, be.Uint64)
	case "U32":
		return unsigned(4, func(b []byte) uint64 { return uint64(le.Uint32(b)) })
	case ">U4":
		return unsigned(4, func(b []byte) uint64 { return uint64(be.Uint32(b)) })
	case "U16":
		return unsigned(2, func(b []byte) uint64 { return uint64(le.Uint16(b)) })
	case ">U2":
		return unsigned(2, func(b []byte) uint64 { return uint64(be.Uint16(b)) })
	case "U8":
		return unsigned(1, func(b []byte) uint64 { return uint64(b[0]) })
	case "BOOL":
		return element{unit: Elements, width: 1}
	}
	return element{}
}

// floatOf makes an element of a float that value reads.
func floatOf(width int, value func([]byte) float64) element {
	return element{unit: Elements, width: width, change: func(a, b []byte) (float64, bool) {
		return distanceOf(value(a), value(b))
	}}
}

func float64Of(order binary.ByteOrder) element {
	return floatOf(8, func(b []byte) float64 { return float64At(b, order) })
}

// complexOf makes an element of two floats of that width each.
func complexOf(width int, value func([]byte) float64) element {
	return element{unit: Elements, width: 2 * width, change: func(a, b []byte) (float64, bool) {
		re, ok := distanceOf(value(a), value(b))
		im, ok2 := distanceOf(value(a[width:]), value(b[width:]))
		return min(math.Hypot(re, im), math.MaxFloat64), ok && ok2
	}}
}

// signed and unsigned make elements of integers, whose difference is rounded
// only once.
func signed(width int, value func([]byte) int64) element {
	return element{unit: Elements, width: width, change: func(a, b []byte) (float64, bool) {
		x, y := value(a), value(b)
		return float64(uint64(max(x, y)) - uint64(min(x, y))), true
	}}
}

func unsigned(width int, value func([]byte) uint64) element {
	return element{unit: Elements, width: width, change: func(a, b []byte) (float64, bool) {
		x, y := value(a), value(b)
		return float64(max(x, y) - min(x, y)), true
	}}
}

// distanceOf returns |a-b|, at most the largest float, and whether both are
// finite.
func distanceOf(a, b float64) (float64, bool) {
	if a-a != 0 || b-b != 0 { // of NaN and infinity this is NaN
		return 0, false
	}
	return min(math.Abs(a-b), math.MaxFloat64), true
}

func float32At(b []byte, order binary.ByteOrder) float64 {
	return float64(math.Float32frombits(order.Uint32(b)))
}

func float64At(b []byte, order binary.ByteOrder) float64 {
	return math.Float64frombits(order.Uint64(b))
}

// float16 returns the value of an IEEE 754 binary16.
func float16(h uint16) float64 {
	exponent, mantissa := int(h>>10&0x1f), float64(h&0x3ff)
	sign := 1 - 2*float64(h>>15)
	switch exponent {
	case 0:
		return sign * mantissa * 0x1p-24
	case 0x1f:
		if mantissa != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * (1 + mantissa*0x1p-10) * powerOf2(exponent-15)
}

// e4m3 returns the value of an OCP 8-bit float with 4 bits of exponent ("fn"):
// it has no infinity, and NaN is all ones. Open Compute Project, "OCP 8-bit
// Floating Point Specification (OFP8)", revision 1.0, section 5.
func e4m3(b byte) float64 {
	exponent, mantissa := int(b>>3&0xf), float64(b&7)
	sign := 1 - 2*float64(b>>7)
	switch {
	case b&0x7f == 0x7f:
		return math.NaN()
	case exponent == 0:
		return sign * mantissa * 0x1p-9
	}
	return sign * (1 + mantissa/8) * powerOf2(exponent-7)
}

// e8m0 returns the value of an OCP scale: a power of two, or NaN. Open Compute
// Project, "OCP Microscaling Formats (MX) Specification", version 1.0, section
// 5.4.1.
func e8m0(b byte) float64 {
	if b == 0xff {
		return math.NaN()
	}
	return powerOf2(int(b) - 127)
}

// powerOf2 returns 2^n, for n from -1022 to 1023.
func powerOf2(n int) float64 { return math.Float64frombits(uint64(n+1023) << 52) }

// comparison counts the elements of two arrays of one dtype that differ.
type comparison struct {
	element
	different int64
	nonFinite int64   // of them, those that are NaN or infinite in either
	largest   float64 // change of the others
}

// add compares two pieces, which have the same length: whole elements.
// Elements are compared by their bytes: 0 and -0 differ, by 0.
func (c *comparison) add(a, b []byte) {
	for len(a) >= 8 && 8%c.width == 0 { // what is equal is passed over 8 bytes at a time
		if x, y := binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b); x != y {
			// The dtypes of nearly all weights that change everywhere, as by
			// fine-tuning, have loops of their own: 4 times as fast by
			// BenchmarkComparison.
			switch c.fast {
			case fastF32:
				c.floats(uint32(x), uint32(y))
				c.floats(uint32(x>>32), uint32(y>>32))
			case fastBF16:
				for range 4 {
					c.floats(uint32(x)<<16, uint32(y)<<16)
					x, y = x>>16, y>>16
				}
			default:
				c.some(a[:8], b[:8])
			}
		}
		a, b = a[8:], b[8:]
	}
	c.some(a, b)
}

// some compares elements one by one.
func (c *comparison) some(a, b []byte) {
	for w := c.width; len(a) > 0; a, b = a[w:], b[w:] {
		if string(a[:w]) != string(b[:w]) {
			c.one(a[:w], b[:w])
		}
	}
}

// floats compares two F32.
func (c *comparison) floats(x, y uint32) {
	if x == y {
		return
	}
	c.different++
	by := math.Abs(float64(math.Float32frombits(x)) - float64(math.Float32frombits(y)))
	if by <= c.largest {
		return // NaN isn't
	}
	if math.IsInf(by, 1) || math.IsNaN(by) {
		c.nonFinite++
		return
	}
	c.largest = by
}

// one counts two elements that differ.
func (c *comparison) one(a, b []byte) {
	c.different++
	if c.change == nil {
		return
	}
	by, finite := c.change(a, b)
	if !finite {
		c.nonFinite++
		return
	}
	c.largest = max(c.largest, by)
}
