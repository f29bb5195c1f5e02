package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// narrowFloat is a float of 16 bits, by the book.
type narrowFloat struct {
	mantissa, bias int
	values         []float64 // of the bits 0 to infinity's
}

func newNarrowFloat(exponent, mantissa int) *narrowFloat {
	f := &narrowFloat{mantissa: mantissa, bias: 1<<(exponent-1) - 1}
	infinity := (1<<exponent - 1) << mantissa
	for x := range infinity {
		m, e := float64(x&(1<<mantissa-1)), x>>mantissa
		if e > 0 {
			m += float64(int(1) << mantissa)
		}
		f.values = append(f.values, math.Ldexp(m, max(e, 1)-f.bias-mantissa))
	}
	f.values = append(f.values, math.Inf(1))
	return f
}

// value returns what the bits of a number mean.
func (f *narrowFloat) value(x uint16) float64 {
	return math.Copysign(f.values[x&0x7fff], -float64(x>>15)+0.5)
}

// round returns the bits of the nearest number, slowly.
func (f *narrowFloat) round(v float64) uint16 {
	sign := uint16(0)
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	at, exact := slices.BinarySearch(f.values, v)
	if exact {
		return sign | uint16(at)
	}
	// Between two: where the next one is infinity, it stands for the number
	// that would be there without a limit to exponents.
	below, above := f.values[at-1], f.values[at]
	if math.IsInf(above, 1) {
		above = 2*below - f.values[at-2]
	}
	switch d := (v - below) - (above - v); {
	case d < 0 || d == 0 && (at-1)%2 == 0:
		return sign | uint16(at-1)
	}
	return sign | uint16(at)
}

func TestCastAll(t *testing.T) {
	for _, c := range []struct {
		cast cast
		f    *narrowFloat
	}{{castF16, newNarrowFloat(5, 10)}, {castBF16, newNarrowFloat(8, 7)}} {
		infinity := uint16(len(c.f.values) - 1)
		check := func(v float32) {
			t.Helper()
			if got, want := c.cast.of(math.Float32bits(v)), c.f.round(float64(v)); got != want {
				t.Fatalf("cast %d of %g (%08x): %04x, want %04x", c.cast, v, math.Float32bits(v), got, want)
			}
		}
		for x := range 1 << 16 {
			h := uint16(x)
			if h&0x7fff > infinity {
				continue // a NaN: below
			}
			v := c.f.value(h)
			if got := c.cast.of(math.Float32bits(float32(v))); got != h {
				t.Fatalf("cast %d of %g: %04x, want %04x", c.cast, v, got, h)
			}
			if h&0x7fff == infinity {
				continue
			}
			next := c.f.value(h + 1)
			if math.IsInf(next, 0) {
				next = 2*v - c.f.value(h-1)
			}
			tie := float32((v + next) / 2)
			if float64(tie) != (v+next)/2 {
				continue // the least bf16s: half of one is no fp32 above their least
			}
			bits := math.Float32bits(tie)
			check(tie)
			check(math.Float32frombits(bits + 1))
			check(math.Float32frombits(bits - 1))
		}
		for _, v := range []float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 0, float32(math.Inf(1)), float32(math.Inf(-1))} {
			check(v)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for range 200_000 {
			if v := math.Float32frombits(rng.Uint32()); v == v {
				check(v)
			}
		}
		// NaNs stay NaNs of the same sign, quiet, with the payload's high bits.
		quiet := uint16(1) << (c.f.mantissa - 1)
		for range 10_000 {
			x := rng.Uint32() | 0x7f800000
			if x&0x007fffff == 0 {
				continue
			}
			payload := uint16(x&0x007fffff>>(23-c.f.mantissa)) | quiet
			if got, want := c.cast.of(x), uint16(x>>16&0x8000)|infinity|payload; got != want {
				t.Fatalf("cast %d of the NaN %08x: %04x, want %04x", c.cast, x, got, want)
			}
		}
		for _, x := range []uint32{0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff, 0xffffffff} {
			if got := c.cast.of(x); got&0x7fff <= infinity {
				t.Fatalf("cast %d of the NaN %08x: the number %04x", c.cast, x, got)
			}
		}
	}
	if got := castTrunc.of(0x12345678); got != 0x1234 {
		t.Errorf("cut: %04x", got)
	}
}

func TestCastFrames(t *testing.T) {
	const skip = 4096
	wide, _ := weights(F32, 80_000, 3, 0)
	e := NewEncoder(Auto)
	for c := castBF16; c <= castTrunc; c++ {
		plain := make([]byte, len(wide)/2)
		narrow(plain, wide, c)
		stored, param, ok := e.EncodeCast(nil, plain, wide, skip)
		if !ok || cast(param) != c || len(stored) != 4 {
			t.Fatalf("cast %d: %d, %d stored bytes, %v", c, param, len(stored), ok)
		}
		from, size, err := CastBase(stored, len(plain))
		if err != nil || from != skip || size != len(wide) {
			t.Fatalf("cast %d: base %d, %d, %v", c, from, size, err)
		}
		if got, err := decode(t, new(Decoder), len(plain), stored, Cast, param, wide); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("cast %d: %v", c, err)
		}
		// One bit off anywhere is no cast.
		for _, at := range []int{0, 1, 300, len(plain) - 1} {
			plain[at] ^= 1
			if _, _, ok := e.EncodeCast(nil, plain, wide, skip); ok {
				t.Errorf("cast %d with byte %d changed: taken", c, at)
			}
			plain[at] ^= 1
		}
		if _, _, ok := NewEncoder(ZstdOnly).EncodeCast(nil, plain, wide, skip); ok {
			t.Error("zstd alone: taken")
		}
		if _, _, ok := e.EncodeCast(nil, plain[:len(plain)-2], wide, skip); ok {
			t.Error("a longer base: taken")
		}
		if _, _, ok := e.EncodeCast(nil, plain[:7], wide[:14], skip); ok {
			t.Error("an odd length: taken")
		}
	}
}

func TestCastDamaged(t *testing.T) {
	four := binary.LittleEndian.AppendUint32(nil, 8)
	for _, c := range []struct {
		name   string
		stored []byte
		n      int
	}{
		{"empty", nil, 4},
		{"cut", four[:3], 4},
		{"left over", append(four[:4:4], 0), 4},
		{"odd length", four, 3},
		{"beyond a frame", binary.LittleEndian.AppendUint32(nil, maxPlane), 4},
		{"far beyond a frame", []byte{0, 0, 0, 0xff}, 4},
	} {
		if _, _, err := CastBase(c.stored, c.n); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: CastBase: %v", c.name, err)
		}
		if _, err := decode(t, new(Decoder), c.n, c.stored, Cast, 0, make([]byte, 2*c.n)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for name, base := range map[string][]byte{"no base": nil, "short base": make([]byte, 7), "long base": make([]byte, 9)} {
		if _, err := decode(t, new(Decoder), 4, four, Cast, 0, base); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decode(t, new(Decoder), 4, four, Cast, 3, make([]byte, 8)); !errors.Is(err, ErrDamaged) {
		t.Errorf("unknown cast: %v", err)
	}
}
