package chunk

import (
	"encoding/binary"

	"github.com/heftstore/heft/internal/codec"
)

// What Probe looks at: pieces spread evenly over the bytes, 16 KiB in all, with
// 4,096 elements of four bytes or 2,048 of eight. With 2,048 samples the entropy of a plane
// of 256 values is known to 0.02 bits once its bias is corrected.
const (
	pieces    = 32
	pieceSize = 512 // a multiple of 8, so that phases hold across pieces
)

// The thresholds of Probe, from normals, weights, text, code and counters of
// the tests.
const (
	// minSamples is how many elements it takes to see that 256 values aren't
	// spread evenly.
	minSamples = 512
	// minGain is the saving over bytes without structure that is worth a
	// guess. Text and x86 code save below 0.02, 16-bit floats 0.08 and more.
	minGain = 0.04
	// widerGain is what an element of twice the width has to save over the
	// narrower one: neighbours in an array of floats differ by less than 0.01.
	widerGain = 0.02
	// strideGain is the same for integers: every other one of a counter
	// ends in 0, which makes 0.06 for 32 bits.
	strideGain = 0.09
	// minSpread is by how many bits the planes of integers differ.
	minSpread = 1
	// minFields is the part of the elements whose exponents must be likely
	// ones: less than all, for the frames of a legacy .pth hold tensors at
	// two phases. At a wrong phase 36% of fp32's are; at 0.75, small 16-bit
	// integers are taken for fp16.
	minFields = 0.8
	// fieldGain tells bf16 from fp16: the three lower bits of an exponent of
	// eight hold at most that much less than 3 bits when they are really
	// fp16's upper three of the mantissa. Normals: 0.06 for fp16, 1.1 for bf16.
	fieldGain = 0.35
)

// Probe guesses what the elements of p are, a frame of which nothing is known,
// from at most 16 KiB of it. The zero Kind means that nothing is gained by
// reading p as elements: text, code, compressed and random bytes, a constant.
//
// It compares the order-0 entropy of the bytes with that of their planes, the
// bytes at the same place of each element, with the exponent in a plane of its
// own for floats. Where the planes tie, the exponents decide.
func Probe(p []byte) codec.Kind {
	s := sample(p)
	n := len(s) / 8
	var planes [8]plane
	for i := range n {
		v := binary.LittleEndian.Uint64(s[8*i:])
		planes[0][byte(v)]++
		planes[1][byte(v>>8)]++
		planes[2][byte(v>>16)]++
		planes[3][byte(v>>24)]++
		planes[4][byte(v>>32)]++
		planes[5][byte(v>>40)]++
		planes[6][byte(v>>48)]++
		planes[7][byte(v>>56)]++
	}
	if n < minSamples/4 {
		return codec.Kind{}
	}
	// byWidth[i] are the planes of elements of 1<<i bytes.
	var byWidth [4]folded
	byWidth[3] = fold(planes[:])
	var store [4 + 2 + 1]plane
	wide := planes[:]
	for i, at := 2, 0; i >= 0; i-- {
		narrow := store[at : at+1<<i]
		at += 1 << i
		for j := range narrow {
			narrow[j].add(&wide[j], &wide[j+1<<i])
		}
		byWidth[i] = fold(narrow)
		wide = narrow
	}
	limit := byWidth[0].bits * (1 - minGain)
	best, kind := limit, codec.Kind{}
	for i := 1; i < 4; i++ {
		f := &byWidth[i]
		if 8*n>>i < minSamples || f.bits > limit {
			continue
		}
		if bits, k := float(s, f); k.Elem != codec.Bytes && bits < best {
			best, kind = bits*(1-widerGain), k
		}
	}
	if whole, k := integers(&byWidth, limit, n); kind.Elem == codec.Bytes || whole < best*(1-strideGain) {
		return k
	}
	return kind
}

