package blob

import (
	"context"
	"errors"
	"slices"

	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// fault is damage of a blob's own file, as opposed to one that it borrows from.
type fault struct {
	row    int64 // the frame that can't be read, or one of the below
	offset int64 // of the frame in plain bytes; -1 for none
	err    error
	rows   []format.Row // for badWhole
}

const (
	badTable = -1 // header, table or footer: nothing can be read
	badWhole = -2 // each frame has its hash, but together they don't have the blob's
)

// corrupt returns the fault of the blob d's file as an error.
func (x *fault) corrupt(d Digest) error {
	return &CorruptError{Blob: d, In: d, Offset: x.offset, Err: x.err}
}

// findFault reads all of the file name, which is one of the blob d, and returns
// the first damage of the file itself, or nil. Frames that are decoded with
// donors' are checked by their checksums only where those can't be read.
func (s *Store) findFault(ctx context.Context, name string, d Digest) (*fault, error) {
	f, err := s.openNamed(name, d)
	if unsound(err) {
		return &fault{row: badTable, offset: -1, err: err}, nil
	}
	if err != nil {
		return nil, err
	}
	p := newProbe(s, f)
	found, err := p.checksums(ctx)
	if found == nil && err == nil {
		found, err = p.decoded(ctx)
	}
	return found, errors.Join(err, p.close())
}

// stillFaulty looks again at a fault that was found in blobs/. It reads the table
// and one frame.
func (s *Store) stillFaulty(was *fault, d Digest) (still bool, err error) {
	f, err := s.openFile(d)
	if unsound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	p := newProbe(s, f)
	defer func() { err = errors.Join(err, p.close()) }()
	switch {
	case was.row == badWhole:
		return slices.Equal(was.rows, f.table.Rows), nil
	case was.row < 0 || was.row >= int64(len(f.table.Rows)):
		return false, nil
	}
	found, err := p.held(int(was.row))
	if found == nil && err == nil {
		found, _, err = p.frame(int(was.row))
	}
	return found != nil, err
}

// probe looks for damage in one file, which it closes.
type probe struct {
	f      *file
	u      unpacker
	donors donors
	plain  *[format.MaxFrame]byte
}

func newProbe(s *Store, f *file) *probe {
	p := &probe{f: f, plain: s.frame()}
	p.donors.s = s
	p.u = unpacker{s: s, donors: &p.donors, dec: s.decoder(), buf: s.frame()}
	return p
}

func (p *probe) close() error {
	p.u.s.frames.Put(p.plain)
	p.u.s.frames.Put(p.u.buf)
	p.u.s.decoders.Put(p.u.dec)
	return errors.Join(p.f.close(), p.donors.close())
}

// checksums checks the stored bytes of every held frame.
func (p *probe) checksums(ctx context.Context) (*fault, error) {
	for i := range p.f.table.Rows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if found, err := p.held(i); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// held checks the stored bytes of frame i, if the file holds them.
func (p *probe) held(i int) (*fault, error) {
	if p.f.table.Rows[i].Place != format.Held {
		return nil, nil
	}
	_, err := p.f.stored(uint32(i), p.u.buf[:])
	if unsound(err) {
		return &fault{row: int64(i), offset: p.f.starts[i], err: err}, nil
	}
	return nil, err
}

// decoded decodes every frame.
func (p *probe) decoded(ctx context.Context) (*fault, error) {
	whole := blake3.New()
	for i := range p.f.table.Rows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		found, plain, err := p.frame(i)
		if found != nil || err != nil {
			return found, err
		}
		if plain == nil {
			whole = nil // a donor is damaged
		}
		if whole != nil {
			_, _ = whole.Write(plain) // never fails
		}
	}
	if whole == nil {
		return nil, nil
	}
	var got Digest
	if whole.Sum(got[:0]); got != p.f.digest {
		return &fault{row: badWhole, offset: -1, err: &sumError{"every frame has its hash, but together they are " + got.String()}, rows: p.f.table.Rows}, nil
	}
	return nil, nil
}

// frame decodes frame i. It returns neither a fault nor bytes if a donor is at
// fault.
func (p *probe) frame(i int) (found *fault, plain []byte, err error) {
	plain = p.plain[:p.f.table.Rows[i].PlainLen]
	in, err := p.u.row(plain, p.f, uint32(i))
	switch {
	case err == nil:
		return nil, plain, nil
	case !unsound(err):
		return nil, nil, err
	case in == p.f.digest:
		return &fault{row: int64(i), offset: p.f.starts[i], err: err}, nil, nil
	}
	return nil, nil, nil
}
