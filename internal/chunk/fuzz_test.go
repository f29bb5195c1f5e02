package chunk

import (
	"bytes"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/codec"
)

// fuzzScan checks that whatever b is, Scan gives an ordered layout of the
// format or none, and that Prefix agrees when it recognises all of b.
func fuzzScan(f *testing.F, format string) {
	f.Fuzz(func(t *testing.T, b []byte) {
		l := scan(t, b)
		if l != nil && l.Format != format {
			return // other targets look at it
		}
		again, err := Scan(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Fatalf("another layout the second time: %s", diff)
		}
		p, _ := prefixOf(t, b)
		if p != nil {
			checkLayout(t, p, math.MaxInt64)
		}
		if format == "zip" {
			if l != nil && p != nil {
				t.Fatal("Prefix recognised an archive")
			}
		} else if l != nil {
			if diff := cmp.Diff(l, p); diff != "" {
				t.Fatalf("Scan and Prefix differ: %s", diff)
			}
		}
		if l != nil {
			checkFrames(t, l, cut(t, NewCutter(l), b, exactly), int64(len(b)))
		}
	})
}

func FuzzSafetensors(f *testing.F) { fuzzScan(f, "safetensors") }

func FuzzGGUF(f *testing.F) { fuzzScan(f, "gguf") }

func FuzzZip(f *testing.F) { fuzzScan(f, "zip") }

func FuzzNpy(f *testing.F) { fuzzScan(f, "npy") }

// FuzzCutter cuts a file whose layout, content and reads come from b: four
// bytes a tensor, for the gap before it, its size and its kind.
func FuzzCutter(f *testing.F) {
	f.Fuzz(func(t *testing.T, b, content []byte, size uint32, read uint32, end int64) {
		if len(b) > 256 || len(content) == 0 {
			return
		}
		l := new(Layout)
		at := int64(0)
		for ; len(b) >= 4; b = b[4:] {
			x := Tensor{Offset: at + int64(b[0])*int64(b[0]), Size: int64(b[1]) * int64(b[2]) * 17}
			switch b[3] % 4 {
			case 1:
				x.Kind = codec.Kind{Elem: codec.F32, Lead: int(b[3]>>4) % 4}
			case 2:
				x.Kind = codec.Kind{Stride: 34, Lead: int(b[3]>>4) % 34}
			case 3:
				x.DType = "X"
			}
			l.Tensors = append(l.Tensors, x)
			at = x.Offset + x.Size
		}
		p := make([]byte, size%(3<<20))
		for n := copy(p, content); n < len(p); n *= 2 {
			copy(p[n:], p[:n])
		}
		frames := cut(t, NewCutterAt(l, []int64{end, end + 1, end + 300_000}), p, exactly)
		checkFrames(t, l, frames, int64(len(p)))
		step := 1 + int(read)%(2<<20)
		if len(p)/step > 1000 {
			return // Cut may be asked often, but that teaches nothing
		}
		again := cut(t, NewCutterAt(l, []int64{end, end + 1, end + 300_000}), p, func(int) int { return step })
		if diff := cmp.Diff(frames, again); diff != "" {
			t.Fatalf("other reads, other frames: %s", diff)
		}
	})
}
