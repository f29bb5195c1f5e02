package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// Reader reads one blob. Every byte that it returns was checked against its
// frame's hash before; what fails is a *CorruptError and no byte of it.
//
// ReadAt, Size and Digest are safe for concurrent use. Read, Seek and WriteTo
// share an offset and are not.
type Reader struct {
	s      *Store
	f      *file
	donors donors

	workers int // frames that WriteTo decodes at once

	pos   int64
	whole *blake3.Hasher // of the bytes Read so far; nil after a Seek

	mu  sync.Mutex // guards the frame decoded last, for small reads
	num int        // its number, -1 for none
	buf *[format.MaxFrame]byte
}

// Open opens the blob d for reading. It returns ErrNotFound, a *CorruptError,
// or an error that wraps *NewerError. The caller closes the Reader. Reading
// goes on if the blob is collected meanwhile, except for frames that it needs of
// others which were collected, too, and purged.
func (s *Store) Open(ctx context.Context, d Digest) (*Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.openFile(d)
	if err != nil {
		return nil, asCorrupt(err, d, d, -1)
	}
	if f.partial() {
		return nil, errors.Join(errPartial(d), f.close())
	}
	return newReader(s, f), nil
}

// errPartial says that there is not all of the blob d.
func errPartial(d Digest) error {
	return fmt.Errorf("%w: the blob %s was collected, but for the frames that others need", ErrNotFound, d)
}

func newReader(s *Store, f *file) *Reader {
	r := &Reader{s: s, f: f, workers: s.opts.Workers, whole: blake3.New(), num: -1}
	r.donors.s = s
	return r
}

// Digest returns the blob's digest.
func (r *Reader) Digest() Digest { return r.f.digest }

// Size returns the number of plain bytes.
func (r *Reader) Size() int64 { return r.f.plain }

// Close releases the blob's file and its donors'.
func (r *Reader) Close() error {
	r.mu.Lock()
	if r.buf != nil {
		r.s.frames.Put(r.buf)
		r.buf, r.num = nil, -1
	}
	r.mu.Unlock()
	return errors.Join(r.f.close(), r.donors.close())
}

// frameAt returns the number of the frame that holds the plain offset off,
// which is below Size.
func (r *Reader) frameAt(off int64) int { return rowAt(r.f.starts, off) }

// decode fills dst with frame i, checked.
func (r *Reader) decode(dst []byte, i int, dec *codec.Decoder, buf *[format.MaxFrame]byte) error {
	u := unpacker{s: r.s, donors: &r.donors, dec: dec, buf: buf}
	in, err := u.row(dst, r.f, uint32(i))
	if err != nil {
		err = asCorrupt(err, r.f.digest, in, r.f.starts[i])
		if ok, again := r.renewed(dst, i, &u); again != nil {
			err = errors.Join(err, again)
		} else if ok {
			return nil
		}
	}
	return err
}

// renewed is decode by the file that has the blob's name by now, if it is another
// one: healed, or written anew by a collection so that it needs less.
func (r *Reader) renewed(dst []byte, i int, u *unpacker) (ok bool, err error) {
	f, err := r.s.openFile(r.f.digest)
	if err != nil {
		return false, nil // the first error tells more
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if f.plain != r.f.plain || slices.Equal(f.table.Rows, r.f.table.Rows) || !slices.Equal(f.starts, r.f.starts) {
		return false, nil
	}
	_, failed := u.row(dst, f, uint32(i))
	return failed == nil, nil
}

// copyFrame copies to p from offset off of frame i.
func (r *Reader) copyFrame(p []byte, i int, off int64) (int, error) {
	size := int64(r.f.table.Rows[i].PlainLen)
	r.mu.Lock()
	if r.num == i {
		n := copy(p, r.buf[off:size])
		r.mu.Unlock()
		return n, nil
	}
	r.mu.Unlock()

	plain, dec, stored := r.s.frame(), r.s.decoder(), r.s.frame()
	err := r.decode(plain[:size], i, dec, stored)
	r.s.frames.Put(stored)
	r.s.decoders.Put(dec)
	if err != nil {
		r.s.frames.Put(plain)
		return 0, err
	}
	n := copy(p, plain[off:size])
	r.mu.Lock()
	old := r.buf
	r.buf, r.num = plain, i
	r.mu.Unlock()
	if old != nil {
		r.s.frames.Put(old)
	}
	return n, nil
}

func (s *Store) frame() *[format.MaxFrame]byte { return s.frames.Get().(*[format.MaxFrame]byte) }
func (s *Store) decoder() *codec.Decoder       { return s.decoders.Get().(*codec.Decoder) }

// ReadAt reads from the plain offset off, decoding only the frames that it
// touches. It implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("blob: reading %s at %d: %w", r.f.digest, off, fs.ErrInvalid)
	}
	n := 0
	for n < len(p) && off < r.f.plain {
		i := r.frameAt(off)
		c, err := r.copyFrame(p[n:], i, off-r.f.starts[i])
		if err != nil {
			return n, err
		}
		n += c
		off += int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements io.Reader. A read from the beginning to the end without a
// Seek also checks the blob's own digest, at its last byte.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.pos >= r.f.plain {
		if r.whole != nil && r.f.plain == 0 {
			return 0, cmpEOF(r.checkWhole(r.whole))
		}
		return 0, io.EOF
	}
	i := r.frameAt(r.pos)
	n, err := r.copyFrame(p, i, r.pos-r.f.starts[i])
	if err != nil {
		return 0, err
	}
	if r.whole != nil {
		_, _ = r.whole.Write(p[:n]) // never fails
		if r.pos+int64(n) == r.f.plain {
			if err := r.checkWhole(r.whole); err != nil {
				return 0, err
			}
		}
	}
	r.pos += int64(n)
	return n, nil
}

