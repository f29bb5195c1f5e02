package blob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"

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
	unseen map[Digest]struct{}  // whole ones whose frame tables could not be read
	blind  []Digest             // those of them of which nothing is known
	lacks  []Digest

	replaced string // when they were begun: see outdateMarks
}

// frameSet is a set of held frames of one blob.
type frameSet []uint64

func (f frameSet) has(i uint32) bool {
	return uint64(i)/64 < uint64(len(f)) && f[i/64]>>(i%64)&1 == 1
}

// len returns how many there are.
func (f frameSet) len() (n int64) {
	for _, w := range f {
		n += int64(bits.OnesCount64(w))
	}
	return n
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
	return &Marks{s: s, donors: donors, blobs: map[Digest]*frameSet{}, unseen: map[Digest]struct{}{}}
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

// Missing returns the blobs that were added and are missing, can't be read, or were
// collected but for some frames.
func (m *Marks) Missing() []Digest { return slices.Collect(maps.Keys(m.unseen)) }

// Again marks blobs that may have been marked before what they need has changed.
func (m *Marks) Again(ctx context.Context, ds ...Digest) error {
	for _, d := range ds {
		delete(m.blobs, d)
		if err := m.Add(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// Refresh looks again for the blobs that were missing, donors too: somebody may have
// put one of them again, so that it needs others.
func (m *Marks) Refresh(ctx context.Context) error {
	unseen := append(m.Missing(), m.lacks...)
	clear(m.unseen)
	m.blind = nil
	return m.Again(ctx, unseen...)
}

// Lacking returns the donors that are missing, can't be read, or lack a frame that
// is needed of them.
func (m *Marks) Lacking() []Digest { return m.lacks }

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
		m.unseen[d] = struct{}{}
		return m.unread(ctx, d, err)
	}
	if f.partial() {
		m.unseen[d] = struct{}{}
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
	if !ok {
		// A file in quarantine can tell, and may come back.
		if donors, ok, err = m.s.donorsAside(d); err != nil {
			return err
		}
	}
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
			ref := baseOf(f, r)
			w := want{frame: ref.Frame}
			if r.Codec != codec.Delta {
				w.bytes = 2 * int(r.PlainLen) // a cast halves floats
			}
			wants[ref.Blob] = append(wants[ref.Blob], w)
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
			m.lacks = append(m.lacks, d)
			if err := m.unread(ctx, d, err); err != nil {
				return err
			}
			continue
		}
		next := map[Digest][]want{}
		for _, w := range ws {
			added, ok := have.addRun(f, w)
			if !ok && !slices.Contains(m.lacks, d) {
				m.lacks = append(m.lacks, d)
			}
			wantsOf(f, added, next)
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

// addRun adds the frames of a file that w means, and returns those that are new, and
// whether all of them are there.
func (f *frameSet) addRun(in *file, w want) (added []uint32, ok bool) {
	if uint64(w.frame) >= uint64(len(in.table.Rows)) {
		return nil, false
	}
	for i, left := w.frame, 1; left > 0 && uint64(i) < uint64(len(in.table.Rows)); i++ {
		n, ok := in.held(i)
		if !ok {
			// Reading will fail, whatever is kept, unless it is the last one of a
			// run that was guessed. It is for verify to tell.
			return added, i > w.frame
		}
		if !f.has(n) {
			f.add(n)
			added = append(added, n)
		}
		size := int(in.table.Rows[n].PlainLen)
		if i == w.frame {
			left = w.bytes // all of them may come after the frame but one
			continue
		}
		left -= size
	}
	return added, true
}
