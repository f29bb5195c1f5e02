package codec

import "encoding/binary"

// deltaDecoder keeps what decoding a delta needs.
type deltaDecoder struct {
	head  deltaHead
	class classOf // for streams16 shifted up by tokenBits
	// By the class and the next bits of a stream: a token in the low 8 bits, in
	// the next 8 how many bits its code takes, above how many that and the extra
	// bits take. For streams16 the token's least difference is in the low 16
	// bits, and in four the code's. The entries of the last slot are zero, for
	// classes that should have no elements.
	token [slots << tokenBits]uint32
	run   [slots << tokenBits]uint32
	base  [256]uint64 // the tokens' least differences
	runs  [256]uint32 // and of runs
	src   []byte      // the streams, with room behind them
}

// padding is how much room is behind the streams.
const padding = 24

// build fills a table, with what entry returns for a token and its code's bits.
func (t *deltaTable) build(e []uint32, entry func(t uint8, n uint) uint32) {
	e = e[:1<<tokenBits]
	if t.alone {
		v := entry(t.symbol, 0)
		for i := range e {
			e[i] = v
		}
		return
	}
	var codes [256]code
	t.lengths.codes(&codes)
	for s, c := range codes {
		if c == 0 {
			continue
		}
		v := entry(uint8(s), c.len())
		for i, step := int(c.bits()), 1<<c.len(); i < len(e); i += step {
			e[i] = v
		}
	}
}

// decodeDelta fills dst from what appendDelta wrote for that base, which is as
// long as dst and does not overlap it.
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

// decode fills mid from the rest of a delta: first with differences, then with
// the elements.
func (d *deltaDecoder) decode(mid, base, src []byte, n int, f *field) error {
	src, err := d.head.parse(src, f)
	if err != nil {
		return err
	}
	d.src = append(append(d.src[:0], src...), make([]byte, padding)...)
	var begin, end [4]int // of the streams, in bits and in bytes
	for i, at := 0, 0; i < 4; i++ {
		begin[i] = 8 * at
		at += d.head.sizes[i]
		end[i] = at
	}
	switch d.tables(f); {
	case f.width == 2 && d.head.quiet == 0:
		d.streams16(mid, base, n, &begin, f.exponent)
	case f.width == 2:
		err = streams[uint16](d, mid, base, n, &begin, f)
	case f.width == 4:
		err = streams[uint32](d, mid, base, n, &begin, f)
	default:
		err = streams[uint64](d, mid, base, n, &begin, f)
	}
	if err != nil {
		return err
	}
	for i, at := range begin {
		if (at+7)/8 != end[i] {
			return damaged("delta: a stream has another length than it says")
		}
	}
	switch shift := uint(d.head.shift); {
	case f.width == 2 && shift == 0:
		add16(mid, base)
	case f.width == 2:
		add[uint16](mid, base, shift)
	case f.width == 4 && shift == 0:
		add32(mid, base)
	case f.width == 4:
		add[uint32](mid, base, shift)
	default:
		add[uint64](mid, base, shift)
	}
	return nil
}

// tables fills the tables from the head.
func (d *deltaDecoder) tables(f *field) {
	plain := func(mantissa uint) func(uint8, uint) uint32 {
		return func(t uint8, n uint) uint32 {
			_, extra := tokenBase(t, mantissa)
			return uint32(t) | uint32(n)<<8 | uint32(n+extra)<<16
		}
	}
	up, entry, run := 0, plain(f.mantissa), plain(runMantissa)
	if f.width == 2 && d.head.quiet == 0 {
		up = tokenBits
		entry = func(t uint8, n uint) uint32 {
			base, extra := tokenBase(t, f.mantissa)
			return uint32(base) | uint32(n)<<16 | uint32(n+extra)<<20
		}
	}
	for t := range d.base {
		d.base[t], _ = tokenBase(uint8(t), f.mantissa)
		r, _ := tokenBase(min(uint8(t), lastRun), runMantissa)
		d.runs[t] = uint32(r)
	}
	d.class.set(f, int(d.head.top), 0)
	for e, c := range d.class[:max(int(f.mask)+1, 256)] {
		if d.head.used>>c&1 == 0 {
			c = slots - 1
		}
		d.class[e] = c << up
	}
	for c := range classes {
		if d.head.used>>c&1 == 1 {
			d.head.token[c].build(d.token[c<<tokenBits:], entry)
		}
		if d.head.quiet>>c&1 == 1 {
			d.head.run[c].build(d.run[c<<tokenBits:], run)
		} else if d.head.quiet != 0 || f.width > 2 {
			clear(d.run[c<<tokenBits : (c+1)<<tokenBits])
		}
	}
}

