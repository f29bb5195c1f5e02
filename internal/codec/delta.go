package codec

import (
	"encoding/binary"
	"math/bits"
)

// Delta stores a frame of floats as what to add to another frame's:
// docs/format.md, "Deltas". Each element is read as the integer whose order is
// that of the floats; the difference, with its sign in the low bit, is a token
// and extra bits, and the token's code depends on the exponent of the base's
// element, because training moves weights of the same size by like amounts.

// classes is how many groups of exponents have codes of their own. On real
// checkpoints 8 stored 0.2% of the plain size more than 12, and 16 only saved
// their own tables (docs/codec.md).
const classes = 12

// slots is the length of arrays of classes: a power of two, so that masking an
// index spares its check.
const slots = 16

// tokenBits is the longest code of a token: the tables of all classes, two
// bytes an entry, are then 24 KiB, within the L1 cache.
const tokenBits = 10

// field says where the parts of an element are.
type field struct {
	width    int  // bytes
	exponent uint // position of the exponent's low bit
	mask     uint64
	mantissa uint // bits of a difference that its token keeps, below the highest
}

func (e Elem) field() field {
	switch e {
	case BF16:
		return field{2, 7, 0xff, 3}
	case F16:
		return field{2, 10, 0x1f, 3}
	case F32:
		return field{4, 23, 0xff, 3}
	}
	return field{8, 52, 0x7ff, 2} // two, so that 64 bits have below 256 tokens
}

// ordered returns the integer of the element at the beginning of p whose order
// is that of the floats, in the high bits.
func (f *field) ordered(p []byte) uint64 {
	x := f.load(p)
	return x ^ (uint64(int64(x)>>63) | 1<<63)
}

// load returns an element's bits, in the high bits.
func (f *field) load(p []byte) uint64 {
	switch f.width {
	case 2:
		return uint64(binary.LittleEndian.Uint16(p)) << 48
	case 4:
		return uint64(binary.LittleEndian.Uint32(p)) << 32
	}
	return binary.LittleEndian.Uint64(p)
}

// store writes the element whose ordered integer, without its low bits, is y
// shifted up by down.
func (f *field) store(p []byte, y uint64, down uint) {
	x := (y ^ (uint64(^int64(y)>>63) | 1<<63)) &^ (1<<down - 1)
	switch f.width {
	case 2:
		binary.LittleEndian.PutUint16(p, uint16(x>>48))
	case 4:
		binary.LittleEndian.PutUint32(p, uint32(x>>32))
	default:
		binary.LittleEndian.PutUint64(p, x)
	}
}

// exp returns the exponent's bits of the element at the beginning of p.
func (f *field) exp(p []byte) int {
	switch f.width {
	case 2:
		return int(uint64(binary.LittleEndian.Uint16(p)) >> f.exponent & f.mask)
	case 4:
		return int(uint64(binary.LittleEndian.Uint32(p)) >> f.exponent & f.mask)
	}
	return int(binary.LittleEndian.Uint64(p) >> f.exponent & f.mask)
}

// token splits z into a token and how many of its low bits follow as they are.
func token(z uint64, mantissa uint) (t uint8, extra uint) {
	extra = uint(bits.Len64(z|1<<mantissa)) - 1 - mantissa
	return uint8(extra<<mantissa + uint(z>>extra)), extra
}

// tokenBase is token's inverse: the least value of a token and its extra bits.
func tokenBase(t uint8, mantissa uint) (base uint64, extra uint) {
	if t >= 2<<mantissa {
		extra = uint(t)>>mantissa - 1
	}
	return (uint64(t) - uint64(extra)<<mantissa) << extra, extra
}

// classOf says which class the exponents belong to: the first one is top and
// all above it, each next one the exponent below, the last one all that follow.
type classOf [2048]uint8

func (c *classOf) set(top int) {
	for e := range c {
		c[e] = uint8(min(max(top-e, 0), classes-1))
	}
}

// deltaHead is what a delta begins with, behind the Kind and the bytes that
// belong to no element.
type deltaHead struct {
	shift uint8               // low bits that no difference has
	top   uint16              // exponent of class 0
	used  uint16              // classes that have elements
	quiet uint16              // classes whose zeros are stored as runs
	token [classes]deltaTable // of the used ones
	run   [classes]deltaTable // of the quiet ones
	sizes [4]int              // of the streams, bytes
}

// deltaTable is a code of tokens; one that occurs alone takes no bits.
type deltaTable struct {
	lengths lengths
	alone   bool
	symbol  uint8
}

func (t *deltaTable) set(h *[256]uint32) {
	kinds := 0
	for s, c := range h {
		if c > 0 {
			kinds++
			t.symbol = uint8(s)
		}
	}
	if t.alone = kinds <= 1; !t.alone {
		makeLengths(&t.lengths, h, tokenBits)
	}
}

func (t *deltaTable) append(b []byte) []byte {
	if t.alone {
		return append(b, t.symbol, t.symbol)
	}
	return t.lengths.append(b)
}

func (t *deltaTable) parse(b []byte) ([]byte, error) {
	if len(b) >= 2 && b[0] == b[1] {
		t.alone, t.symbol = true, b[0]
		return b[2:], nil
	}
	t.alone = false
	return parseLengths(&t.lengths, b, tokenBits)
}

func (t *deltaTable) codes(c *[256]code) {
	if t.alone {
		*c = [256]code{}
		return
	}
	t.lengths.codes(c)
}

func (h *deltaHead) append(b []byte) []byte {
	b = append(b, h.shift)
	for _, v := range [...]uint16{h.top, h.used, h.quiet} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	for c := range classes {
		if h.used>>c&1 == 1 {
			b = h.token[c].append(b)
		}
		if h.quiet>>c&1 == 1 {
			b = h.run[c].append(b)
		}
	}
	return append(b, make([]byte, 12)...) // sizes, once they are known
}

func (h *deltaHead) parse(b []byte, f *field) (rest []byte, err error) {
	if len(b) < 7 {
		return nil, damaged("delta: cut short")
	}
	h.shift = b[0]
	h.top, h.used, h.quiet = binary.LittleEndian.Uint16(b[1:]), binary.LittleEndian.Uint16(b[3:]), binary.LittleEndian.Uint16(b[5:])
	if int(h.shift) >= 8*f.width || h.used>>classes != 0 || h.quiet&^h.used != 0 || h.top >= 2048 {
		return nil, damaged("delta: shift %d, classes %x and %x", h.shift, h.used, h.quiet)
	}
	b = b[7:]
	for c := range classes {
		if h.used>>c&1 == 1 {
			if b, err = h.token[c].parse(b); err != nil {
				return nil, err
			}
		}
		if h.quiet>>c&1 == 1 {
			if b, err = h.run[c].parse(b); err != nil {
				return nil, err
			}
		}
	}
	if len(b) < 12 {
		return nil, damaged("delta: cut short")
	}
	total := 0
	for i := range h.sizes {
		h.sizes[i] = get24(b[3*i:])
		total += h.sizes[i]
	}
	if b = b[12:]; len(b) != total {
		return nil, damaged("delta: streams of %d bytes, %d are there", total, len(b))
	}
	return b, nil
}
