package main

import "math"

// The defaults of Kingma and Ba, "Adam: a method for stochastic optimization"
// (2015), algorithm 1.
const (
	adamBeta1   = 0.9
	adamBeta2   = 0.999
	adamEpsilon = 1e-8
)

// adam changes the weights of a model by its gradients, each at a pace of its
// own. Not safe for concurrent use.
type adam struct {
	model        *Model
	rate         float64
	steps        int         // done so far
	mean, square [][]float32 // of the gradients, decaying; as Model.params
}

func newAdam(m *Model, rate float64) *adam {
	a := &adam{model: m, rate: rate}
	for _, p := range m.params() {
		a.mean = append(a.mean, make([]float32, len(p.value)))
		a.square = append(a.square, make([]float32, len(p.value)))
	}
	return a
}

// step takes one step against the gradients that the model holds.
func (a *adam) step() {
	a.steps++
	// Both means start at zero; this undoes the bias (section 3 of the paper).
	fix2 := math.Sqrt(1 - power(adamBeta2, a.steps))
	rate := float32(a.rate * fix2 / (1 - power(adamBeta1, a.steps)))
	epsilon := float32(adamEpsilon * fix2)
	for i, p := range a.model.params() {
		parallel(a.model.workers, len(p.value), func(lo, hi int) {
			adamStep(p.value[lo:hi], p.grad[lo:hi], a.mean[i][lo:hi], a.square[i][lo:hi], rate, epsilon)
		})
	}
}

// adamStep is the step for some of the weights. It rounds each product: see
// the note at the top of matrix.go.
func adamStep(value, grad, mean, square []float32, rate, epsilon float32) {
	const beta1, beta2 float32 = adamBeta1, adamBeta2
	grad, mean, square = grad[:len(value)], mean[:len(value)], square[:len(value)]
	for i, g := range grad {
		m := float32(beta1*mean[i]) + float32((1-beta1)*g)
		s := float32(beta2*square[i]) + float32((1-beta2)*float32(g*g))
		mean[i], square[i] = m, s
		value[i] -= float32(rate*m) / (float32(math.Sqrt(float64(s))) + epsilon)
	}
}

// power returns x to the n-th power, by multiplications alone: math.Pow's last
// bit differs between machines.
func power(x float64, n int) float64 {
	result := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			result = float64(result * x) // rounded: the caller subtracts it
		}
		x *= x
	}
	return result
}
