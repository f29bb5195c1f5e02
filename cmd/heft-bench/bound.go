package main

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/heftstore/heft/internal/chunk"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// bound returns the bits that an order-0 code with free tables would need for a
// file, frame by frame, with the transforms of docs/codec.md: planes, or the
// tokens of differences to base where that is not nil. It counts by itself,
// apart from the codecs that it is compared with. Frames that are no floats
// count as bytes.
func bound(file, base []byte) (bits float64, err error) {
	l, err := chunk.Scan(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return 0, err
	}
	homes := map[string]int64{} // of the base's tensors
	if lb, err := chunk.Scan(bytes.NewReader(base), int64(len(base))); err != nil {
		return 0, err
	} else if lb != nil {
		for _, t := range lb.Tensors {
			homes[t.Name] = t.Offset
		}
	}
	c := chunk.NewCutter(l)
	for at := 0; at < len(file); {
		p := file[at:min(at+format.MaxFrame, len(file))]
		n, span := 0, chunk.Span{}
		for have := 0; n == 0; {
			if have = min(have+c.Room(), len(p)); have == len(p) {
				if n, span = c.Cut(p); n == 0 {
					n, span = len(p), c.Flush(p)
				}
				break
			}
			n, span = c.Cut(p[:have])
		}
		p = p[:n]
		if span.Opaque {
			span.Kind = chunk.Probe(p)
		}
		least := min(planesBound(p, span.Kind), 8*float64(len(p)))
		home, ok := int64(at), base != nil
		if span.Tensor >= 0 {
			home, ok = homes[l.Tensors[span.Tensor].Name]
			home += span.At
		}
		if ok && home+int64(n) <= int64(len(base)) && span.Kind.Elem != codec.Bytes {
			least = min(least, deltaBound(p, base[home:home+int64(n)], span.Kind))
		}
		bits += least
		at += n
	}
	return bits, nil
}

func entropy[K comparable](h map[K]int) (bits float64) {
	total := 0
	for _, n := range h {
		total += n
	}
	for _, n := range h {
		bits -= float64(n) * math.Log2(float64(n)/float64(total))
	}
	return bits
}

// elements calls do with each whole element of p as an unsigned integer.
func elements(p []byte, k codec.Kind, do func(i int, x uint64)) (rest int) {
	w := k.Elem.Width()
	i := 0
	for at := min(k.Lead, len(p)); at+w <= len(p); at += w {
		do(i, element(p[at:], w))
		i++
	}
	return len(p) - i*w
}

func element(p []byte, w int) uint64 {
	switch w {
	case 2:
		return uint64(binary.LittleEndian.Uint16(p))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p))
	case 8:
		return binary.LittleEndian.Uint64(p)
	}
	return uint64(p[0])
}

// mantissa is where the exponent begins.
func mantissa(e codec.Elem) uint {
	return map[codec.Elem]uint{codec.BF16: 7, codec.F16: 10, codec.F32: 23, codec.F64: 52}[e]
}

func planesBound(p []byte, k codec.Kind) (bits float64) {
	if k.Elem == codec.Bytes {
		stride := max(k.Stride, 1)
		planes := make([]map[byte]int, stride)
		for i := range planes {
			planes[i] = map[byte]int{}
		}
		for i, b := range p {
			planes[(i+stride-k.Lead)%stride][b]++
		}
		for _, h := range planes {
			bits += entropy(h)
		}
		return bits
	}
	exponents, rest := map[uint64]int{}, make([]map[byte]int, k.Elem.Width())
	for i := range rest {
		rest[i] = map[byte]int{}
	}
	m, w := mantissa(k.Elem), 8*k.Elem.Width()
	left := elements(p, k, func(_ int, x uint64) {
		sign := x >> (w - 1)
		exponents[x>>m&(1<<(uint(w)-1-m)-1)]++
		// The sign on top of the mantissa, in bytes.
		y := sign<<m | x&(1<<m-1)
		for i := range rest {
			rest[i][byte(y>>(8*i))]++
		}
	})
	bits = entropy(exponents) + 8*float64(left)
	for _, h := range rest {
		bits += entropy(h)
	}
	return bits
}

func deltaBound(p, base []byte, k codec.Kind) float64 {
	m, w := mantissa(k.Elem), uint(8*k.Elem.Width())
	ordered := func(x uint64) uint64 {
		if x>>(w-1) == 1 {
			return ^x & (1<<w - 1)
		}
		return x | 1<<(w-1)
	}
	var bs []uint64
	elements(base, k, func(_ int, x uint64) { bs = append(bs, x) })
	tokens := map[uint64]map[uint64]int{}
	extras := 0.0
	left := elements(p, k, func(i int, x uint64) {
		d := int64((ordered(x)-ordered(bs[i]))<<(64-w)) >> (64 - w)
		z := uint64(d<<1) ^ uint64(d>>63)
		extra := uint(0)
		for z>>extra >= 16 {
			extra++
		}
		extras += float64(extra)
		e := bs[i] >> m & (1<<(w-1-m) - 1)
		if tokens[e] == nil {
			tokens[e] = map[uint64]int{}
		}
		tokens[e][uint64(extra)<<32|z>>extra]++
	})
	bits := extras + 8*float64(left)
	for _, h := range tokens {
		bits += entropy(h)
	}
	return bits
}
