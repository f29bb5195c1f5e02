package chunk

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"pgregory.net/rapid"
)

// frame is a frame of a file, with its end.
type frame struct {
	End int64
	Span
}

// cut drives c as a writer does and returns the frames of p. next returns how
// many bytes may be added, for Room.
func cut(t rapid.TB, c *Cutter, p []byte, next func(room int) int) []frame {
	t.Helper()
	var frames []frame
	at, have := 0, 0
	for {
		n, s := c.Cut(p[at : at+have])
		if n > 0 {
			if n > have || n > format.MaxFrame {
				t.Fatalf("a frame of %d of %d bytes at %d", n, have, at)
			}
			at, have = at+n, have-n
			frames = append(frames, frame{int64(at), s})
			continue
		}
		left := len(p) - at - have
		if left == 0 {
			break
		}
		room := c.Room()
		if room < 1 {
			t.Fatalf("room for %d at %d", room, at)
		}
		have += min(left, next(room))
	}
	if have > format.MaxFrame {
		t.Fatalf("%d bytes left", have)
	}
	if have > 0 {
		frames = append(frames, frame{int64(at + have), c.Flush(p[at : at+have])})
	}
	return frames
}

func exactly(room int) int { return room }

// place returns a layout of tensors at their offsets.
func place(tensors ...Tensor) *Layout { return &Layout{Format: "test", Tensors: tensors} }

