package blob

import (
	"context"
	"errors"
	"slices"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// Detachable says which frames of needed blobs are better held by those, encoded on
// their own: they are all that keeps alive the frames that they are deltas to, or
// borrow.
type Detachable struct {
	Frames map[Digest][]uint32 // by blob, ascending
	Saves  int64               // bytes, about: what is freed less what the frames grow
	Grows  int64               // bytes that they grow, about
}

// maxUses bounds how many frames Detachable looks at, and with that memory: a
// frame takes some 60 bytes. What is beyond waits for another collection.
const maxUses = 1 << 20

// keeper is a held frame of a blob that is needed in part.
type keeper struct {
	stored int64
	share  int64 // of its file's table, which goes with the last frame
	plain  int64
	base   *FrameRef
	above  []*keeper  // those that are deltas to it
	uses   []frameUse // frames of needed blobs that are deltas to it, or borrow it
	stays  bool       // it is needed in another way
}

type frameUse struct {
	blob   Digest
	row    uint32
	stored int64 // 0 when it is borrowed
}

// grows returns how many bytes a use takes more once it does without k. alone is
// what a frame like it takes on its own.
func (k *keeper) grows(u frameUse, alone int64) int64 {
	if u.stored == 0 && k.base == nil {
		return k.stored // the stored bytes move
	}
	return max(alone-u.stored, 0)
}

// keepers are looked for by blob and frame number.
type keepers map[FrameRef]*keeper

// Detachable works out, by m, what is worth a Detach. It reads the frame tables of
// all needed blobs, unless none is needed in part.
func (s *Store) Detachable(ctx context.Context, m *Marks) (Detachable, error) {
	none := Detachable{Frames: map[Digest][]uint32{}}
	ks, err := s.keepers(ctx, m)
	if err != nil || len(ks) == 0 {
		return none, err
	}
	sizes, err := s.users(ctx, m, ks)
	if err != nil {
		return none, err
	}
	var roots []*keeper
	for _, k := range ks {
		if k.base == nil || ks[*k.base] == nil {
			roots = append(roots, k)
		} else {
			ks[*k.base].above = append(ks[*k.base].above, k)
		}
	}
	out := none
	for _, k := range roots {
		alone := k.plain // not known what a frame like it takes
		if k.base == nil {
			alone = k.stored
		}
		k.choose(&out, alone, 0)
	}
	rewritten := int64(0)
	for d := range out.Frames {
		slices.Sort(out.Frames[d])
		rewritten += sizes[d]
	}
	if out.Saves < rewritten/leastGain {
		return Detachable{Frames: map[Digest][]uint32{}}, nil
	}
	return out, nil
}

// leastGain is the part of what has to be written anew that has to be saved by it.
const leastGain = 32

// choose detaches what is based on k, where that saves something, or else on those
// above it. alone is what one of those frames takes on its own, about.
func (k *keeper) choose(out *Detachable, alone int64, level int) {
	if gain, ok := k.gain(alone, level); ok && gain > 0 {
		out.Saves += gain
		k.detach(out, alone, level)
		return
	}
	if level < format.MaxDepth {
		for _, a := range k.above {
			a.choose(out, alone, level+1)
		}
	}
}

// gain returns how many bytes are freed, less what is added, if nothing is based
// on k any more; false if it can't be freed.
func (k *keeper) gain(alone int64, level int) (gain int64, ok bool) {
	if k.stays || level > format.MaxDepth || len(k.uses)+len(k.above) == 0 {
		return 0, false // or somebody needs it who was not seen
	}
	gain = k.stored + k.share
	for _, u := range k.uses {
		gain -= k.grows(u, alone)
	}
	for _, a := range k.above {
		more, ok := a.gain(alone, level+1)
		if !ok {
			return 0, false
		}
		gain += more
	}
	return gain, true
}

func (k *keeper) detach(out *Detachable, alone int64, level int) {
	if level > format.MaxDepth {
		return
	}
	for _, u := range k.uses {
		out.Frames[u.blob] = append(out.Frames[u.blob], u.row)
		out.Grows += k.grows(u, alone)
	}
	for _, a := range k.above {
		a.detach(out, alone, level+1)
	}
}

// keepers lists the frames that are needed of blobs that are needed in part.
func (s *Store) keepers(ctx context.Context, m *Marks) (keepers, error) {
	ks := keepers{}
	err := m.Parts(func(d Digest) (err error) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f, err := s.openFile(d)
		if err != nil {
			return asCorrupt(err, d, d, -1)
		}
		defer func() { err = errors.Join(err, f.close()) }()
		need := m.blobs[d]
		share := (int64(format.HeaderSize+format.FooterSize) + int64(len(f.table.Rows))*format.RowSize) / max(need.len(), 1)
		for i := range f.table.Rows {
			r := &f.table.Rows[i]
			if r.Place != format.Held || !need.has(uint32(i)) || len(ks) >= maxUses {
				continue
			}
			k := &keeper{stored: int64(r.StoredLen), share: share, plain: int64(r.PlainLen)}
			if r.Depth > 0 {
				k.base = new(baseOf(f, r))
				k.stays = r.Codec != codec.Delta
			}
			ks[FrameRef{Blob: d, Frame: uint32(i)}] = k
		}
		return nil
	})
	return ks, err
}

// baseOf returns the frame that a row is decoded with, the first for a cast.
func baseOf(f *file, r *format.Row) FrameRef {
	ref := FrameRef{Blob: f.digest, Frame: r.BaseFrame}
	if r.Depth > 0 && r.Base != format.SelfBase {
		ref.Blob = f.table.Donors[r.Base]
	}
	return ref
}

// users notes which frames of whole blobs need which keepers, and returns the
// stored sizes of those blobs.
func (s *Store) users(ctx context.Context, m *Marks, ks keepers) (map[Digest]int64, error) {
	sizes := map[Digest]int64{}
	uses := 0
	for d, part := range m.blobs {
		if part != nil {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		f, err := s.openFile(d)
		if errors.Is(err, ErrNotFound) || unsound(err) {
			continue // what it needs is marked as a whole
		}
		if err != nil {
			return nil, err
		}
		for i := range f.table.Rows {
			r := &f.table.Rows[i]
			ref := baseOf(f, r)
			switch {
			case r.Place == format.Borrowed:
				ref = FrameRef{Blob: f.table.Donors[r.Donor], Frame: r.Frame}
			case r.Place != format.Held || r.Depth == 0:
				continue
			case r.Codec != codec.Delta:
				for range wideFrames + 1 { // a cast spans frames
					if k := ks[ref]; k != nil {
						k.stays = true
					}
					ref.Frame++
				}
				continue
			}
			k := ks[ref]
			if k == nil {
				continue
			}
			if uses++; uses > maxUses {
				k.stays = true
				continue
			}
			sizes[d] = f.size
			k.uses = append(k.uses, frameUse{d, uint32(i), int64(r.StoredLen)})
		}
		if err := f.close(); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}
