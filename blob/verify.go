package blob

import (
	"context"
	"errors"
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
	if f.partial() && o != nil && o.Whole {
		return errPartial(d)
	}
	if f.partial() {
		return r.verifyHeld(ctx)
	}
	w := contextWriter{ctx: ctx}
	if o != nil {
		w.progress = o.Progress
		if o.Workers > 0 {
			r.workers = min(r.workers, o.Workers)
		}
	}
	_, err = r.WriteTo(w)
	return err
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
