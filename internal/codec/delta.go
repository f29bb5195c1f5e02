package codec

import "encoding/binary"

// Delta stores a frame of floats as what to add to another frame's:
// docs/format.md, "Deltas". Each element is read as the integer whose order is
// that of the floats; the difference, with its sign in the low bit, is a token
// and extra bits, and the token's code depends on the exponent of the base's
// element, because training moves weights of the same size by like amounts.
//
// Where most elements of a class stay as they are it is quiet: each stream
// begins with a run for each quiet class, how many of its elements stay before
// the first that doesn't, and behind each of those follows the next run. The
// last one reaches to the end of the stream's elements.

// classes is how many groups of exponents have codes of their own. On real
// checkpoints 8 stored 0.2% of the plain size more than 12, and 16 only saved
// their own tables (docs/codec.md).
const classes = 12

// slots is the length of arrays of classes: a power of two, so that masking an
// index spares its check.
const slots = 16

// tokenBits is the longest code of a token: the tables of all classes, four
// bytes an entry, are then 48 KiB, and the few that most elements need are
// within the L1 cache.
const tokenBits = 10

// runMantissa is for runs what field.mantissa is for differences.
const runMantissa = 3

// lastRun is the highest token of a run, of 2^20 elements or a few more.
const lastRun = 151

// field says where the parts of an element are.
type field struct {
	width    int  // bytes
	exponent uint // position of the exponent's low bit
	mask     uint64
	mantissa uint  // bits of a difference that its token keeps, below the highest
	last     uint8 // the highest token
}

func (e Elem) field() field {
	switch e {
	case BF16:
		return field{2, 7, 0xff, 3, 111}
	case F16:
		return field{2, 10, 0x1f, 3, 111}
	case F32:
		return field{4, 23, 0xff, 3, 239}
	}
	return field{8, 52, 0x7ff, 2, 251} // two, so that 64 bits have below 256 tokens
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

// classOf says which class the exponents belong to: the first one is top and
// all above it, each next one the exponent below, the last one all that follow.
// Below 256 it may be asked with more bits of an element than an exponent has.
type classOf [2048]uint16

// set fills c with the classes, shifted up by up.
func (c *classOf) set(f *field, top int, up uint) {
	for e := range max(int(f.mask)+1, 256) {
		c[e] = uint16(min(max(top-e&int(f.mask), 0), classes-1)) << up
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

// parse reads what append wrote, tokens up to last, and returns the rest.
func (t *deltaTable) parse(b []byte, last uint8) ([]byte, error) {
	if len(b) >= 2 && b[1] > last {
		return nil, damaged("delta: token %d", b[1])
	}
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
			if b, err = h.token[c].parse(b, f.last); err != nil {
				return nil, err
			}
		}
		if h.quiet>>c&1 == 1 {
			if b, err = h.run[c].parse(b, lastRun); err != nil {
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
