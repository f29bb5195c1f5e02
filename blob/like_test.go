package blob

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// keyed is an index of sketches for Options.Similar.
type keyed map[uint64][]FrameRef

func (k keyed) similar(_ context.Context, keys []uint64) (refs []FrameRef) {
	for _, key := range keys {
		refs = append(refs, k[key]...)
	}
	return refs
}

func (k keyed) learn(t testing.TB, s *Store, d Digest) {
	t.Helper()
	_, frames, err := s.Frames(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		for _, key := range f.Keys {
			if key != 0 {
				k[key] = append(k[key], FrameRef{d, uint32(i)})
			}
		}
	}
}

// weights is a model of each type of float, large enough for sketches.
func weights(seed uint64) []tensor {
	return []tensor{
		{"a", "BF16", normals(seed, "BF16", mib+100<<10)},
		{"b", "F32", normals(seed+1, "F32", 256<<10)},
		{"c", "F16", normals(seed+2, "F16", 128<<10)},
		{"d", "F64", normals(seed+3, "F64", 128<<10)},
		{"e", "BF16", normals(seed+4, "BF16", 8<<10)},
	}
}

// step trains every tensor; part of the weights change.
func step(seed uint64, in []tensor, part float64) []tensor {
	out := slices.Clone(in)
	for i := range out {
		out[i].data = trained(seed+uint64(i), out[i].dtype, out[i].data, part)
	}
	return out
}

// dataFrames are the frames of weights behind the header.
const dataFrames = 6

// TestDeltaChain puts states of a model one after the other, each as like the
// one before: after four deltas comes a state that stands alone.
func TestDeltaChain(t *testing.T) {
	s, m := newMem(t, nil)
	model := weights(1)
	var states [][]byte
	var last []Digest
	for i := range 7 {
		content := safetensors(model...)
		info := putLike(t, s, content, last...)
		states, last = append(states, content), []Digest{info.Digest}
		want := string(rune('0' + i%(format.MaxDepth+1)))
		if got := depths(t, s, info.Digest); got[1:] != strings.Repeat(want, dataFrames) {
			t.Errorf("state %d: depths %s", i, got)
		}
		if p := info.Parts; i%5 != 0 && (p.Delta.Frames != dataFrames || p.Delta.Stored > p.Delta.Size*2/3) || i%5 == 0 && p.Delta.Frames != 0 {
			t.Errorf("state %d: %+v", i, p)
		}
		wantReach(t, s, info.Digest)
		model = step(uint64(100*i), model, 1)
	}

	// The deepest read: five frames, once the files are open.
	r, err := s.Open(t.Context(), Sum(states[4]))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 10)
	if _, err := r.ReadAt(p, mib+mib/2); err != nil {
		t.Fatal(err)
	}
	reads := 0
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRead {
			reads++
		}
		return nil
	})
	if _, err := r.ReadAt(p, mib); err != nil || !bytes.Equal(p, states[4][mib:mib+10]) {
		t.Fatalf("% x, %v", p, err)
	}
	m.Fail(nil)
	if reads != 1+format.MaxDepth {
		t.Errorf("%d reads, not one for each frame", reads)
	}

	// Nothing but blobs/ is needed.
	bare, bm := newMem(t, nil)
	for d, err := range s.All(t.Context()) {
		if err == nil {
			err = bm.Mkdir(blobDir(d))
		}
		if err != nil {
			t.Fatal(err)
		}
		saveFile(t, bm, blobPath(d), loadFile(t, m, blobPath(d)))
	}
	for _, content := range states {
		wantBlob(t, bare, content)
	}
	checkReads(t, bare, states[4])
}

// TestQuietDelta changes one weight in a hundred: what is stored is little more
// than those.
func TestQuietDelta(t *testing.T) {
	s, _ := newMem(t, nil)
	model := weights(1)
	d := put(t, s, safetensors(model...)).Digest
	info := putLike(t, s, safetensors(step(5, model, 0.01)...), d)
	if p := info.Parts.Delta; p.Frames != dataFrames || p.Stored > p.Size/20 {
		t.Errorf("%+v", info.Parts)
	}
	if !slices.Equal(info.Donors, []Digest{d}) {
		t.Errorf("donors %v", info.Donors)
	}
}

