package codec

import "encoding/binary"

// deltaDecoder keeps what decoding a delta needs.
type deltaDecoder struct {
	head  deltaHead
	class classOf
	// An entry has the token in its low 8 bits, and above how many bits the
	// code takes, for 16-bit elements with the extra bits.
	token [slots][1 << tokenBits]uint16
	run   [classes][1 << tokenBits]uint16
	base  [256]uint32 // of 16-bit elements: a token's least value, and above its extra bits
	src   []byte      // the streams, with room behind them
}

// build fills a table.
func (t *deltaTable) build(e *[1 << tokenBits]uint16, extra func(t uint8) uint) {
	if t.alone {
		for i := range e {
			e[i] = uint16(t.symbol) | uint16(extra(t.symbol))<<8
		}
		return
	}
	var codes [256]code
	t.lengths.codes(&codes)
	for s, c := range codes {
		if c == 0 {
			continue
		}
		v := uint16(s) | uint16(c.len()+extra(uint8(s)))<<8
		for i, step := c.bits(), uint64(1)<<c.len(); i < 1<<tokenBits; i += step {
			e[i] = v
		}
	}
}

// decodeDelta fills dst from what appendDelta wrote for that base, which is as
// long as dst.
func (d *Decoder) decodeDelta(dst, src, base []byte, elem uint8) error {
	if Elem(elem) == Bytes || Elem(elem) > F64 {
		return damaged("delta: elements of type %d", elem)
	}
	if len(base) != len(dst) {
		return damaged("delta: a base of %d bytes for %d", len(base), len(dst))
	}
	k, src, err := parseHead(elem, src)
	if err != nil {
		return err
	}
	f := k.Elem.field()
	mid, n := whole(dst, k.Lead, f.width)
	if ends := len(dst) - len(mid); k.Lead > len(dst) || len(src) < ends {
		return damaged("delta: cut short")
	}
	bmid, _ := whole(base, k.Lead, f.width)
	copy(dst, src[:k.Lead])
	src = src[k.Lead+copy(dst[k.Lead+len(mid):], src[k.Lead:]):]
	if d.delta == nil {
		d.delta = new(deltaDecoder)
	}
	return d.delta.decode(mid, bmid, src, n, &f)
}

func (d *deltaDecoder) decode(mid, base, src []byte, n int, f *field) error {
	src, err := d.head.parse(src, f)
	if err != nil {
		return err
	}
	d.class.set(int(d.head.top))
	fast := f.width == 2 && d.head.quiet == 0 && d.head.shift == 0
	extra := func(uint8) uint { return 0 }
	if fast {
		for t := range d.base {
			b, x := tokenBase(uint8(min(t, 111)), f.mantissa) // 111: of 65535
			d.base[t] = uint32(b) | uint32(x)<<16
		}
		extra = func(t uint8) uint { return uint(d.base[t] >> 16) }
	}
	for c := range classes {
		// A class that should have no element reads as zeros.
		t := &deltaTable{alone: true}
		if d.head.used>>c&1 == 1 {
			t = &d.head.token[c]
		}
		t.build(&d.token[c], extra)
		if d.head.quiet>>c&1 == 1 {
			d.head.run[c].build(&d.run[c], func(uint8) uint { return 0 })
		}
	}
	d.src = append(append(d.src[:0], src...), make([]byte, 16)...)
	var from, at [4]int // first element not decoded, and position in bits
	for i, bytes := 0, 0; i < 4; i++ {
		from[i], _ = quarterOf(n, i)
		at[i] = 8 * bytes
		bytes += d.head.sizes[i]
	}
	if fast {
		if err := d.decode16(mid, base, n, &from, &at, f); err != nil {
			return err
		}
	}
	end := 0
	for i := range 4 {
		_, to := quarterOf(n, i)
		last, err := d.stream(mid[from[i]*f.width:to*f.width], base[from[i]*f.width:to*f.width], at[i], fast, f)
		if err != nil {
			return err
		}
		if end += d.head.sizes[i]; (last+7)/8 != end {
			return damaged("delta: a stream has another length than it says")
		}
	}
	return nil
}

