package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
)

// weights yields generated weights: normal values whose spread changes from
// layer to layer, as in a trained network. No two stretches repeat, so that
// nothing but the shape of the numbers can be compressed.
type weights struct {
	rng   *rand.Rand
	left  int64
	bf16  bool
	layer int
	scale float64
}

const layerValues = 1 << 20

func newWeights(seed uint64, size int64, bf16 bool) *weights {
	return &weights{rng: rand.New(rand.NewPCG(seed, 1)), left: size, bf16: bf16}
}

// Read implements io.Reader. It makes whole values only.
func (w *weights) Read(p []byte) (n int, err error) {
	width := 4
	if w.bf16 {
		width = 2
	}
	if w.left < int64(width) {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), w.left)]
	for ; n+width <= len(p); n += width {
		if w.layer%layerValues == 0 {
			w.scale = 0.02 * math.Exp(w.rng.NormFloat64()/2)
		}
		w.layer++
		bits := math.Float32bits(float32(w.rng.NormFloat64() * w.scale))
		if w.bf16 {
			binary.LittleEndian.PutUint16(p[n:], uint16(bits>>16))
		} else {
			binary.LittleEndian.PutUint32(p[n:], bits)
		}
	}
	w.left -= int64(n)
	return n, nil
}

func writeWeights(path string, seed uint64, size int64, bf16 bool) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.Copy(w, newWeights(seed, size, bf16)); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}
