package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/heftstore/heft/internal/format"
)

// sample is a small valid frame.
type sample struct {
	name        string
	plain, base []byte
	stored      []byte
	id          ID
	param       uint8
}

// samples returns frames of every codec with a format of our own, and of every
// way that it stores its parts.
func samples(t testing.TB) []sample {
	t.Helper()
	e := NewEncoder(Auto)
	var out []sample
	planes := func(name string, plain []byte, k Kind) {
		out = append(out, sample{name: name, plain: plain, stored: e.appendPlanes(nil, plain, k), id: Planes, param: uint8(k.Elem)})
	}
	delta := func(name string, plain, base []byte, k Kind, quiet bool, shift uint8) {
		stored := e.appendDelta(nil, plain, base, k)
		if h := e.delta.head; h.quiet != 0 != quiet || h.shift != shift {
			t.Fatalf("%s: quiet classes %x, shift %d", name, h.quiet, h.shift)
		}
		out = append(out, sample{name: name, plain: plain, base: base, stored: stored, id: Delta, param: uint8(k.Elem)})
	}
	for _, elem := range []Elem{BF16, F16, F32, F64} {
		n := 90*elem.Width() + 1
		base, plain := weights(elem, n, 1, 0.05)
		k := Kind{Elem: elem, Lead: 1}
		planes(elem.String(), plain, k)
		delta(elem.String()+", delta", plain, base, k, false, 0)
		// Most elements as they were.
		before, _ := weights(elem, 400*elem.Width(), 2, 0)
		still := bytes.Clone(before)
		for i := range 5 {
			still[60*elem.Width()*i]++
			still[60*elem.Width()*i+1] ^= 1
		}
		delta(elem.String()+", quiet delta", still, before, Kind{Elem: elem}, true, 0)
		// Low bits that no element has.
		plain, base = bytes.Clone(plain), bytes.Clone(base)
		for i := range n - 1 {
			if i%elem.Width() == 0 {
				plain[1+i], base[1+i] = plain[1+i]&^7|8, base[1+i]&^7
			}
		}
		delta(elem.String()+", delta without low bits", plain, base, k, false, 3)
	}
	sparse := make([]byte, 2000)
	for i := range 90 {
		sparse[22*i] = byte(1 + i*i%7)
	}
	planes("runs", sparse, Kind{})
	planes("runs in records", sparse, Kind{Stride: 5, Lead: 3})
	planes("text in records", text(700), Kind{Stride: 7})
	planes("columns", bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, 40), Kind{Stride: 9})
	planes("huffman", text(300), Kind{})
	planes("raw", []byte("abc"), Kind{})
	wide, _ := weights(F32, 400, 3, 0)
	plain := make([]byte, 200)
	narrow(plain, wide, castBF16)
	stored, param, _ := e.EncodeCast(nil, plain, wide, 0)
	out = append(out, sample{name: "cast", plain: plain, base: wide, stored: bytes.Clone(stored), id: Cast, param: param})
	return out
}

