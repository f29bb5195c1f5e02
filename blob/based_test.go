package blob

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// based is a store with a blob whose frames are decoded with those of another
// one, both small on disk.
type based struct {
	s              *Store
	m              *durable.Mem
	content, other []byte // of the blob and its base
	blob, base     Digest
}

// coarse are weights in runs of equal ones, so that they take little room.
func coarse(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 19))
	b := make([]byte, 0, n)
	for len(b) < n {
		b = appendFloat(b, "F32", rng.NormFloat64())
		b = append(b, bytes.Repeat(b[len(b)-4:], min(40+rng.IntN(200), (n-len(b))/4))...)
	}
	return b
}

func newBased(t testing.TB) *based {
	t.Helper()
	x := &based{}
	x.s, x.m = newMem(t, &Options{Workers: 1})
	w := normals(1, "BF16", 4<<10)
	f, g := coarse(2, 128<<10), coarse(3, 128<<10)
	pad := repeated("fills a header ", 64<<10) // parts tensors that would share a frame
	x.other = safetensors(tensor{"w", "BF16", w}, tensor{"pad", "U8", pad}, tensor{"f", "F32", f}, tensor{"only here", "U8", randomBytes(1, 40)})
	x.base = put(t, x.s, x.other).Digest
	x.content = safetensors(
		tensor{"w", "BF16", trained(4, "BF16", w, 0.3)}, // a delta
		tensor{"own", "U8", []byte("of its own")},
		tensor{"f", "F32", f}, // borrowed
		tensor{"g", "F32", g},
		tensor{"f.bf16", "BF16", narrowed("BF16", f)}, // a cast of a borrowed frame
		tensor{"g.fp16", "F16", narrowed("F16", g)})   // and of one of its own
	x.blob = putLike(t, x.s, x.content, x.base).Digest
	if got, d := layout(t, x.s, x.blob), depths(t, x.s, x.blob); got != "H2H4H0BH2H5H5" || d != "0100011" {
		t.Fatalf("layout %s, depths %s", got, d)
	}
	if info, err := x.s.Stat(t.Context(), x.blob); err != nil || !slices.Equal(info.Donors, []Digest{x.base}) {
		t.Fatalf("donors %v, %v", info.Donors, err)
	}
	return x
}

// TestEveryFlippedByteOfABasedBlob is TestEveryFlippedByteIsSeen for deltas and
// casts.
func TestEveryFlippedByteOfABasedBlob(t *testing.T) {
	t.Parallel()
	x := newBased(t)
	name := blobPath(x.blob)
	for at := range loadFile(t, x.m, name) {
		mask := byte(1) << (at % 8)
		flip(t, x.m, name, int64(at), mask)
		wantCorrupt(t, x.s, x.content, x.blob, fmt.Sprintf("byte %d ^ %#x", at, mask))
		flip(t, x.m, name, int64(at), mask)
		if t.Failed() {
			return
		}
	}
	wantBlob(t, x.s, x.content)
}

func TestEveryFlippedByteOfABase(t *testing.T) {
	t.Parallel()
	x := newBased(t)
	name := blobPath(x.base)
	file := loadFile(t, x.m, name)
	needed := make([]bool, len(file))
	at := format.HeaderSize
	for i := range needed {
		needed[i] = true
	}
	for i, r := range rowsOf(t, x.s, x.base).Rows {
		if i != 1 && i != len(rowsOf(t, x.s, x.base).Rows)-2 { // w and f
			for j := range int(r.StoredLen) {
				needed[at+j] = false
			}
		}
		at += int(r.StoredLen)
	}
	for at := range file {
		mask := byte(1) << (at % 8)
		flip(t, x.m, name, int64(at), mask)
		what := fmt.Sprintf("byte %d ^ %#x of the base", at, mask)
		wantCorrupt(t, x.s, x.other, x.base, what)
		if needed[at] {
			wantCorrupt(t, x.s, x.content, x.base, what)
		} else {
			wantBlob(t, x.s, x.content)
		}
		flip(t, x.m, name, int64(at), mask)
		if t.Failed() {
			return
		}
	}
	wantBlob(t, x.s, x.content)
}

