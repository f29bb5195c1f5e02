package blob

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// castFrames counts the rows of a blob that are casts: of this file, and of
// others.
func castFrames(t testing.TB, s *Store, d Digest) (self, other int) {
	t.Helper()
	for _, r := range rowsOf(t, s, d).Rows {
		switch {
		case r.Place != format.Held || r.Codec != codec.Cast:
		case r.Base == format.SelfBase:
			self++
		default:
			other++
		}
	}
	return self, other
}

// casts are the ways in which fp32 becomes narrower.
var casts = []struct {
	name, dtype string
	make        func([]byte) []byte
}{
	{"bf16", "BF16", func(w []byte) []byte { return narrowed("BF16", w) }},
	{"fp16", "F16", func(w []byte) []byte { return narrowed("F16", w) }},
	{"bf16, truncated", "BF16", truncated},
}

// awkward are weights with every kind of value in each of their frames.
func awkward(seed uint64, n int) []byte {
	w := coarse(seed, n)
	for at := 0; at+1000 < n; at += 100 << 10 {
		for i, x := range []uint32{0, 1 << 31, 1, 0x7f800000, 0xff800000, 0x7f7fffff, 0x33000000, 0x33000001, 0x38800000, 0x387fffff, 0x477fefff, 0x477ff000, 0x3f808000, 0x3f818000} {
			binary.LittleEndian.PutUint32(w[at+4*i+40:], x)
		}
	}
	return w
}

// TestCasts puts fp32 weights and their casts in one file, in two of a batch,
// and as a later blob.
func TestCasts(t *testing.T) {
	// Frames that span two others, and a last one of every kind of length.
	for _, size := range []int{128 << 10, 2*mib + 100<<10, 2*mib + 4, 2*mib + 400} {
		wide := awkward(1, size)
		for _, c := range casts {
			w, n := tensor{"w", "F32", wide}, tensor{"n", c.dtype, c.make(wide)}
			frames := (len(n.data) + mib - 1) / mib
			if len(n.data)%mib > 0 && len(n.data)%mib < 64 && frames > 1 {
				frames-- // so few bytes are stored as they are
			}
			wantCasts := func(t *testing.T, s *Store, d Digest, self, other int) {
				t.Helper()
				if a, b := castFrames(t, s, d); a != self || b != other {
					t.Errorf("%d casts of its own and %d of other files, not %d and %d: %s", a, b, self, other, layout(t, s, d))
				}
				wantReach(t, s, d)
			}
			t.Run(c.name+", in one file", func(t *testing.T) {
				for _, workers := range []int{1, 4} {
					s, _ := newMem(t, &Options{Workers: workers})
					content := safetensors(w, n)
					d := put(t, s, content).Digest
					wantBlob(t, s, content)
					wantCasts(t, s, d, frames, 0)
					if !put(t, s, content).Known {
						t.Error("put again: not known")
					}
					if size > mib {
						continue // the same as for the shorter one
					}
					checkReads(t, s, content)
					// As a stream it can't be looked at twice.
					other, _ := newMem(t, &Options{Workers: workers})
					if _, err := other.Put(t.Context(), stream(content)); err != nil {
						t.Fatal(err)
					}
					wantBlob(t, other, content)
				}
			})
			t.Run(c.name+", in a batch", func(t *testing.T) {
				s, _ := newMem(t, nil)
				b := s.Batch()
				for _, x := range []tensor{w, n} {
					if _, err := b.Put(t.Context(), bytes.NewReader(safetensors(x))); err != nil {
						t.Fatal(err)
					}
				}
				if err := b.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantBlob(t, s, safetensors(n))
				wantCasts(t, s, Sum(safetensors(n)), 0, frames)
			})
			t.Run(c.name+", later", func(t *testing.T) {
				k := keyed{}
				s, _ := newMem(t, &Options{Similar: k.similar})
				k.learn(t, s, put(t, s, safetensors(w)).Digest)
				content := safetensors(tensor{"other", "U8", randomBytes(1, 70<<10)}, n)
				d := put(t, s, content).Digest
				wantBlob(t, s, content)
				wantCasts(t, s, d, 0, frames)
			})
			t.Run(c.name+", of borrowed frames", func(t *testing.T) {
				s, _ := newMem(t, nil)
				d := put(t, s, safetensors(w)).Digest
				info := putLike(t, s, safetensors(w, n), d)
				wantCasts(t, s, info.Digest, 0, frames)
				if info.Parts.Borrowed.Size != int64(size) {
					t.Errorf("%+v", info.Parts)
				}
			})
		}
	}
}

