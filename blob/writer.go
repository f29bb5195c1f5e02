package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"sync"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// Writer takes the content of one blob. Nothing can be seen of it before
// Commit; Close without Commit discards it, so a deferred Close is always
// right. It is not safe for concurrent use.
type Writer struct {
	ctx     context.Context
	s       *Store
	batch   *Batch
	share   *Batch // where directory syncs are left to; nil when Commit does its own
	whole   *blake3.Hasher
	size    int64
	plain   *[format.MaxFrame]byte // the frame being filled
	n       int
	frames  int // sent on their way
	trail   trail
	pipe    *pipe[writeJob] // from the second frame on, with several workers
	encoder func(*writeJob) // without a pipe
	stop    func()
	out     output
	donors  donors
	err     error // sticky
	done    bool
}

// row is a frame of the file being written; holder says where a borrowed
// frame is.
type row struct {
	format.Row
	holder FrameRef
}

// writeJob is one frame on its way to the file.
type writeJob struct {
	num    int
	plain  *[format.MaxFrame]byte
	n      int
	spare  *[format.MaxFrame]byte // for the encoded bytes, if need be
	stored []byte
	row    row
	err    error
}

// Writer returns a Writer whose Commit makes the blob durable.
func (s *Store) Writer(ctx context.Context) *Writer {
	return s.writer(ctx, s.Batch())
}

func (s *Store) writer(ctx context.Context, b *Batch) *Writer {
	w := &Writer{ctx: ctx, s: s, batch: b, whole: blake3.New()}
	w.donors.s = s
	w.out = output{s: s, seen: map[Digest]uint32{}}
	return w
}

var errClosed = fmt.Errorf("blob: the writer is closed: %w", fs.ErrClosed)

// Write implements io.Writer. After an error the Writer can only be closed.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if err := w.room(); err != nil {
			return written, err
		}
		c := copy(w.plain[w.n:], p)
		w.n += c
		written += c
		p = p[c:]
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom: it writes what r holds without a copy in
// between.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for empty := 0; ; {
		if err := w.room(); err != nil {
			return total, err
		}
		c, err := r.Read(w.plain[w.n:])
		if c < 0 || c > format.MaxFrame-w.n {
			w.err = fmt.Errorf("blob: the reader returned a count of %d", c)
			return total, w.err
		}
		w.n += c
		total += int64(c)
		if err == io.EOF { // not one that wraps it: that is a source cut short
			return total, nil
		}
		if err != nil {
			w.err = fmt.Errorf("blob: reading the content: %w", err)
			return total, w.err
		}
		if empty++; c > 0 {
			empty = 0
		}
		if empty >= 100 { // as bufio does
			w.err = io.ErrNoProgress
			return total, w.err
		}
	}
}

// room makes sure that the current frame can take at least a byte.
func (w *Writer) room() error {
	if w.done {
		return errClosed
	}
	if w.err == nil && w.plain != nil && w.n == format.MaxFrame {
		w.err = w.flush()
	}
	if w.err == nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err == nil && w.plain == nil {
		w.plain, w.n = w.s.frame(), 0
	}
	return w.err
}

// flush sends the current frame on its way.
func (w *Writer) flush() error {
	if w.s.opts.Workers == 1 {
		return w.inline()
	}
	if w.pipe == nil {
		w.s.sweepOnce()
		w.pipe = newPipe(w.s.opts.Workers, w.newEncoder, w.sink, w.drop)
	}
	j := w.take()
	if err := w.pipe.push(j); err != nil {
		w.drop(j)
		return err
	}
	return nil
}

// inline brings the current frame to the file without goroutines, for a single
// worker and for a blob of one frame.
func (w *Writer) inline() error {
	if w.encoder == nil {
		w.s.sweepOnce()
		w.encoder, w.stop = w.newEncoder()
	}
	j := w.take()
	defer w.drop(j)
	w.encoder(j)
	return w.sink(j)
}

