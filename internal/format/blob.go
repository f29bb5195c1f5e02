// Package format reads and writes the bytes of a blob file around its frames.
//
// docs/format.md specifies every byte; this package is its transcription.
// Nothing here does I/O, and every parser bounds what it allocates by the
// length of what it is given.
package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/zeebo/blake3"
)

// Sizes and versions from docs/format.md.
const (
	HeaderSize = 16
	FooterSize = 128
	RowSize    = 64
	DonorSize  = 32
	SketchSize = 64

	// MaxFrame is the largest plain length of a frame, in bytes. 1 MiB keeps
	// a frame within a core's L2 cache while it is hashed, encoded and
	// compared, and a random read cheap.
	MaxFrame = 1 << 20

	// Version is the format version of a file without dropped frames, and of
	// its minimum reader.
	Version = 2
	// DroppedVersion is that of a file with some.
	DroppedVersion = 3
	// MinReader is the newest minimum reader version that this release reads.
	MinReader = 3

	// MaxTable is the longest frame table, in bytes. A sparse file can claim
	// any length for nothing, so a reader needs a bound; 8 million frames,
	// 8 TiB in frames of 1 MiB, are beyond any file of weights.
	MaxTable = 512 << 20

	// MaxDepth is the most other frames that decoding one frame may need.
	MaxDepth = 4

	// SelfBase, as a row's Base, says that the base is in the same file.
	SelfBase = math.MaxUint32

	// SketchKeys is how many keys a sketch has.
	SketchKeys = 7
)

const magic = "\x89HEFT\r\n\x1a"

// Digest is a BLAKE3-256 hash.
type Digest = [32]byte

// Place says where a frame's stored bytes are.
type Place uint8

// The places of docs/format.md, "Frame table".
const (
	Held     Place = 0 // in this file
	Borrowed Place = 1 // held by a donor
	Repeated Place = 2 // the same as an earlier row of this file, which is held
	Dropped  Place = 3 // nowhere: nothing needs the frame any more
)

// Row describes one frame.
type Row struct {
	Sum       Digest // BLAKE3 of the plain frame
	PlainLen  uint32 // bytes
	StoredLen uint32 // bytes; 0 when borrowed
	CRC       uint32 // CRC-32C of the stored bytes; 0 when borrowed
	Codec     uint8
	Param     uint8
	Place     Place
	Depth     uint8
	Donor     uint32 // borrowed: position in Table.Donors
	Frame     uint32 // borrowed: frame number in the donor; repeated: the earlier row's
	Base      uint32 // delta: position in Table.Donors, or SelfBase
	BaseFrame uint32 // delta: frame number of the base
}

// Sketch describes a tensor so that a later one which is like it can be found:
// tensors that share a key are likely alike.
type Sketch struct {
	Frame uint32             // that the tensor begins with
	Keys  [SketchKeys]uint64 // 0 where there is none
}

// Table is a blob's frame table.
type Table struct {
	Donors   []Digest // ascending, unique
	Rows     []Row
	Sketches []Sketch // ascending by frame, unique
}

// Footer is the fixed-size end of a blob file.
type Footer struct {
	TableOffset uint64
	TableLen    uint64
	PlainSize   uint64
	Rows        uint32
	Donors      uint32
	Sketches    uint32
	Digest      Digest // BLAKE3 of the plain content
	TableSum    Digest
	Version     uint16
	MinReader   uint16
}

// Error says which part of a blob file breaks which rule of docs/format.md.
type Error struct {
	Part   string // "header", "footer", "table" or "row N"
	Reason string
}

func (e *Error) Error() string { return "format: " + e.Part + ": " + e.Reason }

// NewerError says that a file needs a newer heft than this one.
type NewerError struct {
	What      string // what is too new: "minimum reader version" or "codec"
	Found     int
	Supported int // the newest that this release reads
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("format: %s %d is newer than %d, the newest that this heft reads: upgrade heft", e.What, e.Found, e.Supported)
}

func bad(part, reason string, args ...any) error {
	return &Error{Part: part, Reason: fmt.Sprintf(reason, args...)}
}