func cmpEOF(err error) error {
	if err != nil {
		return err
	}
	return io.EOF
}

func (r *Reader) checkWhole(h *blake3.Hasher) error {
	var got Digest
	h.Sum(got[:0])
	if got != r.f.digest {
		return &CorruptError{Blob: r.f.digest, In: r.f.digest, Offset: -1,
			Err: &sumError{fmt.Sprintf("every frame has its hash, but together they are %s", got)}}
	}
	return nil
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.f.plain
	default:
		return 0, fmt.Errorf("blob: seeking %s: whence %d: %w", r.f.digest, whence, fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, fmt.Errorf("blob: seeking %s to %d: %w", r.f.digest, offset, fs.ErrInvalid)
	}
	if offset != r.pos {
		r.pos, r.whole = offset, nil
		if offset == 0 {
			r.whole = blake3.New()
		}
	}
	return r.pos, nil
}

// readJob is one frame on its way to WriteTo's writer.
type readJob struct {
	num   int
	plain *[format.MaxFrame]byte
	from  int64 // skip that many bytes of it
	err   error
}

// WriteTo writes the rest of the blob to w, decoding frames ahead on several
// goroutines. From the beginning it also checks the blob's own digest, and
// reports a *CorruptError after the last byte if that fails. It implements
// io.WriterTo.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	if r.pos >= r.f.plain {
		if r.pos == 0 {
			return 0, r.checkWhole(blake3.New())
		}
		return 0, nil
	}
	var whole *blake3.Hasher
	if r.pos == 0 {
		whole = blake3.New()
	}
	r.whole = nil
	var written int64
	sink := func(j *readJob) error {
		if j.err != nil {
			return j.err
		}
		p := j.plain[j.from:r.f.table.Rows[j.num].PlainLen]
		if whole != nil {
			_, _ = whole.Write(p) // never fails
		}
		n, err := w.Write(p)
		written += int64(n)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	}
	first := r.frameAt(r.pos)
	from := r.pos - r.f.starts[first]
	err := r.each(first, from, sink)
	r.pos += written
	if err == nil && whole != nil {
		err = r.checkWhole(whole)
	}
	return written, err
}

// each decodes the frames from the number first on and hands them to sink in
// order, the first without the bytes before from.
func (r *Reader) each(first int, from int64, sink func(*readJob) error) error {
	workers := min(r.workers, len(r.f.starts)-first)
	if workers == 1 {
		return r.inline(first, from, sink)
	}
	p := newPipe(workers, r.newDecoder, sink, func(j *readJob) { r.s.frames.Put(j.plain) })
	for i := first; i < len(r.f.starts); i++ {
		j := &readJob{num: i, plain: r.s.frame(), from: from}
		from = 0
		if p.push(j) != nil {
			r.s.frames.Put(j.plain)
			break
		}
	}
	return p.wait()
}

// inline is each without goroutines.
func (r *Reader) inline(first int, from int64, sink func(*readJob) error) error {
	do, stop := r.newDecoder()
	defer stop()
	plain := r.s.frame()
	defer r.s.frames.Put(plain)
	for i := first; i < len(r.f.starts); i++ {
		j := &readJob{num: i, plain: plain, from: from}
		from = 0
		do(j)
		if err := sink(j); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) newDecoder() (do func(*readJob), stop func()) {
	dec, buf := r.s.decoder(), r.s.frame()
	return func(j *readJob) {
			j.err = r.decode(j.plain[:r.f.table.Rows[j.num].PlainLen], j.num, dec, buf)
		}, func() {
			r.s.decoders.Put(dec)
			r.s.frames.Put(buf)
		}
}