// take makes the current frame a job.
func (w *Writer) take() *writeJob {
	_, _ = w.whole.Write(w.plain[:w.n]) // never fails
	w.size += int64(w.n)
	j := &writeJob{num: w.frames, plain: w.plain, n: w.n}
	w.frames++
	w.plain, w.n = nil, 0
	return j
}

func (w *Writer) drop(j *writeJob) {
	w.s.frames.Put(j.plain)
	if j.spare != nil {
		w.s.frames.Put(j.spare)
	}
}

func (w *Writer) newEncoder() (do func(*writeJob), stop func()) {
	enc, buf := w.s.encoders.Get().(*codec.Encoder), w.s.frame()
	return func(j *writeJob) { w.encode(j, enc, buf) }, func() {
		w.s.encoders.Put(enc)
		w.s.frames.Put(buf)
	}
}

// encode looks a frame up and encodes it if it is new.
func (w *Writer) encode(j *writeJob, enc *codec.Encoder, buf *[format.MaxFrame]byte) {
	plain := j.plain[:j.n]
	j.row.PlainLen = uint32(j.n)
	if ref, sum, ok := w.same(j.num, plain, buf); ok {
		j.row.Sum, j.row.Place, j.row.holder = sum, format.Borrowed, ref
		return
	}
	j.row.Sum = blake3.Sum256(plain)
	if ref, ok := w.known(j.num, &j.row.Row, plain, buf); ok {
		j.row.Place, j.row.holder = format.Borrowed, ref
		return
	}
	var spare []byte
	if w.s.opts.Compression != None {
		j.spare = w.s.frame()
		spare = j.spare[:0]
	}
	j.stored, j.row.Codec, j.row.Param = enc.Encode(spare, plain)
	j.row.StoredLen = uint32(len(j.stored))
	j.row.CRC = crc32.Checksum(j.stored, castagnoli)
}

// same compares a frame with the one that the trail leads to, if that is
// stored raw. Equal bytes that pass the checksum they were stored with have the
// hash they were stored with, which saves computing it: 0.3 CPU seconds a GiB.
func (w *Writer) same(num int, plain []byte, buf *[format.MaxFrame]byte) (FrameRef, Digest, bool) {
	ref, ok := w.trail.guess(num)
	if !ok {
		return FrameRef{}, Digest{}, false
	}
	o, err := w.donors.acquire(ref.Blob)
	if err != nil {
		return FrameRef{}, Digest{}, false
	}
	defer w.donors.release(o)
	if uint64(ref.Frame) >= uint64(len(o.table.Rows)) {
		return FrameRef{}, Digest{}, false
	}
	h := &o.table.Rows[ref.Frame]
	if h.Place != format.Held || h.Codec != codec.Raw || h.Param != 0 || int(h.PlainLen) != len(plain) {
		return FrameRef{}, Digest{}, false
	}
	stored, err := o.stored(ref.Frame, buf[:])
	if err != nil || !bytes.Equal(stored, plain) {
		return FrameRef{}, Digest{}, false
	}
	return ref, h.Sum, true
}

// known looks for a held frame that equals r, the frame number num of this
// blob, and whose stored bytes are undamaged. A hint that turns out wrong is
// only a missed saving.
func (w *Writer) known(num int, r *format.Row, plain []byte, buf *[format.MaxFrame]byte) (FrameRef, bool) {
	if w.s.opts.Known == nil {
		return FrameRef{}, false
	}
	if guess, ok := w.trail.guess(num); ok {
		if ref, ok := w.lent(guess, r, plain, buf); ok {
			return ref, true
		}
	}
	hint, ok := w.s.opts.Known(w.ctx, r.Sum)
	if !ok {
		return FrameRef{}, false
	}
	ref, ok := w.lent(hint, r, plain, buf)
	if ok {
		w.trail.found(num, hint)
	}
	return ref, ok
}

