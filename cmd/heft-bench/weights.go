package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
)

// weights yields a safetensors file of generated weights: normal values whose
// spread changes from tensor to tensor, as in a trained network. No two
// stretches repeat, so that nothing but the shape of the numbers can be
// compressed. With a step it is the same network after some more training: each
// value has moved by about that share of its tensor's spread.
type weights struct {
	rng, moves *rand.Rand
	head       []byte
	left       int64
	bf16       bool
	step       float64
	value      int
	scale      float64
}

const tensorValues = 8 << 20

// newWeights returns a file of about size bytes.
func newWeights(seed uint64, size int64, bf16 bool, step float64) (*weights, error) {
	w := &weights{rng: rand.New(rand.NewPCG(seed, 1)), moves: rand.New(rand.NewPCG(seed, 2)), bf16: bf16, step: step}
	type tensor struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	tensors := map[string]tensor{}
	dtype := "F32"
	if bf16 {
		dtype = "BF16"
	}
	for i := 0; w.left < size; i++ {
		n := min(tensorValues*w.width(), (size-w.left+7)/8*8)
		tensors[fmt.Sprintf("layers.%04d.weight", i)] = tensor{dtype, []int64{n / w.width()}, [2]int64{w.left, w.left + n}}
		w.left += n
	}
	header, err := json.Marshal(tensors)
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	w.head = append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	return w, err
}

func (w *weights) width() int64 {
	if w.bf16 {
		return 2
	}
	return 4
}

// Read implements io.Reader. It makes whole values only.
func (w *weights) Read(p []byte) (n int, err error) {
	if len(w.head) > 0 {
		n = copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	}
	width := int(w.width())
	if w.left < int64(width) {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), w.left)]
	for ; n+width <= len(p); n += width {
		if w.value%tensorValues == 0 {
			w.scale = 0.02 * math.Exp(w.rng.NormFloat64()/2)
		}
		w.value++
		x := w.rng.NormFloat64()
		if w.step > 0 {
			x += w.moves.NormFloat64() * w.step
		}
		bits := math.Float32bits(float32(x * w.scale))
		if w.bf16 {
			binary.LittleEndian.PutUint16(p[n:], uint16(bits>>16))
		} else {
			binary.LittleEndian.PutUint32(p[n:], bits)
		}
	}
	w.left -= int64(n)
	return n, nil
}

func writeWeights(path string, seed uint64, size int64, bf16 bool, step float64) (err error) {
	r, err := newWeights(seed, size, bf16, step)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}
