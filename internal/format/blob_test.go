package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

// drawTable draws a table that keeps every rule.
func drawTable(t *rapid.T) *Table {
	digest := rapid.Custom(func(t *rapid.T) Digest { return Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")) })
	donors := rapid.SliceOfNDistinct(digest, 0, 4, func(d Digest) Digest { return d }).Draw(t, "donors")
	slices.SortFunc(donors, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	tab := &Table{Donors: donors, Rows: []Row{}}
	if donors == nil {
		tab.Donors = []Digest{}
	}
	u32 := rapid.Uint32()
	var held []uint32
	add := func(r Row) { tab.Rows = append(tab.Rows, r) }
	fresh := func() Row {
		return Row{Sum: digest.Draw(t, "sum"), PlainLen: rapid.Uint32Range(1, MaxFrame).Draw(t, "plain")}
	}
	for i := range donors { // each is named once at least
		r := fresh()
		r.Place, r.Donor, r.Frame = Borrowed, uint32(i), u32.Draw(t, "frame")
		add(r)
	}
	for range rapid.IntRange(0, 6).Draw(t, "rows") {
		if len(held) > 0 && rapid.Bool().Draw(t, "repeat") {
			n := rapid.SampledFrom(held).Draw(t, "of")
			add(Row{Sum: tab.Rows[n].Sum, PlainLen: tab.Rows[n].PlainLen, Place: Repeated, Frame: n})
			continue
		}
		r := fresh()
		r.StoredLen = rapid.Uint32Range(1, r.PlainLen).Draw(t, "stored")
		r.CRC, r.Codec, r.Param = u32.Draw(t, "crc"), rapid.Byte().Draw(t, "codec"), rapid.Byte().Draw(t, "param")
		if len(donors) > 0 && rapid.Bool().Draw(t, "delta") {
			r.Depth = rapid.Uint8Range(1, MaxDepth).Draw(t, "depth")
			r.Base, r.BaseFrame = rapid.Uint32Range(0, uint32(len(donors)-1)).Draw(t, "base"), u32.Draw(t, "base frame")
		} else if len(tab.Rows) > 0 && rapid.Bool().Draw(t, "delta to itself") {
			r.Depth = rapid.Uint8Range(1, MaxDepth).Draw(t, "depth")
			r.Base, r.BaseFrame = SelfBase, rapid.Uint32Range(0, uint32(len(tab.Rows)-1)).Draw(t, "base row")
		}
		held = append(held, uint32(len(tab.Rows)))
		add(r)
	}
	for i := range tab.Rows {
		if rapid.Bool().Draw(t, "sketch") {
			s := Sketch{Frame: uint32(i)}
			for k := range s.Keys {
				s.Keys[k] = rapid.Uint64().Draw(t, "key")
			}
			tab.Sketches = append(tab.Sketches, s)
		}
	}
	return tab
}

// footerOf returns the footer that belongs to t, and the file's size.
func footerOf(t *Table, digest Digest) (f *Footer, raw []byte, size int64) {
	raw = AppendTable(nil, t)
	f = &Footer{
		TableOffset: HeaderSize, TableLen: uint64(len(raw)), Rows: uint32(len(t.Rows)), Donors: uint32(len(t.Donors)),
		Sketches: uint32(len(t.Sketches)), Digest: digest, TableSum: blake3.Sum256(raw), Version: Version, MinReader: Version,
	}
	for i := range t.Rows {
		f.PlainSize += uint64(t.Rows[i].PlainLen)
		f.TableOffset += uint64(t.Rows[i].StoredLen)
	}
	return f, raw, int64(f.TableOffset + f.TableLen + FooterSize)
}

func TestTableAndFooterRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTable(t)
		f, raw, size := footerOf(want, Digest{0xFF, 0xFE})
		foot := AppendFooter([]byte("what was there"), f)[len("what was there"):]
		got, err := ParseFooter(foot, size)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(f, got); d != "" {
			t.Fatal(d)
		}
		tab, err := ParseTable(raw, got)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, tab); d != "" {
			t.Fatal(d)
		}
		if err := CheckHeader(AppendHeader(nil, Version), got); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOffsets fixes where docs/format.md puts each field.
func TestOffsets(t *testing.T) {
	seq := func(from byte) (d Digest) {
		for i := range d {
			d[i] = from + byte(i)
		}
		return d
	}
	le := binary.LittleEndian
	raw := AppendTable(nil, &Table{Donors: []Digest{seq(1)}, Rows: []Row{{
		Sum: seq(100), PlainLen: 0x01020304, StoredLen: 0x05060708, CRC: 0x090A0B0C, Codec: 13, Param: 14, Place: 15, Depth: 16,
		Donor: 0x11121314, Frame: 0x15161718, Base: 0x191A1B1C, BaseFrame: 0x1D1E1F20,
	}}, Sketches: []Sketch{{Frame: 0x21222324, Keys: [SketchKeys]uint64{1 << 50, 2 << 50, 3 << 50, 4 << 50, 5 << 50, 6 << 50, 7 << 50}}}})
	if len(raw) != 160 || Digest(raw[:32]) != seq(1) || Digest(raw[32:64]) != seq(100) {
		t.Fatalf("table % x", raw)
	}
	row, sketch := raw[32:96], raw[96:]
	if le.Uint32(sketch) != 0x21222324 || le.Uint32(sketch[4:]) != 0 {
		t.Errorf("sketch % x", sketch)
	}
	for i := range SketchKeys {
		if got := le.Uint64(sketch[8+8*i:]); got != uint64(i+1)<<50 {
			t.Errorf("key %d of the sketch: %#x", i, got)
		}
	}
	for at, want := range map[int]uint32{32: 0x01020304, 36: 0x05060708, 40: 0x090A0B0C, 48: 0x11121314, 52: 0x15161718, 56: 0x191A1B1C, 60: 0x1D1E1F20} {
		if got := le.Uint32(row[at:]); got != want {
			t.Errorf("row at %d: %#x, not %#x", at, got, want)
		}
	}
	if !bytes.Equal(row[44:48], []byte{13, 14, 15, 16}) {
		t.Errorf("row at 44: % x", row[44:48])
	}
	foot := AppendFooter(nil, &Footer{TableOffset: 1 << 40, TableLen: 2 << 40, PlainSize: 3 << 40, Rows: 4 << 20, Donors: 5 << 20, Sketches: 6 << 20, Digest: seq(7), TableSum: seq(70), Version: 9, MinReader: 8})
	if len(foot) != 128 || le.Uint64(foot) != 1<<40 || le.Uint64(foot[8:]) != 2<<40 || le.Uint64(foot[16:]) != 3<<40 ||
		le.Uint32(foot[24:]) != 4<<20 || le.Uint32(foot[28:]) != 5<<20 || Digest(foot[32:64]) != seq(7) || Digest(foot[64:96]) != seq(70) ||
		le.Uint16(foot[96:]) != 9 || le.Uint16(foot[98:]) != 8 || le.Uint32(foot[100:]) != 6<<20 || string(foot[120:]) != "\x89HEFT\r\n\x1a" {
		t.Errorf("footer % x", foot)
	}
	sum := blake3.Sum256(foot[:104])
	if !bytes.Equal(foot[104:120], sum[:16]) {
		t.Errorf("the footer's checksum is % x", foot[104:120])
	}
	if head := AppendHeader(nil, Version); string(head) != "\x89HEFT\r\n\x1a\x02\x00\x02\x00\x00\x00\x00\x00" {
		t.Errorf("header % x", head)
	}
}

// seal recomputes the checksum of a footer's bytes.
func seal(b []byte) {
	sum := blake3.Sum256(b[:104])
	copy(b[104:120], sum[:16])
}

// wantError checks that err is an *Error about part that mentions reason.
func wantError(t *testing.T, name string, err error, part, reason string) {
	t.Helper()
	fe, ok := errors.AsType[*Error](err)
	if !ok || fe.Part != part || !strings.Contains(fe.Reason, reason) {
		t.Errorf("%s: %v, not a %s error about %q", name, err, part, reason)
	}
}

func TestParseFooterRules(t *testing.T) {
	f, _, size := footerOf(&Table{Rows: []Row{{PlainLen: 100, StoredLen: 60}}}, Digest{1})
	good := AppendFooter(nil, f)
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		size   int64
		change func([]byte) []byte
		reason string
	}{
		{"too short a file", HeaderSize + FooterSize - 1, nil, "too short"},
		{"too short a footer", size, func(b []byte) []byte { return b[1:] }, "too short"},
		{"magic", size, func(b []byte) []byte { b[127]++; return b }, "magic"},
		{"checksum", size, func(b []byte) []byte { b[110]++; return b }, "checksum"},
		{"unsealed change", size, func(b []byte) []byte { b[16]++; return b }, "checksum"},
		{"table length", size, func(b []byte) []byte { b[8]++; seal(b); return b }, "table of"},
		{"row count", size, func(b []byte) []byte { b[24]++; seal(b); return b }, "table of"},
		{"donor count", size, func(b []byte) []byte { b[28] += 2; seal(b); return b }, "table of"},
		{"table offset", size, func(b []byte) []byte { b[0]++; seal(b); return b }, "does not fit"},
		{"table offset near the limit", size, func(b []byte) []byte { le.PutUint64(b, math.MaxUint64); seal(b); return b }, "does not fit"},
		{"a longer file", size + 1, nil, "does not fit"},
		{"a shorter file", size - 1, nil, "does not fit"},
		{"a table longer than the file", size, func(b []byte) []byte {
			le.PutUint32(b[24:], math.MaxUint32)
			le.PutUint64(b[8:], math.MaxUint32*RowSize)
			seal(b)
			return b
		}, "does not fit"},
		{"a table longer than the file, at an offset that wraps around", size, func(b []byte) []byte {
			le.PutUint32(b[24:], math.MaxUint32)
			le.PutUint64(b[8:], math.MaxUint32*RowSize)
			le.PutUint64(b, uint64(size)-FooterSize-math.MaxUint32*RowSize)
			seal(b)
			return b
		}, "does not fit"},
		{"plain size", size, func(b []byte) []byte { b[23] = 0x80; seal(b); return b }, "out of range"},
		{"a sketch that the table has no room for", size, func(b []byte) []byte { b[100] = 1; seal(b); return b }, "table of"},
		{"more sketches than rows", size, func(b []byte) []byte { b[103] = 1; seal(b); return b }, "sketches"},
		{"a sketch in a file for readers of version 1", size, func(b []byte) []byte { b[98], b[100] = 1, 1; seal(b); return b }, "reserved"},
		{"version 0", size, func(b []byte) []byte { b[96] = 0; seal(b); return b }, "version 0"},
		{"minimum reader version 0", size, func(b []byte) []byte { b[98] = 0; seal(b); return b }, "reader version 0"},
	} {
		b := bytes.Clone(good)
		if c.change != nil {
			b = c.change(b)
		}
		_, err := ParseFooter(b, c.size)
		wantError(t, c.name, err, "footer", c.reason)
	}
	if _, err := ParseFooter(good, size); err != nil {
		t.Error(err)
	}

	// A later release's file that this one can read, an earlier one's, and one
	// that it can't read.
	for _, v := range [][2]byte{{7, 1}, {7, 2}, {7, 3}, {3, 3}, {2, 1}, {1, 1}} {
		b := bytes.Clone(good)
		b[96], b[98] = v[0], v[1]
		seal(b)
		got, err := ParseFooter(b, size)
		if err != nil || got.Version != uint16(v[0]) || got.MinReader != uint16(v[1]) {
			t.Errorf("version %d, minimum reader version %d: %v", v[0], v[1], err)
		}
	}
	b := bytes.Clone(good)
	b[96], b[98], b[103], b[8] = 7, 4, 9, 99 // rules that may have changed by then
	seal(b)
	_, err := ParseFooter(b, size)
	if ne, ok := errors.AsType[*NewerError](err); !ok || ne.Found != 4 || ne.Supported != MinReader || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("minimum reader version 4: %v", err)
	}
}

func TestEveryFlippedBitOfFooterAndHeader(t *testing.T) {
	f, _, size := footerOf(&Table{Rows: []Row{{PlainLen: 100, StoredLen: 60}}}, Digest{1})
	foot, head := AppendFooter(nil, f), AppendHeader(nil, Version)
	for i := range foot {
		for bit := range 8 {
			foot[i] ^= 1 << bit
			if _, err := ParseFooter(foot, size); err == nil {
				t.Errorf("footer: byte %d, bit %d is not seen", i, bit)
			}
			foot[i] ^= 1 << bit
		}
	}
	for i := range head {
		for bit := range 8 {
			head[i] ^= 1 << bit
			if err := CheckHeader(head, f); err == nil {
				t.Errorf("header: byte %d, bit %d is not seen", i, bit)
			}
			head[i] ^= 1 << bit
		}
	}
	if err := CheckHeader(head[:15], f); err == nil {
		t.Error("a short header is not seen")
	}
}