// TestBaseChangedBelowItsChecksum gives a base other bytes with a right
// checksum: only hashes show it, and they show where.
func TestBaseChangedBelowItsChecksum(t *testing.T) {
	for _, c := range []struct {
		name string
		row  int // of the base; its codec and parameter are left
	}{{"of a delta", 1}, {"of a cast", 3}} {
		t.Run(c.name, func(t *testing.T) {
			x := newBased(t)
			spoil(t, x.s, x.m, x.other, c.row)
			wantCorrupt(t, x.s, x.other, x.base, "the base")
			wantCorrupt(t, x.s, x.content, x.base, "what is based on it")
			if info := put(t, x.s, x.content); info.Known {
				t.Error("a blob that can't be read passed for known")
			}
			wantBlob(t, x.s, x.content)
			put(t, x.s, x.other)
			wantBlob(t, x.s, x.other)
		})
	}
}

// spoil changes one bit of a frame of the content's blob before it was encoded:
// every checksum is right, but not the hash.
func spoil(t *testing.T, s *Store, m *durable.Mem, content []byte, row int) {
	t.Helper()
	f, err := s.openFile(Sum(content))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	rows := slices.Clone(f.table.Rows)
	plain := bytes.Clone(content[f.starts[row]:][:rows[row].PlainLen])
	plain[3] ^= 0x10 // of the high bytes, which a cast keeps
	var all []byte
	for i := range rows {
		b, err := f.stored(uint32(i), make([]byte, format.MaxFrame))
		if err != nil {
			t.Fatal(err)
		}
		if i == row {
			sum := rows[i].Sum
			b, rows[i] = plain, rawRow(plain)
			rows[i].Sum = sum
		}
		all = append(all, b...)
	}
	plant(t, m, f.digest, &format.Table{Rows: rows, Sketches: f.table.Sketches}, all)
}

// TestCastOfTwoFramesNamesTheSpoiledOne spoils either of the frames that a cast
// is of.
func TestCastOfTwoFramesNamesTheSpoiledOne(t *testing.T) {
	wide := coarse(1, 2*mib)
	for row := 1; row <= 2; row++ {
		k := keyed{}
		s, m := newMem(t, &Options{Similar: k.similar})
		base, content := safetensors(tensor{"w", "F32", wide}), safetensors(tensor{"n", "BF16", narrowed("BF16", wide)})
		k.learn(t, s, put(t, s, base).Digest)
		put(t, s, content)
		if _, n := castFrames(t, s, Sum(content)); n != 1 {
			t.Fatalf("%s", layout(t, s, Sum(content)))
		}
		spoil(t, s, m, base, row)
		wantCorrupt(t, s, content, Sum(base), fmt.Sprintf("frame %d of the base", row))
	}
}

// TestBaseRemoved reads and heals a blob whose base is gone.
func TestBaseRemoved(t *testing.T) {
	x := newBased(t)
	if err := x.m.Remove(blobPath(x.base)); err != nil {
		t.Fatal(err)
	}
	wantCorrupt(t, x.s, x.content, x.base, "base removed")
	if info := put(t, x.s, x.content); info.Known || len(info.Donors) != 0 {
		t.Errorf("put again: %+v", info)
	}
	wantBlob(t, x.s, x.content)
}

