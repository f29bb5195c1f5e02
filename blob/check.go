package blob

import (
	"context"
	"errors"

	"github.com/heftstore/heft/internal/format"
)

// Check reads back what the store holds of the blob d in the blob's own file:
// its header, footer, frame table and every stored byte, which have to pass
// their checksums. It decodes nothing and looks at no donor, so it costs a tenth
// of Verify; since a Writer has decoded what it stored, it is proof enough for
// what was written a moment ago. It returns nil, ErrNotFound, a *CorruptError, or
// an error of reading.
func (s *Store) Check(ctx context.Context, d Digest) (err error) {
	f, err := s.openFile(d)
	if err != nil {
		return asCorrupt(err, d, d, -1)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return s.checkStored(ctx, f)
}

// checkStored is Check of an open file.
func (s *Store) checkStored(ctx context.Context, f *file) error {
	buf := s.frame()
	defer s.frames.Put(buf)
	for i := range f.table.Rows {
		if f.table.Rows[i].Place != format.Held {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := f.stored(uint32(i), buf[:]); err != nil {
			return asCorrupt(err, f.digest, f.digest, f.starts[i])
		}
	}
	return nil
}

// Adopt makes the blob d, which the store has already, one of the batch, as
// putting its content again would without reading that. It checks what Put does
// of known content: every stored byte that d needs, in its donors too. It
// returns ErrNotFound if the store does not have d, or not undamaged: its
// content has to be put then, which heals it.
func (b *Batch) Adopt(ctx context.Context, d Digest) (info Info, err error) {
	w := b.Writer(ctx)
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := b.holds(ctx, d); err != nil {
		return Info{}, err
	}
	f, err := b.s.openFile(d)
	if unsound(err) {
		return Info{}, notSound(d)
	}
	if err != nil {
		return Info{}, err
	}
	defer f.close()
	checked := map[FrameRef]bool{}
	for i := range f.table.Rows {
		if err := context.Cause(ctx); err != nil {
			return Info{}, err
		}
		ok, err := w.frameSound(f, uint32(i), checked)
		if err != nil {
			return Info{}, err
		}
		if !ok {
			return Info{}, notSound(d)
		}
	}
	info = f.info()
	info.Known = true
	b.rely(d)
	b.rely(info.Donors...)
	return info, b.protect(ctx, info)
}
