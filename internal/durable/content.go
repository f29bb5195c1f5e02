package durable

import "slices"

// chunkSize is the unit in which the bytes of a file in memory are allocated:
// large enough that the table of chunks costs nothing (24 bytes a chunk), small
// enough that growing a file by appending never copies more than this.
const chunkSize = 64 << 10

// maxContent bounds a file in memory, in bytes (256 GiB), so that one write at
// an absurd offset can't allocate an absurd table of chunks: it is 128 MiB here.
const maxContent = 1 << 38

// content is the bytes of a file, in chunks. Where a chunk is shorter than
// chunkSize or missing, the bytes up to size are zeros. The zero value is an
// empty file. Clones share chunks until one side writes.
type content struct {
	chunks []chunk
	size   int64
}

type chunk struct {
	b      []byte
	shared bool // another content may use b's array: copy before writing
}

// clone returns an equal content. It writes to c, so c needs to be locked.
func (c *content) clone() content {
	for i := range c.chunks {
		c.chunks[i].shared = true
	}
	return content{chunks: slices.Clone(c.chunks), size: c.size}
}

// readAt fills p from off on and returns how many bytes there were.
func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for rest := p; len(rest) > 0; {
		i, at := int(off/chunkSize), int(off%chunkSize)
		part := rest[:min(len(rest), chunkSize-at)]
		n := 0
		if i < len(c.chunks) && at < len(c.chunks[i].b) {
			n = copy(part, c.chunks[i].b[at:])
		}
		clear(part[n:])
		rest, off = rest[len(part):], off+int64(len(part))
	}
	return len(p)
}

// writeAt stores p at off, which with len(p) must not exceed maxContent.
func (c *content) writeAt(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.size = max(c.size, off+int64(len(p)))
	for len(p) > 0 {
		i, at := int(off/chunkSize), int(off%chunkSize)
		part := p[:min(len(p), chunkSize-at)]
		if i >= len(c.chunks) {
			c.chunks = append(c.chunks, make([]chunk, i+1-len(c.chunks))...)
		}
		c.chunks[i].reserve(at + len(part))
		copy(c.chunks[i].b[at:], part)
		p, off = p[len(part):], off+int64(len(part))
	}
}

// reserve makes k writable and at least n bytes long.
func (k *chunk) reserve(n int) {
	if k.shared || n > cap(k.b) {
		size := max(n, len(k.b))
		// Doubling, but not for the first write: most small files are written
		// at once and never grow.
		if len(k.b) > 0 && n > cap(k.b) {
			size = min(max(size, 2*cap(k.b)), chunkSize)
		}
		b := make([]byte, len(k.b), size)
		copy(b, k.b)
		k.b, k.shared = b, false
	}
	if old := len(k.b); n > old {
		k.b = k.b[:n]
		clear(k.b[old:]) // a truncation may have left bytes there
	}
}

// truncate sets the size, which must be from 0 to maxContent.
func (c *content) truncate(size int64) {
	if size < c.size {
		keep := int((size + chunkSize - 1) / chunkSize)
		if keep < len(c.chunks) {
			clear(c.chunks[keep:]) // let go of the memory
			c.chunks = c.chunks[:keep]
		}
		if at := int(size % chunkSize); at > 0 && keep <= len(c.chunks) {
			k := &c.chunks[keep-1]
			k.b = k.b[:min(at, len(k.b))]
		}
	}
	c.size = size
}
