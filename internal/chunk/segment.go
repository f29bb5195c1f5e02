package chunk

import "github.com/heftstore/heft/internal/codec"

// The rules by which tensors make segments.
const (
	// minBig is the least size of a tensor with frames of its own.
	minBig = 64 << 10
	// maxRun is the longest frame that small tensors share: what a reader of
	// one of them decodes.
	maxRun = 256 << 10
	// maxGap is the longest gap between small tensors that their frames
	// cover: local headers of archives, at most some 100 bytes a member
	// besides its alignment to 64.
	maxGap = 4 << 10
	// maxPadding is the longest alignment that is taken for padding between a
	// big tensor and small ones: GGUF's default is 32, PyTorch's 64.
	maxPadding = 64
)

// segment sets c.seg to the segment that begins at c.at.
func (c *Cutter) segment() {
	was := c.seg.shape
	c.pass()
	if c.next == len(c.tensors) {
		c.seg = segment{start: c.at, end: far, tensor: -1}
		return
	}
	t := &c.tensors[c.next]
	gap := t.Offset - c.at
	joins := gap == 0
	if t.Size < minBig {
		joins = joins || was == run && gap <= maxGap || was == big && gap <= maxPadding
	}
	switch {
	case !joins:
		c.seg = segment{start: c.at, end: t.Offset, tensor: -1}
	case t.Size >= minBig:
		c.seg = segment{
			shape: big, start: c.at, end: t.Offset + t.Size, tensor: c.next,
			kind: t.Kind, phase: t.Offset + int64(t.Kind.Lead), unknown: unknown(t),
		}
		c.next++
	default:
		c.run()
	}
}

// pass passes over the tensors that begin before c.at, and empty ones.
func (c *Cutter) pass() {
	for c.next < len(c.tensors) {
		t := &c.tensors[c.next]
		if t.Size > 0 && t.Offset >= c.at {
			return
		}
		c.next++
	}
}

// run sets c.seg to a frame of small tensors, from the next one on.
func (c *Cutter) run() {
	t := &c.tensors[c.next]
	g := segment{shape: run, start: c.at, end: t.Offset, tensor: -1, unknown: true}
	if t.Offset == c.at {
		g.tensor = c.next
	}
	for ; c.next < len(c.tensors); c.next++ {
		t := &c.tensors[c.next]
		if t.Size == 0 {
			continue
		}
		gap := t.Offset - g.end
		if t.Size >= minBig {
			if 0 < gap && gap <= maxPadding {
				g.end = t.Offset // or it would be a frame of its own
			}
			break
		}
		if gap > maxGap || g.end > g.start && t.Offset+t.Size-g.start > maxRun || !g.fits(t) {
			break
		}
		if g.unknown && !unknown(t) {
			g.kind, g.phase, g.unknown = t.Kind, t.Offset+int64(t.Kind.Lead), false
		}
		g.end = t.Offset + t.Size
	}
	c.seg = g
}

// fits reports whether t may share the frame. One of which nothing is known
// fits any.
func (g *segment) fits(t *Tensor) bool {
	if g.unknown || unknown(t) {
		return true
	}
	return t.Kind.Elem == g.kind.Elem && t.Kind.Stride == g.kind.Stride &&
		lead(t.Kind, t.Offset+int64(t.Kind.Lead)-g.phase) == 0
}

// unknown reports whether all that is known of t is that it is one.
func unknown(t *Tensor) bool { return t.DType == "" && t.Kind == codec.Kind{} }

// lead returns distance modulo the length of k's elements or records.
func lead(k codec.Kind, distance int64) int {
	w := int64(max(k.Elem.Width(), k.Stride, 1))
	return int((distance%w + w) % w)
}
