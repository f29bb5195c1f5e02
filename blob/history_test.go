package blob

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// life is a store, what it was given, and models that training goes on with.
type life struct {
	t      *testing.T
	rng    *rand.Rand
	h      hints
	k      keyed
	models [][]tensor
	puts   [][]byte
}

// next returns the content of a new state of some model.
func (x *life) next() []byte {
	rng := x.rng
	if len(x.models) == 0 || rng.IntN(8) == 0 {
		x.models = append(x.models, []tensor{
			{"a", "BF16", normals(rng.Uint64(), "BF16", 2*(1+rng.IntN(100<<10)))},
			{"b", "F32", normals(rng.Uint64(), "F32", 4*(16<<10+rng.IntN(50<<10)))},
			{"c", []string{"F16", "F64", "F32"}[rng.IntN(3)], normals(rng.Uint64(), "F64", 8*(1+rng.IntN(20<<10)))},
		})
	}
	i := rng.IntN(len(x.models))
	m := slices.Clone(x.models[i])
	for j := range m {
		switch n := rng.IntN(10); {
		case n < 6:
			m[j].data = trained(rng.Uint64(), m[j].dtype, m[j].data, []float64{0.01, 0.3, 1}[rng.IntN(3)])
		case n == 6:
			m[j].name += "x"
		case n == 7 && len(m[j].data) < 400<<10:
			m[j].data = cat(m[j].data, m[j].data[:8*rng.IntN(len(m[j].data)/8+1)])
		}
	}
	x.models[i] = m
	file := slices.Clone(m)
	for _, w := range m {
		switch n := rng.IntN(6); {
		case w.dtype == "F32" && n < 2:
			file = append(file, tensor{w.name + ".n", []string{"BF16", "F16"}[n], narrowed([]string{"BF16", "F16"}[n], w.data)})
		case w.dtype == "F32" && n == 2:
			file = append(file, tensor{w.name + ".t", "BF16", truncated(w.data)})
		}
	}
	if rng.IntN(3) == 0 {
		rng.Shuffle(len(file), func(i, j int) { file[i], file[j] = file[j], file[i] })
	}
	if rng.IntN(6) == 0 {
		return cat(file[0].data, file[1].data) // without structure
	}
	return safetensors(file...)
}

// put puts content in one of many ways, and learns of it.
func (x *life) put(s *Store, content []byte) Info {
	x.t.Helper()
	var like []Digest
	for range x.rng.IntN(3) {
		if len(x.puts) > 0 {
			like = append(like, Sum(x.puts[max(0, len(x.puts)-1-x.rng.IntN(6))]))
		}
	}
	var r io.Reader = bytes.NewReader(content)
	if x.rng.IntN(4) == 0 {
		r = stream(content)
	}
	b := s.Batch()
	info, err := b.PutLike(x.t.Context(), r, like)
	if err == nil {
		err = b.Sync(x.t.Context())
	}
	if err != nil || info.Digest != Sum(content) {
		x.t.Fatalf("put: %+v, %v", info, err)
	}
	if x.rng.IntN(2) == 0 {
		x.h.learn(x.t, s, info.Digest)
		x.k.learn(x.t, s, info.Digest)
	}
	return info
}

// TestRandomHistories puts states of models in every way, with hints that grow
// old, damages blobs and puts them again: what was put can be read, but for what
// needs a damaged blob, and all can be healed.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	deltas, healed := 0, 0
	for seed := range uint64(2) {
		x := &life{t: t, rng: rand.New(rand.NewPCG(seed, 21)), h: hints{}, k: keyed{}}
		s, m := newMem(t, &Options{Known: x.h.known, Similar: x.k.similar, Workers: 1})
		for range 16 {
			content := x.next()
			info := x.put(s, content)
			deltas += info.Parts.Delta.Frames
			wantBlob(t, s, content)
			wantReach(t, s, info.Digest)
			x.puts = append(x.puts, content)
			if x.rng.IntN(3) > 0 {
				continue
			}
			victim := x.puts[x.rng.IntN(len(x.puts))]
			name := blobPath(Sum(victim))
			flip(t, m, name, int64(x.rng.IntN(len(loadFile(t, m, name)))), 1<<x.rng.IntN(8))
			for _, c := range x.puts { // right or an error, never other bytes
				if got, err := readAll(t.Context(), s, Sum(c)); err == nil && !bytes.Equal(got, c) || err != nil && !isCorrupt(err) {
					t.Fatalf("read %d bytes of %d: %v", len(got), len(c), err)
				}
			}
			for _, c := range append([][]byte{victim}, x.puts...) {
				if err := s.Verify(t.Context(), Sum(c)); err == nil {
					continue
				} else if !isCorrupt(err) {
					t.Fatal(err)
				}
				if info := x.put(s, c); info.Known {
					t.Fatalf("%s can't be read, yet it is known", info.Digest.Short())
				}
				healed++
				wantBlob(t, s, c)
			}
			for _, c := range x.puts {
				wantBlob(t, s, c)
			}
		}
		if t.Failed() {
			t.Logf("seed %d", seed)
			return
		}
	}
	if deltas < 20 || healed < 5 {
		t.Errorf("only %d deltas, %d healed", deltas, healed)
	}
}
