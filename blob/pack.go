package blob

import (
	"io"

	"github.com/heftstore/heft/internal/chunk"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// packer turns frames into rows and stored bytes. It is not safe for concurrent
// use; each worker has one.
type packer struct {
	w    *Writer
	enc  *codec.Encoder
	dec  *codec.Decoder
	buf  *[format.MaxFrame]byte // stored bytes of other frames
	base *[format.MaxFrame]byte // of a candidate; nil until there is one
}

// pack looks a frame up and encodes it if it is new.
func (p *packer) pack(j *writeJob) {
	w, plain := p.w, j.plain[:j.n]
	j.row.PlainLen = uint32(j.n)
	if ref, sum, ok := w.same(j.num, plain, p.buf); ok {
		j.row.Sum, j.row.Place, j.row.holder = sum, format.Borrowed, ref
		return
	}
	j.row.Sum = blake3.Sum256(plain)
	if ref, ok := p.relatives(j, plain); ok {
		j.row.Place, j.row.holder = format.Borrowed, ref
		return
	}
	if ref, ok := w.known(j.num, &j.row.Row, plain, p.buf); ok {
		j.row.Place, j.row.holder = format.Borrowed, ref
		return
	}
	if j.probe && w.s.opts.Compression == Auto {
		j.kind = chunk.Probe(plain)
	}
	j.row.kind = j.kind
	if j.wide.known() && p.cast(j, plain) {
		return
	}
	var base []byte
	var ref FrameRef
	var depth int
	if j.base.rel != nil && j.kind.Elem != codec.Bytes {
		base, ref, depth = p.decodeBase(j.base)
	}
	p.encode(j, base)
	if j.row.Codec == codec.Delta {
		j.row.Depth, j.row.base = uint8(depth+1), ref
	}
}

// relatives reports whether the frame is the very one at its place in a
// relative.
func (p *packer) relatives(j *writeJob, plain []byte) (FrameRef, bool) {
	if j.base.rel == nil || Digest(j.base.rel.table.Rows[j.base.frame].Sum) != Digest(j.row.Sum) {
		return FrameRef{}, false
	}
	return p.w.lent(FrameRef{Blob: j.base.rel.digest, Frame: uint32(j.base.frame)}, &j.row.Row, plain, p.buf)
}

// decodeBase returns the plain bytes of a candidate, the frame that holds them
// and its depth; nil if they can't be had, or are too deep already.
func (p *packer) decodeBase(c candidate) (plain []byte, holder FrameRef, depth int) {
	u := unpacker{s: p.w.s, donors: &p.w.donors, dec: p.dec, buf: p.buf}
	f, release, err := u.open(c.rel.digest)
	if err != nil {
		return nil, holder, 0
	}
	defer release()
	if c.frame >= len(f.table.Rows) {
		return nil, holder, 0 // healed meanwhile
	}
	from, n, done, err := u.holder(f, uint32(c.frame))
	if err != nil {
		return nil, holder, 0
	}
	defer done()
	if depth = int(from.table.Rows[n].Depth); depth >= format.MaxDepth {
		return nil, holder, 0
	}
	if p.base == nil {
		p.base = p.w.s.frame()
	}
	plain = p.base[:f.table.Rows[c.frame].PlainLen]
	if _, err := u.row(plain, f, uint32(c.frame)); err != nil {
		return nil, holder, 0
	}
	return plain, FrameRef{Blob: from.digest, Frame: n}, depth
}

// encode encodes the frame, with base if that is not nil.
func (p *packer) encode(j *writeJob, base []byte) {
	var spare []byte
	if p.w.s.opts.Compression != None {
		if j.spare == nil {
			j.spare = p.w.s.frame()
		}
		spare = j.spare[:0]
	}
	stored, id, param := p.enc.Encode(spare, j.plain[:j.n], j.kind, base)
	j.stored = stored
	j.row.hold(stored, id, param)
}

// minCast is the shortest frame that is a cast, in bytes. A cast takes 4, and no
// frame may take more than it has.
const minCast = 64

// cast encodes the frame as the cast of wider floats, if it is one.
func (p *packer) cast(j *writeJob, plain []byte) bool {
	if len(plain) < minCast {
		return false
	}
	buf := p.w.s.wide.Get().(*[wideFrames * format.MaxFrame]byte)
	defer p.w.s.wide.Put(buf)
	wide := buf[:2*len(plain)]
	var skip uint32
	if j.wide.self {
		// The rows are not known yet: sink finds them.
		if p.w.src == nil {
			return false
		}
		if n, err := p.w.src.ReadAt(wide, j.wideAt); n < len(wide) || err != nil && err != io.EOF {
			return false
		}
		// They must have what was read now: a file may change meanwhile.
		for at := 0; at < len(wide); at += format.MaxFrame {
			j.sums = append(j.sums, Sum(wide[at:min(at+format.MaxFrame, len(wide))]))
		}
	} else {
		ref, at, depth, ok := p.wideBase(buf, j.wide.rel, j.wideAt, len(wide))
		if !ok {
			return false
		}
		wide, skip = buf[at:at+len(wide)], uint32(at)
		j.row.base, j.row.Depth = ref, depth
	}
	if j.spare == nil {
		j.spare = p.w.s.frame()
	}
	stored, param, ok := p.enc.EncodeCast(j.spare[:0], plain, wide, skip)
	if !ok {
		j.row.base, j.row.Depth = FrameRef{}, 0
		return false
	}
	j.stored, j.self = stored, j.wide.self
	j.row.hold(stored, codec.Cast, param)
	return true
}

// wideBase decodes the rows of a relative that have n bytes from the offset off
// on, which are to be held one behind the other by one file. It returns the
// first one, where in it the bytes begin, and the depth of what is based on
// them.
func (p *packer) wideBase(buf *[wideFrames * format.MaxFrame]byte, r *relative, off int64, n int) (first FrameRef, at int, depth uint8, ok bool) {
	u := unpacker{s: p.w.s, donors: &p.w.donors, dec: p.dec, buf: p.buf}
	f, release, err := u.open(r.digest)
	if err != nil || off < 0 {
		return first, 0, 0, false
	}
	defer release()
	i := rowAt(r.starts, off)
	at = int(off - r.starts[i])
	end, reach := 0, 0
	for k := 0; end < at+n; k++ {
		if i+k >= len(f.table.Rows) {
			return first, 0, 0, false
		}
		size := int(f.table.Rows[i+k].PlainLen)
		if size > len(buf)-end {
			return first, 0, 0, false
		}
		from, m, done, err := u.holder(f, uint32(i+k))
		if err != nil {
			return first, 0, 0, false
		}
		ref := FrameRef{Blob: from.digest, Frame: m}
		reach += 1 + int(from.table.Rows[m].Depth)
		done()
		if k == 0 {
			first = ref
		}
		if ref.Blob != first.Blob || ref.Frame != first.Frame+uint32(k) || reach > format.MaxDepth {
			return first, 0, 0, false
		}
		if _, err := u.row(buf[end:end+size], f, uint32(i+k)); err != nil {
			return first, 0, 0, false
		}
		end += size
	}
	return first, at, uint8(reach), true
}

// castBase points a cast of this file's own bytes at the rows that have them,
// and reports whether a reader can be sent there. Both tensors have frames of
// their own, so that no row has only a part of those bytes.
func (o *output) castBase(j *writeJob, c *donors) bool {
	i, at := 0, int64(0)
	for ; i < len(o.rows) && at < j.wideAt; i++ {
		at += int64(o.rows[i].PlainLen)
	}
	reach := 0
	var first FrameRef
	for k, sum := range j.sums {
		if i+k >= len(o.rows) || Digest(o.rows[i+k].Sum) != sum {
			return false
		}
		ref, depth, ok := o.held(i+k, c)
		reach += 1 + depth
		if k == 0 {
			first = ref
		}
		if !ok || ref.Blob != first.Blob || ref.Frame != first.Frame+uint32(k) || reach > format.MaxDepth {
			return false
		}
	}
	j.row.base, j.row.Depth = first, uint8(reach)
	return true
}

// held returns the frame that holds row i, with a zero Blob for this file, and
// its depth.
func (o *output) held(i int, c *donors) (ref FrameRef, depth int, ok bool) {
	r := &o.rows[i]
	switch r.Place {
	case format.Repeated:
		return FrameRef{Frame: r.Frame}, int(o.rows[r.Frame].Depth), true
	case format.Held:
		return FrameRef{Frame: uint32(i)}, int(r.Depth), true
	}
	d, err := c.acquire(r.holder.Blob)
	if err != nil {
		return ref, 0, false
	}
	defer c.release(d)
	n, err := d.lends(r.holder.Frame, &r.Row)
	if err != nil {
		return ref, 0, false
	}
	return FrameRef{Blob: r.holder.Blob, Frame: n}, int(d.table.Rows[n].Depth), true
}