func TestCutter(t *testing.T) {
	const k = 1 << 10
	f32, bf16, q8 := codec.Kind{Elem: codec.F32}, codec.Kind{Elem: codec.BF16}, codec.Kind{Stride: 34}
	tensor := func(off, size int64, kind codec.Kind) Tensor {
		return Tensor{DType: "X", Offset: off, Size: size, Kind: kind}
	}
	gap := func(end int64) frame { return frame{end, Span{Tensor: -1, Opaque: true}} }
	tests := []struct {
		name string
		l    *Layout
		ends []int64
		size int64
		want []frame
	}{
		{"short, no layout", nil, nil, 100, []frame{gap(100)}},
		{"no tensors", place(), nil, 100, []frame{gap(100)}},
		{"big between gaps", place(tensor(100, 3<<20+5, f32)), nil, 3<<20 + 205, []frame{
			gap(100), {1<<20 + 100, Span{0, 0, f32, false}}, {2<<20 + 100, Span{0, 1 << 20, f32, false}},
			{3<<20 + 100, Span{0, 2 << 20, f32, false}}, {3<<20 + 105, Span{0, 3 << 20, f32, false}}, gap(3<<20 + 205),
		}},
		{"blocks across frames", place(tensor(0, 34*40_000, q8)), nil, 34 * 40_000, []frame{
			{1 << 20, Span{0, 0, q8, false}}, {34 * 40_000, Span{0, 1 << 20, codec.Kind{Stride: 34, Lead: 34 - 1<<20%34}, false}},
		}},
		{"run of small", place(tensor(10, 60*k, f32), tensor(10+60*k, 60*k, f32), tensor(10+124*k, 0, bf16), tensor(10+124*k, 4, f32)), nil, 14 + 124*k, []frame{
			gap(10), {14 + 124*k, Span{0, 0, f32, false}},
		}},
		{"run ends at its limit", place(tensor(0, 63*k, f32), tensor(63*k, 63*k, f32), tensor(126*k, 63*k, f32), tensor(189*k, 63*k, f32), tensor(253*k, 4*k, f32)), nil, 257 * k, []frame{
			{252 * k, Span{0, 0, f32, false}}, {257 * k, Span{-1, 0, f32, false}},
		}},
		{"run ends at another kind", place(tensor(0, 100, f32), tensor(100, 100, bf16)), nil, 200, []frame{
			{100, Span{0, 0, f32, false}}, {200, Span{1, 0, bf16, false}},
		}},
		{"run ends at another phase", place(tensor(0, 100, f32), tensor(102, 100, f32)), nil, 202, []frame{
			{100, Span{0, 0, f32, false}}, {202, Span{-1, 0, codec.Kind{Elem: codec.F32, Lead: 2}, false}},
		}},
		{"run ends at a wide gap", place(tensor(0, 100, f32), tensor(5000, 100, f32)), nil, 5100, []frame{
			{100, Span{0, 0, f32, false}}, gap(5000), {5100, Span{1, 0, f32, false}},
		}},
		{"padding behind a big one", place(tensor(0, 64*k, bf16), tensor(64*k+63, 100, bf16)), nil, 64*k + 163, []frame{
			{64 * k, Span{0, 0, bf16, false}}, {64*k + 163, Span{-1, 0, codec.Kind{Elem: codec.BF16, Lead: 1}, false}},
		}},
		{"padding before a big one", place(tensor(0, 100, f32), tensor(128, 64*k, f32)), nil, 64*k + 128, []frame{
			{128, Span{0, 0, f32, false}}, {64*k + 128, Span{1, 0, f32, false}},
		}},
		{"no padding behind a big one", place(tensor(0, 64*k, bf16), tensor(64*k+65, 100, bf16)), nil, 64*k + 165, []frame{
			{64 * k, Span{0, 0, bf16, false}}, gap(64*k + 65), {64*k + 165, Span{1, 0, bf16, false}},
		}},
		{"file ends early", place(tensor(0, 64*k, bf16)), nil, 10, []frame{{10, Span{0, 0, bf16, false}}}},
		{"unknown storages", place(Tensor{Size: 64 * k}, Tensor{Offset: 64 * k, Size: 8}, Tensor{Offset: 64*k + 12, Size: 8, Kind: f32}), nil, 64*k + 20, []frame{
			{64 * k, Span{0, 0, codec.Kind{}, true}}, {64*k + 20, Span{1, 0, f32, false}},
		}},
		{"earlier ends", nil, []int64{50, 30, 300 * k, 300*k + 1}, 300*k + 9, []frame{
			gap(50), gap(300 * k), gap(300*k + 1), gap(300*k + 9),
		}},
		{"earlier ends in gaps", place(tensor(100, 64*k, f32)), []int64{60, 200, 100 + 64*k + 7}, 100 + 64*k + 20, []frame{
			gap(60), gap(100), {100 + 64*k, Span{0, 0, f32, false}}, gap(100 + 64*k + 7), gap(100 + 64*k + 20),
		}},
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := noise(r, int(tt.size))
			if diff := cmp.Diff(tt.want, cut(t, NewCutterAt(tt.l, tt.ends), p, exactly)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCutterEndsOutOfReach checks that an end that no frame reaches is no end.
func TestCutterEndsOutOfReach(t *testing.T) {
	p := noise(rand.New(rand.NewPCG(2, 2)), 4<<20)
	first := cut(t, NewCutter(nil), p, exactly)
	got := cut(t, NewCutterAt(nil, []int64{3 << 20}), p, exactly)
	if got[0] != first[0] {
		t.Errorf("first frame ends at %d, not %d", got[0].End, first[0].End)
	}
	found := false
	for _, f := range got {
		found = found || f.End == 3<<20
	}
	if !found {
		t.Error("the end was not kept when it came into reach")
	}
}

// anyLayout draws a layout.
func anyLayout(t *rapid.T) *Layout {
	l := new(Layout)
	at := int64(0)
	for range rapid.IntRange(0, 12).Draw(t, "tensors") {
		at += rapid.SampledFrom([]int64{0, 0, 0, 1, 32, 64, 65, 4096, 4097, 200_000}).Draw(t, "gap")
		size := rapid.SampledFrom([]int64{0, 2, 4, 100, 30_000, 65_535, 65_536, 100_000, 1 << 20, 1<<20 + 2}).Draw(t, "size")
		x := Tensor{DType: "X", Offset: at, Size: size}
		x.Kind = rapid.SampledFrom([]codec.Kind{{}, {Elem: codec.BF16}, {Elem: codec.F32}, {Elem: codec.F32, Lead: 3}, {Stride: 34, Lead: 33}}).Draw(t, "kind")
		if x.Kind == (codec.Kind{}) && rapid.Bool().Draw(t, "unknown") {
			x.DType = ""
		}
		l.Tensors = append(l.Tensors, x)
		at += size
	}
	return l
}

// TestCutterProperties checks that frames cover a file, say what is true of its
// tensors, and don't depend on the sizes of reads.
func TestCutterProperties(t *testing.T) {
	data := noise(rand.New(rand.NewPCG(9, 9)), 16<<20)
	rapid.Check(t, func(t *rapid.T) {
		l := anyLayout(t)
		var ends []int64
		if rapid.Bool().Draw(t, "earlier") {
			ends = rapid.SliceOfN(rapid.Int64Range(0, 3<<20), 0, 10).Draw(t, "ends")
		}
		p := data[:rapid.IntRange(0, 5<<20).Draw(t, "length")]
		want := cut(t, NewCutterAt(l, ends), p, exactly)
		checkFrames(t, l, want, int64(len(p)))
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3<<20), 1, 5).Draw(t, "sizes")
		i := 0
		got := cut(t, NewCutterAt(l, ends), p, func(int) int { i++; return sizes[i%len(sizes)]/100 + 1 + sizes[i%len(sizes)]%3*700_000 })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("other reads, other frames: %s", diff)
		}
	})
}

