package main

import (
	"math"
	"math/rand/v2"
)

// param is one tensor that training changes.
type param[T float] struct {
	name  string
	shape []int
	value []T
	grad  []T // of the mean loss of the last batch that went backward
}

// newParam returns a tensor of zeros.
func newParam[T float](name string, shape ...int) param[T] {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return param[T]{name: name, shape: shape, value: make([]T, n), grad: make([]T, n)}
}

// fill sets the tensor to uniform random values of the given standard
// deviation. Uniform, because the library's normal values pass through
// math.Exp, whose last bit differs between processors.
func (p *param[T]) fill(rng *rand.Rand, deviation float64) {
	limit := deviation * math.Sqrt(3)
	for i := range p.value {
		p.value[i] = T((2*rng.Float64() - 1) * limit)
	}
}

// lookup is a layer that adds up one row per (position, character) pair of its
// context: what a linear layer on one-hot input computes, without the zeros.
type lookup[T float] struct {
	context, vocab, out int
	weight, bias        param[T]
}

func newLookup[T float](rng *rand.Rand, name string, context, vocab, out int) lookup[T] {
	l := lookup[T]{
		context: context, vocab: vocab, out: out,
		weight: newParam[T](name+".weight", context, vocab, out),
		bias:   newParam[T](name+".bias", out),
	}
	l.weight.fill(rng, 1/math.Sqrt(float64(context)))
	return l
}

// row returns the part of t (values or gradients) for a character at a position.
func (l *lookup[T]) row(t []T, position int, char byte) []T {
	return t[(position*l.vocab+int(char))*l.out:][:l.out]
}

// forward sets dst, one row per context, to the layer's output.
func (l *lookup[T]) forward(workers int, dst []T, contexts []byte) {
	parallel(workers, len(contexts)/l.context, func(lo, hi int) {
		for s := lo; s < hi; s++ {
			sum := dst[s*l.out:][:l.out]
			copy(sum, l.bias.value)
			for p, char := range contexts[s*l.context:][:l.context] {
				add(sum, l.row(l.weight.value, p, char))
			}
		}
	})
}

// backward sets the layer's gradients from dy, those of its output.
func (l *lookup[T]) backward(workers int, dy []T, contexts []byte) {
	rows := len(contexts) / l.context
	// A position owns its rows of the table: no two goroutines add to the same.
	parallel(workers, l.context, func(lo, hi int) {
		clear(l.weight.grad[lo*l.vocab*l.out : hi*l.vocab*l.out])
		for s := range rows {
			for p := lo; p < hi; p++ {
				add(l.row(l.weight.grad, p, contexts[s*l.context+p]), dy[s*l.out:][:l.out])
			}
		}
	})
	sumRows(l.bias.grad, dy)
}

// linear is a layer with a weight for each pair of input and output.
type linear[T float] struct {
	in, out      int
	weight, bias param[T]

	// Transposes, kept between batches to spare the garbage collector.
	weightT, xT, dyT []T
}

func newLinear[T float](rng *rand.Rand, name string, in, out int) linear[T] {
	l := linear[T]{
		in: in, out: out,
		weight: newParam[T](name+".weight", out, in),
		bias:   newParam[T](name+".bias", out),
	}
	// He et al. 2015, section 2.2: keeps the variance through layers of ReLU.
	l.weight.fill(rng, math.Sqrt(2/float64(in)))
	return l
}

// forward sets dst to the layer's output for x, one row per example.
func (l *linear[T]) forward(workers int, dst, x []T) {
	matmul(workers, dst, x, l.weight.value, len(x)/l.in, l.out, l.in)
	for row := dst; len(row) > 0; row = row[l.out:] {
		add(row[:l.out], l.bias.value)
	}
}

// backward sets the layer's gradients from dy, those of its output for input x,
// and dx to the gradients of x.
func (l *linear[T]) backward(workers int, dx, dy, x []T) {
	rows := len(x) / l.in
	l.dyT = transpose(l.dyT, dy, rows, l.out)
	l.xT = transpose(l.xT, x, rows, l.in)
	matmul(workers, l.weight.grad, l.dyT, l.xT, l.out, l.in, rows)
	sumRows(l.bias.grad, dy)
	l.weightT = transpose(l.weightT, l.weight.value, l.out, l.in)
	matmul(workers, dx, dy, l.weightT, rows, l.in, l.out)
}

// sumRows sets dst to the sum of the rows of x, from first to last.
func sumRows[T float](dst, x []T) {
	clear(dst)
	for ; len(x) > 0; x = x[len(dst):] {
		add(dst, x[:len(dst)])
	}
}

// relu replaces what is below zero by zero.
func relu[T float](x []T) {
	for i, v := range x {
		x[i] = max(v, 0)
	}
}

// reluBackward clears the gradients of outputs that relu had set to zero.
func reluBackward[T float](dy, y []T) {
	for i, v := range y {
		if v <= 0 {
			dy[i] = 0
		}
	}
}

// softmaxLoss returns the cross entropy, in nats, of the scores x against the
// target, and replaces x by its gradient times scale.
func softmaxLoss[T float](x []T, target byte, scale float64) float64 {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	var sum float64
	for _, v := range x {
		sum += exp(float64(v - top))
	}
	loss := math.Log(sum) - float64(x[target]-top)
	for i, v := range x {
		p := exp(float64(v-top)) / sum
		if i == int(target) {
			p--
		}
		x[i] = T(p * scale)
	}
	return loss
}

// exp returns e to the power x, for x of at most zero, to 12 digits.
// math.Exp is written in assembly that differs between processors in the last
// bit, and so would the weights.
func exp(x float64) float64 {
	// Below this the result is no normal number, and nothing next to exp(0).
	if x < -700 {
		return 0
	}
	k := math.Round(x / math.Ln2)
	r := x - float64(k*math.Ln2) // |r| <= ln(2)/2
	sum := 1.0
	for i := 14.0; i > 0; i-- { // 0.35^15/15! < 2^-62: beyond the last bit
		sum = 1 + float64(sum*r)/i
	}
	return math.Ldexp(sum, int(k))
}
