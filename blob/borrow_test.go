package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// hint is an Options.Known that always gives the same answer.
func hint(ref FrameRef) func(context.Context, Digest) (FrameRef, bool) {
	return func(context.Context, Digest) (FrameRef, bool) { return ref, true }
}

// TestWrongHintsCostNothing gives Put each kind of wrong hint: the blob then
// holds the frame itself.
func TestWrongHintsCostNothing(t *testing.T) {
	lent := repeated("lent\n", mib)
	content := cat(lent, []byte("tail"))
	for _, c := range []struct {
		name string
		hint func(t *testing.T, s *Store, m *durable.Mem, donor Digest) FrameRef
		want string
	}{
		{"right", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) FrameRef {
			return FrameRef{d, 1}
		}, "BH0"},
		{"a repeated frame", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) FrameRef {
			return FrameRef{d, 2}
		}, "BH0"},
		{"no such blob", func(*testing.T, *Store, *durable.Mem, Digest) FrameRef {
			return FrameRef{Sum([]byte("none")), 0}
		}, "H2H0"},
		{"the zero blob", func(*testing.T, *Store, *durable.Mem, Digest) FrameRef {
			return FrameRef{}
		}, "H2H0"},
		{"no such frame", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) FrameRef {
			return FrameRef{d, 4}
		}, "H2H0"},
		{"a frame number near the limit", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) FrameRef {
			return FrameRef{d, 1<<32 - 1}
		}, "H2H0"},
		{"another frame", func(_ *testing.T, _ *Store, _ *durable.Mem, d Digest) FrameRef {
			return FrameRef{d, 0}
		}, "H2H0"},
		{"damaged header", func(t *testing.T, _ *Store, m *durable.Mem, d Digest) FrameRef {
			flip(t, m, blobPath(d), 0, 1)
			return FrameRef{d, 1}
		}, "H2H0"},
		{"damaged frame", func(t *testing.T, _ *Store, m *durable.Mem, d Digest) FrameRef {
			flip(t, m, blobPath(d), format.HeaderSize+1, 1) // behind the constant frame's byte
			return FrameRef{d, 1}
		}, "H2H0"},
		{"a borrower", func(t *testing.T, s *Store, _ *durable.Mem, d Digest) FrameRef {
			b := openMem(t, s.fsys, &Options{Known: hint(FrameRef{d, 1})})
			info := put(t, b, lent)
			if got := layout(t, b, info.Digest); got != "B" {
				t.Fatalf("layout %s", got)
			}
			return FrameRef{info.Digest, 0}
		}, "BH0"},
		{"a borrower without its donor", func(t *testing.T, s *Store, m *durable.Mem, d Digest) FrameRef {
			b := openMem(t, s.fsys, &Options{Known: hint(FrameRef{d, 1})})
			info := put(t, b, lent)
			if err := m.Remove(blobPath(d)); err != nil {
				t.Fatal(err)
			}
			return FrameRef{info.Digest, 0}
		}, "H2H0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, m := newMem(t, nil)
			donor := put(t, plain, cat(make([]byte, mib), lent, lent, []byte("x"))).Digest
			s := openMem(t, m, &Options{Known: hint(c.hint(t, plain, m, donor))})
			d := put(t, s, content).Digest
			if got := layout(t, s, d); got != c.want {
				t.Errorf("layout %s, not %s", got, c.want)
			}
			if info, err := s.Stat(t.Context(), d); err != nil || c.want == "BH0" && (len(info.Donors) != 1 || info.Donors[0] != donor) {
				// Never the borrower: a borrowed frame names its holder.
				t.Errorf("donors %v, %v", info.Donors, err)
			}
			wantBlob(t, s, content)
		})
	}
}

// TestDonorRemoved reads and heals a blob whose donor is gone.
func TestDonorRemoved(t *testing.T) {
	x := newMixed(t)
	if err := x.m.Remove(blobPath(x.donor)); err != nil {
		t.Fatal(err)
	}
	wantCorrupt(t, x.s, x.content, x.donor, "donor removed")
	if err := x.s.Verify(t.Context(), x.blob); errors.Is(err, ErrNotFound) {
		t.Errorf("%v says that the blob itself is missing", err)
	}
	if info := put(t, x.s, x.content); info.Known || len(info.Donors) != 0 {
		t.Errorf("put again: %+v", info)
	}
	wantBlob(t, x.s, x.content)
}

