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
	likeKeys     = 5 // of fp32, which has keys of its casts beside them
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
		for i, c := range [...]codec.Elem{codec.BF16, codec.F16} {
			keys[likeKeys+i] = castKey(p, e, c, size/2)
		}
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
// as a cast: of the tensor itself if e is to, or of the fp32 one that p begins.
func castKey(p []byte, e, to codec.Elem, size int64) uint64 {
	const samples = 64
	text := binary.LittleEndian.AppendUint64([]byte{'c', byte(to)}, uint64(size))
	n := int(min(int64(len(p)/e.Width()), size/2, 1<<17)) // what both have in their first frame
	for i := range samples {
		at := i * n / samples
		if e == to {
			text = append(text, p[2*at:2*at+2]...)
		} else {
			text = binary.LittleEndian.AppendUint16(text, codec.Narrow(binary.LittleEndian.Uint32(p[4*at:]), to))
		}
	}
	return key(text)
}
