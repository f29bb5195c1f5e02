package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/format"
)

// TestEncodeChoicesFloats states what floats and quantised values are stored
// as, and in how much of their size at most.
func TestEncodeChoicesFloats(t *testing.T) {
	const n = 256 << 10
	noise := make([]byte, n)
	var key [32]byte
	_, _ = rand.NewChaCha8(key).Read(noise) // never fails
	before, after := weights(BF16, n, 1, 0.02)
	_, quiet := weights(BF16, n, 1, 0.0005)
	other, _ := weights(BF16, n, 2, 0)
	before32, after32 := weights(F32, n, 1, 0.001)
	rng := rand.New(rand.NewPCG(1, 1))
	// One element in twenty is not 0.
	sparse := make([]byte, n)
	for i := 0; i < n; i += 2 {
		if rng.IntN(20) == 0 {
			copy(sparse[i:], before[i:i+2])
		}
	}
	// Floats that came from narrower ones, and zeros of both signs.
	holdsBF16, holdsF16, zeros := make([]byte, n), make([]byte, n), make([]byte, n)
	for i := 0; i < n; i += 4 {
		copy(holdsBF16[i+2:], before[i/2:i/2+2])
		binary.LittleEndian.PutUint32(holdsF16[i:], rng.Uint32()&0x800fe000|0x3c000000)
		zeros[i+3] = byte(rng.IntN(2)) << 7
	}
	nextBF16 := make([]byte, n)
	for i := 0; i < n; i += 4 {
		copy(nextBF16[i+2:], after[i/2:i/2+2])
	}
	// Blocks of Q8_0: an fp16 scale and 32 small integers.
	blocks := make([]byte, n/34*34)
	for i := range blocks {
		blocks[i] = byte(int8(rng.NormFloat64() * 25))
		if i%34 == 1 {
			blocks[i] = 0x10
		}
	}
	for _, c := range []struct {
		name        string
		plain, base []byte
		kind        Kind
		want        ID
		most        float64 // of the plain size, in hundredths
	}{
		{"bf16", before, nil, Kind{Elem: BF16}, Planes, 66.6},
		{"bf16 on a close base", after, before, Kind{Elem: BF16}, Delta, 32},
		{"bf16 on a very close base", quiet, before, Kind{Elem: BF16}, Delta, 7},
		{"bf16 on itself", before, before, Kind{Elem: BF16}, Delta, 1},
		{"bf16 on another base", before, other, Kind{Elem: BF16}, Planes, 66.6},
		{"bf16 on noise", before, noise, Kind{Elem: BF16}, Planes, 66.6},
		{"bf16 on a shorter base", after, before[:n-2], Kind{Elem: BF16}, Planes, 66.6},
		{"bf16 read a byte off", before[1:], nil, Kind{Elem: BF16, Lead: 1}, Planes, 66.6},
		{"bf16 taken for bytes", before, nil, Kind{Stride: 2}, Planes, 75},
		{"bf16, most of it 0", sparse, nil, Kind{Elem: BF16}, Planes, 9},
		{"fp32", before32, nil, Kind{Elem: F32}, Planes, 84},
		{"fp32 on a close base", after32, before32, Kind{Elem: F32}, Delta, 60},
		{"fp32 of bf16", holdsBF16, nil, Kind{Elem: F32}, Planes, 34},
		{"fp32 of bf16 on a close base", nextBF16, holdsBF16, Kind{Elem: F32}, Delta, 17},
		{"fp32 of fp16", holdsF16, nil, Kind{Elem: F32}, Planes, 30},
		{"zeros of both signs", zeros, nil, Kind{Elem: F32}, Planes, 4},
		{"-0", bytes.Repeat([]byte{0, 0x80}, n/2), nil, Kind{Elem: BF16}, Constant, 1},
		{"blocks", blocks, nil, Kind{Stride: 34}, Planes, 84},
		{"noise as bf16", noise, nil, Kind{Elem: BF16}, Raw, 100},
		{"noise as fp32 on noise", noise, noise[:n], Kind{Elem: F32}, Delta, 1},
		{"noise as fp32 on weights", noise, before, Kind{Elem: F32}, Raw, 100},
		{"an unknown kind", before, nil, Kind{Elem: 99}, Planes, 85},
		{"a lead that can't be", before, nil, Kind{Elem: BF16, Lead: 2}, Planes, 85},
	} {
		stored, id, param := NewEncoder(Auto).Encode(nil, c.plain, c.kind, c.base)
		if share := 100 * float64(len(stored)) / float64(len(c.plain)); id != c.want || share > c.most {
			t.Errorf("%s: codec %d, %.2f%% stored; want codec %d, %.2f%% at most", c.name, id, share, c.want, c.most)
		}
		if got, err := decode(t, new(Decoder), len(c.plain), stored, id, param, c.base); err != nil || !bytes.Equal(got, c.plain) {
			t.Errorf("%s: decoded to other bytes, %v", c.name, err)
		}
		if _, id, _ := NewEncoder(ZstdOnly).Encode(nil, c.plain, c.kind, c.base); id > Zstd {
			t.Errorf("%s: codec %d from zstd alone", c.name, id)
		}
	}
}

