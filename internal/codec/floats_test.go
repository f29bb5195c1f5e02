package codec

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/format"
	"pgregory.net/rapid"
)

// put writes the float x as an element at the beginning of p.
func put(p []byte, e Elem, x float64) {
	switch e {
	case BF16:
		binary.LittleEndian.PutUint16(p, castBF16.of(math.Float32bits(float32(x))))
	case F16:
		binary.LittleEndian.PutUint16(p, castF16.of(math.Float32bits(float32(x))))
	case F32:
		binary.LittleEndian.PutUint32(p, math.Float32bits(float32(x)))
	case F64:
		binary.LittleEndian.PutUint64(p, math.Float64bits(x))
	}
}

// weights returns n bytes of normal values, and the same after a step of
// training that moves each by about step of its layer's size.
func weights(e Elem, n int, seed uint64, step float64) (before, after []byte) {
	before, after = make([]byte, n), make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i+e.Width() <= n; i += e.Width() {
		x := rng.NormFloat64() * 0.03
		put(before[i:], e, x)
		put(after[i:], e, x+rng.NormFloat64()*0.03*step)
	}
	return before, after
}

// special are elements that a float codec could stumble over: both zeros,
// denormals, infinities, NaNs with payloads, the largest and the smallest.
func special(e Elem) [][]byte {
	f := e.field()
	bits := uint(8 * f.width)
	exp := f.mask << f.exponent
	var out [][]byte
	for _, v := range []uint64{
		0, 1, exp, exp | 1, exp - 1, exp | 1<<(f.exponent-1), exp | (1<<f.exponent - 1),
		1 << f.exponent, 1<<f.exponent - 1, 1<<(bits-1) - 1,
	} {
		for _, sign := range []uint64{0, 1 << (bits - 1)} {
			b := binary.LittleEndian.AppendUint64(nil, v|sign)
			out = append(out, b[:f.width])
		}
	}
	return out
}

func floatFrames(t *rapid.T) (plain, base []byte, k Kind) {
	k.Elem = rapid.SampledFrom([]Elem{BF16, F16, F32, F64}).Draw(t, "elements")
	w := k.Elem.Width()
	k.Lead = rapid.IntRange(0, w-1).Draw(t, "lead")
	n := rapid.OneOf(
		rapid.IntRange(k.Lead+1, k.Lead+300),
		rapid.IntRange(k.Lead+1, 70_000),
		rapid.SampledFrom([]int{64, 65, 1 << 16, format.MaxFrame - 1, format.MaxFrame}),
	).Draw(t, "length")
	step := rapid.SampledFrom([]float64{0, 1e-6, 1e-4, 1e-2, 1, 100}).Draw(t, "step")
	b, p := weights(k.Elem, n-k.Lead, rapid.Uint64().Draw(t, "seed"), step)
	base, plain = make([]byte, n), make([]byte, n)
	copy(base[k.Lead:], b)
	copy(plain[k.Lead:], p)
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed of changes"), 1))
	for range rapid.SampledFrom([]int{0, 1, 20, n / w}).Draw(t, "special elements") {
		s := special(k.Elem)
		for _, q := range [][]byte{plain, base} {
			if at := k.Lead + rng.IntN(n/w+1)*w; at+w <= n {
				copy(q[at:], s[rng.IntN(len(s))])
			}
		}
	}
	if rapid.Bool().Draw(t, "low bits zero") {
		for i := range n / w {
			plain[min(k.Lead+i*w, n-1)], base[min(k.Lead+i*w, n-1)] = 0, 0
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "quiet") == 0 {
		copy(plain, base)
		for range n / 1000 {
			plain[rng.IntN(n)]++
		}
	}
	return plain, base, k
}

// TestFloatRoundTrip forces each codec on floats of every kind, whatever the
// choice would be.
func TestFloatRoundTrip(t *testing.T) {
	e, dec := NewEncoder(Auto), new(Decoder)
	rapid.Check(t, func(t *rapid.T) {
		plain, base, k := floatFrames(t)
		for id, stored := range map[ID][]byte{
			Planes: e.appendPlanes(nil, plain, k),
			Delta:  e.appendDelta(nil, plain, base, k),
		} {
			got := make([]byte, len(plain))
			if err := dec.Decode(got, stored, id, uint8(k.Elem), base); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("codec %d, %s: %v", id, k.Elem, err)
			}
		}
		stored, id, param := e.Encode(nil, plain, k, base)
		got := make([]byte, len(plain))
		if err := dec.Decode(got, stored, id, param, base); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("chosen codec %d: %v", id, err)
		}
	})
}

func BenchmarkFloats(b *testing.B) {
	for _, elem := range []Elem{BF16, F16, F32, F64} {
		base, plain := weights(elem, format.MaxFrame, 1, 0.02)
		quietBase, quiet := weights(elem, format.MaxFrame, 1, 0.0005)
		k := Kind{Elem: elem}
		e, dec := NewEncoder(Auto), new(Decoder)
		back := make([]byte, len(plain))
		for name, c := range map[string]struct {
			id          ID
			plain, base []byte
		}{"planes": {Planes, plain, nil}, "delta": {Delta, plain, base}, "quiet": {Delta, quiet, quietBase}} {
			encode := func(dst []byte) []byte {
				if c.id == Planes {
					return e.appendPlanes(dst, c.plain, k)
				}
				return e.appendDelta(dst, c.plain, c.base, k)
			}
			stored := encode(nil)
			b.Run(elem.String()+"/"+name+"/encode", func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				buf := make([]byte, 0, 2*format.MaxFrame)
				for b.Loop() {
					encode(buf)
				}
				b.ReportMetric(100*float64(len(stored))/float64(len(plain)), "%stored")
			})
			b.Run(elem.String()+"/"+name+"/decode", func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					if err := dec.Decode(back, stored, c.id, uint8(elem), c.base); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(elem.String()+"/"+name+"/choose", func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					e.choose(c.plain, k, c.base)
				}
			})
		}
	}
}
