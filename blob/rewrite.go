package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// Rewritten is a blob's file written anew, which waits for taking the place of the
// one that it was made of. It is not safe for concurrent use.
type Rewritten struct {
	Digest Digest
	Before int64 // bytes of the file that it is to replace
	Stored int64 // bytes of its own

	s    *Store
	old  *file
	out  output
	need *frameSet // of a thinned file: the frames that it has; else nil
	done bool
}

// Droppable returns how many bytes of the blob d's file nobody needs, by m.
func (s *Store) Droppable(ctx context.Context, d Digest, m *Marks) (bytes int64, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	need := m.blobs[d]
	if need == nil {
		return 0, nil
	}
	f, err := s.openFile(d)
	if err != nil {
		return 0, asCorrupt(err, d, d, -1)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for i := range f.table.Rows {
		if r := &f.table.Rows[i]; r.Place == format.Held && !need.has(uint32(i)) {
			bytes += int64(r.StoredLen)
		}
	}
	return bytes, nil
}

// Thin writes the blob d's file anew with those frames alone that m says are
// needed, under the numbers that they have. The caller replaces the file with it,
// or discards it.
func (s *Store) Thin(ctx context.Context, d Digest, m *Marks) (*Rewritten, error) {
	need := m.blobs[d]
	if need == nil {
		return nil, fmt.Errorf("blob: thinning %s: all of it is needed, or nothing: %w", d, fs.ErrInvalid)
	}
	need = new(slices.Clone(*need))
	return s.rewrite(ctx, d, need, func(w *rewriter, i uint32) error {
		r := &w.old.table.Rows[i]
		if n, ok := w.old.held(i); !ok || !need.has(n) {
			return w.out.add(row{Row: format.Row{Sum: r.Sum, PlainLen: r.PlainLen, Place: format.Dropped}}, nil)
		}
		return w.copyRow(i)
	})
}

// Detach writes the blob d's file anew with the frames held there and encoded on
// their own whose numbers, ascending, are in alone, and the others as they are. The
// caller publishes it, or discards it.
func (s *Store) Detach(ctx context.Context, d Digest, alone []uint32) (*Rewritten, error) {
	return s.rewrite(ctx, d, nil, func(w *rewriter, i uint32) error {
		if _, ok := slices.BinarySearch(alone, i); ok {
			return w.holdRow(i)
		}
		return w.copyRow(i)
	})
}

// rewriter writes a file's frames to another one.
type rewriter struct {
	*Rewritten
	donors donors
	u      unpacker
	enc    *codec.Encoder
	buf    *[format.MaxFrame]byte
	plain  *[format.MaxFrame]byte
	check  *[format.MaxFrame]byte
}

func (s *Store) rewrite(ctx context.Context, d Digest, need *frameSet, each func(*rewriter, uint32) error) (x *Rewritten, err error) {
	s.sweepOnce()
	f, err := s.openFile(d)
	if err != nil {
		return nil, asCorrupt(err, d, d, -1)
	}
	x = &Rewritten{Digest: d, Before: f.size, s: s, old: f, need: need, out: output{s: s, seen: map[Digest]uint32{}, drops: need != nil}}
	w := &rewriter{Rewritten: x, enc: s.encoders.Get().(*codec.Encoder), buf: s.frame(), plain: s.frame(), check: s.frame()}
	w.donors.s = s
	w.u = unpacker{s: s, donors: &w.donors, dec: s.decoder(), buf: w.buf}
	defer func() {
		s.encoders.Put(w.enc)
		s.decoders.Put(w.u.dec)
		s.frames.Put(w.buf)
		s.frames.Put(w.plain)
		s.frames.Put(w.check)
		if err = errors.Join(err, w.donors.close()); err != nil {
			x, err = nil, errors.Join(asCorrupt(err, d, d, -1), x.Discard())
		}
	}()
	for i := range f.table.Rows {
		if err := context.Cause(ctx); err != nil {
			return x, err
		}
		if err := each(w, uint32(i)); err != nil {
			return x, err
		}
	}
	info, err := x.out.end(d, f.plain)
	x.Stored = info.Stored
	return x, err
}

// copyRow copies a row with its stored bytes, which have to pass their checksum.
func (w *rewriter) copyRow(i uint32) error {
	r := row{Row: w.old.table.Rows[i], keys: w.old.keys(i)}
	switch {
	case r.Place == format.Borrowed:
		r.holder = FrameRef{Blob: w.old.table.Donors[r.Donor], Frame: r.Frame}
	case r.Place == format.Held && r.Depth > 0:
		r.base.Frame = r.BaseFrame
		if r.Base != format.SelfBase {
			r.base.Blob = w.old.table.Donors[r.Base]
		}
	}
	if r.Place != format.Held {
		return w.out.add(r, nil)
	}
	stored, err := w.old.stored(i, w.buf[:])
	if err != nil {
		return err
	}
	return w.out.add(r, stored)
}

// holdRow copies the stored bytes of a row, wherever they are, and if they need a
// base decodes them and encodes the frame on its own. What was encoded is decoded
// and compared.
func (w *rewriter) holdRow(i uint32) error {
	from, n, release, err := w.u.holder(w.old, i)
	if err != nil {
		return err
	}
	defer release()
	if held := from.table.Rows[n]; standsAlone(&held) {
		stored, err := from.stored(n, w.buf[:])
		if err != nil {
			return err
		}
		return w.out.add(row{Row: held, keys: from.keys(n)}, stored)
	}
	kind, err := w.kind(from, n)
	if err != nil {
		return err
	}
	plain := w.plain[:w.old.table.Rows[i].PlainLen]
	if _, err := w.u.row(plain, w.old, i); err != nil {
		return err
	}
	spare := w.s.frame()
	defer w.s.frames.Put(spare)
	r := row{Row: format.Row{Sum: w.old.table.Rows[i].Sum, PlainLen: uint32(len(plain))}, keys: from.keys(n)}
	stored, id, param := w.enc.Encode(spare[:0], plain, kind, nil)
	r.hold(stored, id, param)
	check := w.check[:len(plain)]
	if err := w.u.dec.Decode(check, stored, id, param, nil); err != nil {
		return fmt.Errorf("blob: a frame that was just encoded can't be decoded: %w", err)
	}
	if Sum(check) != Digest(r.Sum) {
		return errors.New("blob: a frame that was just encoded decodes to other bytes; this is a bug in heft, and nothing was changed")
	}
	return w.out.add(r, stored)
}

// kind returns what a delta or a cast says of its elements.
func (w *rewriter) kind(f *file, n uint32) (codec.Kind, error) {
	r := &f.table.Rows[n]
	switch r.Codec {
	case codec.Delta:
		stored, err := f.stored(n, w.buf[:])
		if err != nil {
			return codec.Kind{}, err
		}
		return codec.Kind{Elem: codec.Elem(r.Param), Lead: int(stored[0])}, nil
	case codec.Cast:
		if r.Param == 1 {
			return codec.Kind{Elem: codec.F16}, nil
		}
		return codec.Kind{Elem: codec.BF16}, nil
	}
	return codec.Kind{}, nil
}

// Discard removes what was written, unless it took its place.
func (x *Rewritten) Discard() error {
	if x.done {
		return nil
	}
	x.done = true
	return errors.Join(x.out.discard(), x.old.close())
}

// Publish puts what Detach has written in the place of the file that it was made
// of, durably, and reports whether it did: not if that is another file by now. x
// is done with either way.
func (x *Rewritten) Publish(ctx context.Context) (done bool, err error) {
	defer func() { err = errors.Join(err, x.Discard()) }()
	if x.need != nil {
		return false, fmt.Errorf("blob: %s lacks frames, and is for a Collection: %w", x.Digest, fs.ErrInvalid)
	}
	unlock, err := x.s.lockPublish(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return x.replace()
}

// Replace puts what Thin has written in the place of the file that it was made of,
// durably, and reports whether it did: not if that is another file by now, if
// somebody has come to need, by m, a frame that is dropped, if the blob is pinned,
// or if one that may need it has got another file meanwhile. x is done with either way.
func (c *Collection) Replace(ctx context.Context, x *Rewritten, m *Marks) (done bool, err error) {
	defer func() { err = errors.Join(err, x.Discard()) }()
	if _, ok := c.pinned.Blobs[x.Digest]; ok || x.done || x.need == nil || !x.covers(m) {
		return false, nil
	}
	unlock, err := c.s.lockPublish(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if done, err := x.replace(); err != nil || !done {
		return done, err
	}
	// As in Trash: whoever pinned it before may count on what was dropped.
	free, err := c.free(ctx, x.Digest)
	if free && err == nil {
		return true, nil
	}
	return false, errors.Join(err, x.undo())
}

// covers reports whether x has the frames that are needed.
func (x *Rewritten) covers(m *Marks) bool {
	need := m.blobs[x.Digest]
	if need == nil {
		return !m.Needed(x.Digest) // not by anybody any more
	}
	for i := range x.old.table.Rows {
		if need.has(uint32(i)) && !x.need.has(uint32(i)) {
			return false
		}
	}
	return true
}

// replace renames the new file over the old one. The caller holds the lock.
func (x *Rewritten) replace() (bool, error) {
	f, err := x.s.openFile(x.Digest)
	if errors.Is(err, ErrNotFound) || unsound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	same := sameTable(f, x.old)
	if err := f.close(); err != nil || !same {
		return false, err
	}
	return true, x.rename()
}

// rename gives the temporary file the blob's name, durably.
func (x *Rewritten) rename() error {
	if err := x.s.outdateParity(x.Digest, true); err != nil {
		return err
	}
	if err := x.s.fsys.Rename(x.out.name, blobPath(x.Digest)); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	err := x.out.released()
	if err := x.s.fsys.SyncDir(blobDir(x.Digest)); err != nil {
		return fmt.Errorf("blob: syncing the folder %s: %w", blobDir(x.Digest), err)
	}
	return err
}

// undo brings the old file back, which is still open.
func (x *Rewritten) undo() error {
	o, err := x.s.temporary()
	if err != nil {
		return fmt.Errorf("blob: bringing back what was dropped of %s: %w", x.Digest, err)
	}
	x.out = *o
	_, err = io.CopyBuffer(struct{ io.Writer }{x.out.f}, io.NewSectionReader(x.old.f, 0, x.old.size), x.out.buf[:])
	if err == nil {
		err = x.out.f.Sync()
	}
	if err == nil {
		err = x.rename()
	}
	if err != nil {
		return fmt.Errorf("blob: bringing back what was dropped of %s: %w", x.Digest, err)
	}
	return nil
}