func TestSamplesDecode(t *testing.T) {
	for _, s := range samples(t) {
		if got, err := decode(t, new(Decoder), len(s.plain), s.stored, s.id, s.param, s.base); err != nil || !bytes.Equal(got, s.plain) {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

func TestDecodeTruncated(t *testing.T) {
	dec := new(Decoder)
	for _, s := range samples(t) {
		for n := range s.stored {
			if _, err := decode(t, dec, len(s.plain), s.stored[:n], s.id, s.param, s.base); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, cut to %d of %d bytes: %v", s.name, n, len(s.stored), err)
			}
		}
		longer := append(bytes.Clone(s.stored), 0)
		if _, err := decode(t, dec, len(s.plain), longer, s.id, s.param, s.base); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, with a byte behind: %v", s.name, err)
		}
	}
}

// TestDecodeFlipped flips each bit of each frame, and of its parameter, and
// decodes it to lengths that it doesn't have.
func TestDecodeFlipped(t *testing.T) {
	dec := new(Decoder)
	for _, s := range samples(t) {
		try := func(what string, at, n int, stored []byte, id ID, param uint8, base []byte) {
			_, err := decode(t, dec, n, stored, id, param, base)
			if _, newer := errors.AsType[*format.NewerError](err); err != nil && !newer && !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, %s %d: %v", s.name, what, at, err)
			}
		}
		stored := bytes.Clone(s.stored)
		for at := range 8 * len(stored) {
			stored[at/8] ^= 1 << (at % 8)
			try("bit", at, len(s.plain), stored, s.id, s.param, s.base)
			stored[at/8] ^= 1 << (at % 8)
		}
		for at := range len(stored) {
			for _, b := range []byte{0, 255} {
				was := stored[at]
				stored[at] = b
				try("byte", at, len(s.plain), stored, s.id, s.param, s.base)
				stored[at] = was
			}
		}
		for p := range 256 {
			try("parameter", p, len(s.plain), stored, s.id, uint8(p), s.base)
			try("codec", p, len(s.plain), stored, ID(p), s.param, s.base)
		}
		for n := 1; n < 2*len(s.plain); n += 1 + n/20 {
			base := stretch(s.base, n)
			if s.id == Cast {
				base = stretch(s.base, 2*n)
			}
			try("length", n, n, stored, s.id, s.param, base)
		}
	}
}

// bytesOf joins parts: byte slices, and numbers of one byte.
func bytesOf(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func u16(v int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(v)) }
func u24(v int) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16)} }

// sizes are those of four streams.
func sizes(a, b, c, d int) []byte { return bytesOf(u24(a), u24(b), u24(c), u24(d)) }