// streams16 decodes the differences of 16-bit elements without quiet classes,
// two streams side by side, and sets at to the bits behind them. Where they are
// cut short those lie beyond their end.
func (d *deltaDecoder) streams16(mid, base []byte, n int, at *[4]int, shift uint) {
	q := (n + 3) / 4
	each := (n - min(3*q, n)) &^ 1 // as many as the shortest has, in pairs
	for i := 0; i < 4; i += 2 {
		from, next := i*q, (i+1)*q
		if each > 0 {
			a, b := 2*from, 2*next
			at[i], at[i+1] = d.pairs16(mid[a:a+2*each], mid[b:b+2*each], base[a:a+2*each], base[b:b+2*each], at[i], at[i+1], shift)
		}
		for k := range 2 {
			from, to := quarterOf(n, i+k)
			from = min(from+each, to)
			at[i+k] = d.rest16(mid[2*from:2*to], base[2*from:2*to], at[i+k], shift)
		}
	}
}

// pairs16 decodes a stream for m and one for n, two elements of each a round.
func (d *deltaDecoder) pairs16(m, n, base, nase []byte, at, bt int, shift uint) (int, int) {
	src := d.src
	limit := len(src) - 8
	n, base, nase = n[:len(m)], base[:len(m)], nase[:len(m)]
	shift &= 15
	for i := 0; i+4 <= len(m) && at>>3 <= limit && bt>>3 <= limit; i += 4 {
		v := binary.LittleEndian.Uint64(src[at>>3:at>>3+8]) >> (at & 7)
		w := binary.LittleEndian.Uint64(src[bt>>3:bt>>3+8]) >> (bt & 7)
		x, y := binary.LittleEndian.Uint32(base[i:i+4:i+4])>>shift, binary.LittleEndian.Uint32(nase[i:i+4:i+4])>>shift
		// At most 22 bits each, of the 57 that are there.
		e := d.token[(uint64(d.class[x&255])|v&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		g := d.token[(uint64(d.class[y&255])|w&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		ze := e + uint32(v&(1<<(e>>20&63)-1)>>(e>>16&15))
		zg := g + uint32(w&(1<<(g>>20&63)-1)>>(g>>16&15))
		at, bt = at+int(e>>20), bt+int(g>>20)
		v, w = v>>(e>>20&63), w>>(g>>20&63)
		e = d.token[(uint64(d.class[x>>16&255])|v&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		g = d.token[(uint64(d.class[y>>16&255])|w&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		binary.LittleEndian.PutUint32(m[i:i+4:i+4], ze&0xffff|(e+uint32(v&(1<<(e>>20&63)-1)>>(e>>16&15)))<<16)
		binary.LittleEndian.PutUint32(n[i:i+4:i+4], zg&0xffff|(g+uint32(w&(1<<(g>>20&63)-1)>>(g>>16&15)))<<16)
		at, bt = at+int(e>>20), bt+int(g>>20)
	}
	return at, bt
}

// rest16 decodes the last elements of a stream.
func (d *deltaDecoder) rest16(m, base []byte, at int, shift uint) int {
	for i := range len(m) / 2 {
		v := peek(d.src, at)
		e := d.token[(uint64(d.class[load[uint16](base[2*i:])>>shift&255])|v&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		store(m[2*i:], uint16(e)+uint16(v&(1<<(e>>20&63)-1)>>(e>>16&15)))
		at += int(e >> 20)
	}
	return at
}

// streams is streams16 for any elements.
func streams[T word](d *deltaDecoder, mid, base []byte, n int, at *[4]int, f *field) (err error) {
	w, q := f.width, (n+3)/4
	each := 0
	if d.head.quiet == 0 {
		each = n - min(3*q, n)
	}
	for i := 0; i < 4; i += 2 {
		if each > 0 {
			a, b := i*q*w, (i+1)*q*w
			at[i], at[i+1] = abreast[T](d, mid[a:a+each*w], mid[b:b+each*w], base[a:a+each*w], base[b:b+each*w], at[i], at[i+1], f)
		}
		for k := i; k < i+2; k++ {
			from, to := quarterOf(n, k)
			from = min(from+each, to)
			if at[k], err = unstream[T](d, mid[from*w:to*w], base[from*w:to*w], at[k], f); err != nil {
				return err
			}
		}
	}
	return nil
}

// abreast decodes a stream for m and one for n, without quiet classes, an element
// of each a round. It stops where they are cut short.
func abreast[T word](d *deltaDecoder, m, n, base, nase []byte, at, bt int, f *field) (int, int) {
	src, limit := d.src, 8*(len(d.src)-padding)
	shift, mask, w := f.exponent&63, f.mask&2047, int(bitsOf[T]()/8)
	n, base, nase = n[:len(m)], base[:len(m)], nase[:len(m)]
	for i := 0; i+w <= len(m) && at <= limit && bt <= limit; i += w {
		x, y := d.class[uint64(load[T](base[i:i+w:i+w]))>>shift&mask], d.class[uint64(load[T](nase[i:i+w:i+w]))>>shift&mask]
		v := binary.LittleEndian.Uint64(src[at>>3:at>>3+8]) >> (at & 7)
		u := binary.LittleEndian.Uint64(src[bt>>3:bt>>3+8]) >> (bt & 7)
		e := d.token[(uint64(x)<<tokenBits|v&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		g := d.token[(uint64(y)<<tokenBits|u&(1<<tokenBits-1))&(slots<<tokenBits-1)]
		if bitsOf[T]() == 64 && max(e>>16, g>>16) > 57 {
			store(m[i:i+w:i+w], T(d.long(e, at)))
			store(n[i:i+w:i+w], T(d.long(g, bt)))
		} else {
			store(m[i:i+w:i+w], T(d.base[e&255]+v&(1<<(e>>16&63)-1)>>(e>>8&63)))
			store(n[i:i+w:i+w], T(d.base[g&255]+u&(1<<(g>>16&63)-1)>>(g>>8&63)))
		}
		at, bt = at+int(e>>16), bt+int(g>>16)
	}
	return at, bt
}

// long returns the difference of an entry for which a look at the stream,
// which is at at, may not suffice.
func (d *deltaDecoder) long(e uint32, at int) uint64 {
	n := int(e >> 8 & 255)
	extra := e>>16 - e>>8&255 // at most 62
	z := peek(d.src, at+n)&(1<<32-1) | peek(d.src, at+n+32)<<32
	return d.base[e&255] + z&(1<<(extra&63)-1)
}

// unstream decodes the differences of any elements of one stream, from the bit
// at on, and returns the bit behind them.
func unstream[T word](d *deltaDecoder, m, base []byte, at int, f *field) (int, error) {
	// How many elements of each class are left to the next one that has a
	// code, that one included.
	var left [slots]uint64
	for c := range left {
		left[c] = 1
		if d.head.quiet>>c&1 == 1 {
			v := peek(d.src, at)
			e := d.run[uint64(c)<<tokenBits|v&(1<<tokenBits-1)]
			left[c] += uint64(d.runs[e&255]) + v&(1<<(e>>16&63)-1)>>(e>>8&63)
			at += int(e >> 16)
		}
	}
	clear(m)
	src, limit := d.src, 8*(len(d.src)-padding)
	shift, mask, w := f.exponent&63, f.mask&2047, int(bitsOf[T]()/8)
	for i := 0; i+w <= len(m); i += w {
		c := d.class[uint64(load[T](base[i:i+w:i+w]))>>shift&mask] & (slots - 1)
		if l := left[c]; l > 1 {
			left[c] = l - 1
			continue
		}
		if at > limit {
			return 0, damaged("delta: a stream is cut short")
		}
		v := binary.LittleEndian.Uint64(src[at>>3:at>>3+8]) >> (at & 7)
		e := d.token[uint64(c)<<tokenBits|v&(1<<tokenBits-1)]
		n := uint(e >> 16)
		if bitsOf[T]() == 64 && n > 57 {
			store(m[i:i+w:i+w], T(d.long(e, at)))
		} else {
			store(m[i:i+w:i+w], T(d.base[e&255]+v&(1<<(n&63)-1)>>(e>>8&63)))
		}
		at += int(n)
		// The run behind it. In the tables of classes that are not quiet it is
		// none and takes no bits: no branch has to be guessed.
		if v >>= n & 63; bitsOf[T]() > 16 {
			v = binary.LittleEndian.Uint64(src[at>>3:at>>3+8]) >> (at & 7)
		}
		e = d.run[uint64(c)<<tokenBits|v&(1<<tokenBits-1)]
		left[c] = 1 + uint64(d.runs[e&255]) + v&(1<<(e>>16&63)-1)>>(e>>8&63)
		at += int(e >> 16)
	}
	for _, l := range left {
		if l != 1 {
			return 0, damaged("delta: a run beyond the end")
		}
	}
	return at, nil
}
