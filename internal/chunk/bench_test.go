package chunk

import (
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

func BenchmarkRoll(b *testing.B) {
	p := noise(rand.New(rand.NewPCG(1, 2)), format.MaxFrame)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		h, at := uint64(0), 0
		for {
			var n int
			if h, n = roll(h, p[at:]); n == 0 {
				break
			}
			at += n
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, e := range []codec.Elem{codec.Bytes, codec.BF16, codec.F16, codec.F32, codec.F64} {
		p := normals(r, e, format.MaxFrame, 0.02)
		b.Run(e.String(), func(b *testing.B) {
			for b.Loop() {
				Probe(p)
			}
		})
	}
}
