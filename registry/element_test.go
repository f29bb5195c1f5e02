package registry

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestSmallFloats(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	e5m2 := func(b uint16) float64 { return float16(b << 8) }
	for _, tt := range []struct {
		what string
		read func(uint16) float64
		bits uint16
		want float64
	}{
		{"F16", float16, 0x0000, 0},
		{"F16", float16, 0x0001, 0x1p-24},
		{"F16", float16, 0x03ff, 1023 * 0x1p-24},
		{"F16", float16, 0x0400, 0x1p-14},
		{"F16", float16, 0x3555, 0.333251953125},
		{"F16", float16, 0x3c00, 1},
		{"F16", float16, 0xc000, -2},
		{"F16", float16, 0x7bff, 65504},
		{"F16", float16, 0x7c00, inf},
		{"F16", float16, 0xfc00, -inf},
		{"F16", float16, 0x7e01, nan},
		{"F8_E5M2", e5m2, 0x01, 0x1p-16},
		{"F8_E5M2", e5m2, 0x04, 0x1p-14},
		{"F8_E5M2", e5m2, 0x3c, 1},
		{"F8_E5M2", e5m2, 0x7b, 57344},
		{"F8_E5M2", e5m2, 0x7c, inf},
		{"F8_E5M2", e5m2, 0xfd, nan},
		{"F8_E4M3", byteOf(e4m3), 0x01, 0x1p-9},
		{"F8_E4M3", byteOf(e4m3), 0x08, 0x1p-6},
		{"F8_E4M3", byteOf(e4m3), 0x38, 1},
		{"F8_E4M3", byteOf(e4m3), 0xb8, -1},
		{"F8_E4M3", byteOf(e4m3), 0x7e, 448},
		{"F8_E4M3", byteOf(e4m3), 0x7f, nan},
		{"F8_E4M3", byteOf(e4m3), 0xff, nan},
		{"F8_E8M0", byteOf(e8m0), 0, 0x1p-127},
		{"F8_E8M0", byteOf(e8m0), 127, 1},
		{"F8_E8M0", byteOf(e8m0), 254, 0x1p127},
		{"F8_E8M0", byteOf(e8m0), 255, nan},
	} {
		got := tt.read(tt.bits)
		if got != tt.want && !(math.IsNaN(got) && math.IsNaN(tt.want)) {
			t.Errorf("%s %#x is %v, want %v", tt.what, tt.bits, got, tt.want)
		}
	}
}

func byteOf(f func(byte) float64) func(uint16) float64 {
	return func(b uint16) float64 { return f(byte(b)) }
}

// f32, f64 and the like return little-endian arrays.
func f32(v ...float32) []byte { return encode(v) }
func f64(v ...float64) []byte { return encode(v) }

