// Package parity makes files that repair others: Reed-Solomon codes over shards
// that have hashes of their own.
//
// docs/format.md, "Parity files", specifies every byte. Nothing here knows what
// a file means, nor where it is: bytes come from an io.ReaderAt and go to an
// io.WriterAt. Both files are untrusted when they are read.
package parity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"syscall"

	"github.com/heftstore/heft/internal/format"
	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"
)

// The bounds of a budget, in percent of the file.
const (
	MinPercent = 1
	MaxPercent = 100
)

// Versions from docs/format.md.
const (
	version   = 1
	minReader = 1
)

const (
	magic = "\x89HPAR\r\n\x1a"

	headSize  = 80 // of a block, before its part
	checkSize = 16 // of a block, at its end
	sumSize   = 8  // of a shard's hash

	smallBlock = 512
	largeBlock = 4096

	minShard = 64
	maxShard = 64 << 10

	// firstShard and usualShard bound what this release chooses: a shard costs
	// 8 bytes twice, so smaller ones are not worth it, and a disk loses 4 KiB at
	// once, so in a large file smaller ones gain nothing.
	firstShard = 256
	usualShard = 4096

	// manyShards bounds the list to 32 MiB, until shards are as large as they
	// get, for files of 128 GiB.
	manyShards = 1 << 21

	// maxRows is how many points GF(2^8) has.
	maxRows = 256

	// listRows is how many rows the list has at most: as many are its parity.
	listRows = maxRows / 2

	// tailSize is how many bytes at the end of a file tell which one it is.
	tailSize = 128

	// align divides where every block begins.
	align = 256

	// bandBytes is about how much of all rows together is in memory at once.
	bandBytes = 16 << 20
	// copyBytes is read at once where bytes are taken in their order.
	copyBytes = 1 << 20
)

// Error says what is wrong with a parity file.
type Error struct{ Reason string }

func (e *Error) Error() string { return "parity: " + e.Reason }

// BeyondError says that damage is more than the budget repairs.
type BeyondError struct {
	Bad    int // shards of one column that are bad, at least
	Budget int // how many may be
}

func (e *BeyondError) Error() string {
	return fmt.Sprintf("parity: %d shards that belong together are damaged, and %d can be rebuilt", e.Bad, e.Budget)
}

// shape is how a file is cut, and which file it is.
type shape struct {
	size    int64 // of the file
	sum     [32]byte
	tail    [sumSize]byte // hash of its last bytes
	shard   int
	columns int64
	rows    int // of the file
	extra   int // rows of parity
	percent int
	block   int
}

// shapeOf chooses the shape for a file of size bytes, at least 1.
func shapeOf(size int64, percent int) shape {
	most := 100 * maxRows / (100 + percent) // rows, so that with their parity they are maxRows
	s := shape{size: size, shard: firstShard, percent: percent, block: smallBlock}
	for s.shard < usualShard && s.shards() > int64(most) {
		s.shard *= 2
	}
	for s.shard < maxShard && s.shards() > manyShards {
		s.shard *= 2
	}
	if s.shard >= usualShard {
		s.block = largeBlock
	}
	s.columns = ceil(s.shards(), int64(most))
	s.rows = int(ceil(s.shards(), s.columns))
	s.extra = (s.rows*percent + 99) / 100
	return s
}

func ceil(a, b int64) int64 {
	n := a / b
	if n*b < a {
		n++
	}
	return n
}

// shards is how many the file has.
func (s *shape) shards() int64 { return ceil(s.size, int64(s.shard)) }

// all is how many shards there are with those of parity.
func (s *shape) all() int64 { return s.shards() + int64(s.extra)*s.columns }

// body is how many bytes the parity shards have.
func (s *shape) body() int64 { return int64(s.extra) * s.columns * int64(s.shard) }

// shardLen is the length of the file's shard i, which is shorter at its end.
func (s *shape) shardLen(i int64) int { return int(min(int64(s.shard), s.size-i*int64(s.shard))) }

// list is how the list of hashes is arranged.
type list struct {
	part    int   // bytes of it in a block
	rows    int   // and as many of parity
	columns int64 // of blocks
}

func (s *shape) list() list {
	l := list{part: s.block - headSize - checkSize}
	n := ceil(s.all()*sumSize, int64(l.part))
	l.columns = ceil(n, listRows)
	l.rows = int(ceil(n, l.columns))
	return l
}

// blocks is how many each half of them has.
func (l *list) blocks() int64 { return int64(l.rows) * l.columns }

// front is where the parity shards begin.
func (s *shape) front() int64 {
	l := s.list()
	return l.blocks() * int64(s.block)
}

// total is the length of the parity file.
func (s *shape) total() int64 { return 2*s.front() + s.body() }

// blockAt is where the block number i begins.
func (s *shape) blockAt(i int64) int64 {
	l := s.list()
	at := i * int64(s.block)
	if i >= l.blocks() {
		at += s.body()
	}
	return at
}