// TestCastThatIsNone puts narrow weights that differ in one value from the cast:
// that frame is stored on its own.
func TestCastThatIsNone(t *testing.T) {
	wide := awkward(1, 2*mib+200<<10)
	for _, c := range casts {
		for _, bits := range []uint16{0x7fff, 0xffc1, 0x7c01, 0x7f81, 0x1234} { // NaNs of their own among them
			n := c.make(wide)
			binary.LittleEndian.PutUint16(n[mib+50001&^1:], bits)
			s, _ := newMem(t, nil)
			content := safetensors(tensor{"w", "F32", wide}, tensor{"n", c.dtype, n})
			d := put(t, s, content).Digest
			wantBlob(t, s, content)
			if self, _ := castFrames(t, s, d); self != 1 {
				t.Errorf("%s, %#x: %s", c.name, bits, layout(t, s, d))
			}
		}
		// A NaN whose cast is one, too.
		odd := bytes.Clone(wide)
		binary.LittleEndian.PutUint32(odd[mib+400:], 0x7fa00123)
		n := c.make(odd)
		s, _ := newMem(t, nil)
		content := safetensors(tensor{"w", "F32", odd}, tensor{"n", c.dtype, n})
		d := put(t, s, content).Digest
		wantBlob(t, s, content)
		if self, _ := castFrames(t, s, d); self != 2 {
			t.Errorf("%s, a NaN: %s", c.name, layout(t, s, d))
		}
	}
}

// TestCastOfDeltas puts casts beside fp32 weights that are deltas in turn: no
// read takes more than 5 frames, however deep the chain.
func TestCastOfDeltas(t *testing.T) {
	s, m := newMem(t, nil)
	w := tensor{"w", "F32", normals(1, "F32", mib+200<<10)}
	small := tensor{"v", "F32", normals(2, "F32", 200<<10)}
	var like []Digest
	reached := map[int]bool{}
	for i := range 7 {
		content := safetensors(w, small, tensor{"n", "BF16", narrowed("BF16", w.data)}, tensor{"m", "F16", narrowed("F16", small.data)})
		info := putLike(t, s, content, like...)
		wantReach(t, s, info.Digest)
		for n, r := range rowsOf(t, s, info.Digest).Rows {
			if r.Place == format.Held && r.Codec == codec.Cast {
				reached[reach(t, s, info.Digest, uint32(n))] = true
			}
		}
		// And in files of their own, later.
		k := keyed{}
		k.learn(t, s, info.Digest)
		other := openMem(t, m, &Options{Similar: k.similar})
		alone := safetensors(tensor{"v", "BF16", narrowed("BF16", small.data)}, tensor{"w", "F16", narrowed("F16", w.data)})
		d := put(t, other, alone).Digest
		wantBlob(t, other, alone)
		wantReach(t, other, d)
		if _, n := castFrames(t, other, d); n > 0 != (i%5 < format.MaxDepth) {
			t.Errorf("state %d: %s", i, layout(t, other, d))
		}
		like = []Digest{info.Digest}
		w.data, small.data = trained(uint64(i), "F32", w.data, 1), trained(uint64(i+100), "F32", small.data, 1)
	}
	if !reached[1+format.MaxDepth] || len(reached) < 3 {
		t.Errorf("casts needed %v frames", reached)
	}
}

// twoFaced is a source whose content changes between Read and ReadAt, as a file
// does that is written to meanwhile.
type twoFaced struct {
	*bytes.Reader
	later *bytes.Reader
}

func (r *twoFaced) ReadAt(p []byte, off int64) (int, error) { return r.later.ReadAt(p, off) }

// TestSourceThatChanges puts a file that is written to meanwhile: what is
// stored is what was read once, and can be read.
func TestSourceThatChanges(t *testing.T) {
	for _, workers := range []int{1, 3} {
		before, after := normals(1, "F32", 2*mib), normals(1, "F32", 2*mib)
		for at := 300<<10 + 100; at < 302<<10; at++ { // where no key looks
			after[at] ^= 0x55
		}
		n := tensor{"n", "BF16", narrowed("BF16", after)}
		first, second := safetensors(tensor{"w", "F32", before}, n), safetensors(tensor{"w", "F32", after}, n)
		s, _ := newMem(t, &Options{Workers: workers})
		info, err := s.Put(t.Context(), &twoFaced{bytes.NewReader(first), bytes.NewReader(second)})
		if err != nil {
			t.Fatal(err)
		}
		if info.Digest != Sum(first) {
			t.Errorf("stored %s, which was never read", info.Digest)
		}
		wantBlob(t, s, first)
	}
}

// TestCastsOfSeveralTensors has tensors of one size, each with its cast, in an
// order that is not the same.
func TestCastsOfSeveralTensors(t *testing.T) {
	var file []tensor
	for i := range 4 {
		file = append(file, tensor{string(rune('a' + i)), "F32", normals(uint64(i), "F32", 256<<10)})
	}
	for _, i := range []int{2, 0, 3, 1} {
		file = append(file, tensor{string(rune('A' + i)), "BF16", narrowed("BF16", file[i].data)})
	}
	s, _ := newMem(t, nil)
	content := safetensors(file...)
	d := put(t, s, content).Digest
	wantBlob(t, s, content)
	if self, _ := castFrames(t, s, d); self != 4 {
		t.Errorf("%s", layout(t, s, d))
	}
	// The narrow ones first: nothing can be based on what comes later.
	slices.Reverse(file)
	content = safetensors(file...)
	put(t, s, content)
	wantBlob(t, s, content)
	if r, err := s.Open(t.Context(), Sum(content)); err != nil {
		t.Error(err)
	} else if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
}