// decode16 decodes most of the four streams side by side: two elements each a
// round, as many as the shortest has.
func (d *deltaDecoder) decode16(mid, base []byte, n int, from, at *[4]int, f *field) error {
	q := (n + 3) / 4
	rounds := (n - min(3*q, n)) / 2
	if rounds == 0 {
		return nil
	}
	var m, b [4][]byte
	for i := range m {
		m[i], b[i] = mid[2*from[i]:2*from[i]+4*rounds], base[2*from[i]:2*from[i]+4*rounds]
	}
	src, limit := d.src, len(d.src)-8
	m0, m1, m2, m3 := m[0], m[1], m[2], m[3]
	b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
	a0, a1, a2, a3 := at[0], at[1], at[2], at[3]
	shift, mask := f.exponent&15, uint16(f.mask)
	for i := 0; i+4 <= 4*rounds; i += 4 {
		if max(a0, a1, a2, a3)>>3 > limit {
			return damaged("delta: a stream is cut short")
		}
		a0 += d.pair(m0[i:i+4:i+4], b0[i:i+4:i+4], binary.LittleEndian.Uint64(src[a0>>3:])>>(a0&7), shift, mask)
		a1 += d.pair(m1[i:i+4:i+4], b1[i:i+4:i+4], binary.LittleEndian.Uint64(src[a1>>3:])>>(a1&7), shift, mask)
		a2 += d.pair(m2[i:i+4:i+4], b2[i:i+4:i+4], binary.LittleEndian.Uint64(src[a2>>3:])>>(a2&7), shift, mask)
		a3 += d.pair(m3[i:i+4:i+4], b3[i:i+4:i+4], binary.LittleEndian.Uint64(src[a3>>3:])>>(a3&7), shift, mask)
	}
	for i, a := range [4]int{a0, a1, a2, a3} {
		at[i] = a
		from[i] += 2 * rounds
	}
	return nil
}

// pair decodes two elements from v, which has at least 57 bits of a stream, and
// returns how many it took: at most 22 each.
func (d *deltaDecoder) pair(m, b []byte, v uint64, shift uint, mask uint16) int {
	w := binary.LittleEndian.Uint32(b)
	x, y := uint16(w), uint16(w>>16)
	e := d.token[d.class[x>>shift&mask]&(slots-1)][v&(1<<tokenBits-1)]
	n := e >> 8
	t := d.base[e&255]
	xn := n - uint16(t>>16)
	z := uint16(t) + uint16(v>>(xn&63))&(1<<(t>>16&15)-1)
	v >>= n & 63
	r := uint32(undo16(x, z))
	e = d.token[d.class[y>>shift&mask]&(slots-1)][v&(1<<tokenBits-1)]
	n2 := e >> 8
	t = d.base[e&255]
	xn = n2 - uint16(t>>16)
	z = uint16(t) + uint16(v>>(xn&63))&(1<<(t>>16&15)-1)
	binary.LittleEndian.PutUint32(m, r|uint32(undo16(y, z))<<16)
	return int(n) + int(n2)
}

// undo16 returns the element whose difference16 to b is z.
func undo16(b, z uint16) uint16 {
	b ^= uint16(int16(b)>>15) | 0x8000
	y := b + (z>>1 ^ -(z & 1))
	return y ^ (uint16(^int16(y)>>15) | 0x8000)
}

// stream decodes any elements of one stream, from the bit at on, and returns
// the bit behind them.
func (d *deltaDecoder) stream(mid, base []byte, at int, fast bool, f *field) (int, error) {
	down := 64 - uint(8*f.width) + uint(d.head.shift)
	var zeros [classes]int64
	for c := range zeros {
		zeros[c] = -1
	}
	limit := 8 * (len(d.src) - 16)
	for i := 0; i < len(mid); i += f.width {
		if at > limit {
			return 0, damaged("delta: a stream is cut short")
		}
		c := d.class[f.exp(base[i:])]
		var z uint64
		quiet := d.head.quiet>>c&1 == 1
		if quiet && zeros[c] < 0 {
			var r uint64
			r, at = d.value(&d.run[c], at, false, 3)
			zeros[c] = int64(r & (1<<62 - 1))
		}
		if quiet {
			zeros[c]--
		}
		if !quiet || zeros[c] < 0 {
			z, at = d.value(&d.token[c], at, fast, f.mantissa)
		}
		f.store(mid[i:], (f.ordered(base[i:])>>down+(z>>1^-(z&1)))<<down, down)
	}
	return at, nil
}

// value reads a token and its extra bits.
func (d *deltaDecoder) value(table *[1 << tokenBits]uint16, at int, fast bool, mantissa uint) (uint64, int) {
	e := table[peek(d.src, at)&(1<<tokenBits-1)]
	base, extra := tokenBase(uint8(e), mantissa)
	n := int(e >> 8)
	if fast {
		n -= int(d.base[e&255] >> 16)
	}
	at += n
	low := min(extra, 32)
	z := peek(d.src, at) & (1<<low - 1)
	at += int(low)
	if extra > 32 {
		z |= peek(d.src, at) & (1<<(extra-32) - 1) << 32
		at += int(extra - 32)
	}
	return base + z, at
}