// integers returns the kind of the narrowest records whose planes differ
// enough, else the zero Kind, and the bits a byte that it takes.
func integers(byWidth *[4]folded, limit float64, n int) (float64, codec.Kind) {
	bits, kind := limit, codec.Kind{}
	for i := 1; i < 4; i++ {
		f := &byWidth[i]
		bar := bits
		if kind.Stride > 0 {
			bar *= 1 - strideGain
		}
		if 8*n>>i >= minSamples && f.bits < bar && f.spread() >= minSpread {
			bits, kind = f.bits, codec.Kind{Lead: f.lead(), Stride: 1 << i}
		}
	}
	return bits, kind
}

// float returns the likeliest float whose bytes are f's planes, and its
// predicted bits a byte. Its Elem is Bytes if there is none.
func float(s []byte, f *folded) (float64, codec.Kind) {
	w := len(f.planes)
	best, exponent := codec.Kind{}, 0.0
	bits := 0.0
	for lead := range w {
		top := (lead + w - 1) % w
		var e codec.Elem
		var h, b float64
		switch w {
		case 2:
			e, h, b = half(s, f, lead)
		case 4:
			if f.planes[top].within(33, 78) < minFields {
				continue
			}
			e = codec.F32
			h, b = field(s, f, lead, e)
		case 8:
			if f.planes[top].within(60, 65) < minFields {
				continue
			}
			e = codec.F64
			h, b = field(s, f, lead, e)
		}
		if e != codec.Bytes && (best.Elem == codec.Bytes || h < exponent) {
			best, exponent, bits = codec.Kind{Elem: e, Lead: lead}, h, b
		}
	}
	return bits, best
}

// half tells bf16 and fp16 apart. It returns the element, the entropy of its
// exponent and the predicted bits a byte.
func half(s []byte, f *folded, lead int) (codec.Elem, float64, float64) {
	top := &f.planes[1-lead]
	brain := top.within(33, 78) >= minFields
	short := top.within16() >= minFields
	if !brain && !short {
		return codec.Bytes, 0, 0
	}
	var exp, rest plane
	for b := s[lead:]; len(b) >= 6; b = b[6:] { // every third one: they suffice, odd and even
		v := binary.LittleEndian.Uint16(b)
		exp[byte(v>>7)]++
		rest[byte(v>>8&0x80|v&0x7f)]++
	}
	var five plane
	for i, n := range exp {
		five[i>>3] += n
	}
	h8, h5 := exp.entropy(), five.entropy()
	if brain && (!short || 3-(h8-h5) >= fieldGain) {
		return codec.BF16, h8, (h8 + rest.entropy()) / 2
	}
	if !short {
		return codec.Bytes, 0, 0
	}
	// The exponent, sign and two bits of mantissa share a byte: no plane gains
	// from parting them.
	return codec.F16, h5, f.bits
}

// field returns the entropy of the exponents of fp32 or fp64 and the predicted
// bits a byte with them in a plane of their own.
func field(s []byte, f *folded, lead int, e codec.Elem) (exponent, bits float64) {
	w := e.Width()
	var low float64 // the planes below the exponent's
	for i := range w - 2 {
		low += f.entropies[(lead+i)%w]
	}
	var exp, rest plane
	if e == codec.F32 {
		for b := s[lead:]; len(b) >= 4; b = b[4:] {
			v := binary.LittleEndian.Uint32(b)
			exp[byte(v>>23)]++
			rest[byte(v>>24&0x80|v>>16&0x7f)]++
		}
	} else {
		// Exponents of likely values differ in their lower 8 bits of 11.
		for b := s[lead:]; len(b) >= 8; b = b[8:] {
			v := binary.LittleEndian.Uint64(b)
			exp[byte(v>>52)]++
			rest[byte(v>>59&0x10|v>>48&0xf)]++
		}
	}
	exponent = exp.entropy()
	return exponent, (exponent + rest.entropy() + low) / float64(w)
}

// sample returns the pieces of p that are looked at, whole runs of 8 bytes from
// offsets that are multiples of 8. They aren't told apart: one element in 64
// spans two of them where elements begin elsewhere.
func sample(p []byte) []byte {
	if len(p) <= pieces*pieceSize {
		return p
	}
	s := make([]byte, 0, pieces*pieceSize)
	for i := range pieces {
		at := i * (len(p) - pieceSize) / (pieces - 1) &^ 7
		s = append(s, p[at:at+pieceSize]...)
	}
	return s
}
