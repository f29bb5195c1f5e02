package codec

// Planes stores a frame as planes: the bytes at the same place of its elements,
// or of records, together. docs/format.md, "Planes", has the layout.

// whole returns the part of p that holds whole elements of width w after lead
// bytes, and how many there are.
func whole(p []byte, lead, w int) (mid []byte, n int) {
	if lead > len(p) {
		lead = len(p)
	}
	n = (len(p) - lead) / w
	return p[lead : lead+n*w], n
}

// width returns the bytes of an element or a record.
func (k Kind) width() int {
	if k.Elem == Bytes {
		return max(k.Stride, 1)
	}
	return k.Elem.Width()
}

// valid reports whether a frame can be of this kind.
func (k Kind) valid() bool {
	w := k.width()
	return k.Elem <= F64 && w <= MaxStride && k.Lead >= 0 && k.Lead < w
}

// appendHead appends what a decoder has to know of a kind besides its Elem.
func (k Kind) appendHead(b []byte) []byte {
	if k.Elem == Bytes {
		return append(b, byte(k.Lead), byte(k.Lead>>8), byte(k.width()), byte(k.width()>>8))
	}
	return append(b, byte(k.Lead))
}

// parseHead reads what appendHead wrote and returns the rest.
func parseHead(elem uint8, b []byte) (Kind, []byte, error) {
	k := Kind{Elem: Elem(elem)}
	n := 1
	if k.Elem == Bytes {
		n = 4
	}
	if len(b) < n {
		return k, nil, damaged("planes: cut short")
	}
	k.Lead = int(b[0])
	if k.Elem == Bytes {
		k.Lead |= int(b[1]) << 8
		k.Stride = int(b[2]) | int(b[3])<<8
	}
	if !k.valid() || k.Elem == Bytes && k.Stride == 0 {
		return k, nil, damaged("planes: elements of type %d and %d bytes after %d", elem, k.Stride, k.Lead)
	}
	return k, b[n:], nil
}

// appendPlanes appends plain as planes.
func (e *Encoder) appendPlanes(dst, plain []byte, k Kind) []byte {
	mid, n := whole(plain, k.Lead, k.width())
	dst = k.appendHead(dst)
	dst = append(dst, plain[:k.Lead]...)
	dst = append(dst, plain[k.Lead+len(mid):]...)
	planes := e.split(mid, n, k)
	if k.Elem == Bytes && len(planes) > 1 {
		return e.appendColumns(dst, planes, n)
	}
	for _, p := range planes {
		dst = e.appendPlane(dst, p)
	}
	return dst
}

// appendColumns appends the columns of records, each n bytes, which lie behind
// each other. Neighbours that are alike become one plane, with how many they
// are before it: a code table for all of them, and to decode once.
func (e *Encoder) appendColumns(dst []byte, columns [][]byte, n int) []byte {
	const table = 8 * 64 // bits of a code table and of what else a plane begins with
	for at := 0; at < len(columns); {
		var h, next, both [256]uint32
		count(&h, columns[at])
		bits := entropy(h[:])
		to := at + 1
		for ; to < len(columns); to++ {
			count(&next, columns[to])
			for s := range both {
				both[s] = h[s] + next[s]
			}
			joined := entropy(both[:])
			if joined > bits+entropy(next[:])+table {
				break
			}
			h, bits = both, joined
		}
		dst = append(dst, byte(to-at), byte((to-at)>>8))
		dst = e.appendPlane(dst, columns[at][:(to-at)*n])
		at = to
	}
	return dst
}

// block is how many records are taken apart or put together at a time, so that
// they stay in the L1 cache meanwhile.
const block = 128

// gather fills the columns with the bytes of the records of width w.
func gather(columns [][]byte, mid []byte, w int) {
	for from := 0; from < len(columns[0]); from += block {
		for i, c := range columns {
			c = c[from:min(from+block, len(c))]
			for j, at := 0, from*w+i; j < len(c); j, at = j+1, at+w {
				c[j] = mid[at]
			}
		}
	}
}

