package chunk

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// errNone says that a part of a file is not of the structure that was looked
// for, or lies about it. It never leaves the package.
var errNone = errors.New("chunk: no structure")

// errShort says that the bytes of a stream that are there are too few to tell.
// It never leaves the package.
var errShort = errors.New("chunk: more bytes are needed")

// windowSize is what a view reads at once. Metadata of GGUF is read front to
// back in pieces of 4 to 100 bytes, so what counts is the number of reads.
const windowSize = 32 << 10

// view reads a part of a file from front to back, or at any place. Its bounds
// are checked before anything is allocated.
type view struct {
	r    io.ReaderAt // nil for a stream: buf is what has come of it
	base int64       // where the part begins in the file
	size int64       // of the part; math.MaxInt64 in a stream
	pos  int64       // in the part, of the next byte

	buf  []byte // bytes of the part
	at   int64  // where in the part buf begins
	need int64  // after errShort: the least length that is needed
}

// part returns a view of size bytes of the file at offset base, which lie in v.
func (v *view) part(base, size int64) *view {
	return &view{r: v.r, base: base, size: size}
}

// next returns the next n bytes, valid until the next call.
func (v *view) next(n int64) ([]byte, error) {
	if n < 0 || n > v.size-v.pos {
		return nil, errNone
	}
	from := v.pos - v.at
	if from < 0 || from+n > int64(len(v.buf)) {
		if err := v.fill(n); err != nil {
			return nil, err
		}
		from = 0
	}
	v.pos += n
	return v.buf[from : from+n], nil
}

// fill reads at least n bytes from the current place into buf. A stream's
// buffer, which holds all there is, can't be filled.
func (v *view) fill(n int64) error {
	if v.r == nil {
		v.need = v.pos + n
		return errShort
	}
	want := min(max(n, windowSize), v.size-v.pos)
	if int64(cap(v.buf)) < want {
		v.buf = make([]byte, want)
	}
	v.buf = v.buf[:want]
	got, err := v.r.ReadAt(v.buf, v.base+v.pos)
	v.at, v.buf = v.pos, v.buf[:got]
	if int64(got) >= n {
		return nil
	}
	return short(err)
}

// readAt fills b with the bytes at an offset of the part, past the buffer.
func (v *view) readAt(b []byte, off int64) error {
	if off < 0 || off > v.size || int64(len(b)) > v.size-off {
		return errNone
	}
	n, err := v.r.ReadAt(b, v.base+off)
	if n == len(b) {
		return nil
	}
	return short(err)
}

// short returns the error for a read that gave too few bytes: a file that is
// shorter than it was said to be has no structure, but it isn't an error.
func short(err error) error {
	if err == nil || err == io.EOF {
		return errNone
	}
	return err
}

// skip passes over n bytes, which need not be there yet in a stream.
func (v *view) skip(n uint64) error {
	if n > uint64(v.size-v.pos) {
		return errNone
	}
	v.pos += int64(n)
	return nil
}

// left returns how many bytes of the part are ahead.
func (v *view) left() uint64 { return uint64(v.size - v.pos) }

func (v *view) uint32() (uint32, error) {
	b, err := v.next(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (v *view) uint64() (uint64, error) {
	b, err := v.next(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// endless reports whether the end of the part is not known.
func (v *view) endless() bool { return v.size == math.MaxInt64 }