func TestPlanesDamaged(t *testing.T) {
	head := bytesOf(u16(0), u16(1)) // bytes, no records
	two := bytesOf(0, 1, 0x11)      // code lengths: 0 and 1 have a bit each
	raw := func(b ...byte) []byte { return append([]byte{planeRaw}, b...) }
	for _, c := range []struct {
		name   string
		n      int
		param  Elem
		stored []byte
		valid  bool
	}{
		{"as it should be: raw", 3, Bytes, bytesOf(head, raw(1, 2, 3)), true},
		{"as it should be: huffman", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 1, 1, 1), 0, 1, 2, 3), true},
		{"as it should be: runs", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(2), raw(3, 2), raw(7, 8)), true},
		{"as it should be: columns", 6, Bytes, bytesOf(u16(0), u16(3), u16(2), raw(1, 2, 3, 4), u16(1), planeOne, 9), true},

		{"empty", 4, Bytes, nil, false},
		{"empty, of bf16", 4, BF16, nil, false},
		{"elements out of range", 4, F64 + 1, bytesOf(0, raw(1, 2, 3, 4)), false},
		{"elements far out of range", 4, 255, bytesOf(head, raw(1, 2, 3, 4)), false},
		{"records of 0 bytes", 4, Bytes, bytesOf(u16(0), u16(0), raw(1, 2, 3, 4)), false},
		{"records too long", 4, Bytes, bytesOf(u16(0), u16(MaxStride+1), raw(1, 2, 3, 4)), false},
		{"a whole record before the first", 5, Bytes, bytesOf(u16(4), u16(4), 1, 2, 3, 4, 5), false},
		{"a whole element before the first", 4, BF16, bytesOf(2, 1, 2, 3, 4), false},
		{"more before the first than there is", 4, Bytes, bytesOf(u16(5), u16(8), 1, 2, 3, 4, 5, raw()), false},
		{"ends cut short", 6, F32, bytesOf(1, 7), false},
		{"no plane", 4, BF16, bytesOf(0), false},
		{"one plane of two", 4, BF16, bytesOf(0, raw(1, 2)), false},
		{"a third plane of two", 4, BF16, bytesOf(0, raw(1, 2), raw(1, 2), raw(1, 2)), false},
		{"unknown mode", 4, Bytes, bytesOf(head, planeRuns+1, 1, 2, 3, 4), false},
		{"raw, cut", 3, Bytes, bytesOf(head, raw(1, 2)), false},
		{"raw, too long", 3, Bytes, bytesOf(head, raw(1, 2, 3, 4)), false},
		{"one byte, cut", 3, Bytes, bytesOf(head, planeOne), false},
		{"one byte, left over", 3, Bytes, bytesOf(head, planeOne, 1, 1), false},

		{"no columns", 6, Bytes, bytesOf(u16(0), u16(3), u16(0), raw(1, 2, 3, 4)), false},
		{"no columns, then all", 6, Bytes, bytesOf(u16(0), u16(3), u16(0), raw(), u16(3), raw(1, 2, 3, 4, 5, 6)), false},
		{"too many columns", 6, Bytes, bytesOf(u16(0), u16(3), u16(4), raw(1, 2, 3, 4, 5, 6, 7, 8)), false},
		{"too many columns in all", 6, Bytes, bytesOf(u16(0), u16(3), u16(2), raw(1, 2, 3, 4), u16(2), raw(1, 2, 3, 4)), false},
		{"columns missing", 6, Bytes, bytesOf(u16(0), u16(3), u16(2), raw(1, 2, 3, 4)), false},
		{"columns cut", 6, Bytes, bytesOf(u16(0), u16(3), u16(2), raw(1, 2, 3, 4), 1), false},

		{"huffman, empty", 8, Bytes, bytesOf(head, planeHuffman), false},
		{"huffman, range of symbols backwards", 8, Bytes, bytesOf(head, planeHuffman, 1, 0, 0x11, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, one symbol", 8, Bytes, bytesOf(head, planeHuffman, 1, 1, 0x01, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, lengths cut", 8, Bytes, bytesOf(head, planeHuffman, 0, 9, 0x11, 0x22), false},
		{"huffman, incomplete", 8, Bytes, bytesOf(head, planeHuffman, 0, 1, 0x12, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, too many codes", 8, Bytes, bytesOf(head, planeHuffman, 0, 2, 0x11, 0x01, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, a code too long", 8, Bytes, bytesOf(head, planeHuffman, 0, 12, 0x21, 0x43, 0x65, 0x87, 0xa9, 0xcb, 0x0c, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, first symbol without code", 8, Bytes, bytesOf(head, planeHuffman, 0, 2, 0x10, 0x01, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, last symbol without code", 8, Bytes, bytesOf(head, planeHuffman, 0, 2, 0x11, 0x00, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, length behind the last symbol", 8, Bytes, bytesOf(head, planeHuffman, 0, 2, 0x21, 0x22, sizes(1, 1, 1, 1), 0, 1, 2, 3), false},
		{"huffman, sizes cut", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 1, 1, 1)[:11]), false},
		{"huffman, streams cut", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 1, 1, 1), 0, 1, 2), false},
		{"huffman, a stream too long", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 1, 1, 2), 0, 1, 2, 3, 4), false},
		{"huffman, a stream too short", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 0, 1, 1), 0, 1, 2), false},
		{"huffman, huge streams", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1<<24-1, 1<<24-1, 1<<24-1, 1<<24-1), 0, 1, 2, 3), false},
		{"huffman, left over", 8, Bytes, bytesOf(head, planeHuffman, two, sizes(1, 1, 1, 1), 0, 1, 2, 3, 4), false},

		{"runs, cut", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), 2, 0), false},
		{"runs, beyond the end", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(2), raw(3, 6), raw(7, 8)), false},
		{"runs, long, beyond the end", 300, Bytes, bytesOf(head, planeRuns, 0, u24(3), u24(2), raw(255, 50, 1), raw(7, 8)), false},
		{"runs, the last one beyond the end", 300, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(1), raw(50, 255), raw(7)), false},
		{"runs, of runs", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(2), planeRuns, 0, u24(1), u24(1), raw(0), raw(1), raw(7, 8)), false},
		{"runs, others of runs", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(2), raw(3, 2), planeRuns, 0, u24(1), u24(1), raw(0), raw(1)), false},
		{"runs, too many others", 10, Bytes, bytesOf(head, planeRuns, 0, u24(1), u24(2), raw(3), raw(7, 8)), false},
		{"runs, more others than bytes", 2, Bytes, bytesOf(head, planeRuns, 0, u24(3), u24(3), raw(0, 0, 0), raw(1, 2, 3)), false},
		{"runs, too many", 10, Bytes, bytesOf(head, planeRuns, 0, u24(3), u24(2), raw(1, 1, 1), raw(7, 8)), false},
		{"runs, without others", 1000, Bytes, bytesOf(head, planeRuns, 0, u24(4), u24(1), raw(1, 1, 255, 255), raw(7)), false},
		{"runs, huge", 10, Bytes, bytesOf(head, planeRuns, 0, u24(1<<24-1), u24(1<<24-1), planeOne, 0, planeOne, 0), false},
		{"runs, left over", 10, Bytes, bytesOf(head, planeRuns, 0, u24(2), u24(2), raw(3, 2), raw(7, 8), 0), false},
	} {
		if _, err := decode(t, new(Decoder), c.n, c.stored, Planes, uint8(c.param), nil); c.valid != (err == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestDeltaDamaged(t *testing.T) {
	// Four bf16 elements, each in a stream of its own, of exponent 127.
	one := []byte{0x80, 0x3f}
	base := bytes.Repeat(one, 4)
	head := func(shift, top, used, quiet int) []byte { return bytesOf(0, shift, u16(top), u16(used), u16(quiet)) }
	none := sizes(0, 0, 0, 0)
	two := bytesOf(0, 1, 0x11) // code lengths of tokens 0 and 1
	one4 := sizes(1, 1, 1, 1)
	for _, c := range []struct {
		name   string
		param  Elem
		base   []byte
		stored []byte
		valid  bool
	}{
		{"as it should be: equal", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 0, none), true},
		{"as it should be: all three more", BF16, base, bytesOf(head(0, 127, 1, 0), 6, 6, none), true},
		{"as it should be: two tokens", BF16, base, bytesOf(head(0, 127, 1, 0), two, one4, 0, 1, 0, 1), true},
		{"as it should be: quiet", BF16, base, bytesOf(head(0, 127, 1, 1), 6, 6, 1, 1, none), true},
		{"as it should be: a class that isn't used", BF16, base, bytesOf(head(0, 130, 1, 0), 0, 0, none), true},

		{"empty", BF16, base, nil, false},
		{"of bytes", Bytes, base, bytesOf(head(0, 127, 1, 0), 0, 0, none), false},
		{"elements out of range", F64 + 1, base, bytesOf(head(0, 127, 1, 0), 0, 0, none), false},
		{"no base", BF16, nil, bytesOf(head(0, 127, 1, 0), 0, 0, none), false},
		{"base too short", BF16, base[:7], bytesOf(head(0, 127, 1, 0), 0, 0, none), false},
		{"base too long", BF16, append(base[:8:8], 0), bytesOf(head(0, 127, 1, 0), 0, 0, none), false},
		{"a whole element before the first", BF16, base, bytesOf(2, 0, u16(127), u16(1), u16(0), 0, 0, none), false},
		{"shift too large", BF16, base, bytesOf(head(16, 127, 1, 0), 0, 0, none), false},
		{"exponent out of range", BF16, base, bytesOf(head(0, 2048, 1, 0), 0, 0, none), false},
		{"class out of range", BF16, base, bytesOf(head(0, 127, 1<<classes|1, 0), 0, 0, none), false},
		{"quiet class that isn't used", BF16, base, bytesOf(head(0, 127, 1, 2), 0, 0, 0, 0, none), false},
		{"token out of range", BF16, base, bytesOf(head(0, 127, 1, 0), 112, 112, sizes(2, 2, 2, 2), base), false},
		{"last token out of range", BF16, base, bytesOf(head(0, 127, 1, 0), 111, 112, 0x11, sizes(2, 2, 2, 2), make([]byte, 8)), false},
		{"run out of range", BF16, base, bytesOf(head(0, 127, 1, 1), 1, 1, lastRun+1, lastRun+1, none), false},
		{"codes incomplete", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 1, 0x12, one4, 0, 0, 0, 0), false},
		{"a code too long", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 11, 0x21, 0x43, 0x65, 0x87, 0xa9, 0xbb, one4, 0, 0, 0, 0), false},
		{"codes cut", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 9, 0x11), false},
		{"no codes", BF16, base, head(0, 127, 1, 0), false},
		{"sizes cut", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 0, none[:11]), false},
		{"streams cut", BF16, base, bytesOf(head(0, 127, 1, 0), two, one4, 0, 0, 0), false},
		{"left over", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 0, none, 0), false},
		{"a stream too long", BF16, base, bytesOf(head(0, 127, 1, 0), 0, 0, sizes(0, 1, 0, 0), 0), false},
		{"a stream too short", BF16, base, bytesOf(head(0, 127, 1, 0), two, sizes(1, 1, 2, 0), 0, 0, 0, 0), false},
		{"no streams", BF16, base, bytesOf(head(0, 127, 1, 0), two, none), false},
		{"no streams, quiet", BF16, base, bytesOf(head(0, 127, 1, 1), two, two, none), false},
		{"no streams, fp32", F32, base, bytesOf(head(0, 127, 1, 0), two, none), false},
		{"run beyond the end", BF16, base, bytesOf(head(0, 127, 1, 1), 1, 1, 2, 2, none), false},
		{"run beyond the end of a class without elements", BF16, base, bytesOf(head(0, 127, 3, 2), 0, 0, 0, 0, 1, 1, none), false},
		{"a run for two elements", BF16, base, bytesOf(head(0, 127, 1, 1), 1, 1, lastRun, lastRun, one4, 0, 0, 0, 0), false},
	} {
		if _, err := decode(t, new(Decoder), len(base), c.stored, Delta, uint8(c.param), c.base); c.valid != (err == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	got, err := decode(t, new(Decoder), len(base), bytesOf(head(0, 127, 1, 0), 6, 6, none), Delta, uint8(BF16), base)
	if want := bytes.Repeat([]byte{0x83, 0x3f}, 4); err != nil || !bytes.Equal(got, want) {
		t.Errorf("all three more: % x, %v", got, err)
	}
}

// TestDecodeClaims gives frames that claim, or are, far more than is stored.
// Whatever they say, a decoder allocates a few frames.
func TestDecodeClaims(t *testing.T) {
	head := bytesOf(u16(0), u16(1))
	for name, stored := range map[string][]byte{
		"one byte":             bytesOf(head, planeOne, 7),
		"huge streams":         bytesOf(head, planeHuffman, 0, 1, 0x11, sizes(1<<24-1, 1<<24-1, 1<<24-1, 1<<24-1), 0),
		"no runs":              bytesOf(head, planeRuns, 0, u24(0), u24(0), planeRaw, planeRaw),
		"huge runs":            bytesOf(head, planeRuns, 0, u24(1<<24-1), u24(1<<24-1), planeOne, 0, planeOne, 1),
		"huge runs of nothing": bytesOf(head, planeRuns, 0, u24(1<<24-1), u24(0), planeOne, 0, planeRaw),
		"a frame of runs":      bytesOf(head, planeRuns, 0, u24(format.MaxFrame), u24(format.MaxFrame), planeOne, 0, planeOne, 1),
		"columns of runs":      bytesOf(u16(0), u16(512), u16(512), planeRuns, 0, u24(format.MaxFrame), u24(format.MaxFrame), planeOne, 0, planeOne, 1),
	} {
		for _, n := range []int{1, 1000, format.MaxFrame} {
			dec, dst := new(Decoder), make([]byte, n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 3 {
				if err := dec.Decode(dst, stored, Planes, uint8(Bytes), nil); err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("%s, into %d bytes: %v", name, n, err)
				}
			}
			runtime.ReadMemStats(&after)
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 4*format.MaxFrame {
				t.Errorf("%s, into %d bytes: allocated %d bytes", name, n, spent)
			}
		}
	}
}
