package chunk

import "github.com/heftstore/heft/internal/format"

// The sizes of frames that are cut by content.
//
// The gear hash of the 64 bytes b[0] to b[63] is the sum of
// gear[b[i]] << (63-i), modulo 2^64. A frame ends at the least length n of at
// least MinContent at which the hash of its last 64 bytes is below gearLimit,
// and no later than at format.MaxFrame, or where its stretch ends.
const (
	// MinContent is the shortest frame that the hash ends. Shorter ones would
	// leave an entropy coder too little to learn from: its tables take 1% of
	// 64 KiB.
	MinContent = 64 << 10

	// gearLimit, 93,824,992,236,886, makes a frame end 192 KiB beyond
	// MinContent on average, so that it has 256 KiB: 4 frames a MiB cost
	// 0.03% in rows of the frame table. 1 in 150 reaches format.MaxFrame.
	gearLimit = 1<<64/(192<<10) + 1

	// gearWindow is how many bytes a hash depends on: as many as it has bits,
	// for each byte shifts those before it by one.
	gearWindow = 64
)

// roll feeds p to the hash h. It returns the hash, and how many bytes of p it
// took until the hash fell below gearLimit, or 0 if it never did.
func roll(h uint64, p []byte) (uint64, int) {
	n := 0
	// Eight bytes a round, two in a step of the hash: each step takes two
	// cycles, and nothing else has to wait for it. 2.3 GB/s a core on the
	// machine of the issues, against 1.6 one byte at a time (BenchmarkRoll).
	t := &gear
	for ; n+8 <= len(p); n += 8 {
		q := p[n : n+8 : n+8]
		a, b, c, d := t[q[0]], t[q[1]], t[q[2]], t[q[3]]
		h1 := h<<1 + a
		h2 := h<<2 + (a<<1 + b)
		h3 := h2<<1 + c
		h4 := h2<<2 + (c<<1 + d)
		if h1 < gearLimit {
			return h1, n + 1
		}
		if h2 < gearLimit {
			return h2, n + 2
		}
		if h3 < gearLimit {
			return h3, n + 3
		}
		if h4 < gearLimit {
			return h4, n + 4
		}
		a, b, c, d = t[q[4]], t[q[5]], t[q[6]], t[q[7]]
		h1 = h4<<1 + a
		h2 = h4<<2 + (a<<1 + b)
		h3 = h2<<1 + c
		h = h2<<2 + (c<<1 + d)
		if h1 < gearLimit {
			return h1, n + 5
		}
		if h2 < gearLimit {
			return h2, n + 6
		}
		if h3 < gearLimit {
			return h3, n + 7
		}
		if h < gearLimit {
			return h, n + 8
		}
	}
	p = p[n:]
	for i, b := range p {
		h = h<<1 + gear[b]
		if h < gearLimit {
			return h, n + i + 1
		}
	}
	return h, 0
}

// finder looks for the end of one frame that is cut by content.
type finder struct {
	hash uint64
	seen int // bytes of the frame that were looked at
}

// find returns where the frame ends that begins with p, or 0 if p does not
// tell. Each call gets the bytes of the one before and more.
func (f *finder) find(p []byte) int {
	p = p[:min(len(p), format.MaxFrame)]
	if len(p) < MinContent {
		return 0
	}
	if f.seen == 0 {
		// One byte short of a full window, which the first byte below fills.
		for _, b := range p[MinContent-gearWindow : MinContent-1] {
			f.hash = f.hash<<1 + gear[b]
		}
		f.seen = MinContent - 1
	}
	var n int
	f.hash, n = roll(f.hash, p[f.seen:])
	if n > 0 {
		return f.seen + n
	}
	f.seen = len(p)
	if f.seen == format.MaxFrame {
		return f.seen
	}
	return 0
}
