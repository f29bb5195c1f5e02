package chunk

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/heftstore/heft/internal/codec"
)

// noise returns n random bytes.
func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// normals returns n bytes of normally distributed elements; noise for Bytes.
func normals(r *rand.Rand, e codec.Elem, n int, sigma float64) []byte {
	if e == codec.Bytes {
		return noise(r, n)
	}
	b := make([]byte, 0, n+8)
	for len(b) < n {
		x := r.NormFloat64() * sigma
		switch e {
		case codec.F64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		case codec.F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
		case codec.BF16:
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(float32(x))>>16))
		case codec.F16:
			b = binary.LittleEndian.AppendUint16(b, half16(x))
		}
	}
	return b[:n]
}

// half16 returns x, below 65,504, as fp16, rounded towards zero.
func half16(x float64) uint16 {
	b := math.Float32bits(float32(x))
	sign := uint16(b >> 16 & 0x8000)
	e := int(b>>23&0xff) - 127 + 15
	if e <= 0 {
		return sign | uint16(math.Abs(x)*(1<<24))
	}
	return sign | uint16(e)<<10 | uint16(b>>13&0x3ff)
}