// TestLikeIsAHint gives PutLike blobs that are of no use, and the right one
// behind them.
func TestLikeIsAHint(t *testing.T) {
	model := weights(1)
	content := safetensors(step(3, model, 1)...)
	none := Sum([]byte("there is none"))
	for _, c := range []struct {
		name   string
		like   func(t *testing.T, s *Store, m *durable.Mem, d Digest) []Digest
		deltas int
	}{
		{"the right one", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) []Digest { return []Digest{d} }, dataFrames},
		{"behind others", func(t *testing.T, s *Store, _ *durable.Mem, d Digest) []Digest {
			return []Digest{none, {}, put(t, s, nil).Digest, put(t, s, lines(100)).Digest, put(t, s, safetensors(weights(50)[:1]...)).Digest, d}
		}, dataFrames - 2}, // the longest tensor has a nearer name
		{"none that is there", func(*testing.T, *Store, *durable.Mem, Digest) []Digest { return []Digest{none, {}} }, 0},
		{"damaged table", func(t *testing.T, _ *Store, m *durable.Mem, d Digest) []Digest {
			flip(t, m, blobPath(d), int64(len(loadFile(t, m, blobPath(d))))-200, 1)
			return []Digest{d}
		}, 0},
		{"damaged header", func(t *testing.T, _ *Store, m *durable.Mem, d Digest) []Digest {
			flip(t, m, blobPath(d), format.HeaderSize, 1)
			return []Digest{d}
		}, 0},
		{"damaged frame", func(t *testing.T, s *Store, m *durable.Mem, d Digest) []Digest {
			flip(t, m, blobPath(d), format.HeaderSize+int64(rowsOf(t, s, d).Rows[0].StoredLen)+9, 1)
			return []Digest{d}
		}, dataFrames - 1},
		{"other shapes", func(t *testing.T, s *Store, _ *durable.Mem, _ Digest) []Digest {
			other := slices.Clone(model)
			for i := range other {
				other[i].data = other[i].data[:len(other[i].data)-8]
			}
			return []Digest{put(t, s, safetensors(other...)).Digest}
		}, 0},
		{"other types", func(t *testing.T, s *Store, _ *durable.Mem, _ Digest) []Digest {
			other := slices.Clone(model)
			other[0].dtype, other[2].dtype, other[4].dtype = "F16", "BF16", "F16"
			return []Digest{put(t, s, safetensors(other...)).Digest}
		}, 2},
		{"itself", func(t *testing.T, s *Store, _ *durable.Mem, _ Digest) []Digest {
			return []Digest{Sum(content)}
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			d := put(t, s, safetensors(model...)).Digest
			info := putLike(t, s, content, c.like(t, s, m, d)...)
			if info.Parts.Delta.Frames != c.deltas {
				t.Errorf("%d deltas, not %d: %s", info.Parts.Delta.Frames, c.deltas, layout(t, s, info.Digest))
			}
			if again := putLike(t, s, content, info.Digest); !again.Known || again.Parts != info.Parts {
				t.Errorf("put again: %+v", again)
			}
			if again := put(t, s, content); !again.Known {
				t.Errorf("put again without a hint: %+v", again)
			}
		})
	}
}