// Dropped reports whether the file lacks frames: then its blob can't be read.
func (t *Table) Dropped() bool {
	return slices.ContainsFunc(t.Rows, func(r Row) bool { return r.Place == Dropped })
}

// AppendHeader appends to b the header of a file of a version, Version or
// DroppedVersion, which is that of its minimum reader too.
func AppendHeader(b []byte, version uint16) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, version)
	return append(b, 0, 0, 0, 0)
}

// CheckHeader checks that b, the first HeaderSize bytes of a file, is the
// header that belongs to f.
func CheckHeader(b []byte, f *Footer) error {
	switch {
	case len(b) != HeaderSize:
		return bad("header", "%d bytes long, not %d", len(b), HeaderSize)
	case string(b[:8]) != magic:
		return bad("header", "not a blob file: wrong magic")
	case binary.LittleEndian.Uint16(b[8:]) != f.Version, binary.LittleEndian.Uint16(b[10:]) != f.MinReader:
		return bad("header", "versions differ from the footer's")
	case binary.LittleEndian.Uint32(b[12:]) != 0:
		return bad("header", "reserved bytes are not zero")
	}
	return nil
}

// AppendFooter appends f to b with its checksum.
func AppendFooter(b []byte, f *Footer) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint64(b, f.TableOffset)
	b = binary.LittleEndian.AppendUint64(b, f.TableLen)
	b = binary.LittleEndian.AppendUint64(b, f.PlainSize)
	b = binary.LittleEndian.AppendUint32(b, f.Rows)
	b = binary.LittleEndian.AppendUint32(b, f.Donors)
	b = append(b, f.Digest[:]...)
	b = append(b, f.TableSum[:]...)
	b = binary.LittleEndian.AppendUint16(b, f.Version)
	b = binary.LittleEndian.AppendUint16(b, f.MinReader)
	b = binary.LittleEndian.AppendUint32(b, f.Sketches)
	sum := blake3.Sum256(b[start:])
	b = append(b, sum[:16]...)
	return append(b, magic...)
}

// ParseFooter reads b, the last FooterSize bytes of a file that is fileSize
// bytes long. The lengths in the footer that it returns fit the file.
// It returns *Error for damage and *NewerError for a file that needs a newer
// reader.
func ParseFooter(b []byte, fileSize int64) (*Footer, error) {
	if len(b) != FooterSize || fileSize < HeaderSize+FooterSize {
		return nil, bad("footer", "the file is %d bytes long, too short for a blob file", fileSize)
	}
	if string(b[120:]) != magic {
		return nil, bad("footer", "wrong magic at the end: not a blob file, or cut short")
	}
	sum := blake3.Sum256(b[:104])
	if !bytes.Equal(sum[:16], b[104:120]) {
		return nil, bad("footer", "checksum does not match")
	}
	f := &Footer{
		TableOffset: binary.LittleEndian.Uint64(b[0:]),
		TableLen:    binary.LittleEndian.Uint64(b[8:]),
		PlainSize:   binary.LittleEndian.Uint64(b[16:]),
		Rows:        binary.LittleEndian.Uint32(b[24:]),
		Donors:      binary.LittleEndian.Uint32(b[28:]),
		Digest:      Digest(b[32:64]),
		TableSum:    Digest(b[64:96]),
		Version:     binary.LittleEndian.Uint16(b[96:]),
		MinReader:   binary.LittleEndian.Uint16(b[98:]),
		Sketches:    binary.LittleEndian.Uint32(b[100:]),
	}
	if f.MinReader > MinReader {
		return nil, &NewerError{What: "minimum reader version", Found: int(f.MinReader), Supported: MinReader}
	}
	room := uint64(fileSize) - HeaderSize - FooterSize
	switch {
	case f.Version < f.MinReader || f.MinReader == 0:
		return nil, bad("footer", "version %d with minimum reader version %d", f.Version, f.MinReader)
	case f.MinReader < 2 && f.Sketches != 0:
		return nil, bad("footer", "reserved bytes are not zero")
	case f.Sketches > f.Rows:
		return nil, bad("footer", "%d sketches for %d rows", f.Sketches, f.Rows)
	case f.TableLen != uint64(f.Rows)*RowSize+uint64(f.Donors)*DonorSize+uint64(f.Sketches)*SketchSize:
		return nil, bad("footer", "a table of %d bytes for %d rows, %d donors and %d sketches", f.TableLen, f.Rows, f.Donors, f.Sketches)
	case f.TableLen > room || f.TableOffset != HeaderSize+room-f.TableLen:
		return nil, bad("footer", "the table (%d bytes at %d) does not fit a file of %d bytes", f.TableLen, f.TableOffset, fileSize)
	case f.TableLen > MaxTable:
		return nil, bad("footer", "a table of %d bytes is over the limit of %d", f.TableLen, MaxTable)
	case uint64(f.Rows) > f.PlainSize:
		return nil, bad("footer", "%d rows for %d plain bytes", f.Rows, f.PlainSize)
	case f.PlainSize > math.MaxInt64:
		return nil, bad("footer", "plain size %d is out of range", f.PlainSize)
	}
	return f, nil
}

