package registry

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/heftstore/heft/blob"
)

// bucket is arrays of each version that may have the same content.
type bucket struct{ a, b []*array }

// peek is how much of a tensor is looked at before all of it is hashed: what
// differs nearly always does so there, and a frame is decoded anyway.
const peek = 4 << 10

// renamed returns which of the added arrays has the dtype, shape and content of
// each of the removed ones. It reads of an array only as much as it takes to
// tell it from those of the other version with the same dtype and shape.
func (d *differ) renamed(ctx context.Context, removed, added []*array) (map[*array]*array, error) {
	found := map[*array]*array{}
	likes, err := split(bucket{removed, added}, func(_ *side, a *array) (string, error) {
		return fmt.Sprint(a.whole, a.Size, a.DType, a.Shape == nil, a.Shape), nil
	}, d)
	if err != nil {
		return nil, err
	}
	for _, like := range likes {
		rest, err := d.sameFrames(ctx, like, found)
		if err != nil {
			return nil, err
		}
		begins, err := split(rest, func(s *side, a *array) (blob.Digest, error) { return s.peek(ctx, a) }, d)
		if err != nil {
			return nil, err
		}
		for _, begin := range begins {
			equal, err := split(begin, func(s *side, a *array) (blob.Digest, error) { return s.digest(ctx, a) }, d)
			if err != nil {
				return nil, err
			}
			for _, e := range equal {
				e.pair(found)
			}
		}
	}
	return found, nil
}

// split parts a bucket by a key of its arrays. Parts that only one version has
// are left out; the others are in the order of their first array.
func split[K comparable](all bucket, key func(*side, *array) (K, error), d *differ) ([]bucket, error) {
	if len(all.a) == 0 || len(all.b) == 0 {
		return nil, nil
	}
	parts := map[K]*bucket{}
	var order []*bucket
	for _, x := range all.a {
		k, err := key(d.a, x)
		if err != nil {
			return nil, err
		}
		if parts[k] == nil {
			parts[k] = new(bucket)
			order = append(order, parts[k])
		}
		parts[k].a = append(parts[k].a, x)
	}
	for _, y := range all.b {
		k, err := key(d.b, y)
		if err != nil {
			return nil, err
		}
		if p := parts[k]; p != nil {
			p.b = append(p.b, y)
		}
	}
	var both []bucket
	for _, p := range order {
		if len(p.b) > 0 {
			both = append(both, *p)
		}
	}
	return both, nil
}

// sameFrames pairs the arrays that are made of the same whole frames, or whose
// digests are known, and returns the others.
func (d *differ) sameFrames(ctx context.Context, like bucket, found map[*array]*array) (rest bucket, err error) {
	equal, err := split(like, func(s *side, a *array) (blob.Digest, error) { return s.signature(ctx, a) }, d)
	if err != nil {
		return rest, err
	}
	taken := map[*array]bool{}
	for _, e := range equal {
		if sum, err := d.a.signature(ctx, e.a[0]); err != nil || sum.IsZero() {
			continue // that of no signature
		}
		e.pair(found)
	}
	for _, x := range like.a {
		if y := found[x]; y != nil {
			taken[y] = true
		} else {
			rest.a = append(rest.a, x)
		}
	}
	for _, y := range like.b {
		if !taken[y] {
			rest.b = append(rest.b, y)
		}
	}
	return rest, nil
}

// maxAlike is how many arrays of the same content are looked through for the
// one with the most similar name.
const maxAlike = 64

// pair makes pairs of arrays with the same content: those whose names end alike.
func (b bucket) pair(found map[*array]*array) {
	left := b.b
	for _, x := range b.a {
		if len(left) == 0 {
			return
		}
		best, most := 0, -1
		for i, y := range left[:min(len(left), maxAlike)] {
			if n := ending(x.Name, y.Name); n > most {
				best, most = i, n
			}
		}
		found[x] = left[best]
		left = append(left[:best:best], left[best+1:]...)
	}
}

// ending returns how many bytes a and b have in common at their end.
func ending(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// signature returns a digest that only arrays of the same content have,
// without reading any: of the digests of its frames. It is zero for an array
// that isn't made of whole frames.
func (s *side) signature(ctx context.Context, a *array) (blob.Digest, error) {
	if !a.Digest.IsZero() {
		return a.Digest, nil
	}
	f, err := s.openFile(ctx, a.file)
	if err != nil {
		return blob.Digest{}, err
	}
	i, at := f.frameAt(a.Offset), a.Offset
	var text []byte
	for end := a.Offset + a.Size; at < end; i++ {
		if f.starts[i] != at {
			return blob.Digest{}, nil
		}
		text = append(text, f.frames[i].Digest[:]...)
		text = binary.LittleEndian.AppendUint64(text, uint64(f.frames[i].Size))
		at += f.frames[i].Size
		if at > end {
			return blob.Digest{}, nil
		}
	}
	return blob.Sum(text), nil
}

// peek returns the digest of the array's beginning.
func (s *side) peek(ctx context.Context, a *array) (blob.Digest, error) {
	if a.whole {
		return a.Digest, nil
	}
	f, err := s.openFile(ctx, a.file)
	if err != nil {
		return blob.Digest{}, err
	}
	return f.hash(ctx, a.Offset, min(a.Size, peek))
}
