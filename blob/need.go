package blob

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// need is a row of another blob that is needed: the one with the number first,
// and for a cast those behind it, as far as its depth, reach, allows.
type need struct {
	first uint32
	reach uint8 // 0 for one row
}

// needs are rows that are needed, by the blob that has them.
type needs map[Digest][]need

// needed returns the blobs that reading f takes beside itself: its donors, and
// those that their frames are based on in turn. Each one has to be durable with
// f, since whoever put it may not have synced its folder yet. An error that is
// damage, or ErrNotFound, says that f can't be read.
func (w *Writer) needed(f *file) (all []Digest, err error) {
	level := needs{}
	for i := range f.table.Rows {
		f.below(uint32(i), level)
	}
	for range DonorLevels {
		next := needs{}
		for d, rows := range level {
			all = append(all, d)
			if err := w.follow(d, rows, next); err != nil {
				return nil, err
			}
		}
		level = next
	}
	for d := range level {
		return nil, &sumError{fmt.Sprintf("a frame is based on %s, which is one blob too many", d)}
	}
	return all, nil
}

// follow adds to next what rows of the blob d are decoded with.
func (w *Writer) follow(d Digest, rows []need, next needs) error {
	o, err := w.donors.acquire(d)
	if err != nil {
		return err
	}
	defer w.donors.release(o)
	slices.SortFunc(rows, func(a, b need) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.reach, b.reach))
	})
	for _, n := range slices.Compact(rows) {
		if uint64(n.first) >= uint64(len(o.table.Rows)) {
			return &sumError{fmt.Sprintf("there is no frame %d", n.first)}
		}
		if _, ok := o.held(n.first); !ok {
			return &sumError{fmt.Sprintf("frame %d is borrowed in turn", n.first)}
		}
		o.walk(n, uint32(len(o.table.Rows)), next)
	}
	return nil
}

// walk adds to next what the rows that n means are decoded with, of those below
// end.
func (b *file) walk(n need, end uint32, next needs) {
	left := int(n.reach)
	for i := n.first; i < end; i++ {
		held, ok := b.held(i)
		if !ok {
			return
		}
		if n.reach == 0 {
			b.below(held, next)
			return
		}
		if left -= 1 + int(b.table.Rows[held].Depth); left < 0 {
			return
		}
		b.below(held, next)
	}
}

// below adds to next the rows of other blobs that row i is decoded with, and what
// the rows of b take that it is based on.
func (b *file) below(i uint32, next needs) {
	r := &b.table.Rows[i]
	switch {
	case r.Place == format.Borrowed:
		d := Digest(b.table.Donors[r.Donor])
		next[d] = append(next[d], need{first: r.Frame})
	case r.Depth > 0:
		// The rows below have less depth, and in this file they come before it.
		n := need{first: r.BaseFrame, reach: r.Depth}
		if r.Base == format.SelfBase {
			b.walk(n, i, next)
			return
		}
		if r.Codec != codec.Cast {
			n.reach = 0
		}
		d := Digest(b.table.Donors[r.Base])
		next[d] = append(next[d], n)
	}
}
