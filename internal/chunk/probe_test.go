package chunk

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/codec"
)

func TestProbeFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, e := range []codec.Elem{codec.BF16, codec.F16, codec.F32, codec.F64} {
		for _, n := range []int{6 << 10, 100_003, 1 << 20} {
			for _, sigma := range []float64{1, 0.02} {
				for lead := range e.Width() {
					p := append(noise(r, lead), normals(r, e, n-lead, sigma)...)
					if got, want := Probe(p), (codec.Kind{Elem: e, Lead: lead}); got != want {
						t.Errorf("%v, %d bytes, sigma %v: got %+v, want %+v", e, n, sigma, got, want)
					}
				}
			}
		}
	}
}

// floats returns n normals.
func floats(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 0.05)
	}
	return x
}

func TestProbeOthers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 1 << 16
	each := func(width int, f func(b []byte, i int) []byte) []byte {
		b := make([]byte, 0, n*width)
		for i := range n {
			b = f(b, i)
		}
		return b
	}
	le := binary.LittleEndian
	x := floats(r, n)
	words := strings.Fields("the weights of a model are kept once under their hash and read again as they were written, every byte of them func return if err nil")
	var text strings.Builder
	for text.Len() < 1<<18 {
		fmt.Fprint(&text, words[r.IntN(len(words))], " ")
	}
	tests := []struct {
		name string
		p    []byte
		want codec.Kind
	}{
		{"nothing", nil, codec.Kind{}},
		{"few", normals(r, codec.F32, 200, 1), codec.Kind{}},
		{"zeros", make([]byte, 1<<20), codec.Kind{}},
		{"ones", []byte(strings.Repeat("\x00\x00\x80\x3f", 1<<16)), codec.Kind{Elem: codec.F32}},
		{"text", []byte(text.String()), codec.Kind{}},
		{"random", noise(r, 1<<20), codec.Kind{}},
		{"random, short", noise(r, 1<<10), codec.Kind{}},
		{"bytes of a normal", each(1, func(b []byte, _ int) []byte { return append(b, byte(int8(r.NormFloat64()*30))) }), codec.Kind{}},
		{"fp32 of bf16", each(4, func(b []byte, i int) []byte { return le.AppendUint32(b, math.Float32bits(x[i])&^0xffff) }), codec.Kind{Elem: codec.F32}},
		{"fp32 behind a byte", append([]byte{7}, each(4, func(b []byte, i int) []byte { return le.AppendUint32(b, math.Float32bits(x[i])&^0xffff) })...), codec.Kind{Elem: codec.F32, Lead: 1}},
		{"fp64 of fp32", each(8, func(b []byte, i int) []byte { return le.AppendUint64(b, math.Float64bits(float64(x[i]))) }), codec.Kind{Elem: codec.F64}},
		{"fp32, half zeros", each(4, func(b []byte, i int) []byte { return le.AppendUint32(b, math.Float32bits(x[i])*uint32(r.IntN(2))) }), codec.Kind{Elem: codec.F32}},
		{"bf16, half zeros", each(2, func(b []byte, i int) []byte {
			return le.AppendUint16(b, uint16(math.Float32bits(x[i])>>16)*uint16(r.IntN(2)))
		}), codec.Kind{Elem: codec.BF16}},
		{"fp32, positive", each(4, func(b []byte, i int) []byte { return le.AppendUint32(b, math.Float32bits(x[i]*x[i])) }), codec.Kind{Elem: codec.F32}},
		{"int32 counter", each(4, func(b []byte, i int) []byte { return le.AppendUint32(b, uint32(i)) }), codec.Kind{Stride: 4}},
		{"int32, both signs", each(4, func(b []byte, _ int) []byte { return le.AppendUint32(b, uint32(int32(r.NormFloat64()*1000))) }), codec.Kind{Stride: 4}},
		{"int64, small", each(8, func(b []byte, _ int) []byte { return le.AppendUint64(b, r.Uint64N(50_000)) }), codec.Kind{Stride: 8}},
		{"int64 behind 3 bytes", append(noise(r, 3), each(8, func(b []byte, _ int) []byte { return le.AppendUint64(b, r.Uint64N(50_000)) })...), codec.Kind{Stride: 8, Lead: 3}},
		{"int16, both signs", each(2, func(b []byte, _ int) []byte { return le.AppendUint16(b, uint16(int16(r.NormFloat64()*300))) }), codec.Kind{Stride: 2}},
		{"int16, small", each(2, func(b []byte, _ int) []byte { return le.AppendUint16(b, uint16(r.IntN(600))) }), codec.Kind{Stride: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Probe(tt.p); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLog2(t *testing.T) {
	for n := uint32(1); n < 1<<17; n++ {
		if got, want := float64(log2(n)), math.Log2(float64(n)); math.Abs(got-want) > 3e-4 {
			t.Fatalf("log2(%d) = %v, want %v", n, got, want)
		}
	}
}