// TestPredictDelta orders bases as the stored sizes do.
func TestPredictDelta(t *testing.T) {
	const n = 1 << 20
	before, after := weights(BF16, n, 1, 0.02)
	other, _ := weights(BF16, n, 2, 0)
	k := Kind{Elem: BF16}
	same, near, far := NewEncoder(Auto).PredictDelta(before, before, k), NewEncoder(Auto).PredictDelta(after, before, k), NewEncoder(Auto).PredictDelta(other, before, k)
	if same > 8*n/100 || same > near || near > far {
		t.Errorf("on itself %.0f bits, on a close base %.0f, on another %.0f", same, near, far)
	}
	e := NewEncoder(Auto)
	if got := float64(8 * len(e.appendDelta(nil, after, before, k))); near < 0.97*got || near > 1.03*got {
		t.Errorf("predicted %.0f bits, they are %.0f", near, got)
	}
	for name, c := range map[string]struct {
		base []byte
		kind Kind
	}{"another length": {before[:n-2], k}, "bytes": {before, Kind{}}, "an unknown kind": {before, Kind{Elem: 9}}, "no base": {nil, k}} {
		if got := NewEncoder(Auto).PredictDelta(after, c.base, c.kind); got != 8*n {
			t.Errorf("%s: %.0f bits", name, got)
		}
	}
	if got := NewEncoder(Auto).PredictDelta([]byte{1}, []byte{2}, Kind{Elem: F64, Lead: 7}); got != 8 {
		t.Errorf("less than an element: %.0f bits", got)
	}
}

// TestMaxFrameOfEachKind encodes whole frames of records that don't divide them.
func TestMaxFrameOfEachKind(t *testing.T) {
	e, dec := NewEncoder(Auto), new(Decoder)
	plain := text(format.MaxFrame)
	for _, k := range []Kind{{}, {Stride: 2, Lead: 1}, {Stride: 3}, {Stride: 34, Lead: 33}, {Stride: MaxStride, Lead: MaxStride - 1}, {Elem: F64, Lead: 7}} {
		stored := e.appendPlanes(nil, plain, k)
		if got, err := decode(t, dec, len(plain), stored, Planes, uint8(k.Elem), nil); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%+v: %v", k, err)
		}
	}
}

// TestRepeatsFarApart stores a table of few different values, as of sines, which
// a sample of the beginning of zstd would take for weights.
func TestRepeatsFarApart(t *testing.T) {
	values, _ := weights(F32, 64<<10, 5, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	var plain []byte
	for len(plain) < 1<<20 {
		at := rng.IntN(len(values)-64) &^ 3
		plain = append(plain, values[at:at+64]...)
	}
	for _, k := range []Kind{{Elem: F32}, {}} {
		stored, id, _ := NewEncoder(Auto).Encode(nil, plain, k, nil)
		if id != Zstd || len(stored) > len(plain)/2 {
			t.Errorf("%s: codec %d, %d bytes of %d", k.Elem, id, len(stored), len(plain))
		}
	}
	unique, _ := weights(F32, 1<<20, 6, 0)
	if NewEncoder(Auto).repeats(unique, Kind{Elem: F32}) {
		t.Error("values that do not repeat are said to")
	}
}