// TestHealBased damages each frame of a blob and of its base, and puts either
// again, in every way: it holds every frame then, and what is based on it can
// be read.
func TestHealBased(t *testing.T) {
	ref := newBased(t)
	for _, victim := range []string{"blob", "base"} {
		d, content := ref.blob, ref.content
		if victim == "base" {
			d, content = ref.base, ref.other
		}
		at := int64(format.HeaderSize)
		for i, r := range rowsOf(t, ref.s, d).Rows {
			if r.Place != format.Held {
				continue
			}
			for _, how := range []string{"put", "stream", "like the other", "like itself"} {
				t.Run(fmt.Sprintf("%s, frame %d, %s", victim, i, how), func(t *testing.T) {
					x := newBased(t)
					before := frameSizes(t, x.s, d)
					flip(t, x.m, blobPath(d), at, 0x40)
					if err := x.s.Verify(t.Context(), d); err == nil {
						t.Fatal("the damage is not seen")
					}
					switch how {
					case "put":
						put(t, x.s, content)
					case "stream":
						if _, err := x.s.Put(t.Context(), stream(content)); err != nil {
							t.Fatal(err)
						}
					case "like the other":
						putLike(t, x.s, content, x.base, x.blob)
					case "like itself":
						putLike(t, x.s, content, d, x.base)
					}
					wantBlob(t, x.s, x.content)
					wantBlob(t, x.s, x.other)
					info, err := x.s.Stat(t.Context(), d)
					if err != nil || len(info.Donors) != 0 || info.Parts.Delta.Frames != 0 {
						t.Errorf("healed: %+v, %v", info, err)
					}
					if got := frameSizes(t, x.s, d); !slices.Equal(got, before) {
						t.Errorf("cut into %v, not %v as before", got, before)
					}
					if info := put(t, x.s, content); !info.Known {
						t.Error("healed once more")
					}
				})
			}
			at += int64(r.StoredLen)
		}
	}
}

// chained is an opaque file, one that was cut like it, and one that was cut like
// that in turn. The second would be cut otherwise if it were put alone.
func chained(t *testing.T, s *Store) (contents [][]byte) {
	t.Helper()
	content := normals(1, "F32", mib)
	var like []Digest
	for i := range 3 {
		contents = append(contents, content)
		info := putLike(t, s, content, like...)
		if n := len(frameSizes(t, s, info.Digest)); i > 0 && info.Parts.Delta.Frames != n {
			t.Fatalf("%+v of %d frames", info.Parts, n)
		}
		like = []Digest{info.Digest}
		content = trained(uint64(i), "F32", content, 1)
	}
	alone, _ := newMem(t, nil)
	if slices.Equal(frameSizes(t, alone, put(t, alone, contents[1]).Digest), frameSizes(t, s, Sum(contents[1]))) {
		t.Fatal("the content is cut the same in both ways")
	}
	return contents
}

// TestHealKeepsCuts heals a blob by its content alone, of which others need
// frames that end elsewhere.
func TestHealKeepsCuts(t *testing.T) {
	for _, how := range []string{"put", "stream"} {
		t.Run(how, func(t *testing.T) {
			s, m := newMem(t, nil)
			contents := chained(t, s)
			d := Sum(contents[1])
			cuts := frameSizes(t, s, d)
			flip(t, m, blobPath(d), format.HeaderSize+1000, 1)
			wantCorrupt(t, s, contents[2], d, "damaged base")
			if how == "put" {
				put(t, s, contents[1])
			} else if _, err := s.Put(t.Context(), stream(contents[1])); err != nil {
				t.Fatal(err)
			}
			if got := frameSizes(t, s, d); !slices.Equal(got, cuts) {
				t.Errorf("cut into %v, not %v", got, cuts)
			}
			for _, content := range contents {
				wantBlob(t, s, content)
			}
			if got := depths(t, s, d); slices.ContainsFunc([]byte(got), func(c byte) bool { return c != '0' }) {
				t.Errorf("depths %s", got)
			}
		})
	}
}

// TestHealWithoutCuts heals a blob whose table is lost, so that nobody knows
// where its frames ended. What was based on them can't be read then; it says
// so, and is healed when it is put again.
func TestHealWithoutCuts(t *testing.T) {
	s, m := newMem(t, nil)
	contents := chained(t, s)
	d := Sum(contents[1])
	flip(t, m, blobPath(d), int64(len(loadFile(t, m, blobPath(d)))-format.FooterSize-5), 1)
	put(t, s, contents[1])
	wantBlob(t, s, contents[1])
	wantBlob(t, s, contents[0])
	wantCorrupt(t, s, contents[2], d, "another base")
	if info := put(t, s, contents[2]); info.Known {
		t.Error("a blob that can't be read passed for known")
	}
	wantBlob(t, s, contents[2])
}

