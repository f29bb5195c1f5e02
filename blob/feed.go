package blob

import (
	"context"
	"fmt"
	"io"

	"github.com/heftstore/heft/internal/chunk"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// How bytes become frames: they are gathered in a frame's buffer until a
// chunk.Cutter says where it ends. Of a stream the first bytes are held back
// until they show whether it has a structure.

// headStep is how many bytes of a stream's beginning are asked for at once.
const headStep = 64 << 10

// Write implements io.Writer. After an error the Writer can only be closed.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		room, err := w.room()
		if err != nil {
			return written, err
		}
		c := copy(room, p)
		written += c
		p = p[c:]
		if err := w.filled(c); err != nil {
			return written, err
		}
	}
	return written, nil
}

// source is what a Writer can look around in, to see a file's structure before
// it reads it.
type source interface {
	io.ReaderAt
	io.Seeker
}

// ReadFrom implements io.ReaderFrom: it writes what r holds without a copy in
// between. Of an r that is an io.ReaderAt and io.Seeker too, as files are, it
// looks at the structure first, also where that is at the end, as in zip files.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	if w.done {
		return 0, errClosed
	}
	if src, ok := r.(source); ok && w.size == 0 && w.cut == nil && len(w.head) == 0 && w.err == nil {
		if w.err = w.survey(src); w.err != nil {
			return 0, w.err
		}
	}
	var total int64
	for empty := 0; ; {
		room, err := w.room()
		if err != nil {
			return total, err
		}
		c, err := r.Read(room)
		if c < 0 || c > len(room) {
			w.err = fmt.Errorf("blob: the reader returned a count of %d", c)
			return total, w.err
		}
		total += int64(c)
		if err := w.filled(c); err != nil {
			return total, err
		}
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

// survey looks at the structure of a source that has one place to read from
// and can be read elsewhere meanwhile. What can't seek, as a pipe, is a stream.
func (w *Writer) survey(src source) error {
	at, err := src.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	end, err := src.Seek(0, io.SeekEnd)
	if _, back := src.Seek(at, io.SeekStart); back != nil {
		return fmt.Errorf("blob: reading the content: %w", back)
	}
	if err != nil || end <= at {
		return nil
	}
	whole := io.NewSectionReader(src, at, end-at)
	l, err := chunk.Scan(whole, end-at)
	if err != nil {
		return fmt.Errorf("blob: reading the content: %w", err)
	}
	w.src = whole
	w.begin(l, end-at)
	return nil
}

// begin starts cutting; size is how many bytes will come, -1 if not known.
func (w *Writer) begin(l *chunk.Layout, size int64) {
	w.layout = l
	if size >= 0 && len(w.kin.like) > 0 {
		// A file of the same size is mostly the same file, changed in place:
		// frames at the same places can then be deltas to each other.
		if r := w.kin.cache.get(w.ctx, w.s, w.kin.like[0]); r != nil && r.size == size {
			ends := append(append([]int64(nil), r.starts...), r.size)
			w.cut = chunk.NewCutterAt(l, ends[1:])
			return
		}
	}
	w.cut = chunk.NewCutter(l)
}

// room returns where the next bytes belong, at least one.
func (w *Writer) room() ([]byte, error) {
	if w.done {
		return nil, errClosed
	}
	if w.err == nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err != nil {
		return nil, w.err
	}
	if w.cut == nil {
		if n := len(w.head); cap(w.head)-n < headStep {
			w.head = append(make([]byte, 0, 2*cap(w.head)+headStep), w.head...)
		}
		n := len(w.head)
		return w.head[n : n+headStep : n+headStep], nil
	}
	if w.plain == nil {
		w.plain, w.n = w.s.frame(), 0
	}
	return w.plain[w.n:min(w.n+w.cut.Room(), format.MaxFrame)], nil
}

// filled takes note of c bytes that were put where room said.
func (w *Writer) filled(c int) error {
	if w.cut == nil {
		w.head = w.head[:len(w.head)+c]
		if len(w.head) < w.need {
			return nil
		}
		l, need := chunk.Prefix(w.head)
		if need > len(w.head) {
			w.need = need // it is read from its beginning each time
			return nil
		}
		return w.replay(l)
	}
	w.n += c
	for w.err == nil && w.n > 0 {
		n, span := w.cut.Cut(w.plain[:w.n])
		if n == 0 {
			break
		}
		w.err = w.frame(n, span)
	}
	return w.err
}

// replay starts cutting a stream with the bytes that were held back.
func (w *Writer) replay(l *chunk.Layout) error {
	w.begin(l, -1)
	head := w.head
	w.head = nil
	for len(head) > 0 {
		room, err := w.room()
		if err != nil {
			return err
		}
		c := copy(room, head)
		head = head[c:]
		if err := w.filled(c); err != nil {
			return err
		}
	}
	return nil
}

// rest cuts what is left at the end.
func (w *Writer) rest() error {
	if w.cut == nil && len(w.head) > 0 {
		l, need := chunk.Prefix(w.head)
		if need > len(w.head) {
			l = nil // cut short
		}
		if err := w.replay(l); err != nil {
			return err
		}
	}
	if w.n == 0 {
		return nil
	}
	return w.frame(w.n, w.cut.Flush(w.plain[:w.n]))
}

// frame sends the first n bytes of the buffer on their way.
func (w *Writer) frame(n int, span chunk.Span) error {
	j := &writeJob{num: w.frames, at: w.size, plain: w.plain, n: n, kind: span.Kind, probe: span.Opaque}
	w.frames++
	rest := w.plain[n:w.n]
	w.plain, w.n = nil, 0
	if len(rest) > 0 {
		w.plain = w.s.frame()
		w.n = copy(w.plain[:], rest)
	}
	_, _ = w.whole.Write(j.plain[:n]) // never fails
	w.size += int64(n)
	if w.s.opts.Compression == Auto {
		w.relate(j, span)
	}
	return w.send(j)
}

// relate looks for what the frame may be coded with.
func (w *Writer) relate(j *writeJob, span chunk.Span) {
	p := j.plain[:j.n]
	if span.Tensor >= 0 && span.Tensor != w.kin.tensor {
		t := &w.layout.Tensors[span.Tensor]
		if span.At == 0 {
			j.row.keys = w.kin.enter(span.Tensor, t, p)
		} else {
			w.kin.tensor, w.kin.base, w.kin.wide = span.Tensor, home{}, home{}
		}
	}
	j.base = w.kin.frameBase(span, j.at, j.n)
	if e := span.Kind.Elem; span.Tensor >= 0 && (e == codec.BF16 || e == codec.F16) && w.kin.wide.known() {
		j.wide, j.wideAt = w.kin.wide, w.kin.wide.start+2*span.At
	}
}
