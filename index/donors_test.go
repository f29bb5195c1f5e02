package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/blob"
)

// states returns n states of the same weights, each some training after the one
// before.
func states(n int) (out [][]byte) {
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([]float32, 32<<10)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	for range n {
		var b []byte
		for i := range values {
			values[i] += float32(rng.NormFloat64() * 1e-4)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(values[i]))
		}
		out = append(out, b)
	}
	return out
}

// TestRegisterChecksTheWholeChain removes each blob of a chain of deltas in
// turn: what is based on it, at whatever distance, is not registered.
func TestRegisterChecksTheWholeChain(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	var chain []blob.Info
	var like []blob.Digest
	for _, content := range states(5) {
		b := s.Batch()
		info, err := b.PutLike(t.Context(), bytes.NewReader(content), like)
		if err == nil {
			err = b.Sync(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(chain) > 0 && info.Parts.Delta.Frames == 0 {
			t.Fatalf("state %d is no delta: %+v", len(chain), info.Parts)
		}
		chain = append(chain, info)
		like = []blob.Digest{info.Digest}
	}
	last := at(t, File{Digest: chain[4].Digest, Size: chain[4].Size}, "model.bin")
	v := version(t, s, "chain", "1")
	for _, info := range chain[:4] {
		path := filepath.Join(s.Dir(), "blobs", info.Digest.String()[:2], info.Digest.String())
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		err := x.Update(t.Context(), Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, []File{last}) })
		if e, ok := errors.AsType[*MissingBlobError](err); !ok || e.Digest != info.Digest || e.For != last.Digest {
			t.Errorf("without %s: %v", info.Digest.Short(), err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	register(t, x, v, last)
}
