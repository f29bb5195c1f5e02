package chunk

import "math"

// plane counts the values of bytes.
type plane [256]uint32

// add sets p to the sum of a and b.
func (p *plane) add(a, b *plane) {
	for i := range p {
		p[i] = a[i] + b[i]
	}
}

// entropy returns the bits that a value takes. The entropy of a sample is too
// low by about (values-1)/(2 ln 2 samples); that is added (Miller 1955).
func (p *plane) entropy() float64 {
	var sum float32
	var n, values uint32
	for _, c := range p {
		if c > 0 {
			n += c
			values++
			sum += float32(c) * log2(c)
		}
	}
	if n == 0 {
		return 0
	}
	h := float64(log2(n)) - float64(sum)/float64(n) + float64(values-1)/(2*math.Ln2*float64(n))
	return max(0, min(h, 8))
}

// log2 returns the logarithm to 0.0003. math.Log2 takes five times as long, and
// Probe calls this some thousand times.
func log2(n uint32) float32 {
	b := math.Float32bits(float32(n))
	e := float32(int32(b>>23) - 127)
	m := math.Float32frombits(b&(1<<23-1)|127<<23) - 1
	// A polynomial through 0 and 1 for log2(1+m).
	return e + m*(1.4416738+m*(-0.7096298+m*(0.4190896+m*(-0.1953066+m*0.0441730))))
}

// within returns which part of the bytes, apart from those of a zero, is
// between low and high without its upper bit. That is a float's sign; the rest
// are the upper bits of its exponent.
func (p *plane) within(low, high int) float64 {
	var in, all uint32
	for i := 1; i < 128; i++ {
		n := p[i] + p[i+128]
		all += n
		if low <= i && i <= high {
			in += n
		}
	}
	return float64(in) / float64(max(all, 1))
}

// within16 returns which part of the bytes are upper bytes of likely fp16
// values: below 512, and tiny ones only where both signs occur, for small
// integers look like tiny values. Upper bytes of zeros don't count.
func (p *plane) within16() float64 {
	var in, all, plus, minus uint32
	for i := range 128 {
		n := p[i] + p[i+128]
		all += n
		switch {
		case i < 4:
			plus += p[i]
			minus += p[i+128]
		case i>>2 <= 15+8:
			in += n
		}
	}
	if in == 0 {
		return 0
	}
	if minus >= (plus+minus)/4 {
		in += plus + minus
	} else {
		all -= p[0] + p[128]
	}
	return float64(in) / float64(max(all, 1))
}

// folded are the planes of elements of one width.
type folded struct {
	planes    []plane
	entropies [8]float64
	bits      float64 // a byte
}

func fold(planes []plane) folded {
	f := folded{planes: planes}
	for i := range planes {
		f.entropies[i] = planes[i].entropy()
		f.bits += f.entropies[i] / float64(len(planes))
	}
	return f
}

// spread returns by how much the entropies of the planes differ.
func (f *folded) spread() float64 {
	low, high := f.entropies[0], f.entropies[0]
	for _, h := range f.entropies[:len(f.planes)] {
		low, high = min(low, h), max(high, h)
	}
	return high - low
}

// lead returns where a record begins: integers are little-endian, so their
// planes are ever more alike, and the entropy rises most where the next begins.
func (f *folded) lead() int {
	w := len(f.planes)
	best, rise := 0, math.Inf(-1)
	for i := range w {
		if r := f.entropies[i] - f.entropies[(i+w-1)%w]; r > rise {
			best, rise = i, r
		}
	}
	return best
}
