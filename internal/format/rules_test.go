package format

import (
	"testing"

	"github.com/zeebo/blake3"
)

// TestParseTableRules breaks each rule of the frame table, one at a time, in a
// table whose checksum is right.
func TestParseTableRules(t *testing.T) {
	blob := Digest{9}
	base := func() *Table {
		return &Table{
			Donors: []Digest{{1}, {2}},
			Rows: []Row{
				{Sum: Digest{10}, PlainLen: 100, StoredLen: 60, CRC: 5, Codec: 2},
				{Sum: Digest{11}, PlainLen: 50, Place: Borrowed, Donor: 0, Frame: 3},
				{Sum: Digest{10}, PlainLen: 100, Place: Repeated, Frame: 0},
				{Sum: Digest{12}, PlainLen: MaxFrame, StoredLen: MaxFrame, Depth: MaxDepth, Base: 1, BaseFrame: 7},
				{Sum: Digest{13}, PlainLen: 8, StoredLen: 1, Codec: 1, Param: 1},
				{Sum: Digest{14}, PlainLen: 50, StoredLen: 4, Codec: 5, Depth: 1, Base: SelfBase, BaseFrame: 0},
			},
			Sketches: []Sketch{{Frame: 1, Keys: [SketchKeys]uint64{1}}, {Frame: 5}},
		}
	}
	f, raw, _ := footerOf(base(), blob)
	if _, err := ParseTable(raw, f); err != nil {
		t.Fatalf("the table that is to be broken: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(*Table)
		part   string
		reason string
	}{
		{"donors in the wrong order", func(t *Table) { t.Donors[0], t.Donors[1] = t.Donors[1], t.Donors[0] }, "table", "ascending"},
		{"a donor twice", func(t *Table) { t.Donors[1] = t.Donors[0] }, "table", "ascending"},
		{"its own donor", func(t *Table) { t.Donors[1] = blob }, "table", "its own donor"},
		{"a donor that no row names", func(t *Table) { t.Donors = append(t.Donors, Digest{3}) }, "table", "donor 2 is named by no row"},
		{"a base that no row names", func(t *Table) { t.Rows[3].Depth, t.Rows[3].Base, t.Rows[3].BaseFrame = 0, 0, 0 }, "table", "donor 1 is named by no row"},

		{"plain length 0", func(t *Table) { t.Rows[1].PlainLen = 0 }, "row 1", "plain length 0"},
		{"plain length too large", func(t *Table) { t.Rows[1].PlainLen = MaxFrame + 1 }, "row 1", "plain length"},
		{"depth too large", func(t *Table) { t.Rows[3].Depth = MaxDepth + 1 }, "row 3", "depth"},
		{"unknown place", func(t *Table) { t.Rows[1].Place = 4 }, "row 1", "unknown place 4"},

		{"dropped, in a file that earlier releases read", func(t *Table) { t.Rows[4] = Row{Sum: Digest{13}, PlainLen: 8, Place: Dropped} }, "row 4", "dropped, in a file of version 2"},
		{"dropped, yet stored", func(t *Table) { t.Rows[4].Place = Dropped }, "row 4", "held elsewhere"},
		{"dropped, with a frame", func(t *Table) { t.Rows[4] = Row{PlainLen: 8, Place: Dropped, Frame: 1} }, "row 4", "names a holder"},
		{"dropped, with a donor", func(t *Table) { t.Rows[4] = Row{PlainLen: 8, Place: Dropped, Donor: 1} }, "row 4", "names a holder"},
		{"repeats a dropped row", func(t *Table) { t.Rows[0] = Row{Sum: Digest{10}, PlainLen: 100, Place: Dropped} }, "row 0", "dropped, in"},

		{"held, nothing stored", func(t *Table) { t.Rows[0].StoredLen = 0 }, "row 0", "stored length 0"},
		{"held, more stored than plain", func(t *Table) { t.Rows[0].StoredLen = 101 }, "row 0", "stored length 101"},
		{"held, with a donor", func(t *Table) { t.Rows[0].Donor = 1 }, "row 0", "names a holder"},
		{"held, with a frame", func(t *Table) { t.Rows[0].Frame = 1 }, "row 0", "names a holder"},
		{"no delta, with a base", func(t *Table) { t.Rows[0].Base = 1 }, "row 0", "names a base"},
		{"no delta, with a base frame", func(t *Table) { t.Rows[0].BaseFrame = 1 }, "row 0", "names a base"},
		{"based on itself", func(t *Table) { t.Rows[5].BaseFrame = 5 }, "row 5", "not before it"},
		{"based on a later row", func(t *Table) { t.Rows[5].BaseFrame = 6 }, "row 5", "not before it"},
		{"based on a row far beyond", func(t *Table) { t.Rows[5].BaseFrame = 1<<32 - 1 }, "row 5", "not before it"},
		{"no delta, with a base in its own file", func(t *Table) { t.Rows[0].Base = SelfBase }, "row 0", "names a base"},
		{"the first row, based on its own file", func(t *Table) { t.Rows[0].Depth, t.Rows[0].Base = 1, SelfBase }, "row 0", "not before it"},
		{"depth far beyond", func(t *Table) { t.Rows[5].Depth = 255 }, "row 5", "depth"},
		{"delta of an unknown donor", func(t *Table) { t.Rows[3].Base = 2 }, "row 3", "donor 2 of 2"},

		{"borrowed from an unknown donor", func(t *Table) { t.Rows[1].Donor = 2 }, "row 1", "donor 2 of 2"},
		{"borrowed from far beyond", func(t *Table) { t.Rows[1].Donor = 1<<32 - 1 }, "row 1", "names donor"},
		{"borrowed, with stored bytes", func(t *Table) { t.Rows[1].StoredLen = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a checksum", func(t *Table) { t.Rows[1].CRC = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a codec", func(t *Table) { t.Rows[1].Codec = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a parameter", func(t *Table) { t.Rows[1].Param = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a depth", func(t *Table) { t.Rows[1].Depth = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a base", func(t *Table) { t.Rows[1].Base = 1 }, "row 1", "held elsewhere"},
		{"borrowed, with a base frame", func(t *Table) { t.Rows[1].BaseFrame = 1 }, "row 1", "held elsewhere"},

		{"repeats itself", func(t *Table) { t.Rows[2].Frame = 2 }, "row 2", "not before it"},
		{"repeats a later row", func(t *Table) { t.Rows[2].Frame = 3 }, "row 2", "not before it"},
		{"repeats a row far beyond", func(t *Table) { t.Rows[2].Frame = 1<<32 - 1 }, "row 2", "not before it"},
		{"repeated, with a donor", func(t *Table) { t.Rows[2].Donor = 1 }, "row 2", "repeats"},
		{"repeated, with stored bytes", func(t *Table) { t.Rows[2].StoredLen = 9 }, "row 2", "held elsewhere"},
		{"repeats other bytes", func(t *Table) { t.Rows[2].Sum[31]++ }, "row 2", "other bytes"},
		{"repeats another length", func(t *Table) { t.Rows[2].PlainLen-- }, "row 2", "other bytes"},
		{"repeats a borrowed row", func(t *Table) {
			t.Rows[2] = Row{Sum: t.Rows[1].Sum, PlainLen: t.Rows[1].PlainLen, Place: Repeated, Frame: 1}
		}, "row 2", "other bytes"},
		{"repeats a repeated row", func(t *Table) {
			t.Rows = append(t.Rows, Row{Sum: t.Rows[2].Sum, PlainLen: t.Rows[2].PlainLen, Place: Repeated, Frame: 2})
		}, "row 6", "other bytes"},

		{"sketches in the wrong order", func(t *Table) { t.Sketches[0].Frame, t.Sketches[1].Frame = 5, 1 }, "table", "sketch 1: frame 1"},
		{"two sketches of a row", func(t *Table) { t.Sketches[1].Frame = 1 }, "table", "sketch 1: frame 1"},
		{"a sketch of no row", func(t *Table) { t.Sketches[1].Frame = 6 }, "table", "sketch 1: frame 6"},
		{"a sketch of a row far beyond", func(t *Table) { t.Sketches[1].Frame = 1<<32 - 1 }, "table", "sketch 1: frame 4294967295"},
	} {
		tab := base()
		c.change(tab)
		f, raw, _ := footerOf(tab, blob)
		_, err := ParseTable(raw, f)
		wantError(t, c.name, err, c.part, c.reason)
	}

	for _, c := range []struct {
		name   string
		change func(*Footer)
		reason string
	}{
		{"plain size", func(f *Footer) { f.PlainSize++ }, "plain bytes"},
		{"table offset", func(f *Footer) { f.TableOffset++ }, "store"},
		{"table checksum", func(f *Footer) { f.TableSum[5]++ }, "checksum"},
		{"table length", func(f *Footer) { f.TableLen++ }, "long"},
	} {
		f, raw, _ := footerOf(base(), blob)
		c.change(f)
		_, err := ParseTable(raw, f)
		wantError(t, c.name, err, "table", c.reason)
	}
}

// TestReservedBytesOfSketch sets what a sketch leaves unused.
func TestReservedBytesOfSketch(t *testing.T) {
	tab := &Table{Rows: []Row{{PlainLen: 9, StoredLen: 9}}, Sketches: []Sketch{{}}}
	for at := RowSize + 4; at < RowSize+8; at++ {
		f, raw, _ := footerOf(tab, Digest{1})
		raw[at] = 1
		f.TableSum = blake3.Sum256(raw)
		_, err := ParseTable(raw, f)
		wantError(t, "reserved bytes of a sketch", err, "table", "reserved")
	}
}

// TestEveryFlippedBitOfTable relies on the table's own hash alone.
func TestEveryFlippedBitOfTable(t *testing.T) {
	f, raw, _ := footerOf(&Table{Rows: []Row{{PlainLen: 9, StoredLen: 9}}, Sketches: []Sketch{{}}}, Digest{1})
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, err := ParseTable(raw, f); err == nil {
				t.Errorf("byte %d, bit %d is not seen", i, bit)
			}
			raw[i] ^= 1 << bit
		}
	}
}

// FuzzParseFooter gives any bytes as a footer, once as they are and once with
// the checksum and magic that belong to them, so that the rules behind those
// are reached.
func FuzzParseFooter(f *testing.F) {
	f.Add(make([]byte, FooterSize), int64(1000))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		_, _ = ParseFooter(b, size)
		if len(b) != FooterSize {
			return
		}
		copy(b[120:], magic)
		seal(b)
		got, err := ParseFooter(b, size)
		if err != nil {
			return
		}
		end := got.TableOffset + got.TableLen
		if size < 0 || got.TableOffset < HeaderSize || end+FooterSize != uint64(size) || int64(got.PlainSize) < 0 {
			t.Fatalf("a footer that does not fit a file of %d bytes: %+v", size, got)
		}
		if again := AppendFooter(nil, got); string(again) != string(b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}

// FuzzParseTable gives any bytes as a table, with a footer that belongs to
// them.
func FuzzParseTable(f *testing.F) {
	f.Add(make([]byte, RowSize), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, donors, sketches uint16) {
		head, tail := int(donors)*DonorSize, int(sketches)*SketchSize
		if head+tail > len(b) || (len(b)-head-tail)%RowSize != 0 {
			return
		}
		rows := (len(b) - head - tail) / RowSize
		foot := &Footer{
			TableOffset: HeaderSize, TableLen: uint64(len(b)), Rows: uint32(rows), Donors: uint32(donors), Sketches: uint32(sketches),
			TableSum: blake3.Sum256(b),
		}
		for i := range rows {
			var r Row
			parseRow(&r, b[head+i*RowSize:])
			foot.PlainSize += uint64(r.PlainLen)
			foot.TableOffset += uint64(r.StoredLen)
		}
		tab, err := ParseTable(b, foot)
		if err != nil {
			return
		}
		if again := AppendTable(nil, tab); string(again) != string(b) {
			t.Fatalf("% x became % x", b, again)
		}
		for i, r := range tab.Rows {
			ok := r.PlainLen > 0 && r.PlainLen <= MaxFrame && r.StoredLen <= r.PlainLen && r.Depth <= MaxDepth
			switch r.Place {
			case Held:
				ok = ok && r.StoredLen > 0
				if r.Depth > 0 && r.Base == SelfBase {
					ok = ok && int(r.BaseFrame) < i
				} else if r.Depth > 0 {
					ok = ok && int(r.Base) < len(tab.Donors)
				}
			case Borrowed:
				ok = ok && int(r.Donor) < len(tab.Donors)
			case Repeated:
				ok = ok && int(r.Frame) < i && tab.Rows[r.Frame].Place == Held && tab.Rows[r.Frame].Sum == r.Sum
			}
			if !ok {
				t.Fatalf("row %d: %+v", i, r)
			}
		}
		for i, s := range tab.Sketches {
			if int(s.Frame) >= rows || i > 0 && tab.Sketches[i-1].Frame >= s.Frame {
				t.Fatalf("sketch %d: %+v", i, s)
			}
		}
	})
}
