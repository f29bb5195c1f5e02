package registry

import (
	"context"
	"sync"
)

// pair is two arrays of the same size in open files.
type pair struct {
	a, b *framed
	x, y *array
	bufs *[2][]byte
}

// span is a range of bytes of both arrays.
type span struct{ from, to int64 }

// unequal returns the ranges in which the arrays may differ, as far as their
// frames tell, ascending, in whole elements of that width. The arrays' size is
// a multiple of it.
func (p *pair) unequal(width int64) []span {
	var rest []span
	var equal span // grows until a frame is missing
	done := int64(0)
	cut := func() {
		from, to := (equal.from+width-1)/width*width, equal.to/width*width
		if from >= to {
			return
		}
		if from > done {
			rest = append(rest, span{done, from})
		}
		done = to
	}
	p.common(func(s span) {
		if s.from > equal.to {
			cut()
			equal = s
		}
		equal.to = s.to
	})
	cut()
	if done < p.x.Size {
		rest = append(rest, span{done, p.x.Size})
	}
	return rest
}

// common calls fn with each range, ascending, that one frame covers in both
// arrays, which has the same bytes at the same place in both.
func (p *pair) common(fn func(span)) {
	size := p.x.Size
	if size == 0 {
		return
	}
	i, j := p.a.frameAt(p.x.Offset), p.b.frameAt(p.y.Offset)
	for i < len(p.a.frames) && j < len(p.b.frames) {
		f, g := &p.a.frames[i], &p.b.frames[j]
		at, bt := p.a.starts[i]-p.x.Offset, p.b.starts[j]-p.y.Offset
		if at >= size || bt >= size {
			return
		}
		if at == bt && f.Size == g.Size && f.Digest == g.Digest {
			fn(span{max(at, 0), min(at+f.Size, size)})
		}
		end, other := at+f.Size, bt+g.Size
		if end <= other {
			i++
		}
		if other <= end {
			j++
		}
	}
}

// read calls fn with the bytes of the range in both arrays, piece by piece, in
// whole elements of that width.
func (p *pair) read(ctx context.Context, s span, width int, fn func(a, b []byte)) error {
	piece := int64(len(p.bufs[0]) / width * width)
	for at := s.from; at < s.to; at += piece {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(piece, s.to-at)
		a, b := p.bufs[0][:n], p.bufs[1][:n]
		var errA error
		var wg sync.WaitGroup
		wg.Go(func() { errA = p.a.full(a, p.x.Offset+at) })
		err := p.b.full(b, p.y.Offset+at)
		wg.Wait()
		if errA != nil {
			return errA
		}
		if err != nil {
			return err
		}
		fn(a, b)
	}
	return nil
}