// lent checks a hint and returns the frame to borrow.
func (w *Writer) lent(ref FrameRef, r *format.Row, plain []byte, buf *[format.MaxFrame]byte) (FrameRef, bool) {
	o, err := w.donors.acquire(ref.Blob)
	if err != nil {
		return FrameRef{}, false
	}
	defer w.donors.release(o)
	if uint64(ref.Frame) >= uint64(len(o.table.Rows)) || o.table.Rows[ref.Frame].Sum != r.Sum {
		return FrameRef{}, false
	}
	if h := &o.table.Rows[ref.Frame]; h.Place == format.Borrowed {
		// The hint is older than a healing, or names a borrower: go on to the
		// holder, once.
		ref = FrameRef{Blob: o.table.Donors[h.Donor], Frame: h.Frame}
		next, err := w.donors.acquire(ref.Blob)
		if err != nil {
			return FrameRef{}, false
		}
		defer w.donors.release(next)
		o = next
	}
	if ref.Frame, err = o.lends(ref.Frame, r); err != nil {
		return FrameRef{}, false
	}
	stored, err := o.stored(ref.Frame, buf[:])
	if err != nil || o.table.Rows[ref.Frame].Codec == codec.Raw && !bytes.Equal(stored, plain) {
		return FrameRef{}, false
	}
	return ref, true
}

// trail remembers where a frame was found. What follows it there is likely
// what follows it here, and looking there first saves asking for a hint: a
// transaction on the index costs 65 microseconds, a third of hashing a frame.
type trail struct {
	mu  sync.Mutex
	set bool
	num int
	ref FrameRef
}

func (t *trail) found(num int, ref FrameRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set, t.num, t.ref = true, num, ref
}

// guess says where the frame num would be if the blobs run on alike.
func (t *trail) guess(num int) (FrameRef, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := int64(t.ref.Frame) + int64(num-t.num)
	if !t.set || at < 0 || at > math.MaxUint32 {
		return FrameRef{}, false
	}
	return FrameRef{Blob: t.ref.Blob, Frame: uint32(at)}, true
}

// sink writes a frame, in order.
func (w *Writer) sink(j *writeJob) error {
	if j.err != nil {
		return j.err
	}
	return w.out.add(j.row, j.stored)
}

// Commit stores what was written and returns its digest. If want is not zero
// and the content has another digest, the error is a *MismatchError. When
// Commit returns without an error the blob is durable, or for a Writer of a
// Batch will be after Sync. After an error nothing is stored. The Writer is
// closed either way.
func (w *Writer) Commit(want Digest) (info Info, err error) {
	if w.done {
		return Info{}, errClosed
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.finish(); err != nil {
		return Info{}, err
	}
	var d Digest
	w.whole.Sum(d[:0])
	if !want.IsZero() && d != want {
		return Info{}, &MismatchError{Want: want, Got: d}
	}
	info, err = w.publish(d)
	if err != nil {
		return Info{}, err
	}
	if w.share == nil {
		err = w.batch.Sync(w.ctx)
	}
	return info, err
}

// finish brings the last frame to the file.
func (w *Writer) finish() error {
	if w.err == nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err == nil && w.n > 0 {
		if w.pipe != nil {
			w.err = w.flush()
		} else {
			w.err = w.inline()
		}
	}
	return w.join()
}

// join waits for the pipe, if there is one, and returns the first error.
func (w *Writer) join() error {
	if w.stop != nil {
		w.stop()
		w.encoder, w.stop = nil, nil
	}
	if w.pipe != nil {
		err := w.pipe.wait()
		w.pipe = nil
		if w.err == nil {
			w.err = err
		}
	}
	return w.err
}

// Close discards what was not committed. A second Close does nothing.
func (w *Writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	_ = w.join() // Write or Commit has reported it
	if w.plain != nil {
		w.s.frames.Put(w.plain)
		w.plain = nil
	}
	return errors.Join(w.out.discard(), w.donors.close())
}
