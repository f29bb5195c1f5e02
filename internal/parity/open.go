package parity

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/heftstore/heft/internal/format"
)

// File is a parity file whose list of hashes was read and checked. It is safe
// for concurrent use.
type File struct {
	shape
	src    io.ReaderAt
	sums   []byte // the list
	blocks int    // of the list that are bad
	length int64  // of the file as it is
}

// Open reads the parity file src of length bytes, whatever is damaged of it as
// long as half of the blocks of the list, in each of its columns, are whole. It
// returns an *Error, a *format.NewerError, or an error of reading. It needs the
// memory of the list, never more than length.
func Open(src io.ReaderAt, length int64) (*File, error) {
	s, err := find(src, length)
	if err != nil {
		return nil, err
	}
	f := &File{shape: s, src: src, length: length}
	if l := s.list(); l.blocks() > length/int64(s.block) {
		return nil, &Error{fmt.Sprintf("it is %d bytes long, too short for its list", length)}
	}
	return f, f.readList()
}

// Size is the length of the file that it repairs, in bytes.
func (f *File) Size() int64 { return f.size }

// Sum is the BLAKE3 of the file that it repairs.
func (f *File) Sum() [32]byte { return f.sum }

// Percent is the budget that it was made with.
func (f *File) Percent() int { return f.percent }

// Whole reports whether its length and all blocks of its list are as they were
// written. Its parity shards are for [File.Scan].
func (f *File) Whole() bool { return f.blocks == 0 && f.length == f.total() }

// find returns the shape that a good block tells: the first of the file, the
// last, or any other.
func find(src io.ReaderAt, length int64) (shape, error) {
	buf := make([]byte, largeBlock)
	var newer error
	try := func(b []byte, at int64) (shape, bool) {
		s, number, err := parseBlock(b)
		if _, ok := errors.AsType[*format.NewerError](err); ok {
			newer = err
		}
		return s, err == nil && s.blockAt(number) == at
	}
	for _, at := range [...]int64{0, length - smallBlock, length - largeBlock} {
		if at < 0 {
			continue
		}
		n, err := read(src, buf[:min(largeBlock, length-at)], at)
		if err != nil {
			return shape{}, err
		}
		if s, ok := try(buf[:n], at); ok {
			return s, nil
		}
	}
	buf = make([]byte, min(copyBytes+largeBlock, max(0, length)))
	for from := int64(0); from < length; from += copyBytes {
		p := buf[:min(int64(len(buf)), length-from)]
		clear(p)
		if err := readRange(src, p, from, align, func(int) {}); err != nil {
			return shape{}, err
		}
		for at := 0; at < len(p) && at < copyBytes; at += align {
			if s, ok := try(p[at:], from+int64(at)); ok {
				return s, nil
			}
		}
	}
	if newer != nil {
		return shape{}, newer
	}
	return shape{}, &Error{"no block of it is whole"}
}

// readList reads the list, and rebuilds what of it is damaged.
func (f *File) readList() error {
	l := f.list()
	n := f.all() * sumSize
	if n > math.MaxInt {
		return &Error{"its list does not fit into memory"}
	}
	f.sums = make([]byte, n)
	parts := make([][]byte, 2*l.rows)
	buf := make([]byte, 2*l.rows*f.block)
	for c := range l.columns {
		good := 0
		for r := range parts {
			number := int64(r)*l.columns + c
			b := buf[r*f.block : (r+1)*f.block]
			n, err := read(f.src, b, f.blockAt(number))
			if err != nil {
				return err
			}
			s, found, err := parseBlock(b[:n])
			parts[r] = b[headSize:headSize:len(b)] // empty, with room for what is rebuilt
			if err == nil && s == f.shape && found == number {
				parts[r] = b[headSize : f.block-checkSize]
				good++
			}
		}
		f.blocks += len(parts) - good
		if good < l.rows {
			return &Error{fmt.Sprintf("of %d blocks of its list that belong together %d are damaged", len(parts), len(parts)-good)}
		}
		if good < len(parts) {
			code, err := coder(l.rows, l.rows)
			if err == nil {
				err = code.ReconstructData(parts)
			}
			if err != nil {
				return fmt.Errorf("parity: %w", err)
			}
		}
		for r := range l.rows {
			if from := (int64(r)*l.columns + c) * int64(l.part); from < int64(len(f.sums)) {
				copy(f.sums[from:], parts[r])
			}
		}
	}
	return nil
}

// good reports whether p is the shard i.
func (f *File) good(i int64, p []byte) bool {
	sum := shardSum(p)
	return string(sum[:]) == string(f.sums[i*sumSize:(i+1)*sumSize])
}

// Ends reports whether src, of length bytes, is as long as the file that f
// repairs and has its last 128 bytes. It can be damaged elsewhere.
func (f *File) Ends(src io.ReaderAt, length int64) (bool, error) {
	if length != f.size {
		return false, nil
	}
	sum, err := tailOf(src, length)
	return err == nil && sum == f.tail, err
}
