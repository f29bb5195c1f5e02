package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
)

// How a plane, a string of like bytes, is stored: docs/format.md, "Planes".
const (
	planeRaw     = 0 // as it is
	planeOne     = 1 // one byte, repeated
	planeHuffman = 2 // code lengths and four streams
	planeRuns    = 3 // runs of the most frequent byte, and the others
)

// minHuffman is the shortest plane that is worth a code table.
const minHuffman = 64

// maxPlane is the longest plane: a frame.
const maxPlane = 1 << 20

// count adds up how often each byte occurs. Four tables keep equal bytes next
// to each other from waiting for one another.
func count(h *[256]uint32, p []byte) {
	var t [4][256]uint32
	for len(p) >= 8 {
		w := binary.LittleEndian.Uint64(p)
		t[0][byte(w)]++
		t[1][byte(w>>8)]++
		t[2][byte(w>>16)]++
		t[3][byte(w>>24)]++
		t[0][byte(w>>32)]++
		t[1][byte(w>>40)]++
		t[2][byte(w>>48)]++
		t[3][byte(w>>56)]++
		p = p[8:]
	}
	for _, b := range p {
		t[0][b]++
	}
	for i := range h {
		h[i] = t[0][i] + t[1][i] + t[2][i] + t[3][i]
	}
}

// entropy returns the least bits that an order-0 code needs for these counts,
// to about one in ten thousand.
func entropy(counts []uint32) float64 {
	t := logs()
	var total uint32
	var sum float64
	for _, c := range counts {
		if c > 0 {
			total += c
			sum += float64(c) * t.of(c)
		}
	}
	if total == 0 {
		return 0
	}
	return float64(total)*t.of(total) - sum
}

// logTable has logarithms to base 2.
type logTable [1 << 12]float64

var logs = sync.OnceValue(func() *logTable {
	t := new(logTable)
	for i := range t {
		t[i] = math.Log2(float64(i))
	}
	return t
})

// of returns the logarithm of c, which is not 0, cut to 12 bits.
func (t *logTable) of(c uint32) float64 {
	s := max(bits.Len32(c), 12) - 12
	return t[c>>s&(1<<12-1)] + float64(s)
}

// sampled is how many elements a guess about a frame or a plane looks at.
const sampled = 4096

// noise reports whether a sample of p says that no order-0 code shrinks it by
// a hundredth, which spares counting all of it.
func noise(p []byte) bool {
	if len(p) < 4*sampled {
		return false
	}
	var h [256]uint32
	const stretch = 64
	step := len(p) / (sampled / stretch)
	for at := 0; at+stretch <= len(p); at += step {
		for _, b := range p[at : at+stretch] {
			h[b]++
		}
	}
	// The entropy of a sample is too low by 255/(2 n ln 2) bits a byte
	// (Miller 1955).
	const bias = 255 / (2 * math.Ln2)
	return entropy(h[:])+bias > 7.92*sampled
}

// appendPlane appends p, at most maxPlane bytes, in the shortest of the ways.
// dst needs room for len(p)+32 bytes more, or it is grown.
func (e *Encoder) appendPlane(dst, p []byte) []byte {
	raw := func() []byte { return append(append(dst, planeRaw), p...) }
	if len(p) == 0 || noise(p) {
		return raw()
	}
	var h [256]uint32
	count(&h, p)
	top := 0
	for s, c := range h {
		if c > h[top] {
			top = s
		}
	}
	if int(h[top]) == len(p) {
		return append(dst, planeOne, p[0])
	}
	if len(p) < minHuffman {
		return raw()
	}
	start := len(dst)
	limit := len(p) - len(p)/128
	// Below about one bit a symbol a prefix code loses to its whole bits.
	if uint64(h[top])*100 > uint64(len(p))*58 {
		dst = e.appendRuns(append(dst, planeRuns), p, byte(top), int(h[top]))
	} else {
		dst = e.appendHuffman(append(dst, planeHuffman), p, &h)
	}
	if len(dst)-start > limit {
		dst = dst[:start]
		return raw()
	}
	return dst
}

// appendHuffman appends code lengths, the lengths of the four streams and the
// streams.
func (e *Encoder) appendHuffman(dst, p []byte, h *[256]uint32) []byte {
	var l lengths
	makeLengths(&l, h, maxBits)
	var t [256]code
	l.codes(&t)
	dst = l.append(dst)
	dst = room(dst, int(l.cost(h)/8)+12+4+16)
	sizes := len(dst)
	dst = append(dst, make([]byte, 12)...)
	if e.pairs == nil {
		e.pairs = new(pairs)
	}
	few := e.pairs.set(&t, len(p))
	for i := range 4 {
		at := len(dst)
		if few {
			dst = e.pairs.encode(dst, quarter(p, i), &t)
		} else {
			dst = encodeHuffman(dst, quarter(p, i), &t, 0, 0)
		}
		put24(dst[sizes+3*i:], len(dst)-at)
	}
	return dst
}

// quarter returns the i-th of the four parts of p; the last one may be shorter.
func quarter[T any](p []T, i int) []T {
	n := (len(p) + 3) / 4
	return p[min(i*n, len(p)):min((i+1)*n, len(p))]
}

// room returns dst with the capacity for n bytes more.
func room(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, 2*len(dst)+n), dst...)
}

