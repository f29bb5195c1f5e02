package main

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// smallDims are sizes that don't divide by the tiles of matmul.
var smallDims = dims{context: 3, vocab: 7, embed: 5, hidden: 6}

// TestNetworkBackwardFiniteDifferences compares the gradient of every weight
// with the slope that the loss really has there.
func TestNetworkBackwardFiniteDifferences(t *testing.T) {
	n := newNetwork[float64](smallDims, 1, 2)
	b := batch{
		contexts: []byte{0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 2, 2, 6, 1, 5},
		targets:  []byte{3, 6, 2, 0, 3},
	}
	// At zero, a bias could be left out of forward and nobody would see.
	for _, p := range n.params() {
		for i := range p.value {
			p.value[i] += 0.01 * float64(i%5)
		}
	}
	loss := func() float64 { return n.backward(b) / float64(len(b.targets)) }
	// Twice: what a batch leaves behind must not count in the next.
	loss()
	loss()
	grads := make([][]float64, 0, 6)
	for _, p := range n.params() {
		grads = append(grads, append([]float64(nil), p.grad...))
	}
	// The error of a central difference is about step^2, that of the loss'
	// rounding 1e-16/step.
	const step, tolerance = 1e-5, 1e-8
	nonzero := 0
	for i, p := range n.params() {
		for j, w := range p.value {
			p.value[j] = w + step
			up := loss()
			p.value[j] = w - step
			down := loss()
			p.value[j] = w
			slope := (up - down) / (2 * step)
			if math.Abs(slope-grads[i][j]) > tolerance {
				t.Errorf("%s[%d]: gradient %g, slope %g", p.name, j, grads[i][j], slope)
			}
			if grads[i][j] != 0 {
				nonzero++
			}
		}
	}
	// The table's rows for pairs that the batch lacks have none, and units
	// that are off.
	if min := n.size() / 3; nonzero < min {
		t.Errorf("%d of %d gradients differ from zero, want at least %d", nonzero, n.size(), min)
	}
}

func TestNetworkPredictOverfits(t *testing.T) {
	n := newNetwork[float32](smallDims, 1, 2)
	b := batch{contexts: []byte{0, 1, 2, 3, 4, 5, 6, 0, 1}, targets: []byte{3, 6, 2}}
	opt := newAdam(n, 0.01)
	for range 200 {
		n.backward(b)
		opt.step()
	}
	if got := n.predict(b.contexts); string(got) != string(b.targets) {
		t.Errorf("after learning three examples by heart predict = %v, want %v", got, b.targets)
	}
}

func TestMatmul(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, n, k := rapid.IntRange(1, 9).Draw(t, "m"), rapid.IntRange(1, 9).Draw(t, "n"), rapid.IntRange(1, 9).Draw(t, "k")
		workers := rapid.IntRange(1, 4).Draw(t, "workers")
		value := rapid.Float32Range(-10, 10)
		a := rapid.SliceOfN(value, m*k, m*k).Draw(t, "a")
		b := rapid.SliceOfN(value, n*k, n*k).Draw(t, "b")
		got := make([]float32, m*n)
		matmul(workers, got, a, b, m, n, k)
		for i := range m {
			for j := range n {
				var want float32
				for x := range k {
					want += float32(a[i*k+x] * b[j*k+x])
				}
				// Bit for bit: the order of the sum is part of the contract.
				if math.Float32bits(got[i*n+j]) != math.Float32bits(want) {
					t.Fatalf("element %d,%d = %v, want %v", i, j, got[i*n+j], want)
				}
			}
		}
	})
}

func TestParallelCoversOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 64} {
		for workers := range 9 {
			seen := make([]int, n)
			parallel(workers, n, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					seen[i]++
				}
			})
			for i, times := range seen {
				if times != 1 {
					t.Errorf("%d workers, n = %d: %d was done %d times", workers, n, i, times)
				}
			}
		}
	}
}

func TestExp(t *testing.T) {
	for x := 0.0; x > -690; x -= 0.37 {
		if got, want := exp(x), math.Exp(x); math.Abs(got-want) > 1e-12*want {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	if got := exp(-1e300); got != 0 {
		t.Errorf("exp(-1e300) = %v, want 0", got)
	}
}

func TestPower(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 1000} {
		if got, want := power(0.999, n), math.Pow(0.999, float64(n)); math.Abs(got-want) > 1e-12 {
			t.Errorf("power(0.999, %d) = %v, want %v", n, got, want)
		}
	}
}
