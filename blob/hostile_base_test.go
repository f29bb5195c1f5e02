package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// heldRow describes plain as stored in some way, with no base yet.
func heldRow(plain, stored []byte, id codec.ID, param uint8) format.Row {
	return format.Row{
		Sum: Sum(plain), PlainLen: uint32(len(plain)), StoredLen: uint32(len(stored)), CRC: crc32.Checksum(stored, castagnoli),
		Codec: id, Param: param,
	}
}

// forger plants files whose checksums are right and whose frames have bases as
// the tests like.
type forger struct {
	t           *testing.T
	m           *durable.Mem
	wide, plain []byte // fp32, and what is half as long
	next        []byte // the later state of plain
	delta       []byte // next as a delta to plain
}

func newForger(t *testing.T, m *durable.Mem) *forger {
	t.Helper()
	x := &forger{t: t, m: m, wide: normals(1, "F32", 128<<10)}
	x.plain = narrowed("BF16", x.wide)
	x.next = trained(2, "BF16", x.plain, 1)
	stored, id, _ := codec.NewEncoder(codec.Auto).Encode(nil, x.next, codec.Kind{Elem: codec.BF16}, x.plain)
	if id != codec.Delta {
		t.Fatalf("the frame has codec %d", id)
	}
	x.delta = slices.Clone(stored)
	return x
}

// raw, based and cast are rows with what they store.
type forged struct {
	row    format.Row
	stored []byte
}

func raw(plain []byte) forged { return forged{rawRow(plain), plain} }

func (x *forger) based(depth uint8, base, frame uint32) forged {
	r := heldRow(x.next, x.delta, codec.Delta, uint8(codec.BF16))
	r.Depth, r.Base, r.BaseFrame = depth, base, frame
	return forged{r, x.delta}
}

func (x *forger) cast(skip uint32, depth uint8, base, frame uint32) forged {
	stored := binary.LittleEndian.AppendUint32(nil, skip)
	r := heldRow(x.plain, stored, codec.Cast, 0)
	r.Depth, r.Base, r.BaseFrame = depth, base, frame
	return forged{r, stored}
}

func borrowed(plain []byte, donor, frame uint32) forged {
	return forged{row: format.Row{Sum: Sum(plain), PlainLen: uint32(len(plain)), Place: format.Borrowed, Donor: donor, Frame: frame}}
}

// plant writes the blob d.
func (x *forger) plant(d Digest, donors []format.Digest, rows ...forged) {
	x.t.Helper()
	tab := &format.Table{Donors: donors}
	var stored []byte
	for _, f := range rows {
		tab.Rows = append(tab.Rows, f.row)
		stored = append(stored, f.stored...)
	}
	plant(x.t, x.m, d, tab, stored)
}