// scatter is gather's inverse for some columns of n bytes that lie behind each
// other, the first of which is that at at.
func scatter(mid, columns []byte, n, at, w int) {
	for from := 0; from < n; from += block {
		for i := 0; i*n < len(columns); i++ {
			c := columns[i*n+from : i*n+min(from+block, n)]
			for j, at := 0, from*w+at+i; j < len(c); j, at = j+1, at+w {
				mid[at] = c[j]
			}
		}
	}
}

// split parts n elements into planes, which are valid until the next call.
func (e *Encoder) split(mid []byte, n int, k Kind) [][]byte {
	w := k.width()
	if w == 1 {
		return append(e.planes[:0], mid)
	}
	e.grow(len(mid))
	e.planes = e.planes[:0]
	for i := range w {
		e.planes = append(e.planes, e.parts[i*n:(i+1)*n])
	}
	switch k.Elem {
	case BF16, F16:
		split16(e.planes[0], e.planes[1], mid, k.Elem)
	case F32:
		split32((*[8][]byte)(append(e.planes, nil, nil, nil, nil)), mid)
	case F64:
		split64((*[8][]byte)(e.planes), mid)
	default:
		gather(e.planes, mid, w)
	}
	return e.planes
}

// grow makes room for n bytes of parts.
func (e *Encoder) grow(n int) {
	if cap(e.parts) < n {
		e.parts = make([]byte, maxPlane)
	}
	e.parts = e.parts[:n]
}

// decodePlanes fills dst from what appendPlanes wrote.
func (d *Decoder) decodePlanes(dst, src []byte, elem uint8) error {
	k, src, err := parseHead(elem, src)
	if err != nil {
		return err
	}
	if k.Lead > len(dst) {
		return damaged("planes: %d bytes before the first element of %d", k.Lead, len(dst))
	}
	w := k.width()
	mid, n := whole(dst, k.Lead, w)
	ends := len(dst) - len(mid)
	if len(src) < ends {
		return damaged("planes: cut short")
	}
	copy(dst, src[:k.Lead])
	copy(dst[k.Lead+len(mid):], src[k.Lead:ends])
	src = src[ends:]
	if w == 1 {
		p, rest, err := d.plane(mid, src, n)
		if err != nil {
			return err
		}
		copy(mid, p) // nothing if it is there already
		return end(rest)
	}
	if cap(d.parts) < len(mid) {
		d.parts = make([]byte, maxPlane)
	}
	if k.Elem == Bytes {
		return d.columns(mid, src, n, w)
	}
	var planes [8][]byte
	for i := range w {
		p, rest, err := d.plane(d.parts[i*n:(i+1)*n], src, n)
		if err != nil {
			return err
		}
		planes[i], src = p, rest
	}
	switch k.Elem {
	case BF16, F16:
		merge16(mid, planes[0], planes[1], k.Elem)
	case F32:
		merge32(mid, &planes)
	case F64:
		merge64(mid, &planes)
	}
	return end(src)
}

// columns decodes what appendColumns wrote for n records of width w.
func (d *Decoder) columns(mid, src []byte, n, w int) error {
	for at := 0; at < w; {
		if len(src) < 2 {
			return damaged("planes: cut short")
		}
		k := int(src[0]) | int(src[1])<<8
		if k == 0 || k > w-at {
			return damaged("planes: %d columns of %d", k, w-at)
		}
		p, rest, err := d.plane(d.parts[:k*n], src[2:], k*n)
		if err != nil {
			return err
		}
		scatter(mid, p, n, at, w)
		src, at = rest, at+k
	}
	return end(src)
}

// end checks that nothing is left over.
func end(rest []byte) error {
	if len(rest) > 0 {
		return damaged("%d bytes are left over", len(rest))
	}
	return nil
}
