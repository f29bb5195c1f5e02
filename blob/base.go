package blob

import (
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/heftstore/heft/internal/chunk"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// relative is a stored blob that frames may be deltas to.
type relative struct {
	digest  Digest
	size    int64
	table   *format.Table
	starts  []int64          // plain offset of each row
	tensors map[string]int64 // plain offset of each tensor, by tensorKey
}

// tensorKey is the same for two states of one tensor.
func tensorKey(t *chunk.Tensor) string {
	key := append([]byte(t.Name), 0)
	key = append(append(key, t.DType...), 0)
	for _, n := range t.Shape {
		key = append(strconv.AppendUint(key, n, 10), ',')
	}
	return string(strconv.AppendInt(key, t.Size, 10))
}

// at returns the number of the row that begins at the plain offset off.
func (r *relative) at(off int64) (int, bool) { return slices.BinarySearch(r.starts, off) }

// relatives are what a Batch has looked at, so that several files of a version
// read the tables of their relatives once.
type relatives struct {
	hold func(context.Context, ...Digest) error // pins a blob before it is looked at

	mu   sync.Mutex
	seen map[Digest]*relative // nil for one that can't be read
	size int                  // rows and tensors in all
}

// maxRelatives bounds how many are kept, maxEntries their rows and tensors, and
// with that memory: a row takes 100 bytes, a tensor some 150.
const (
	maxRelatives = 256
	maxEntries   = 1 << 19
)

// get returns the blob d, or nil if it can't be had: then it is no relative.
func (c *relatives) get(ctx context.Context, s *Store, d Digest) *relative {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.seen[d]; ok {
		return r
	}
	if c.seen == nil || len(c.seen) >= maxRelatives || c.size > maxEntries {
		c.seen, c.size = map[Digest]*relative{}, 0
	}
	err := c.hold(ctx, d)
	var r *relative
	if err == nil {
		r, err = s.relative(ctx, d)
	}
	if err != nil {
		s.opts.Logger.Debug("no relative", "blob", d.String(), "error", err)
		r = nil
	}
	if ctx.Err() == nil {
		c.seen[d] = r
		if r != nil {
			c.size += len(r.starts) + len(r.tensors)
		}
	}
	return r
}

func (c *relatives) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.size = nil, 0
}

func (s *Store) relative(ctx context.Context, d Digest) (r *relative, err error) {
	b, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	l, err := chunk.Scan(b, b.Size())
	if err != nil {
		return nil, err
	}
	r = &relative{digest: d, size: b.Size(), table: b.f.table, starts: b.f.starts, tensors: map[string]int64{}}
	if l != nil {
		for i := range l.Tensors {
			r.tensors[tensorKey(&l.Tensors[i])] = l.Tensors[i].Offset
		}
	}
	return r, nil
}

// home is where an earlier state of a tensor begins, or the wide floats that it
// may be the cast of.
type home struct {
	rel   *relative // nil for none, or for this very blob
	start int64     // plain offset
	self  bool      // in the blob that is being written
}

// known reports whether there is one.
func (h home) known() bool { return h.self || h.rel != nil }

// kin is what a Writer knows of the blobs that its content may be like.
type kin struct {
	ctx    context.Context
	s      *Store
	cache  *relatives
	like   []Digest // likeliest first; the first is an earlier state of the same file
	drafts func(key uint64) (FrameRef, bool)

	tensor int  // that like and cast belong to; -1 for none
	base   home // of the tensor
	wide   home
	self   map[uint64]int64 // keys of casts of this blob's own tensors: where they begin
}

// enter makes the tensor t, number n, which begins with p, the current one and
// returns the keys of its sketch.
func (k *kin) enter(n int, t *chunk.Tensor, p []byte) (keys []uint64) {
	k.tensor, k.base, k.wide = n, home{}, home{}
	want := tensorKey(t)
	for _, d := range k.like {
		if r := k.cache.get(k.ctx, k.s, d); r != nil {
			if start, ok := r.tensors[want]; ok {
				k.base = home{rel: r, start: start}
				break
			}
		}
	}
	if t.Kind.Elem == codec.Bytes || t.Kind.Lead != 0 || t.Size < minSketch {
		return nil
	}
	sk := sketch(p, t.Kind.Elem, t.Size)
	if sk == [format.SketchKeys]uint64{} {
		return nil
	}
	keys = sk[:]
	like := keys
	switch t.Kind.Elem {
	case codec.F32:
		like = keys[:likeKeys]
		for _, key := range keys[likeKeys:] {
			if _, ok := k.self[key]; !ok {
				k.self[key] = t.Offset
			}
		}
	case codec.BF16, codec.F16:
		key := castKey(p, t.Kind.Elem, t.Size, 2, binary.LittleEndian.Uint16)
		if start, ok := k.self[key]; ok {
			k.wide = home{start: start, self: true}
		} else {
			k.wide = k.find([]uint64{key}, nil)
		}
	}
	if k.base.rel == nil {
		k.base = k.find(like, func(r *relative, frame int) float64 { return k.bits(r, frame, t, p) })
	}
	return keys
}

// maxCandidates bounds how many bases are decoded to choose among.
const maxCandidates = 4

// find returns the tensor that shares one of the keys, with several the one
// that rank gives the least.
func (k *kin) find(keys []uint64, rank func(*relative, int) float64) (best home) {
	var refs []FrameRef
	for _, key := range keys {
		if ref, ok := k.drafts(key); ok && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	if k.s.opts.Similar != nil {
		for _, ref := range k.s.opts.Similar(k.ctx, keys) {
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	refs = refs[:min(len(refs), maxCandidates)]
	least := 0.0
	for _, ref := range refs {
		r := k.cache.get(k.ctx, k.s, ref.Blob)
		if r == nil || uint64(ref.Frame) >= uint64(len(r.starts)) {
			continue
		}
		h := home{rel: r, start: r.starts[ref.Frame]}
		if rank == nil || len(refs) == 1 { // ranking decodes a frame
			return h
		}
		if bits := rank(r, int(ref.Frame)); best.rel == nil || bits < least {
			best, least = h, bits
		}
	}
	return best
}

// bits predicts what p would take as a delta to a frame.
func (k *kin) bits(r *relative, frame int, t *chunk.Tensor, p []byte) float64 {
	base := make([]byte, r.table.Rows[frame].PlainLen)
	b, err := k.s.Open(k.ctx, r.digest)
	if err == nil {
		_, err = b.ReadAt(base, r.starts[frame])
		_ = b.Close() // it was only read
	}
	if err != nil && err != io.EOF {
		return 8 * float64(len(p))
	}
	e := k.s.encoders.Get().(*codec.Encoder)
	defer k.s.encoders.Put(e)
	return e.PredictDelta(p, base, t.Kind)
}

// candidate is the frame of a relative that may be the base of another.
type candidate struct {
	rel   *relative // nil for none
	frame int
}

// frameBase returns the frame that is at the same place as n bytes at the
// offset at of the current tensor, or of the file if there is none.
func (k *kin) frameBase(span chunk.Span, at int64, n int) candidate {
	r, off := k.base.rel, k.base.start+span.At
	if span.Tensor < 0 {
		if len(k.like) == 0 {
			return candidate{}
		}
		r, off = k.cache.get(k.ctx, k.s, k.like[0]), at
	}
	if r == nil {
		return candidate{}
	}
	i, ok := r.at(off)
	if !ok || int(r.table.Rows[i].PlainLen) != n {
		return candidate{}
	}
	return candidate{r, i}
}