// TestHostileBases reads files whose bases are not what the format says. Each is
// refused for its reason, soon, and none is of use to a Put.
func TestHostileBases(t *testing.T) {
	a, b, c := Digest{1}, Digest{2}, Digest{3}
	one := []format.Digest{format.Digest(b)}
	const self = format.SelfBase
	for _, v := range []struct {
		name   string
		plant  func(x *forger) // makes the blob a
		reason string
	}{
		{"right, so that the others are not refused for nothing", func(x *forger) {
			x.plant(b, nil, raw(x.plain), raw(x.wide))
			x.plant(a, one, x.based(1, 0, 0), x.cast(0, 1, 0, 1))
		}, ""},
		{"right, in the same file", func(x *forger) {
			x.plant(a, nil, raw(x.plain), x.based(1, self, 0), raw(x.wide), x.cast(0, 1, self, 2))
		}, ""},
		{"right, at the greatest depth", func(x *forger) {
			x.plant(b, nil, raw(x.wide), x.cast(0, 1, self, 0))
			x.plant(a, one, x.based(2, 0, 1), x.based(4, 0, 1))
		}, ""},
		{"a depth without a base's codec", func(x *forger) {
			r := raw(x.plain)
			r.row.Depth = 1
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, r)
		}, "depth 1 with codec 0"},
		{"a base's codec without a depth", func(x *forger) {
			x.plant(a, nil, heldForged(x.next, x.delta, codec.Delta, uint8(codec.BF16)))
		}, "depth 0 with codec 4"},
		{"a cast without a depth", func(x *forger) {
			x.plant(a, nil, heldForged(x.plain, make([]byte, 4), codec.Cast, 0))
		}, "depth 0 with codec 5"},
		{"based on itself", func(x *forger) { x.plant(a, nil, x.based(1, self, 0)) }, "not before it"},
		{"based on a later row", func(x *forger) { x.plant(a, nil, x.based(1, self, 1), raw(x.plain)) }, "not before it"},
		{"based on its own blob as on a donor", func(x *forger) {
			x.plant(a, []format.Digest{format.Digest(a)}, raw(x.plain), x.based(1, 0, 0))
		}, "its own donor"},
		{"a base that is borrowed in turn", func(x *forger) {
			x.plant(c, nil, raw(x.plain))
			x.plant(b, []format.Digest{format.Digest(c)}, borrowed(x.plain, 0, 0))
			x.plant(a, one, x.based(1, 0, 0))
		}, "not held there"},
		{"a base of its own that is borrowed", func(x *forger) {
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, borrowed(x.plain, 0, 0), x.based(1, self, 0))
		}, "not held there"},
		{"no such base frame", func(x *forger) {
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, x.based(1, 0, 1))
		}, "no base frame 1"},
		{"a base frame far beyond", func(x *forger) {
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, x.based(1, 0, 1<<32-1))
		}, "no base frame"},
		{"no such base", func(x *forger) { x.plant(a, one, x.based(1, 0, 0)) }, "missing"},
		{"a chain that is deeper than it says", func(x *forger) {
			x.plant(b, nil, raw(x.plain), x.based(1, self, 0))
			x.plant(a, one, x.based(1, 0, 1))
		}, "deeper"},
		{"a chain that says too much depth", func(x *forger) {
			x.plant(b, nil, raw(x.plain), x.based(4, self, 0))
			x.plant(a, one, x.based(4, 0, 1))
		}, "deeper"},
		{"two files based on each other", func(x *forger) {
			x.plant(b, []format.Digest{format.Digest(a)}, x.based(4, 0, 0))
			x.plant(a, one, x.based(4, 0, 0))
		}, "deeper"},
		{"two files based on each other, shallower", func(x *forger) {
			x.plant(b, []format.Digest{format.Digest(a)}, x.based(3, 0, 0))
			x.plant(a, one, x.based(4, 0, 0))
		}, "deeper"},
		{"two files of casts based on each other", func(x *forger) {
			x.plant(b, []format.Digest{format.Digest(a)}, x.cast(0, 3, 0, 0))
			x.plant(a, one, x.cast(0, 4, 0, 0))
		}, ""}, // the frame is too short, or the chain too deep
		{"a base of another length", func(x *forger) {
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, x.based(1, 0, 0))
		}, "base frame 0 has another length"},
		{"a cast of too short a base", func(x *forger) {
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, x.cast(0, 1, 0, 0))
		}, "no base frame 1"},
		{"a cast from beyond the base", func(x *forger) {
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, x.cast(4, 1, 0, 0))
		}, "no base frame 1"},
		{"a cast from far beyond the base", func(x *forger) {
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, x.cast(1<<20, 1, 0, 0))
		}, "begins at 1048576"},
		{"a cast from the end of numbers", func(x *forger) {
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, x.cast(1<<32-4, 1, 0, 0))
		}, "begins at"},
		{"a cast of many short frames", func(x *forger) {
			var rows []forged
			for i := range 100 {
				rows = append(rows, raw(x.wide[4*i:4*i+2000]))
			}
			x.plant(b, nil, rows...)
			x.plant(a, one, x.cast(0, 4, 0, 0))
		}, "deeper"},
		{"a cast that goes on into itself", func(x *forger) {
			x.plant(a, nil, raw(x.plain), x.cast(0, 4, self, 0))
		}, "deeper"},
		{"a cast of casts that go on", func(x *forger) {
			x.plant(a, nil, raw(x.wide), x.cast(0, 1, self, 0), x.cast(0, 2, self, 1), x.cast(0, 3, self, 2), x.cast(0, 4, self, 3))
		}, "deeper"},
		{"a cast of six stored bytes", func(x *forger) {
			f := x.cast(0, 1, 0, 0)
			f.stored = append(f.stored, 0, 0)
			f.row.StoredLen, f.row.CRC = 6, crc32.Checksum(f.stored, castagnoli)
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, f)
		}, "cast: 6 stored bytes"},
		{"a cast of an unknown kind", func(x *forger) {
			f := x.cast(0, 1, 0, 0)
			f.row.Param = 3
			x.plant(b, nil, raw(x.wide))
			x.plant(a, one, f)
		}, "cast: kind 3"},
		{"a delta of garbage", func(x *forger) {
			garbage := randomBytes(9, 500)
			f := heldForged(x.next, garbage, codec.Delta, uint8(codec.BF16))
			f.row.Depth = 1
			x.plant(b, nil, raw(x.plain))
			x.plant(a, one, f)
		}, "codec: damaged"},
		{"a delta to other bytes", func(x *forger) {
			x.plant(b, nil, raw(x.next))
			x.plant(a, one, x.based(1, 0, 0))
		}, ""},
		{"sketches out of order", func(x *forger) {
			tab := &format.Table{Rows: []format.Row{rawRow(x.plain), rawRow(x.next)}, Sketches: []format.Sketch{{Frame: 1}, {Frame: 0}}}
			plant(x.t, x.m, a, tab, cat(x.plain, x.next))
		}, "out of order"},
		{"a sketch beyond the rows", func(x *forger) {
			tab := &format.Table{Rows: []format.Row{rawRow(x.plain), rawRow(x.next)}, Sketches: []format.Sketch{{Frame: 2}}}
			plant(x.t, x.m, a, tab, cat(x.plain, x.next))
		}, "frame 2 is none"},
	} {
		t.Run(v.name, func(t *testing.T) {
			s, m := newMem(t, &Options{
				Workers: 1,
				Known:   hint(FrameRef{a, 0}),
				Similar: func(context.Context, []uint64) []FrameRef { return []FrameRef{{a, 0}, {a, 1}, {b, 0}} },
			})
			x := newForger(t, m)
			v.plant(x)
			right := strings.HasPrefix(v.name, "right")
			start := time.Now()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := readAll(t.Context(), s, a)
			runtime.ReadMemStats(&after)
			ce, ok := errors.AsType[*CorruptError](err)
			switch {
			case !ok:
				t.Errorf("%v is not a *CorruptError", err)
			case right && !strings.Contains(err.Error(), "together they are"): // no digest begins so
				t.Errorf("%v", err)
			case !right && strings.Contains(err.Error(), "together they are"):
				t.Errorf("every frame was read: %d bytes", len(got))
			case !strings.Contains(ce.Err.Error(), v.reason):
				t.Errorf("%v says nothing of %q", err, v.reason)
			}
			if took, grew := time.Since(start), after.TotalAlloc-before.TotalAlloc; took > 5*time.Second || grew > 64<<20 {
				t.Errorf("it took %s and %d bytes", took, grew)
			}
			for _, d := range []Digest{a, b} {
				content := safetensors(tensor{"f", "F32", x.wide}, tensor{"n", "BF16", x.next})
				putLike(t, s, content, d)
				if err := s.fsys.Remove(blobPath(Sum(content))); err != nil {
					t.Fatal(err)
				}
				put(t, s, x.next)
				wantBlob(t, s, x.next)
				if err := s.fsys.Remove(blobPath(Sum(x.next))); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func heldForged(plain, stored []byte, id codec.ID, param uint8) forged {
	return forged{heldRow(plain, stored, id, param), stored}
}