// TestManyDonors borrows from more blobs than are kept open.
func TestManyDonors(t *testing.T) {
	h := hints{}
	s, m := newMem(t, &Options{Known: h.known, Workers: 4})
	const count = maxDonors + 5
	var content []byte
	for i := range count {
		part := repeated(fmt.Sprintf("donor %d ", i), mib)
		h.learn(t, s, put(t, s, part).Digest)
		content = append(content, part...)
	}
	content = cat(content, content, []byte("end"))
	info := put(t, s, content)
	if len(info.Donors) != count {
		t.Fatalf("%d donors, not %d", len(info.Donors), count)
	}
	wantBlob(t, s, content)
	if again := put(t, s, content); !again.Known {
		t.Error("put again did not find it")
	}
	// Open files must not grow with the number of donors.
	r, err := s.Open(t.Context(), info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var open, most atomic.Int64
	m.Fail(func(op durable.Op) error {
		switch op.Kind {
		case durable.OpOpen:
			most.Store(max(most.Load(), open.Add(1)))
		case durable.OpClose:
			open.Add(-1)
		}
		return nil
	})
	p := make([]byte, 100)
	for i := range 2 * count {
		if _, err := r.ReadAt(p, int64(i)*mib+5); err != nil || !bytes.Equal(p, content[i*mib+5:][:100]) {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if most.Load() > maxDonors+1 || open.Load() != -1 { // r's own file was open before
		t.Errorf("up to %d donor files open at once, %d left open", most.Load(), open.Load()+1)
	}
}

// TestOwnDonorGone is a hint at an older file of the very blob that is put,
// which disappears before the new one gets its name. The new one must not
// borrow from itself.
func TestOwnDonorGone(t *testing.T) {
	s, m := newMem(t, nil)
	content := cat(repeated("own\n", mib), []byte("tail"))
	d := put(t, s, content).Digest
	h := hints{}
	h.learn(t, s, d)
	s = openMem(t, m, &Options{Known: h.known, Workers: 1})
	w := s.Writer(t.Context())
	defer w.Close()
	if _, err := w.Write(content); err != nil {
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
	if len(info.Donors) != 0 {
		t.Errorf("donors %v", info.Donors)
	}
}

// TestTrail puts content that runs on like a stored blob after a frame that a
// hint names: what follows is compared, not hashed, and only what is equal and
// undamaged is borrowed.
func TestTrail(t *testing.T) {
	frames := [][]byte{randomBytes(1, mib), randomBytes(2, mib), randomBytes(3, mib), randomBytes(4, 10)}
	other := bytes.Clone(frames[2])
	other[mib-1] ^= 1
	for _, c := range []struct {
		name   string
		second [][]byte
		damage bool // of the third frame in the first blob
		layout string
	}{
		{"equal to the end", frames, false, ""},
		// The header, a frame by itself, tells the length of the tensor.
		{"one frame longer", append(slices.Clone(frames[:3]), randomBytes(5, mib), randomBytes(4, 10)), false, "H2BBBH0B"},
		{"last byte of a frame differs", [][]byte{frames[0], frames[1], other, frames[3]}, false, "BBBH0B"},
		{"a frame is shorter", [][]byte{frames[0], frames[1], frames[2][:mib-1]}, false, "H2BBH0"},
		{"a frame is damaged", append(slices.Clone(frames), frames[3]), true, "H2BBH0H0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			d := put(t, s, oneTensor(cat(frames...))).Digest
			if c.damage {
				head := rowsOf(t, s, d).Rows[0].StoredLen
				flip(t, m, blobPath(d), format.HeaderSize+int64(head)+2*mib+5, 1)
			}
			h := hints{}
			h.learn(t, s, d)
			for _, workers := range []int{1, 2} {
				s := openMem(t, m, &Options{Known: h.known, Workers: workers})
				content := oneTensor(cat(c.second...))
				info := put(t, s, content)
				wantBlob(t, s, content)
				if got := layout(t, s, info.Digest); c.layout != "" && workers == 1 && got != c.layout {
					t.Errorf("stored as %s", got)
				}
				if c.layout == "" && !info.Known {
					t.Error("not known")
				}
			}
		})
	}
}
