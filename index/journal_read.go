package index

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/zeebo/blake3"
)

const (
	// maxRecord is the most bytes of a record's JSON: docs/format.md, The journal.
	maxRecord = 64 << 20
	// maxLine is the longest line, without its newline.
	maxLine = hexSize + 1 + maxRecord
	// sector is what a disk writes whole or not at all.
	sector = 512
)

var (
	errHash    = errors.New("the line's hash is not that of its text")
	errNewline = errors.New("the line has no end")
	errLong    = fmt.Errorf("the line has more than %d bytes", maxLine)
)

// journalReader reads the journal in order and checks all of it. It holds one
// line in memory.
type journalReader struct {
	file    durable.File
	in      *bufio.Reader
	line    []byte
	length  int64 // in bytes, of the line that was read last, with its newline
	store   uuid.UUID
	applied int64 // a bad line before this offset can't be a torn append

	size int64    // of the file, or where to stop
	pos  position // after the last good record
	last int64    // offset of the last good record
	torn int64    // at the end: how many bytes a torn append left
}

// readJournal opens the journal at from. Bytes before the offset applied are
// known to have been acknowledged. If to is not negative the reader stops
// there. The caller closes the reader.
func readJournal(fsys durable.FS, store uuid.UUID, from position, applied, to int64) (*journalReader, error) {
	f, err := fsys.Open(journalName)
	if err != nil {
		return nil, fmt.Errorf("index: opening the journal: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index: opening the journal: %w", errors.Join(err, f.Close()))
	}
	r := &journalReader{file: f, store: store, applied: applied, size: info.Size(), pos: from, last: from.offset}
	if least := max(applied, to, from.offset); r.size < least {
		return nil, errors.Join(lostRecords(r.size, from.next, least), f.Close())
	}
	if to >= 0 {
		r.size = to
	}
	r.in = bufio.NewReaderSize(io.NewSectionReader(f, from.offset, r.size-from.offset), 64<<10)
	return r, nil
}

// lostRecords is the error for a journal that ends before what was acknowledged.
func lostRecords(size int64, seq uint64, want int64) error {
	return &JournalError{Offset: size, Seq: seq, Err: fmt.Errorf("%w: %d bytes of %d", ErrLostRecords, size, want)}
}

func (r *journalReader) close() error { return r.file.Close() }

func (r *journalReader) broken(err error) error {
	return &JournalError{Offset: r.pos.offset, Seq: r.pos.next, Err: err}
}

// sum reads the next line and returns its hash; io.EOF at the end, which may be
// a torn append.
func (r *journalReader) sum() (sum blob.Digest, err error) {
	reason := r.readLine()
	if reason == io.EOF {
		return sum, io.EOF
	}
	if reason == nil {
		sum, reason = checkLine(r.line)
	}
	switch {
	case errors.Is(reason, errHash), errors.Is(reason, errNewline), errors.Is(reason, errLong):
		return sum, r.bad(reason)
	case reason != nil:
		return sum, fmt.Errorf("index: reading the journal at byte %d: %w", r.pos.offset, reason)
	}
	return sum, nil
}

// next returns the next record; io.EOF at the end, which may be a torn append.
func (r *journalReader) next() (*Record, error) {
	sum, err := r.sum()
	if err != nil {
		return nil, err
	}
	rec, err := r.decode()
	if err != nil {
		return nil, r.broken(err)
	}
	r.last = r.pos.offset
	r.pos = position{next: r.pos.next + 1, offset: r.pos.offset + r.length, prev: sum}
	return rec, nil
}

// decode reads the record of a line whose hash is right.
func (r *journalReader) decode() (*Record, error) {
	text := r.line[hexSize+1:]
	rec := new(Record)
	if err := canon.Decode(text, rec); err != nil {
		return nil, fmt.Errorf("the record can't be read, it may be from a newer heft: %w", err)
	}
	// The hash of a record binds one spelling only; so does our reading of it.
	again, err := canon.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("the record can't be read: %w", err)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("the record is not spelled canonically, or it is from a newer heft")
	}
	if rec.Seq != r.pos.next {
		return nil, fmt.Errorf("its sequence number is %d", rec.Seq)
	}
	if rec.Prev != r.pos.prev {
		return nil, fmt.Errorf("it follows record %s, but the one before is %s", rec.Prev.Short(), r.pos.prev.Short())
	}
	return rec, rec.check(r.store)
}

