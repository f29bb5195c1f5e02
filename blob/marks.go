package blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// Marks says which blobs are needed: those that were added, as a whole, and of
// those that they borrow from the frames that reading them takes. It holds some
// 80 bytes for a blob, and a bit for each frame of those that are needed in part.
// It is not safe for concurrent use.
type Marks struct {
	s      *Store
	donors func(context.Context, Digest) ([]Digest, bool)
	blobs  map[Digest]*frameSet // nil for a whole blob
	blind  []Digest
}

// frameSet is a set of held frames of one blob.
type frameSet []uint64

func (f frameSet) has(i uint32) bool {
	return uint64(i)/64 < uint64(len(f)) && f[i/64]>>(i%64)&1 == 1
}

func (f *frameSet) add(i uint32) {
	for uint64(i)/64 >= uint64(len(*f)) {
		*f = append(*f, 0)
	}
	(*f)[i/64] |= 1 << (i % 64)
}

// Marks returns empty Marks. donors tells which blobs one needed when it was
// registered, if that is known: it is asked for those whose frame table can't be
// read.
func (s *Store) Marks(donors func(context.Context, Digest) ([]Digest, bool)) *Marks {
	return &Marks{s: s, donors: donors, blobs: map[Digest]*frameSet{}}
}

// Whole reports whether the blob d is needed as a whole.
func (m *Marks) Whole(d Digest) bool {
	f, ok := m.blobs[d]
	return ok && f == nil
}

// Needed reports whether any of the blob d is needed.
func (m *Marks) Needed(d Digest) bool {
	_, ok := m.blobs[d]
	return ok
}

// Parts calls fn for each blob of which some frames are needed only.
func (m *Marks) Parts(fn func(Digest) error) error {
	for d, f := range m.blobs {
		if f != nil {
			if err := fn(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unreadable returns the blobs whose frame tables can't be read, and of which
// nobody knows what they need. As long as there are any nothing may be removed.
func (m *Marks) Unreadable() []Digest { return m.blind }

// Add marks a blob, and what it needs. A blob that is missing needs nothing but
// what is known of it. After an error the Marks are of no use.
func (m *Marks) Add(ctx context.Context, d Digest) error {
	if m.Whole(d) {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	m.blobs[d] = nil
	f, err := m.s.openFile(d)
	if err != nil {
		return m.unread(ctx, d, err)
	}
	all := make([]uint32, len(f.table.Rows))
	for i := range all {
		all[i] = uint32(i)
	}
	wants := wantsOf(f, all, map[Digest][]want{})
	if err := f.close(); err != nil {
		return err
	}
	return m.follow(ctx, wants, 0)
}

// unread marks what the index knows of the blob d, whose file can't be opened.
func (m *Marks) unread(ctx context.Context, d Digest, err error) error {
	missing := errors.Is(err, ErrNotFound)
	if !missing && !unsound(err) {
		return fmt.Errorf("blob: working out what %s needs: %w", d, err)
	}
	donors, ok := m.donors(ctx, d)
	if !ok && !missing {
		m.blind = append(m.blind, d)
	}
	for _, donor := range donors {
		if err := m.Add(ctx, donor); err != nil {
			return err
		}
	}
	return nil
}

// want is a frame that another one is read with, or, for a cast, the frame that
// the bytes of its base begin in.
type want struct {
	frame uint32
	bytes int // that have to follow in the plain content, for a cast
}

// wantsOf adds to wants what the rows of f with those numbers need, by the blob
// that has it; f's own frames too.
func wantsOf(f *file, rows []uint32, wants map[Digest][]want) map[Digest][]want {
	for _, i := range rows {
		r := &f.table.Rows[i]
		switch {
		case r.Place == format.Borrowed:
			d := Digest(f.table.Donors[r.Donor])
			wants[d] = append(wants[d], want{frame: r.Frame})
		case r.Place == format.Repeated:
			wants[f.digest] = append(wants[f.digest], want{frame: r.Frame})
		case r.Place == format.Held && r.Depth > 0:
			d := f.digest
			if r.Base != format.SelfBase {
				d = Digest(f.table.Donors[r.Base])
			}
			w := want{frame: r.BaseFrame}
			if r.Codec != codec.Delta {
				w.bytes = 2 * int(r.PlainLen) // a cast halves floats
			}
			wants[d] = append(wants[d], w)
		}
	}
	return wants
}

// follow marks frames, and what they need in turn. level bounds how far: what is
// farther away no reader would follow.
func (m *Marks) follow(ctx context.Context, wants map[Digest][]want, level int) error {
	if level > DonorLevels {
		return nil
	}
	for d, ws := range wants {
		have, ok := m.blobs[d]
		if ok && have == nil {
			continue
		}
		if !ok {
			have = new(frameSet)
			m.blobs[d] = have
		}
		f, err := m.s.openFile(d)
		if err != nil {
			m.blobs[d] = nil // which of its frames can't be told
			if err := m.unread(ctx, d, err); err != nil {
				return err
			}
			continue
		}
		next := map[Digest][]want{}
		for _, w := range ws {
			wantsOf(f, have.addRun(f, w), next)
		}
		if err := f.close(); err != nil {
			return err
		}
		if err := m.follow(ctx, next, level+1); err != nil {
			return err
		}
	}
	return nil
}

// addRun adds the frames of f that w means, and returns those that are new.
func (s *frameSet) addRun(f *file, w want) (added []uint32) {
	for i, left := w.frame, 1; left > 0 && uint64(i) < uint64(len(f.table.Rows)); i++ {
		n, ok := f.held(i)
		if !ok {
			// Reading will fail, whatever is kept. It is for verify to tell.
			return added
		}
		if !s.has(n) {
			s.add(n)
			added = append(added, n)
		}
		size := int(f.table.Rows[n].PlainLen)
		if i == w.frame {
			left = w.bytes // all of them may come after the frame but one
			continue
		}
		left -= size
	}
	return added
}
