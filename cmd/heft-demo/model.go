package main

import "math/rand/v2"

// dims are the sizes of a network.
type dims struct {
	context int // characters that the network sees
	vocab   int // characters that there are
	embed   int // width after the lookup layer
	hidden  int // width of the layer before the scores
}

// network predicts the next character from the ones before it: a lookup layer
// and two linear ones, with ReLU between. Not safe for concurrent use.
type network[T float] struct {
	dims
	embedding lookup[T]
	middle    linear[T]
	head      linear[T]
	workers   int

	// Outputs of the layers for the last batch, and their gradients.
	h1, h2, scores, d1, d2 []T
}

// Model is the network that is trained and kept.
type Model = network[float32]

// newNetwork returns a network with weights that depend on the seed and the
// sizes only. It computes on that many goroutines.
func newNetwork[T float](d dims, seed uint64, workers int) *network[T] {
	rng := rand.New(rand.NewPCG(seed, streamWeights))
	return &network[T]{
		dims:      d,
		embedding: newLookup[T](rng, "embedding", d.context, d.vocab, d.embed),
		middle:    newLinear[T](rng, "middle", d.embed, d.hidden),
		head:      newLinear[T](rng, "head", d.hidden, d.vocab),
		workers:   workers,
	}
}

// params returns all that training changes, always in the same order.
func (n *network[T]) params() []*param[T] {
	return []*param[T]{
		&n.embedding.weight, &n.embedding.bias,
		&n.middle.weight, &n.middle.bias,
		&n.head.weight, &n.head.bias,
	}
}

// size returns the number of weights.
func (n *network[T]) size() int {
	total := 0
	for _, p := range n.params() {
		total += len(p.value)
	}
	return total
}

// forward returns the scores of each character to come next, a row for each
// context. They are valid until the next call.
func (n *network[T]) forward(contexts []byte) []T {
	rows := len(contexts) / n.context
	n.h1 = resize(n.h1, rows*n.embed)
	n.h2 = resize(n.h2, rows*n.hidden)
	n.scores = resize(n.scores, rows*n.vocab)
	n.embedding.forward(n.workers, n.h1, contexts)
	relu(n.h1)
	n.middle.forward(n.workers, n.h2, n.h1)
	relu(n.h2)
	n.head.forward(n.workers, n.scores, n.h2)
	return n.scores
}

// backward runs a batch forward and back: it sets the gradients of all
// parameters to those of the batch's mean loss and returns the sum of the
// losses in nats.
func (n *network[T]) backward(b batch) float64 {
	scores := n.forward(b.contexts)
	var loss float64
	for s, target := range b.targets {
		loss += softmaxLoss(scores[s*n.vocab:][:n.vocab], target, 1/float64(len(b.targets)))
	}
	n.d1 = resize(n.d1, len(n.h1))
	n.d2 = resize(n.d2, len(n.h2))
	n.head.backward(n.workers, n.d2, scores, n.h2)
	reluBackward(n.d2, n.h2)
	n.middle.backward(n.workers, n.d1, n.d2, n.h1)
	reluBackward(n.d1, n.h1)
	n.embedding.backward(n.workers, n.d1, b.contexts)
	return loss
}

// predict returns the likeliest next character for each context.
func (n *network[T]) predict(contexts []byte) []byte {
	scores := n.forward(contexts)
	best := make([]byte, len(contexts)/n.context)
	for s := range best {
		row := scores[s*n.vocab:][:n.vocab]
		for c, v := range row {
			if v > row[best[s]] {
				best[s] = byte(c)
			}
		}
	}
	return best
}
