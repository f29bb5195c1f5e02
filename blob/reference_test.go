package blob

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"testing"
)

// A BLAKE3 of its own, written from the specification (section 2, "BLAKE3") and
// nothing else, one byte string at a time, as slow as it is plain. It shares no
// code and no structure with the library that ships: a mistake would have to
// be made twice.

var refIV = [8]uint32{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

var refPermutation = [16]int{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8}

const (
	refChunkStart = 1 << 0
	refChunkEnd   = 1 << 1
	refParent     = 1 << 2
	refRoot       = 1 << 3
)

// refG is the quarter round on the words a, b, c, d of the state.
func refG(v *[16]uint32, a, b, c, d int, x, y uint32) {
	v[a] += v[b] + x
	v[d] = bits.RotateLeft32(v[d]^v[a], -16)
	v[c] += v[d]
	v[b] = bits.RotateLeft32(v[b]^v[c], -12)
	v[a] += v[b] + y
	v[d] = bits.RotateLeft32(v[d]^v[a], -8)
	v[c] += v[d]
	v[b] = bits.RotateLeft32(v[b]^v[c], -7)
}

// refCompress is the compression function, cut to the first 8 words that it
// gives.
func refCompress(cv [8]uint32, block [64]byte, length int, counter uint64, flags uint32) (out [8]uint32) {
	var m [16]uint32
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	v := [16]uint32{
		cv[0], cv[1], cv[2], cv[3], cv[4], cv[5], cv[6], cv[7],
		refIV[0], refIV[1], refIV[2], refIV[3],
		uint32(counter), uint32(counter >> 32), uint32(length), flags,
	}
	for round := range 7 {
		for i := range 4 { // columns
			refG(&v, i, 4+i, 8+i, 12+i, m[2*i], m[2*i+1])
		}
		for i := range 4 { // diagonals
			refG(&v, i, 4+(i+1)%4, 8+(i+2)%4, 12+(i+3)%4, m[8+2*i], m[8+2*i+1])
		}
		if round < 6 {
			old := m
			for i, from := range refPermutation {
				m[i] = old[from]
			}
		}
	}
	for i := range out {
		out[i] = v[i] ^ v[i+8]
	}
	return out
}

// refChunk is the chaining value of a chunk of at most 1024 bytes.
func refChunk(b []byte, number uint64, flags uint32) [8]uint32 {
	cv := refIV
	for first := true; ; first = false {
		var block [64]byte
		n := copy(block[:], b)
		b = b[n:]
		f := uint32(0)
		if first {
			f |= refChunkStart
		}
		if len(b) == 0 {
			return refCompress(cv, block, n, number, f|refChunkEnd|flags)
		}
		cv = refCompress(cv, block, n, number, f)
	}
}

// refTree is the chaining value of the subtree over b, whose first chunk has
// the number first.
func refTree(b []byte, first uint64, flags uint32) [8]uint32 {
	const chunk = 1024
	if len(b) <= chunk {
		return refChunk(b, first, flags)
	}
	// The left subtree is the largest power of two of chunks that leaves at
	// least a byte for the right one.
	left := chunk
	for left*2 < len(b) {
		left *= 2
	}
	l := refTree(b[:left], first, 0)
	r := refTree(b[left:], first+uint64(left/chunk), 0)
	var block [64]byte
	for i := range 8 {
		binary.LittleEndian.PutUint32(block[4*i:], l[i])
		binary.LittleEndian.PutUint32(block[32+4*i:], r[i])
	}
	return refCompress(refIV, block, 64, 0, refParent|flags)
}

func refSum(b []byte) (d Digest) {
	for i, w := range refTree(b, 0, refRoot) {
		binary.LittleEndian.PutUint32(d[4*i:], w)
	}
	return d
}

func TestReferenceKnownHashes(t *testing.T) {
	for in, want := range map[string]string{
		"":    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		"abc": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
	} {
		d := refSum([]byte(in))
		if got := hex.EncodeToString(d[:]); got != want {
			t.Errorf("the reference gives %s for %q, not %s", got, in, want)
		}
	}
}

// TestDigestsAgreeWithReference covers the lengths where a tree hash changes
// its shape, and where the shipped one changes its method: around a block, a
// chunk, 8 and 16 chunks at once, and a frame.
func TestDigestsAgreeWithReference(t *testing.T) {
	s, _ := newMem(t, &Options{Compression: None})
	lengths := []int{0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 1000}
	for _, n := range []int{1 << 10, 2 << 10, 3 << 10, 4 << 10, 7 << 10, 8 << 10, 9 << 10, 16 << 10, 31 << 10, 32 << 10, 100 << 10, mib, 2 * mib, 3*mib + mib/2} {
		lengths = append(lengths, n-1, n, n+1)
	}
	all := randomBytes(3, 4*mib)
	for i, n := range lengths {
		b := all[i : i+n]
		info, err := s.Put(t.Context(), &oddReader{b: b})
		if err != nil {
			t.Fatal(err)
		}
		if want := refSum(b); info.Digest != want {
			t.Errorf("%d bytes: put returned %s, the reference %s", n, info.Digest, want)
		}
		if Sum(b) != info.Digest {
			t.Errorf("%d bytes: Sum returned %s, put %s", n, Sum(b), info.Digest)
		}
		_, frames, err := s.Frames(t.Context(), info.Digest)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for j, f := range frames {
			if want := refSum(b[at : at+f.Size]); f.Digest != want {
				t.Errorf("%d bytes: frame %d has digest %s, the reference %s", n, j, f.Digest, want)
			}
			at += f.Size
		}
		if at != int64(n) {
			t.Errorf("%d bytes: the frames have %d", n, at)
		}
	}
}
