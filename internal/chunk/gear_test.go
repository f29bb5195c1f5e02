package chunk

import (
	"math/rand/v2"
	"testing"

	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

func TestGearTable(t *testing.T) {
	for i, got := range gear {
		sum := blake3.Sum256(append([]byte("heft gear v1"), byte(i)))
		var want uint64
		for j, b := range sum[:8] {
			want |= uint64(b) << (8 * j)
		}
		if got != want {
			t.Errorf("gear[%d] = %#x, want %#x", i, got, want)
		}
	}
}

// slowEnd is the rule of gear.go, word for word.
func slowEnd(p []byte) int {
	for n := MinContent; n <= min(len(p), format.MaxFrame); n++ {
		var sum uint64
		for i, b := range p[n-64 : n] {
			sum += gear[b] << (63 - i)
		}
		if sum < gearLimit || n == format.MaxFrame {
			return n
		}
	}
	return 0
}

// cutAll returns the ends of the frames of p, by content.
func cutAll(p []byte) []int {
	var ends []int
	for at := 0; at < len(p); {
		n := new(finder).find(p[at:])
		if n == 0 {
			n = len(p) - at
		}
		at += n
		ends = append(ends, at)
	}
	return ends
}

func TestFinderFollowsRule(t *testing.T) {
	p := noise(rand.New(rand.NewPCG(3, 4)), 3<<20)
	for at := 0; ; {
		n := new(finder).find(p[at:])
		if want := slowEnd(p[at:]); n != want {
			t.Fatalf("at %d: got %d, want %d", at, n, want)
		}
		if n == 0 {
			break
		}
		at += n
	}
	if n := new(finder).find(make([]byte, 2<<20)); n != slowEnd(make([]byte, format.MaxFrame)) {
		t.Errorf("zeros: got %d", n)
	}
}

func TestFinderAverage(t *testing.T) {
	const size = 64 << 20
	ends := cutAll(noise(rand.New(rand.NewPCG(5, 6)), size))
	if average := size / len(ends); average < 230<<10 || average > 280<<10 {
		t.Errorf("frames have %d bytes on average", average)
	}
}

// TestFinderResynchronises inserts a byte: all but the next few frames end at
// the same bytes as before.
func TestFinderResynchronises(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	p := noise(r, 16<<20)
	const at = 1_000_000
	changed := append(append(append([]byte{}, p[:at]...), 'x'), p[at:]...)
	before := make(map[int]bool)
	for _, end := range cutAll(p) {
		before[end] = true
	}
	ends, lost := cutAll(changed), 0
	for _, end := range ends {
		if !before[end] && !before[end-1] {
			lost++
		}
	}
	if lost > 4 {
		t.Errorf("%d of %d frames end elsewhere", lost, len(ends))
	}
}