// TestDeltasInOtherFormats puts later states of an archive and of a GGUF file.
func TestDeltasInOtherFormats(t *testing.T) {
	a, b := normals(1, "F32", 300<<10), normals(2, "BF16", 200<<10)
	gguf := func(w []byte) []byte { return cat(ggufPrefix(1000), w) }
	w := normals(7, "F32", mib+400)
	for _, c := range []struct {
		name          string
		first, second []byte
		deltas        int
	}{
		{"archive", zipFile(t, a, b), zipFile(t, trained(1, "F32", a, 1), trained(2, "BF16", b, 1)), 2},
		{"gguf", gguf(w), gguf(trained(3, "F32", w, 1)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := newMem(t, nil)
			info := putLike(t, s, c.second, put(t, s, c.first).Digest)
			if info.Parts.Delta.Frames < c.deltas {
				t.Errorf("%+v: %s", info.Parts, layout(t, s, info.Digest))
			}
		})
	}
}

// TestUnchangedTensors puts a state of which some tensors are as they were:
// those are borrowed, without any hint but the earlier state.
func TestUnchangedTensors(t *testing.T) {
	s, _ := newMem(t, nil)
	model := weights(1)
	d := put(t, s, safetensors(model...)).Digest
	next := step(5, model, 1)
	next[0], next[2] = model[0], model[2]
	info := putLike(t, s, safetensors(next...), d)
	if p := info.Parts; p.Borrowed.Size != int64(headSize(5)+len(model[0].data)+len(model[2].data)) || p.Delta.Frames != 3 {
		t.Errorf("%+v", p)
	}
}

// TestOpaqueInPlace changes floats of which nothing is known in place: the file
// is cut where the earlier one was, so that its frames are deltas.
func TestOpaqueInPlace(t *testing.T) {
	for _, dtype := range []string{"BF16", "F16", "F32", "F64"} {
		t.Run(dtype, func(t *testing.T) {
			s, _ := newMem(t, nil)
			first := normals(1, dtype, 2*mib)
			second := trained(2, dtype, first, 1)
			d := put(t, s, first).Digest
			info := putLike(t, s, second, d)
			cuts := frameSizes(t, s, d)
			if !slices.Equal(frameSizes(t, s, info.Digest), cuts) {
				t.Errorf("cut into %v, not %v", frameSizes(t, s, info.Digest), cuts)
			}
			if info.Parts.Delta.Frames != len(cuts) {
				t.Errorf("%+v", info.Parts)
			}
			// Of another size nothing is at its place.
			longer := cat(second, second[:8])
			putLike(t, s, longer, d)
			// As a stream its size is not known.
			b := s.Batch()
			if _, err := b.PutLike(t.Context(), stream(trained(3, dtype, first, 1)), []Digest{d}); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, s, trained(3, dtype, first, 1))
		})
	}
	// Other bytes are equal or not: no deltas.
	s, _ := newMem(t, nil)
	first := randomBytes(1, 2*mib)
	d := put(t, s, first).Digest
	second := bytes.Clone(first)
	second[mib] ^= 1
	info := putLike(t, s, second, d)
	if n := len(frameSizes(t, s, d)); info.Parts.Borrowed.Frames != n-1 || info.Parts.Delta.Frames != 0 {
		t.Errorf("%+v of %d frames", info.Parts, n)
	}
}

// TestSimilar finds bases by nothing but the sketches of stored blobs, under
// other names, and of several the nearest.
func TestSimilar(t *testing.T) {
	k := keyed{}
	s, m := newMem(t, &Options{Similar: k.similar})
	model := weights(1)
	far := step(7, step(8, step(9, model, 0.3), 0.3), 0.3)
	var stored []Digest
	for _, x := range [][]tensor{far, model, weights(60)} {
		d := put(t, openMem(t, m, nil), safetensors(x...)).Digest
		stored = append(stored, d)
	}
	for _, d := range stored {
		k.learn(t, s, d)
	}
	next := step(10, model, 0.05)
	for i := range next {
		next[i].name = fmt.Sprintf("other name %d", i)
	}
	content := safetensors(next...)
	info := put(t, s, content)
	wantBlob(t, s, content)
	wantReach(t, s, info.Digest)
	// The shortest tensor has no sketch.
	if info.Parts.Delta.Frames != dataFrames-1 || !slices.Equal(info.Donors, []Digest{stored[1]}) {
		t.Errorf("%s of donors %v, not of %s", layout(t, s, info.Digest), info.Donors, stored[1].Short())
	}

	// Wrong answers cost nothing.
	evil := put(t, openMem(t, m, nil), lines(200)).Digest
	for name, refs := range map[string][]FrameRef{
		"no such blob":      {{Sum([]byte("none")), 0}, {}},
		"no such frame":     {{stored[1], 1000}, {stored[1], 1<<32 - 1}},
		"no floats":         {{evil, 0}},
		"the middle of one": {{stored[1], 2}},
		"many":              slices.Repeat([]FrameRef{{evil, 0}, {stored[2], 1}, {stored[2], 3}}, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			s := openMem(t, m, &Options{Similar: func(context.Context, []uint64) []FrameRef { return refs }})
			content := safetensors(step(uint64(len(name)), next, 1)...)
			put(t, s, content)
			wantBlob(t, s, content)
		})
	}
}