func encode(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestComparison(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	nan32, inf32 := float32(nan), float32(inf)
	type result struct {
		Unit                  Unit
		Different, NonFinite  int64
		Largest               float64
		Compared, BytesOfEach int64
	}
	for _, tt := range []struct {
		name, dtype string
		block       int
		a, b        []byte
		want        result
	}{
		{"equal", "F32", 0, f32(1, nan32, 3), f32(1, nan32, 3), result{Elements, 0, 0, 0, 3, 4}},
		{"one of three", "F32", 0, f32(1, 2, 3), f32(1, 2.5, 3), result{Elements, 1, 0, 0.5, 3, 4}},
		{"the largest is downwards", "F32", 0, f32(1, 2), f32(2, -4), result{Elements, 2, 0, 6, 2, 4}},
		{"zeros of two signs", "F32", 0, f32(0), f32(float32(math.Copysign(0, -1))), result{Elements, 1, 0, 0, 1, 4}},
		{"to NaN and from infinity", "F32", 0, f32(1, inf32, 2), f32(nan32, 1, 3), result{Elements, 3, 2, 1, 3, 4}},
		{"infinity to minus infinity", "F64", 0, f64(inf), f64(-inf), result{Elements, 1, 1, 0, 1, 8}},
		{"two NaNs", "F64", 0, f64(nan), f64(math.Float64frombits(math.Float64bits(nan) ^ 1<<20)), result{Elements, 1, 1, 0, 1, 8}},
		{"more than the largest float", "F64", 0, f64(math.MaxFloat64), f64(-math.MaxFloat64), result{Elements, 1, 0, math.MaxFloat64, 1, 8}},
		{"BF16", "BF16", 0, encode([]uint16{0x3f80, 0x3f80, 0x3f80}), encode([]uint16{0x3f80, 0x3f81, 0x7fc0}), result{Elements, 2, 1, 0x1p-7, 3, 2}},
		{"F16", "F16", 0, encode([]uint16{0x3c00}), encode([]uint16{0x3c01}), result{Elements, 1, 0, 0x1p-10, 1, 2}},
		{"F8_E4M3", "F8_E4M3", 0, []byte{0x38, 0x38, 0}, []byte{0x40, 0x7f, 0}, result{Elements, 2, 1, 1, 3, 1}},
		{"F8_E5M2", "F8_E5M2", 0, []byte{0x3c}, []byte{0xbc}, result{Elements, 1, 0, 2, 1, 1}},
		{"F8_E8M0", "F8_E8M0", 0, []byte{127}, []byte{129}, result{Elements, 1, 0, 3, 1, 1}},
		{"I8", "I8", 0, []byte{0x80, 1}, []byte{0x7f, 1}, result{Elements, 1, 0, 255, 2, 1}},
		{"U8", "U8", 0, []byte{0x80}, []byte{0x7f}, result{Elements, 1, 0, 1, 1, 1}},
		{"I16", "I16", 0, encode([]int16{-3}), encode([]int16{4}), result{Elements, 1, 0, 7, 1, 2}},
		{"U16", "U16", 0, encode([]uint16{65535}), encode([]uint16{0}), result{Elements, 1, 0, 65535, 1, 2}},
		{"I32", "I32", 0, encode([]int32{math.MinInt32}), encode([]int32{math.MaxInt32}), result{Elements, 1, 0, math.MaxUint32, 1, 4}},
		{"U32", "U32", 0, encode([]uint32{1}), encode([]uint32{3}), result{Elements, 1, 0, 2, 1, 4}},
		{"neighbours beyond 2^53", "I64", 0, encode([]int64{1 << 60}), encode([]int64{1<<60 + 1}), result{Elements, 1, 0, 1, 1, 8}},
		{"the ends of I64", "I64", 0, encode([]int64{math.MinInt64}), encode([]int64{math.MaxInt64}), result{Elements, 1, 0, math.MaxUint64, 1, 8}},
		{"the ends of U64", "U64", 0, encode([]uint64{0}), encode([]uint64{math.MaxUint64}), result{Elements, 1, 0, math.MaxUint64, 1, 8}},
		{"complex", "C64", 0, f32(0, 0, 1, 1), f32(3, 4, 1, 1), result{Elements, 1, 0, 5, 2, 8}},
		{"complex with a NaN", "C128", 0, f64(0, 0), f64(3, nan), result{Elements, 1, 1, 0, 1, 16}},
		{"big-endian", ">F4", 0, []byte{0x3f, 0x80, 0, 0}, []byte{0x40, 0, 0, 0}, result{Elements, 1, 0, 1, 1, 4}},
		{"big-endian integers", ">I2", 0, []byte{0xff, 0xff}, []byte{0, 1}, result{Elements, 1, 0, 2, 1, 2}},
		{"BOOL", "BOOL", 0, []byte{0, 1}, []byte{1, 1}, result{Elements, 1, 0, 0, 2, 1}},
		{"blocks", "Q4_0", 18, bytes.Repeat([]byte{1}, 54), append(bytes.Repeat([]byte{1}, 53), 2), result{Blocks, 1, 0, 0, 3, 18}},
		{"less than a byte", "F4", 0, []byte{1, 2}, []byte{1, 3}, result{Bytes, 1, 0, 0, 2, 1}},
		{"unknown", "F9", 0, []byte{1, 2, 3}, []byte{0, 0, 0}, result{Bytes, 3, 0, 0, 3, 1}},
		{"not known", "", 0, []byte{1}, []byte{2}, result{Bytes, 1, 0, 0, 1, 1}},
		{"a size that lies", "F32", 0, []byte{1, 2, 3}, []byte{1, 2, 4}, result{Bytes, 1, 0, 0, 3, 1}},
		{"empty", "F32", 0, nil, nil, result{Elements, 0, 0, 0, 0, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := comparison{element: elementOf(tt.dtype, tt.block, int64(len(tt.a)))}
			c.add(tt.a, tt.b)
			got := result{c.unit, c.different, c.nonFinite, c.largest, int64(len(tt.a) / c.width), int64(c.width)}
			same(t, "comparison", got, tt.want)
		})
	}
}

// value reads an element in the plainest way.
func value(dtype string, b []byte) float64 {
	le := binary.LittleEndian
	switch dtype {
	case "F64":
		return math.Float64frombits(le.Uint64(b))
	case "F32":
		return float64(math.Float32frombits(le.Uint32(b)))
	case "BF16":
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case "I32":
		return float64(int32(le.Uint32(b)))
	case "U8":
		return float64(b[0])
	}
	panic(dtype)
}

// A comparison counts what one element after the other tells, however it is cut.
func TestComparisonProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dtype := rapid.SampledFrom([]string{"F64", "F32", "BF16", "I32", "U8"}).Draw(t, "dtype")
		w := elementOfDType(dtype).width
		a := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "a")
		a = a[:len(a)/w*w]
		b := bytes.Clone(a)
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 200), 0, 20).Draw(t, "changed") {
			if i < len(b) {
				b[i] ^= 1 << (i % 8)
			}
		}
		var different, nonFinite int64
		largest := 0.0
		for i := 0; i < len(a); i += w {
			if bytes.Equal(a[i:i+w], b[i:i+w]) {
				continue
			}
			different++
			x, y := value(dtype, a[i:i+w]), value(dtype, b[i:i+w])
			if math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) {
				nonFinite++
			} else {
				largest = max(largest, min(math.Abs(x-y), math.MaxFloat64))
			}
		}
		c := comparison{element: elementOf(dtype, 0, int64(len(a)))}
		for at := 0; at < len(a); {
			n := min(rapid.IntRange(1, 30).Draw(t, "piece")*w, len(a)-at)
			c.add(a[at:at+n], b[at:at+n])
			at += n
		}
		if c.different != different || c.nonFinite != nonFinite || c.largest != largest {
			t.Fatalf("got %d, %d, %v; want %d, %d, %v", c.different, c.nonFinite, c.largest, different, nonFinite, largest)
		}
	})
}

func BenchmarkComparison(b *testing.B) {
	for _, dtype := range []string{"BF16", "F32"} {
		for _, all := range []bool{false, true} {
			name := dtype + "/equal"
			x := weights(1, 1<<20)
			y := bytes.Clone(x)
			if all {
				name = dtype + "/different"
				for i := range y {
					y[i] ^= 1
				}
			}
			b.Run(name, func(b *testing.B) {
				c := comparison{element: elementOf(dtype, 0, 1<<20)}
				b.SetBytes(1 << 20)
				for b.Loop() {
					c.add(x, y)
				}
			})
		}
	}
}
