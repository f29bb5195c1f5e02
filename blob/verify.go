package blob

import (
	"context"
	"errors"

	"github.com/heftstore/heft/internal/format"
)

// VerifyOptions changes how VerifyWith works. A nil *VerifyOptions, like its zero
// value, is the default throughout.
type VerifyOptions struct {
	// Workers is how many frames are decoded at once; 0, and all above it, is
	// what the Store has. Each takes up to 8 MiB.
	Workers int

	// Whole says that a blob of which a collection has left some frames only is
	// ErrNotFound. The zero value verifies those frames.
	Whole bool

	// Progress hears how many plain bytes were read and checked since it was
	// called last. Its error ends the verification, and is returned. nil hears
	// nothing.
	Progress func(bytes int64) error
}

// Verify reads a whole blob and checks every byte of it, its donors' frames
// included; of a partial one the frames that it has. It returns nil, ErrNotFound,
// a *CorruptError, or an error of reading.
func (s *Store) Verify(ctx context.Context, d Digest) error { return s.VerifyWith(ctx, d, nil) }

// VerifyWith is Verify with options.
func (s *Store) VerifyWith(ctx context.Context, d Digest, o *VerifyOptions) (err error) {
	f, err := s.openFile(d)
	if err != nil {
		return asCorrupt(err, d, d, -1)
	}
	r := newReader(s, f)
	defer func() { err = errors.Join(err, r.Close()) }()
	w := contextWriter{ctx: ctx}
	if o != nil {
		w.progress = o.Progress
		if o.Workers > 0 {
			r.workers = min(r.workers, o.Workers)
		}
	}
	if f.partial() {
		if o != nil && o.Whole {
			return errPartial(d)
		}
		return r.verifyHeld(w)
	}
	_, err = r.WriteTo(w)
	return err
}

// verifyHeld decodes and checks the frames that the file itself has, for w.
func (r *Reader) verifyHeld(w contextWriter) error {
	plain, dec, buf := r.s.frame(), r.s.decoder(), r.s.frame()
	defer func() {
		r.s.frames.Put(plain)
		r.s.decoders.Put(dec)
		r.s.frames.Put(buf)
	}()
	for i := range r.f.table.Rows {
		row := &r.f.table.Rows[i]
		if row.Place != format.Held {
			continue
		}
		if err := r.decode(plain[:row.PlainLen], i, dec, buf); err != nil {
			return err
		}
		if _, err := w.Write(plain[:row.PlainLen]); err != nil {
			return err
		}
	}
	return nil
}

// contextWriter discards what it counts, until its context ends.
type contextWriter struct {
	ctx      context.Context
	progress func(int64) error // may be nil
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	if w.progress != nil {
		if err := w.progress(int64(len(p))); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