// TestSketchesSurviveTheFile compares the keys that Frames returns with those
// of an equal store, and finds them in a healed file too.
func TestSketchesSurviveTheFile(t *testing.T) {
	s, m := newMem(t, nil)
	content := safetensors(weights(1)...)
	d := put(t, s, content).Digest
	keys := func() (out [][]uint64) {
		_, frames, err := s.Frames(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			out = append(out, f.Keys)
		}
		return out
	}
	want := keys()
	for i, frame := range want {
		if sketched := i == 1 || i >= 3 && i <= 5; sketched != (len(frame) == format.SketchKeys) {
			t.Errorf("frame %d has keys %v", i, frame)
		}
	}
	flip(t, m, blobPath(d), format.HeaderSize, 1)
	put(t, s, content)
	if got := keys(); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("keys %v after healing, not %v", got, want)
	}
}

// TestOtherCompressionsStandAlone puts later states without Auto: nothing is a
// delta or a cast.
func TestOtherCompressionsStandAlone(t *testing.T) {
	for _, c := range []Compression{None, Zstd} {
		s, m := newMem(t, nil)
		model := weights(1)
		d := put(t, s, safetensors(model...)).Digest
		info := putLike(t, openMem(t, m, &Options{Compression: c}), safetensors(step(1, model, 1)...), d)
		for i, r := range rowsOf(t, s, info.Digest).Rows {
			if r.Depth > 0 || r.Codec > codec.Zstd {
				t.Errorf("%s: frame %d has codec %d", c, i, r.Codec)
			}
		}
	}
}

// TestConcurrentChains puts chains of states that begin with the same one from
// many goroutines, through batches of their own and a common one.
func TestConcurrentChains(t *testing.T) {
	k := keyed{}
	s, m := newMem(t, &Options{Workers: 2, Similar: k.similar})
	model := []tensor{{"a", "BF16", normals(1, "BF16", 100<<10)}, {"b", "F32", normals(2, "F32", 128<<10)}}
	first := put(t, s, safetensors(model...)).Digest
	k.learn(t, s, first)
	common := s.Batch()
	var mu sync.Mutex
	var all [][]byte
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			b := common
			if g%2 == 0 {
				b = s.Batch()
			}
			model, like := model, first
			for i := range 7 {
				model = step(uint64(100*(g/3)+i), model, 1) // three goroutines put the same ones
				content := safetensors(append(slices.Clone(model), tensor{"bf", "BF16", narrowed("BF16", model[1].data)})...)
				info, err := b.PutLike(t.Context(), bytes.NewReader(content), []Digest{like})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(t.Context(), s, info.Digest); err != nil || !bytes.Equal(got, content) {
					t.Errorf("read back: %d bytes, %v", len(got), err)
				}
				like = info.Digest
				mu.Lock()
				all = append(all, content)
				mu.Unlock()
			}
			if err := b.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s = openMem(t, m, nil)
	for _, content := range all {
		wantBlob(t, s, content)
		wantReach(t, s, Sum(content))
	}
}
