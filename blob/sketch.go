package blob

import (
	"encoding/binary"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// A sketch is a handful of keys of a tensor: docs/format.md, "Sketches". Two
// tensors with the same type, size and one equal key are likely states of the
// same weights: a key says where, in some groups of elements, the largest is,
// which training seldom changes.

const (
	sketchGroups = 6 // that a key is made of
	groupSize    = 8 // elements
	likeKeys     = 4 // of fp32, which has keys of its casts beside them
)

// minSketch is the shortest tensor that gets a sketch, in bytes: what is shorter
// shares frames with others.
const minSketch = 64 << 10

// sketch returns the keys of a tensor of size bytes that begins with p.
func sketch(p []byte, e codec.Elem, size int64) (keys [format.SketchKeys]uint64) {
	w := e.Width()
	groups := len(p) / w / groupSize
	if groups < sketchGroups*format.SketchKeys {
		return keys
	}
	like := format.SketchKeys
	if e == codec.F32 {
		like = likeKeys
		rounded := func(to codec.Elem) func([]byte) uint16 {
			return func(p []byte) uint16 { return codec.Narrow(binary.LittleEndian.Uint32(p), to) }
		}
		truncated := func(p []byte) uint16 { return binary.LittleEndian.Uint16(p[2:]) }
		keys[likeKeys] = castKey(p, codec.BF16, size/2, 4, rounded(codec.BF16))
		keys[likeKeys+1] = castKey(p, codec.F16, size/2, 4, rounded(codec.F16))
		keys[likeKeys+2] = castKey(p, codec.BF16, size/2, 4, truncated)
	}
	for k := range like {
		text := binary.LittleEndian.AppendUint64([]byte{'l', byte(e), byte(k)}, uint64(size))
		for g := range sketchGroups {
			// Spread over the frame; the golden ratio keeps keys apart.
			at := (k*sketchGroups + g) * groups / (sketchGroups * format.SketchKeys) * groupSize * w
			text = append(text, largest(p[at:at+groupSize*w], w))
		}
		keys[k] = key(text)
	}
	return keys
}

func key(text []byte) uint64 {
	sum := blake3.Sum256(text)
	return binary.LittleEndian.Uint64(sum[:]) | 1 // never 0
}

// largest returns which element of a group is the largest, and its sign.
func largest(p []byte, w int) (where byte) {
	var most uint64
	for i := range groupSize {
		var x uint64
		for j := w - 1; j >= 0; j-- {
			x = x<<8 | uint64(p[i*w+j])
		}
		sign := x >> (8*w - 1)
		if x &= 1<<(8*w-1) - 1; x > most {
			most, where = x, byte(i)<<1|byte(sign)
		}
	}
	return where
}

// castKey returns the key by which a tensor of type to and size bytes is found
// as a cast. It begins with p, or the tensor that it is the cast of does, whose
// elements have width bytes; narrow returns the cast of the one at the
// beginning of its argument.
func castKey(p []byte, to codec.Elem, size int64, width int, narrow func([]byte) uint16) uint64 {
	const samples = 64
	text := binary.LittleEndian.AppendUint64([]byte{'c', byte(to)}, uint64(size))
	n := int(min(int64(len(p)/width), size/2, 1<<17)) // what both have in their first frame
	for i := range samples {
		text = binary.LittleEndian.AppendUint16(text, narrow(p[i*n/samples*width:]))
	}
	return key(text)
}