// appendHead appends what a block has before its part.
func (s *shape) appendHead(b []byte, number int64) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, minReader)
	b = binary.LittleEndian.AppendUint32(b, uint32(number))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.size))
	b = append(b, s.sum[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.shard))
	b = binary.LittleEndian.AppendUint32(b, uint32(s.columns))
	b = binary.LittleEndian.AppendUint16(b, uint16(s.rows))
	b = binary.LittleEndian.AppendUint16(b, uint16(s.extra))
	b = append(b, byte(s.percent), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.block))
	return append(b, s.tail[:]...)
}

// appendBlock appends a whole block.
func (s *shape) appendBlock(b []byte, number int64, part []byte) []byte {
	start := len(b)
	b = append(s.appendHead(b, number), part...)
	sum := blake3.Sum256(b[start:])
	return append(b, sum[:checkSize]...)
}

// parseBlock reads a block at the beginning of b, which may be longer, and
// returns the shape and the block's number. It returns an *Error, or a
// *format.NewerError.
func parseBlock(b []byte) (s shape, number int64, err error) {
	if len(b) < smallBlock || string(b[:8]) != magic {
		return s, 0, &Error{"this is not a block"}
	}
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	s.block = u16(70)
	if s.block != smallBlock && s.block != largeBlock || len(b) < s.block {
		return s, 0, &Error{fmt.Sprintf("a block of %d bytes", s.block)}
	}
	end := s.block - checkSize
	if sum := blake3.Sum256(b[:end]); string(sum[:checkSize]) != string(b[end:s.block]) {
		return s, 0, &Error{"a block fails its checksum"}
	}
	if u16(10) > minReader {
		return s, 0, &format.NewerError{What: "minimum reader version", Found: u16(10), Supported: minReader}
	}
	size := binary.LittleEndian.Uint64(b[16:])
	if size == 0 || size > math.MaxInt64/4 {
		return s, 0, &Error{fmt.Sprintf("a file of %d bytes", size)}
	}
	s.size, s.sum, s.tail = int64(size), [32]byte(b[24:56]), [sumSize]byte(b[72:80])
	s.shard, s.columns, s.rows, s.extra, s.percent = int(u32(56)), u32(60), u16(64), u16(66), int(b[68])
	number = u32(12)
	switch n := int64(s.rows) * s.columns; {
	case s.shard < minShard || s.shard > maxShard || s.shard&(s.shard-1) != 0:
		return s, 0, &Error{fmt.Sprintf("shards of %d bytes", s.shard)}
	case s.columns < 1 || s.rows < 1 || s.extra < 1 || s.extra > s.rows || s.rows+s.extra > maxRows:
		return s, 0, &Error{fmt.Sprintf("%d columns of %d and %d shards", s.columns, s.rows, s.extra)}
	case n < s.shards() || n-s.columns >= s.shards():
		return s, 0, &Error{fmt.Sprintf("%d columns of %d for %d shards", s.columns, s.rows, s.shards())}
	case s.percent < MinPercent || s.percent > MaxPercent:
		return s, 0, &Error{fmt.Sprintf("a budget of %d%%", s.percent)}
	case string(s.appendHead(nil, number)[16:]) != string(b[16:headSize]):
		return s, 0, &Error{"a block with other bytes than zero where there should be none"}
	}
	if l := s.list(); number >= 2*l.blocks() {
		return s, 0, &Error{fmt.Sprintf("a block number %d of %d", number, 2*l.blocks())}
	}
	return s, number, nil
}

// shardSum is the hash of a shard.
func shardSum(p []byte) [sumSize]byte {
	sum := blake3.Sum256(p)
	return [sumSize]byte(sum[:])
}

// coder returns the code for columns of rows and extra shards. Inverted
// matrices are not kept: 64 KiB each, and there may be one a column.
func coder(rows, extra int) (reedsolomon.Encoder, error) {
	return reedsolomon.New(rows, extra, reedsolomon.WithInversionCache(false))
}

// read fills p from off on and returns how much of it there was: less than
// len(p) where the source ends. What the disk can't read is not there either.
func read(src io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p), errors.Is(err, io.EOF):
		return n, nil
	case errors.Is(err, syscall.EIO):
		return 0, nil
	case err == nil:
		err = io.ErrNoProgress // a ReaderAt that breaks its contract
	}
	return 0, fmt.Errorf("parity: reading: %w", err)
}

// readRange is read of a range that may be long: where the disk can't read
// something, only the pieces of that many bytes are missing in which it is. It
// calls gap for each piece that is not whole.
func readRange(src io.ReaderAt, p []byte, off int64, piece int, gap func(at int)) error {
	n, err := read(src, p, off)
	if err != nil || n == len(p) {
		return err
	}
	for at := 0; at < len(p); at += piece {
		q := p[at:min(at+piece, len(p))]
		if n, err = read(src, q, off+int64(at)); err != nil {
			return err
		}
		if n < len(q) {
			gap(at)
		}
	}
	return nil
}