func put24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }
func get24(b []byte) int    { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// appendRuns appends p as runs of the byte top: the lengths of the runs before
// each other byte, a plane, and the other bytes, another.
func (e *Encoder) appendRuns(dst, p []byte, top byte, tops int) []byte {
	runs, others := make([]byte, 0, len(p)-tops+tops/255), make([]byte, 0, len(p)-tops)
	pattern := uint64(top) * ones
	run := 0
	for i := 0; i < len(p); {
		if i+8 <= len(p) {
			w := binary.LittleEndian.Uint64(p[i:]) ^ pattern
			n := bits.TrailingZeros64(w) / 8
			run += n
			if i += n; n == 8 {
				continue
			}
		} else if p[i] == top {
			run++
			i++
			continue
		}
		for ; run >= 255; run -= 255 {
			runs = append(runs, 255)
		}
		runs, others = append(runs, byte(run)), append(others, p[i])
		run = 0
		i++
	}
	dst = append(dst, top, 0, 0, 0, 0, 0, 0)
	put24(dst[len(dst)-6:], len(runs))
	put24(dst[len(dst)-3:], len(others))
	for _, part := range [...][]byte{runs, others} {
		var h [256]uint32
		count(&h, part)
		switch most := maxCount(&h); {
		case len(part) > 0 && most == len(part):
			dst = append(dst, planeOne, part[0])
		case len(part) < minHuffman || entropy(h[:]) > 7.9*float64(len(part)):
			dst = append(append(dst, planeRaw), part...)
		default:
			dst = e.appendHuffman(append(dst, planeHuffman), part, &h)
		}
	}
	return dst
}

func maxCount(h *[256]uint32) int {
	most := uint32(0)
	for _, c := range h {
		most = max(most, c)
	}
	return int(most)
}

// plane decodes the plane of n bytes, at most maxPlane, that begins src and
// returns it with what follows. It aliases src if it is stored as it is, else
// it is in buf, which must be as long.
func (d *Decoder) plane(buf, src []byte, n int) (p, rest []byte, err error) {
	if len(src) == 0 {
		return nil, nil, damaged("plane: cut short")
	}
	mode, src := src[0], src[1:]
	p = buf[:n]
	switch mode {
	case planeRaw:
		if len(src) < n {
			return nil, nil, damaged("plane: %d bytes of %d", len(src), n)
		}
		return src[:n], src[n:], nil
	case planeOne:
		if len(src) == 0 {
			return nil, nil, damaged("plane: cut short")
		}
		fill(p, src[0])
		return p, src[1:], nil
	case planeHuffman:
		rest, err = d.huffman(p, src)
		return p, rest, err
	case planeRuns:
		rest, err = d.runs(p, src)
		return p, rest, err
	}
	return nil, nil, damaged("plane: unknown mode %d", mode)
}

// fill sets all of p to b.
func fill(p []byte, b byte) {
	if len(p) == 0 {
		return
	}
	p[0] = b
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// smallPlane is up to which a table with one symbol an entry is faster, since
// it is quicker to build (10 against 25 microseconds).
const smallPlane = 16 << 10

// huffman decodes what appendHuffman wrote.
func (d *Decoder) huffman(p, src []byte) ([]byte, error) {
	var l lengths
	src, err := parseLengths(&l, src, maxBits)
	if err != nil {
		return nil, err
	}
	if len(src) < 12 {
		return nil, damaged("huffman: cut short")
	}
	var ends [5]int
	for i := range 4 {
		ends[i+1] = ends[i] + get24(src[3*i:])
	}
	if src = src[12:]; ends[4] > len(src) {
		return nil, damaged("huffman: streams of %d bytes, %d are there", ends[4], len(src))
	}
	most := 4
	if len(p) < smallPlane {
		most = 1
	}
	d.multi.build(&l, most)
	for i := 0; i < 4; i += 2 {
		at, bt, err := d.multi.decode2(quarter(p, i), quarter(p, i+1), src, ends[i]*8, ends[i+1]*8)
		if err != nil {
			return nil, err
		}
		if (at+7)/8 != ends[i+1] || (bt+7)/8 != ends[i+2] {
			return nil, damaged("huffman: a stream has another length than it says")
		}
	}
	return src[ends[4]:], nil
}

// runs decodes what appendRuns wrote.
func (d *Decoder) runs(p, src []byte) ([]byte, error) {
	if len(src) < 7 {
		return nil, damaged("runs: cut short")
	}
	top, nruns, nothers := src[0], get24(src[1:]), get24(src[4:])
	// Each run but those of 255 has one of the other bytes behind it.
	if nothers > len(p) || nruns > nothers+len(p)/255 {
		return nil, damaged("runs: %d runs and %d bytes for %d", nruns, nothers, len(p))
	}
	if cap(d.scratch) < nruns+nothers {
		d.scratch = make([]byte, nruns+nothers)
	}
	buf := d.scratch[:nruns+nothers]
	src = src[7:]
	var parts [2][]byte
	for i, n := range [2]int{nruns, nothers} {
		if len(src) > 0 && src[0] == planeRuns {
			return nil, damaged("runs: of runs")
		}
		var err error
		if parts[i], src, err = d.plane(buf, src, n); err != nil {
			return nil, err
		}
		buf = buf[n:]
	}
	fill(p, top)
	others, at := parts[1], 0
	for _, r := range parts[0] {
		at += int(r)
		if r == 255 {
			continue
		}
		if at >= len(p) || len(others) == 0 {
			return nil, damaged("runs: beyond the end")
		}
		p[at] = others[0]
		others = others[1:]
		at++
	}
	if len(others) > 0 || at > len(p) {
		return nil, damaged("runs: bytes are left over")
	}
	return src, nil
}
