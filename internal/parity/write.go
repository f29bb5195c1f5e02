package parity

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"
)

// Write makes the parity of the first size bytes of src, at least one, with a
// budget of percent, 1 to 100, and writes it to w, in no order but every byte of
// it. It returns how many there are. It needs at most 64 MiB of memory, and for
// files of more than 128 GiB a quarter of a MiB for each further GiB. Bytes of
// src that can't be read are an error.
func Write(ctx context.Context, w io.WriterAt, src io.ReaderAt, size int64, percent int) (int64, error) {
	if percent < MinPercent || percent > MaxPercent {
		return 0, fmt.Errorf("parity: a budget of %d%%: it is %d to %d", percent, MinPercent, MaxPercent)
	}
	if size < 1 {
		return 0, fmt.Errorf("parity: a file of %d bytes has nothing to repair", size)
	}
	s := shapeOf(size, percent)
	var err error
	if s.sum, err = sumOf(ctx, src, size); err != nil {
		return 0, err
	}
	if s.tail, err = tailOf(src, size); err != nil {
		return 0, err
	}
	sums, err := writeShards(ctx, w, src, &s)
	if err != nil {
		return 0, err
	}
	return s.total(), writeBlocks(ctx, w, &s, sums)
}

// sumOf returns the BLAKE3 of the first size bytes of src.
func sumOf(ctx context.Context, src io.ReaderAt, size int64) (sum [32]byte, err error) {
	h := blake3.New()
	buf := make([]byte, min(size, copyBytes))
	for at := int64(0); at < size; {
		if err := context.Cause(ctx); err != nil {
			return sum, err
		}
		p := buf[:min(size-at, int64(len(buf)))]
		if err := readAll(src, p, at); err != nil {
			return sum, err
		}
		_, _ = h.Write(p) // never fails
		at += int64(len(p))
	}
	h.Sum(sum[:0])
	return sum, nil
}

// tailOf returns the hash of the last bytes of a file of size bytes.
func tailOf(src io.ReaderAt, size int64) (sum [sumSize]byte, err error) {
	var buf [tailSize]byte
	p := buf[:min(size, tailSize)]
	if err := readAll(src, p, size-int64(len(p))); err != nil {
		return sum, err
	}
	return shardSum(p), nil
}

// readAll fills p.
func readAll(src io.ReaderAt, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("parity: reading %d bytes at %d: %w", len(p), off, err)
}

// band is some neighbouring columns of all rows.
type band struct {
	s      *shape
	first  int64    // column
	count  int      // columns
	shards [][]byte // a row each, of count shards
	buf    []byte
}

// newBand allocates a band for as many columns as fit into memory.
func newBand(s *shape) *band {
	all := s.rows + s.extra
	count := min(s.columns, max(1, bandBytes/int64(all*s.shard)))
	return &band{s: s, count: int(count), shards: make([][]byte, all), buf: make([]byte, int64(all*s.shard)*count)}
}

// move makes it the columns from first on, at most count.
func (b *band) move(first int64, count int) {
	b.first, b.count = first, count
	width := count * b.s.shard
	for i := range b.shards {
		b.shards[i] = b.buf[i*width : (i+1)*width : (i+1)*width]
	}
}

// row returns where the band's row i begins in the file, or for a row of parity
// in the parity file, and how many of its bytes there are.
func (b *band) row(i int) (at int64, n int) {
	width := int64(b.count * b.s.shard)
	if i >= b.s.rows {
		return b.s.front() + (int64(i-b.s.rows)*b.s.columns+b.first)*int64(b.s.shard), int(width)
	}
	at = (int64(i)*b.s.columns + b.first) * int64(b.s.shard)
	return at, int(max(0, min(width, b.s.size-at)))
}

// writeShards writes the parity shards and returns the list of hashes.
func writeShards(ctx context.Context, w io.WriterAt, src io.ReaderAt, s *shape) ([]byte, error) {
	enc, err := coder(s.rows, s.extra)
	if err != nil {
		return nil, fmt.Errorf("parity: %w", err)
	}
	sums := make([]byte, s.all()*sumSize)
	b := newBand(s)
	most := b.count
	for first := int64(0); first < s.columns; first += int64(most) {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b.move(first, int(min(int64(most), s.columns-first)))
		for i := range s.rows {
			at, n := b.row(i)
			if n > 0 {
				if err := readAll(src, b.shards[i][:n], at); err != nil {
					return nil, err
				}
			}
			clear(b.shards[i][n:])
			hash(sums, at/int64(s.shard), b.shards[i][:n], s.shard)
		}
		if err := enc.Encode(b.shards); err != nil {
			return nil, fmt.Errorf("parity: %w", err)
		}
		for i := s.rows; i < len(b.shards); i++ {
			at, _ := b.row(i)
			if _, err := w.WriteAt(b.shards[i], at); err != nil {
				return nil, fmt.Errorf("parity: writing: %w", err)
			}
			hash(sums, s.shards()+(at-s.front())/int64(s.shard), b.shards[i], s.shard)
		}
	}
	return sums, nil
}

// hash puts the hashes of the shards in p, from number i on, into sums.
func hash(sums []byte, i int64, p []byte, shard int) {
	for ; len(p) > 0; i++ {
		n := min(len(p), shard)
		sum := shardSum(p[:n])
		copy(sums[i*sumSize:], sum[:])
		p = p[n:]
	}
}

// writeBlocks writes the list.
func writeBlocks(ctx context.Context, w io.WriterAt, s *shape, sums []byte) error {
	l := s.list()
	enc, err := coder(l.rows, l.rows)
	if err != nil {
		return fmt.Errorf("parity: %w", err)
	}
	parts := reedsolomon.AllocAligned(2*l.rows, l.part)
	block := make([]byte, 0, s.block)
	for c := range l.columns {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for r := range l.rows {
			n := 0
			if from := (int64(r)*l.columns + c) * int64(l.part); from < int64(len(sums)) {
				n = copy(parts[r], sums[from:])
			}
			clear(parts[r][n:])
		}
		if err := enc.Encode(parts); err != nil {
			return fmt.Errorf("parity: %w", err)
		}
		for r := range parts {
			number := int64(r)*l.columns + c
			block = s.appendBlock(block[:0], number, parts[r])
			if _, err := w.WriteAt(block, s.blockAt(number)); err != nil {
				return fmt.Errorf("parity: writing: %w", err)
			}
		}
	}
	return nil
}