// checkFrames checks frames of a file of size bytes against its layout.
func checkFrames(t rapid.TB, l *Layout, frames []frame, size int64) {
	t.Helper()
	at := int64(0)
	starts := make(map[int64]bool)
	for _, f := range frames {
		if f.End <= at || f.End-at > format.MaxFrame {
			t.Fatalf("a frame from %d to %d", at, f.End)
		}
		starts[at] = true
		if w := max(f.Kind.Elem.Width(), f.Kind.Stride, 1); f.Kind.Lead < 0 || f.Kind.Lead >= w {
			t.Fatalf("kind %+v at %d", f.Kind, at)
		}
		for i, x := range l.Tensors {
			inside := x.Offset <= at && at < x.Offset+x.Size
			if inside != (f.Tensor == i) || inside && x.Offset+f.At != at {
				t.Fatalf("frame at %d: %+v, tensor %d: %+v", at, f, i, x)
			}
			// Elements lie where the span says, in whatever tensor.
			w := int64(max(f.Kind.Elem.Width(), f.Kind.Stride))
			if w > 1 && x.Size > 0 && x.Offset >= at && x.Offset < f.End && !unknown(&x) {
				if x.Kind.Elem != f.Kind.Elem || (x.Offset+int64(x.Kind.Lead)-at-int64(f.Kind.Lead))%w != 0 {
					t.Fatalf("frame at %d: %+v, but tensor %+v", at, f, x)
				}
			}
		}
		at = f.End
	}
	if at != size {
		t.Fatalf("frames of %d of %d bytes", at, size)
	}
	for _, x := range l.Tensors {
		if x.Size >= minBig && x.Offset < size && !starts[x.Offset] {
			t.Fatalf("no frame begins with %+v", x)
		}
	}
}

// TestCutterRoom checks what a writer that heeds Room carries over.
func TestCutterRoom(t *testing.T) {
	p := noise(rand.New(rand.NewPCG(4, 4)), 8<<20)
	l := place(Tensor{Offset: 3 << 20, Size: 2 << 20, DType: "X"})
	c := NewCutter(l)
	have, at := 0, 0
	for at+have < len(p) {
		have += min(c.Room(), len(p)-at-have)
		for {
			n, s := c.Cut(p[at : at+have])
			if n == 0 {
				break
			}
			at, have = at+n, have-n
			if have > step || have > 0 && !s.Opaque {
				t.Fatalf("%d bytes carried over at %d", have, at)
			}
		}
	}
}
