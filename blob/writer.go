package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/heftstore/heft/internal/chunk"
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
	aside   bool   // a file that is replaced goes to quarantine
	whole   *blake3.Hasher
	size    int64                  // in frames so far
	head    []byte                 // of a stream, as long as cut is nil
	need    int                    // bytes of head before its structure is looked for again
	src     io.ReaderAt            // the content from its beginning, if it can be read twice
	layout  *chunk.Layout          // nil without structure
	cut     *chunk.Cutter          // nil until the structure is known
	kin     kin                    // what the content may be like
	plain   *[format.MaxFrame]byte // the frame being filled
	n       int
	frames  int       // sent on their way
	first   *writeJob // held back, since a single frame needs no pipe
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
// frame is, base what one that has a Depth is decoded with.
type row struct {
	format.Row
	holder FrameRef
	base   FrameRef // Blob is zero for this very file
	keys   []uint64 // of the sketch of the tensor that begins with it
	kind   codec.Kind
}

// writeJob is one frame on its way to the file.
type writeJob struct {
	num    int
	at     int64 // plain offset
	plain  *[format.MaxFrame]byte
	n      int
	kind   codec.Kind
	probe  bool                   // kind is not known
	base   candidate              // an earlier state of it
	wide   home                   // floats that it may be the cast of
	wideAt int64                  // where in their blob
	self   bool                   // it is a cast of this blob's bytes from wideAt on
	sums   []Digest               // of those, in pieces of a frame
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
	w.donors.hold = func(d Digest) error { return b.holds(ctx, d) }
	w.out = output{s: s, seen: map[Digest]uint32{}}
	w.kin = kin{ctx: ctx, s: s, cache: &b.relatives, drafts: b.draft, tensor: -1, self: map[uint64]int64{}}
	return w
}

var errClosed = fmt.Errorf("blob: the writer is closed: %w", fs.ErrClosed)

// send hands a frame to the workers. The first one waits for a second: a blob
// of one frame needs no goroutines.
func (w *Writer) send(j *writeJob) error {
	if w.s.opts.Workers == 1 {
		return w.inline(j)
	}
	if w.pipe == nil {
		if w.first == nil {
			w.first = j
			return nil
		}
		w.s.sweepOnce()
		w.pipe = newPipe(w.s.opts.Workers, w.newEncoder, w.sink, w.drop)
		first := w.first
		w.first = nil
		if err := w.push(first); err != nil {
			w.drop(j)
			return err
		}
	}
	return w.push(j)
}

func (w *Writer) push(j *writeJob) error {
	err := w.pipe.push(j)
	if err != nil {
		w.drop(j)
	}
	return err
}

// inline brings a frame to the file without goroutines, for a single worker and
// for a blob of one frame.
func (w *Writer) inline(j *writeJob) error {
	if w.encoder == nil {
		w.s.sweepOnce()
		w.encoder, w.stop = w.newEncoder()
	}
	defer w.drop(j)
	w.encoder(j)
	return w.sink(j)
}

func (w *Writer) drop(j *writeJob) {
	w.s.frames.Put(j.plain)
	if j.spare != nil {
		w.s.frames.Put(j.spare)
	}
}

func (w *Writer) newEncoder() (do func(*writeJob), stop func()) {
	p := &packer{w: w, enc: w.s.encoders.Get().(*codec.Encoder), buf: w.s.frame(), dec: w.s.decoder()}
	return p.pack, func() {
		w.s.encoders.Put(p.enc)
		w.s.decoders.Put(p.dec)
		w.s.frames.Put(p.buf)
		if p.base != nil {
			w.s.frames.Put(p.base)
		}
	}
}

// sink writes a frame, in order.
func (w *Writer) sink(j *writeJob) error {
	if j.err != nil {
		return j.err
	}
	if j.self && !w.out.castBase(j, &w.donors) {
		// What it is the cast of is out of a reader's reach.
		p := packer{w: w, enc: codec.NewEncoder(codec.Auto)}
		j.row.Row = format.Row{Sum: j.row.Sum, PlainLen: j.row.PlainLen}
		p.encode(j, nil)
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
	if err == nil {
		err = w.batch.protect(w.ctx, info)
	}
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
	if w.err == nil {
		w.err = w.rest()
	}
	if first := w.first; first != nil {
		w.first = nil
		if w.err == nil {
			w.err = w.inline(first)
		} else {
			w.drop(first)
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
	if w.first != nil {
		w.drop(w.first)
		w.first = nil
	}
	if w.plain != nil {
		w.s.frames.Put(w.plain)
		w.plain = nil
	}
	err := errors.Join(w.out.discard(), w.donors.close())
	if w.share == nil {
		err = errors.Join(err, w.batch.Release())
	}
	return err
}