// AppendTable appends t to b.
func AppendTable(b []byte, t *Table) []byte {
	for _, d := range t.Donors {
		b = append(b, d[:]...)
	}
	for i := range t.Rows {
		r := &t.Rows[i]
		b = append(b, r.Sum[:]...)
		b = binary.LittleEndian.AppendUint32(b, r.PlainLen)
		b = binary.LittleEndian.AppendUint32(b, r.StoredLen)
		b = binary.LittleEndian.AppendUint32(b, r.CRC)
		b = append(b, r.Codec, r.Param, byte(r.Place), r.Depth)
		b = binary.LittleEndian.AppendUint32(b, r.Donor)
		b = binary.LittleEndian.AppendUint32(b, r.Frame)
		b = binary.LittleEndian.AppendUint32(b, r.Base)
		b = binary.LittleEndian.AppendUint32(b, r.BaseFrame)
	}
	for i := range t.Sketches {
		b = binary.LittleEndian.AppendUint32(b, t.Sketches[i].Frame)
		b = append(b, 0, 0, 0, 0)
		for _, k := range t.Sketches[i].Keys {
			b = binary.LittleEndian.AppendUint64(b, k)
		}
	}
	return b
}

// ParseTable reads b, the table that f describes, and checks every row
// against the rules that need no other file and no decoding.
func ParseTable(b []byte, f *Footer) (*Table, error) {
	if uint64(len(b)) != f.TableLen {
		return nil, bad("table", "%d bytes long, not %d", len(b), f.TableLen)
	}
	if blake3.Sum256(b) != f.TableSum {
		return nil, bad("table", "checksum does not match")
	}
	t := &Table{Donors: make([]Digest, f.Donors), Rows: make([]Row, f.Rows)}
	if f.Sketches > 0 {
		t.Sketches = make([]Sketch, f.Sketches)
	}
	for i := range t.Donors {
		t.Donors[i] = Digest(b[:DonorSize])
		b = b[DonorSize:]
		if i > 0 && bytes.Compare(t.Donors[i-1][:], t.Donors[i][:]) >= 0 {
			return nil, bad("table", "donors are not in ascending order")
		}
		if t.Donors[i] == f.Digest {
			return nil, bad("table", "the blob is its own donor")
		}
	}
	used := make([]bool, f.Donors)
	var plain, stored uint64
	for i := range t.Rows {
		r := &t.Rows[i]
		parseRow(r, b[:RowSize])
		b = b[RowSize:]
		if err := checkRow(t.Rows[:i+1], used); err != nil {
			return nil, err
		}
		if r.Place == Dropped && f.MinReader < DroppedVersion {
			return nil, bad(fmt.Sprintf("row %d", i), "dropped, in a file of version %d", f.MinReader)
		}
		plain += uint64(r.PlainLen)
		stored += uint64(r.StoredLen)
	}
	for i := range t.Sketches {
		if err := parseSketch(t, i, b[:SketchSize]); err != nil {
			return nil, err
		}
		b = b[SketchSize:]
	}
	for i, u := range used {
		if !u {
			return nil, bad("table", "donor %d is named by no row", i)
		}
	}
	if plain != f.PlainSize {
		return nil, bad("table", "the rows hold %d plain bytes, the footer says %d", plain, f.PlainSize)
	}
	if HeaderSize+stored != f.TableOffset {
		return nil, bad("table", "the rows store %d bytes, the file holds %d", stored, f.TableOffset-HeaderSize)
	}
	return t, nil
}

