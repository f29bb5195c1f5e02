package chunk

import (
	"math"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// step is how many bytes are added to a frame that is cut by content before
// Cut is asked again: the most that a writer carries over to the next frame.
const step = 64 << 10

// Span is what is known of a frame.
type Span struct {
	// Tensor is the position in Layout.Tensors of the tensor that the frame
	// begins with; -1 when it begins with none.
	Tensor int
	// At is the offset within that tensor of the frame's first byte.
	At int64
	// Kind is that of the frame's bytes. Lead counts from its first byte.
	Kind codec.Kind
	// Opaque says that nothing is known of the frame: Probe may help.
	Opaque bool
}

// Cutter says where the frames of a file end. Two cutters that see the same
// bytes with the same layout and ends cut them alike, however they are fed.
//
// A tensor of 64 KiB or more is cut every format.MaxFrame bytes from its first,
// and its last frame ends with it. Smaller tensors of one kind that follow each
// other share frames of up to 256 KiB, with the gaps of up to 4 KiB between
// them. Everything else is opaque: cut by content, anew in each gap.
//
// A Cutter is not safe for concurrent use. The layout must obey the rules of
// Layout; it and the ends must not change meanwhile.
type Cutter struct {
	tensors []Tensor
	ends    []int64
	next    int   // the first tensor that doesn't begin before at
	at      int64 // offset in the file of the frame's first byte
	have    int   // bytes of the frame that Cut has seen

	seg    segment
	finder finder
	fixed  int // length of the frame where that is known, else 0
}

// NewCutter returns a cutter for a file with the layout l, or one that is cut
// by its content throughout if l is nil.
func NewCutter(l *Layout) *Cutter { return NewCutterAt(l, nil) }

// NewCutterAt returns a cutter that ends opaque frames at the offsets ends,
// the ends of the frames of a similar file in ascending order. It cuts by
// content where the next of them is out of a frame's reach, and behind the last.
func NewCutterAt(l *Layout, ends []int64) *Cutter {
	c := &Cutter{ends: ends}
	if l != nil {
		c.tensors = l.Tensors
	}
	c.begin()
	return c
}

// Room returns how many bytes of the current frame may be added before Cut has
// to be asked, at least 1. A writer that adds no more than that carries over at
// most 64 KiB behind an opaque frame, and nothing behind others.
func (c *Cutter) Room() int {
	n := c.fixed
	if n == 0 {
		n = max(MinContent, c.have+step)
		n = int(min(int64(n), format.MaxFrame, c.seg.end-c.at))
	}
	return max(1, n-c.have)
}

// Cut looks at p, all bytes of the current frame that are there so far, and
// returns how many of them make the frame; 0 when more are needed. The next
// frame begins behind them, with what p holds beyond them; Cut has to be asked
// again until it returns 0. Each byte is looked at once.
func (c *Cutter) Cut(p []byte) (n int, s Span) {
	c.have = len(p)
	switch {
	case c.fixed > 0 && len(p) >= c.fixed:
		n = c.fixed
	case c.fixed == 0:
		limit := min(c.seg.end-c.at, format.MaxFrame)
		q := p[:min(int64(len(p)), limit)]
		if n = c.finder.find(q); n == 0 && int64(len(q)) == limit {
			n = len(q)
		}
	}
	if n == 0 {
		return 0, Span{}
	}
	s = c.span()
	c.have -= n
	c.at += int64(n)
	c.begin()
	return n, s
}

// Flush returns the span of the last frame, p, at the end of the file: what was
// left when Cut returned 0.
func (c *Cutter) Flush(p []byte) Span {
	c.have = len(p)
	return c.span()
}

// begin starts the frame at c.at.
func (c *Cutter) begin() {
	if c.at == c.seg.end {
		c.segment()
	}
	c.finder = finder{}
	c.fixed = 0
	if c.seg.shape != opaque {
		c.fixed = int(min(c.seg.end-c.at, format.MaxFrame))
		return
	}
	for len(c.ends) > 0 && c.ends[0] <= c.at {
		c.ends = c.ends[1:]
	}
	if len(c.ends) > 0 {
		// The end of the stretch comes first, if it does.
		if n := min(c.ends[0], c.seg.end) - c.at; n <= format.MaxFrame {
			c.fixed = int(n)
		}
	}
}

// span describes the frame at c.at.
func (c *Cutter) span() Span {
	g := &c.seg
	if g.shape == opaque {
		return Span{Tensor: -1, Opaque: true}
	}
	s := Span{Tensor: g.tensor, At: c.at - g.start, Kind: g.kind}
	s.Kind.Lead = lead(s.Kind, g.phase-c.at)
	if g.tensor < 0 {
		s.At = 0
	}
	s.Opaque = g.unknown
	return s
}

// shape says how a segment is cut.
type shape uint8

const (
	opaque shape = iota // by content
	run                 // not at all: it is a frame
	big                 // every format.MaxFrame bytes
)

// segment is a part of the file that is cut in one way.
type segment struct {
	shape      shape
	start, end int64
	tensor     int        // that it begins with; -1 if none
	kind       codec.Kind // Lead is of no meaning
	phase      int64      // offset of an element's first byte
	unknown    bool       // nothing is known of the tensor
}

// far is the end of the last segment, which has none.
const far = math.MaxInt64