// check tells what is wrong with a record by itself.
func (rec *Record) check(store uuid.UUID) error {
	if rec.Seq == 0 {
		if rec.Verb != verbCreate || len(rec.Ops) != 0 {
			return errors.New("it is not the record of a creation")
		}
		if rec.Store != store {
			return fmt.Errorf("it belongs to store %s, not %s", rec.Store, store)
		}
		return nil
	}
	if rec.Verb == "" || rec.Verb == verbCreate || rec.Store != uuid.Nil {
		return errors.New("it is not the record of a change")
	}
	for i := range rec.Ops {
		if n := rec.Ops[i].count(); n != 1 {
			return fmt.Errorf("change %d of it has %d kinds, not 1", i, n)
		}
	}
	return nil
}

func (op *Op) count() (n int) {
	for _, set := range []bool{op.Register != nil, op.Status != nil, op.Alias != nil, op.Metadata != nil, op.Delete != nil, op.SHA256 != nil} {
		if set {
			n++
		}
	}
	return n
}

// checkLine returns the hash of a line's text, if it is the one that the line
// begins with. The newline is not part of line.
func checkLine(line []byte) (blob.Digest, error) {
	if len(line) <= hexSize || line[hexSize] != ' ' {
		return blob.Digest{}, errHash
	}
	sum := blob.Digest(blake3.Sum256(line[hexSize+1:]))
	if string(line[:hexSize]) != sum.String() {
		return blob.Digest{}, errHash
	}
	return sum, nil
}

// readLine reads a line into r.line, without its newline. It returns io.EOF
// where there is no line, errNewline for the last one if it has no end, and
// errLong, with a part of it only, for one beyond the limit.
func (r *journalReader) readLine() error {
	r.line, r.length = r.line[:0], 0
	long := false
	for {
		part, err := r.in.ReadSlice('\n')
		r.length += int64(len(part))
		switch {
		case long:
		case len(r.line)+len(part) > maxLine+1:
			long = true
		default:
			r.line = append(r.line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && err != io.EOF:
			return err
		case err == io.EOF && len(r.line) == 0 && !long:
			return io.EOF
		case err == io.EOF:
			return errNewline
		case long:
			return errLong
		}
		r.line = r.line[:len(r.line)-1]
		return nil
	}
}

// bad applies the rules of docs/format.md for a bad line. It returns io.EOF for
// a torn last append.
func (r *journalReader) bad(reason error) error {
	if r.pos.offset < r.applied {
		return r.broken(reason)
	}
	// A torn append is one line, so whatever follows was written after it.
	if !errors.Is(reason, errNewline) {
		end := r.pos.offset + r.length
		err := r.readLine()
		if err == nil {
			_, err = checkLine(r.line)
		}
		if err == nil {
			return r.broken(fmt.Errorf("%w, but a later record is whole", reason))
		}
		if err != io.EOF {
			return r.broken(fmt.Errorf("%w, and it is not the last one", reason))
		}
		zero, err := zeroSector(r.file, r.pos.offset, end)
		if err != nil {
			return fmt.Errorf("index: reading the journal at byte %d: %w", r.pos.offset, err)
		}
		if !zero {
			return r.broken(reason)
		}
	}
	r.torn = r.size - r.pos.offset
	return io.EOF
}

// zeroSector says whether one of the sectors that the bytes from one offset to
// another touch holds only zeros within them.
func zeroSector(f io.ReaderAt, from, to int64) (bool, error) {
	buf := make([]byte, 128*sector)
	for from < to {
		// Up to a border of sectors, so that none is seen in two parts.
		end := min(to, (from/sector+128)*sector)
		b := buf[:end-from]
		if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
			return false, err
		}
		for len(b) > 0 {
			n := min(int64(len(b)), sector-from%sector)
			if len(bytes.TrimLeft(b[:n], "\x00")) == 0 {
				return true, nil
			}
			b, from = b[n:], from+n
		}
	}
	return false, nil
}
