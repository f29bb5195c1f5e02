package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

// TestRegisterNeedsNoMore registers what is based on one tensor of a blob, of
// which another tensor is based on a blob that is gone.
func TestRegisterNeedsNoMore(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	file := func(head, tail []byte) []byte {
		n := len(head)
		// No two headers are the same, or they would be borrowed.
		text := fmt.Sprintf(`{"__metadata__":{"of":"%x"},"h":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]},"t":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}}`, blob.Sum(head), n/4, n, n/4, n, 2*n)
		return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), []byte(text), head, tail)
	}
	put := func(content []byte, like ...blob.Digest) blob.Info {
		t.Helper()
		b := s.Batch()
		info, err := b.PutLike(t.Context(), bytes.NewReader(content), like)
		if err == nil {
			err = errors.Join(b.Sync(t.Context()), b.Release())
		}
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	all := states(4)
	noise := func(seed byte) []byte {
		b := make([]byte, len(all[0]))
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
		return b
	}
	first := put(file(all[0], noise(1)))
	middle := put(file(all[1], all[2]), first.Digest)
	last := put(file(noise(2), all[3]), middle.Digest)
	if middle.Parts.Delta.Frames != 1 || last.Parts.Delta.Frames != 1 {
		t.Fatalf("%+v, %+v", middle, last)
	}
	if err := os.Remove(filepath.Join(s.Dir(), "blobs", first.Digest.String()[:2], first.Digest.String())); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		label string
		info  blob.Info
		ok    bool
	}{{"middle", middle, false}, {"last", last, true}} {
		v := version(t, s, "m", c.label)
		f := at(t, File{Digest: c.info.Digest, Size: c.info.Size}, "w")
		err := x.Update(t.Context(), Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, []File{f}) })
		if e, missing := errors.AsType[*MissingBlobError](err); missing == c.ok || missing && e.Digest != first.Digest || !missing && err != nil {
			t.Errorf("%s: %v", c.label, err)
		}
	}
	if err := s.Verify(t.Context(), last.Digest); err != nil {
		t.Error(err)
	}
}