func parseRow(r *Row, b []byte) {
	*r = Row{
		Sum:       Digest(b[:32]),
		PlainLen:  binary.LittleEndian.Uint32(b[32:]),
		StoredLen: binary.LittleEndian.Uint32(b[36:]),
		CRC:       binary.LittleEndian.Uint32(b[40:]),
		Codec:     b[44],
		Param:     b[45],
		Place:     Place(b[46]),
		Depth:     b[47],
		Donor:     binary.LittleEndian.Uint32(b[48:]),
		Frame:     binary.LittleEndian.Uint32(b[52:]),
		Base:      binary.LittleEndian.Uint32(b[56:]),
		BaseFrame: binary.LittleEndian.Uint32(b[60:]),
	}
}

func parseSketch(t *Table, i int, b []byte) error {
	s := &t.Sketches[i]
	s.Frame = binary.LittleEndian.Uint32(b)
	for k := range s.Keys {
		s.Keys[k] = binary.LittleEndian.Uint64(b[8+8*k:])
	}
	switch {
	case binary.LittleEndian.Uint32(b[4:]) != 0:
		return bad("table", "sketch %d: reserved bytes are not zero", i)
	case uint64(s.Frame) >= uint64(len(t.Rows)), i > 0 && t.Sketches[i-1].Frame >= s.Frame:
		return bad("table", "sketch %d: frame %d is none, or out of order", i, s.Frame)
	}
	return nil
}

// checkRow checks the last of rows and marks the donors that it names.
func checkRow(rows []Row, used []bool) error {
	i := len(rows) - 1
	r := &rows[i]
	bad := func(reason string, args ...any) error {
		return bad(fmt.Sprintf("row %d", i), reason, args...)
	}
	mark := func(n uint32) error {
		if uint64(n) >= uint64(len(used)) {
			return bad("names donor %d of %d", n, len(used))
		}
		used[n] = true
		return nil
	}
	if r.PlainLen == 0 || r.PlainLen > MaxFrame {
		return bad("plain length %d is not within 1 and %d", r.PlainLen, MaxFrame)
	}
	if r.Depth > MaxDepth {
		return bad("depth %d is over %d", r.Depth, MaxDepth)
	}
	switch r.Place {
	case Borrowed, Repeated, Dropped:
		if r.StoredLen != 0 || r.CRC != 0 || r.Codec != 0 || r.Param != 0 || r.Depth != 0 || r.Base != 0 || r.BaseFrame != 0 {
			return bad("held elsewhere, yet describes stored bytes")
		}
		if r.Place == Borrowed {
			return mark(r.Donor)
		}
		if r.Place == Dropped {
			if r.Donor != 0 || r.Frame != 0 {
				return bad("dropped, yet names a holder")
			}
			return nil
		}
		if r.Donor != 0 || uint64(r.Frame) >= uint64(i) {
			return bad("repeats row %d, which is not before it", r.Frame)
		}
		if o := &rows[r.Frame]; o.Place != Held || o.Sum != r.Sum || o.PlainLen != r.PlainLen {
			return bad("repeats row %d, which holds other bytes", r.Frame)
		}
		return nil
	case Held:
		if r.StoredLen == 0 || r.StoredLen > r.PlainLen {
			return bad("stored length %d for %d plain bytes", r.StoredLen, r.PlainLen)
		}
		if r.Donor != 0 || r.Frame != 0 {
			return bad("held, yet names a holder")
		}
		if r.Depth > 0 && r.Base == SelfBase {
			if uint64(r.BaseFrame) >= uint64(i) {
				return bad("its base, row %d, is not before it", r.BaseFrame)
			}
			return nil
		}
		if r.Depth > 0 {
			return mark(r.Base)
		}
		if r.Base != 0 || r.BaseFrame != 0 {
			return bad("not a delta, yet names a base")
		}
		return nil
	}
	return bad("unknown place %d", r.Place)
}