// TestBaseOfOtherFramesHasEqualLengths is the same with frames of one length,
// which only their content tells apart.
func TestBaseOfOtherFramesHasEqualLengths(t *testing.T) {
	s, m := newMem(t, nil)
	a, b := normals(1, "BF16", mib), normals(2, "BF16", mib)
	first := safetensors(tensor{"a", "BF16", a}, tensor{"b", "BF16", b})
	d := put(t, s, first).Digest
	second := safetensors(tensor{"a", "BF16", trained(3, "BF16", a, 1)}, tensor{"b", "BF16", trained(4, "BF16", b, 1)})
	like := putLike(t, s, second, d).Digest
	// The digest is of the plain content, so a file with its frames exchanged
	// can't be sound; but one that is may hold them in another order only when
	// someone forged it.
	rewrite(t, m, like, func(t *format.Table, _ *format.Footer) {
		t.Rows[1].BaseFrame, t.Rows[2].BaseFrame = t.Rows[2].BaseFrame, t.Rows[1].BaseFrame
	})
	wantCorrupt(t, s, second, like, "bases exchanged")
	if info := put(t, s, second); info.Known {
		t.Error("a blob that can't be read passed for known")
	}
	wantBlob(t, s, second)
}

// TestOwnBaseGone is TestOwnDonorGone for a delta: the blob that is put is like
// an older file of itself, which disappears before the new one gets its name.
func TestOwnBaseGone(t *testing.T) {
	for _, part := range []float64{0, 0.5} {
		s, m := newMem(t, &Options{Workers: 1})
		model := []tensor{{"a", "BF16", normals(1, "BF16", 100<<10)}, {"b", "BF16", normals(2, "BF16", 100<<10)}}
		first := put(t, s, safetensors(model...)).Digest
		content := safetensors(step(3, model, part)...)
		d := putLike(t, s, content, first).Digest
		w := s.Batch().Writer(t.Context())
		w.kin.like = []Digest{d, first}
		if _, err := w.ReadFrom(bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if err := w.finish(); err != nil { // as Commit does first
			t.Fatal(err)
		}
		if err := m.Remove(blobPath(d)); err != nil {
			t.Fatal(err)
		}
		info, err := w.Commit(d)
		if err != nil || info.Known {
			t.Fatalf("%+v, %v", info, err)
		}
		wantBlob(t, s, content)
		if slices.Contains(info.Donors, d) {
			t.Errorf("donors %v", info.Donors)
		}
	}
}

// TestRepeatedBaseIsChecked puts a blob again whose base is, since it was
// healed, a row that repeats a damaged one.
func TestRepeatedBaseIsChecked(t *testing.T) {
	s, m := newMem(t, nil)
	w := tensor{"w", "BF16", normals(1, "BF16", 80<<10)}
	same := tensor{"x", "BF16", w.data}
	first := safetensors(w, same)
	d := put(t, s, first).Digest
	if got := layout(t, s, d); got != "H2H3R" {
		t.Fatalf("layout %s", got)
	}
	next := tensor{"x", "BF16", trained(2, "BF16", w.data, 1)}
	content := safetensors(tensor{"pad", "U8", randomBytes(1, 90<<10)}, next)
	like := putLike(t, s, content, d).Digest
	rewrite(t, m, like, func(t *format.Table, _ *format.Footer) {
		if r := &t.Rows[2]; r.Codec == codec.Delta && r.BaseFrame == 1 {
			r.BaseFrame = 2 // as it would be if the holder had been row 2 before
		}
	})
	wantBlob(t, s, content)
	if info := put(t, s, content); !info.Known {
		t.Error("a sound blob was written again")
	}
	flip(t, m, blobPath(d), int64(rowsOf(t, s, d).Rows[0].StoredLen)+format.HeaderSize+9, 1)
	wantCorrupt(t, s, content, d, "the row that is repeated")
	if info := put(t, s, content); info.Known {
		t.Error("a blob that can't be read passed for known")
	}
	wantBlob(t, s, content)
}
