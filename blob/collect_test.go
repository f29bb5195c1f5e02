package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// marksOf marks the contents as what versions name.
func marksOf(t testing.TB, s *Store, contents ...[]byte) *Marks {
	t.Helper()
	m := s.Marks(func(context.Context, Digest) ([]Digest, bool) { return nil, false })
	for _, c := range contents {
		if err := m.Add(t.Context(), Sum(c)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// collect removes all that m does not need, as a registry does.
func collect(t testing.TB, s *Store, m *Marks) {
	t.Helper()
	c, err := s.Collect(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	for d, err := range s.All(t.Context()) {
		switch {
		case err != nil:
			t.Fatal(err)
		case m.Whole(d):
		case m.Needed(d):
			x, err := s.Thin(t.Context(), d, m)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := c.Replace(t.Context(), x, m); err != nil || !done {
				t.Fatalf("replacing %s: %v, %v", d.Short(), done, err)
			}
		default:
			if done, err := c.Trash(t.Context(), d); err != nil || !done {
				t.Fatalf("trashing %s: %v, %v", d.Short(), done, err)
			}
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// purge removes what is in the trash and returns how much had to stay.
func purge(t testing.TB, s *Store) (held int) {
	t.Helper()
	for x, err := range s.Trash(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if x.Held {
			held++
			continue
		}
		if err := s.Purge(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	return held
}

// states puts n states of a model, each as like the one before, of which one
// tensor stays as it is and the last state lacks the first.
func states(t testing.TB, s *Store, n int) (contents [][]byte) {
	t.Helper()
	model := weights(1)
	var last []Digest
	for i := range n {
		content := safetensors(model...)
		if i == n-1 {
			content = safetensors(model[1:]...)
		}
		last = []Digest{putLike(t, s, content, last...).Digest}
		contents = append(contents, content)
		frozen := model[3]
		model = step(uint64(100*i), model, 1)
		model[3] = frozen
	}
	return contents
}

// TestThin removes the frames of earlier states that the last one does not need.
func TestThin(t *testing.T) {
	s, m := newMem(t, nil)
	all := states(t, s, 4)
	kept, gone := all[3], all[:3]
	marks := marksOf(t, s, kept)
	before := rowsOf(t, s, Sum(gone[0]))
	drop, err := s.Droppable(t.Context(), Sum(gone[2]), marks)
	if err != nil || drop == 0 {
		t.Fatalf("%d bytes can be dropped, %v", drop, err)
	}
	size := len(loadFile(t, m, blobPath(Sum(gone[2]))))
	collect(t, s, marks)
	purge(t, s)
	wantBlob(t, s, kept)
	if x := rowsOf(t, s, Sum(gone[2])); len(x.Donors) != 1 {
		t.Errorf("%d donors are left", len(x.Donors))
	}
	if got := len(loadFile(t, m, blobPath(Sum(gone[2])))); int64(size-got) < drop {
		t.Errorf("the file shrank from %d to %d bytes, where %d could be dropped", size, got, drop)
	}
	for i, content := range gone {
		d := Sum(content)
		info, err := s.Stat(t.Context(), d)
		if err != nil || !info.Partial || info.Size != int64(len(content)) {
			t.Errorf("state %d: %+v, %v", i, info, err)
		}
		if _, err := s.Open(t.Context(), d); !errors.Is(err, ErrNotFound) {
			t.Errorf("state %d can be opened: %v", i, err)
		}
		if err := errors.Join(s.Verify(t.Context(), d), s.Check(t.Context(), d)); err != nil {
			t.Errorf("state %d: %v", i, err)
		}
	}
	// What was collected can be put again, and keeps its frames.
	put(t, s, gone[0])
	after := rowsOf(t, s, Sum(gone[0]))
	for i := range after.Rows {
		if after.Rows[i].PlainLen != before.Rows[i].PlainLen || after.Rows[i].Sum != before.Rows[i].Sum || after.Rows[i].Place == format.Dropped {
			t.Errorf("frame %d is another one: %+v", i, after.Rows[i])
		}
	}
	wantBlob(t, s, gone[0])
	wantBlob(t, s, kept)
	// A second time there is nothing to do.
	again := marksOf(t, s, kept)
	for _, content := range gone[1:] {
		if n, err := s.Droppable(t.Context(), Sum(content), again); n != 0 || err != nil {
			t.Errorf("%d bytes more can be dropped, %v", n, err)
		}
	}
}

// TestThinEveryFrameSet thins a donor for each subset of those who need it.
func TestThinEveryFrameSet(t *testing.T) {
	s, m := newMem(t, nil)
	all := states(t, s, 5)
	for set := 1; set < 1<<len(all); set++ {
		var kept [][]byte
		for i, content := range all {
			if set>>i&1 == 1 {
				kept = append(kept, content)
			}
		}
		x := copyStore(t, m)
		collect(t, x, marksOf(t, x, kept...))
		purge(t, x)
		for _, content := range kept {
			wantBlob(t, x, content)
		}
	}
}

// copyStore returns a store with the same files.
func copyStore(t testing.TB, m *durable.Mem) *Store {
	t.Helper()
	s, to := newMem(t, nil)
	from := openMem(t, m, nil)
	for d, err := range from.All(t.Context()) {
		if err == nil {
			err = to.Mkdir(blobDir(d))
		}
		if err != nil && !strings.Contains(err.Error(), "exist") {
			t.Fatal(err)
		}
		saveFile(t, to, blobPath(d), loadFile(t, m, blobPath(d)))
	}
	return s
}

// TestThinIsOutdated replaces nothing when a frame is needed again, the blob is
// pinned, or its file is another one.
func TestThinIsOutdated(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, s *Store, marks *Marks, all [][]byte)
	}{
		{"needed again", func(t *testing.T, _ *Store, marks *Marks, all [][]byte) {
			if err := marks.Add(t.Context(), Sum(all[1])); err != nil {
				t.Fatal(err)
			}
		}},
		{"needed as a whole", func(t *testing.T, _ *Store, marks *Marks, all [][]byte) {
			if err := marks.Add(t.Context(), Sum(all[0])); err != nil {
				t.Fatal(err)
			}
		}},
		{"pinned", func(t *testing.T, s *Store, _ *Marks, all [][]byte) { pinned(t, s, Sum(all[0])) }},
		{"another file", func(t *testing.T, s *Store, _ *Marks, all [][]byte) {
			x, err := s.Thin(t.Context(), Sum(all[0]), marksOf(t, s, all[2]))
			if err != nil {
				t.Fatal(err)
			}
			c := collection(t, s)
			if done, err := c.Replace(t.Context(), x, marksOf(t, s, all[2])); !done || err != nil {
				t.Fatal(done, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			all := states(t, s, 3)
			marks := marksOf(t, s, all[2])
			x, err := s.Thin(t.Context(), Sum(all[0]), marks)
			if err != nil {
				t.Fatal(err)
			}
			c.change(t, s, marks, all)
			before := loadFile(t, m, blobPath(Sum(all[0])))
			if done, err := collection(t, s).Replace(t.Context(), x, marks); done || err != nil {
				t.Errorf("replaced: %v, %v", done, err)
			}
			if !bytes.Equal(loadFile(t, m, blobPath(Sum(all[0]))), before) || len(names(m, "tmp")) != 0 {
				t.Errorf("the file changed, or tmp has %v", names(m, "tmp"))
			}
		})
	}
}

func collection(t testing.TB, s *Store) *Collection {
	t.Helper()
	c, err := s.Collect(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pinned pins a blob until the test ends.
func pinned(t testing.TB, s *Store, d Digest) *Pin {
	t.Helper()
	p, err := s.Pin(t.Context())
	if err == nil {
		err = p.Add(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// TestDetach encodes the frames on their own that keep a chain of deleted states
// alive, when that saves something.
func TestDetach(t *testing.T) {
	for _, c := range []struct {
		name string
		keep []int
		want []int // detached
	}{
		{"the last of three", []int{2}, []int{2}},
		{"the second of five", []int{1}, []int{1}},
		{"two of one base", []int{1, 2}, []int{1}}, // 2 goes on as a delta to 1
		{"with the base kept", []int{0, 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			all := states(t, s, 3)
			var kept [][]byte
			for _, i := range c.keep {
				kept = append(kept, all[i])
			}
			marks := marksOf(t, s, kept...)
			plan, err := s.Detachable(t.Context(), marks)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for i, content := range all {
				if plan.Frames[Sum(content)] != nil {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.want) || (plan.Saves > 0) != (c.want != nil) {
				t.Fatalf("states %v are detached, not %v; %d bytes are saved", got, c.want, plan.Saves)
			}
			before := stored(t, m)
			for d, rows := range plan.Frames {
				x, err := s.Detach(t.Context(), d, rows)
				if err != nil {
					t.Fatal(err)
				}
				if done, err := x.Publish(t.Context()); !done || err != nil {
					t.Fatal(done, err)
				}
			}
			marks = marksOf(t, s, kept...)
			collect(t, s, marks)
			purge(t, s)
			for _, content := range kept {
				wantBlob(t, s, content)
			}
			if after := stored(t, m); c.want != nil && before-after < plan.Saves/2 {
				t.Errorf("%d bytes became %d, where %d were to be saved", before, after, plan.Saves)
			}
			if again, err := s.Detachable(t.Context(), marksOf(t, s, kept...)); err != nil || len(again.Frames) != 0 {
				t.Errorf("once more: %v, %v", again, err)
			}
		})
	}
}

// stored adds up the files in blobs/.
func stored(t testing.TB, m *durable.Mem) (n int64) {
	t.Helper()
	s := openMem(t, m, nil)
	for d, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n += int64(len(loadFile(t, m, blobPath(d))))
	}
	return n
}

// TestReadCollected reads on what was collected, from the trash.
func TestReadCollected(t *testing.T) {
	s, _ := newMem(t, &Options{Workers: 1})
	all := states(t, s, 3)
	r := open1(t, s, all[1])
	collect(t, s, marksOf(t, s))
	if got, err := io.ReadAll(struct{ io.Reader }{r}); err != nil || !bytes.Equal(got, all[1]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func open1(t *testing.T, s *Store, content []byte) *Reader {
	t.Helper()
	r, err := s.Open(t.Context(), Sum(content))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// TestReadWhileDetached reads a state on whose file is written anew, and whose
// donors are gone then.
func TestReadWhileDetached(t *testing.T) {
	s, _ := newMem(t, &Options{Workers: 1})
	all := states(t, s, 3)
	r := open1(t, s, all[2])
	plan, err := s.Detachable(t.Context(), marksOf(t, s, all[2]))
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Detach(t.Context(), Sum(all[2]), plan.Frames[Sum(all[2])])
	if err != nil {
		t.Fatal(err)
	}
	if done, err := x.Publish(t.Context()); !done || err != nil {
		t.Fatal(done, err)
	}
	collect(t, s, marksOf(t, s, all[2]))
	purge(t, s)
	if got, err := io.ReadAll(struct{ io.Reader }{r}); err != nil || !bytes.Equal(got, all[2]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestPins: what a pin that is older relies on stays in the trash, and comes back
// from there.
func TestPins(t *testing.T) {
	s, m := newMem(t, nil)
	a, b := put(t, s, lines(1000)).Digest, put(t, s, lines(2000)).Digest
	early := pinned(t, s, Digest{1})
	p := pinned(t, s, a)
	c := collection(t, s)
	if got := c.Pinned(); got.Pins != 2 || len(got.Blobs) != 2 {
		t.Errorf("%+v", got)
	}
	if done, err := c.Trash(t.Context(), a); done || err != nil {
		t.Errorf("a pinned blob went to the trash: %v, %v", done, err)
	}
	if done, err := c.Trash(t.Context(), b); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	late := pinned(t, s, Digest{2})
	if held := purge(t, s); held != 1 {
		t.Errorf("%d entries are held back by pins that are older", held)
	}
	if ok, err := s.Restore(t.Context(), b); !ok || err != nil {
		t.Errorf("restoring: %v, %v", ok, err)
	}
	wantBlob(t, s, lines(2000))
	if ok, err := s.Restore(t.Context(), b); !ok || err != nil {
		t.Errorf("restoring what is there: %v, %v", ok, err)
	}
	c = collection(t, s)
	if done, err := c.Trash(t.Context(), b); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if err := errors.Join(c.Close(), early.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if held := purge(t, s); held != 1 { // the late pin is older than the second collection
		t.Errorf("%d entries are held back", held)
	}
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	later := pinned(t, s, Digest{3})
	defer later.Close()
	if held := purge(t, s); held != 0 {
		t.Errorf("%d entries are held back by a later pin", held)
	}
	if ok, err := s.Restore(t.Context(), b); ok || err != nil {
		t.Errorf("restored what is gone: %v, %v", ok, err)
	}
	// One whose process is gone counts for nothing.
	saveFile(t, m, "pins/0000000000000000-0000000000000000", a[:])
	if got, err := s.Pinned(t.Context()); err != nil || got.Pins != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got := names(m, "pins"); len(got) != 3 { // the marker, what restoring left, and the later one
		t.Errorf("pins has %v", got)
	}
}

// TestPutPins: what is being put is pinned, with what it borrows, until the batch
// lets go of it.
func TestPutPins(t *testing.T) {
	s, m := newMem(t, nil)
	base := safetensors(weights(1)...)
	first := put(t, s, base).Digest
	b := s.Batch()
	info, err := b.PutLike(t.Context(), bytes.NewReader(safetensors(step(7, weights(1), 1)...)), []Digest{first})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Pinned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Digest{first, info.Digest} {
		if _, ok := got.Blobs[d]; !ok {
			t.Errorf("%s is not pinned", d.Short())
		}
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
	if names := names(m, "pins"); len(names) != 0 {
		t.Errorf("pins has %v", names)
	}
}

// TestTrashMeetsPin: a pin that is made while a blob moves to the trash brings it
// back.
func TestTrashMeetsPin(t *testing.T) {
	s, m := newMem(t, nil)
	content := lines(3000)
	d := put(t, s, content).Digest
	c := collection(t, s)
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRename && op.Name == blobPath(d) {
			m.Fail(nil)
			pinned(t, s, d)
		}
		return nil
	})
	if done, err := c.Trash(t.Context(), d); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	wantBlob(t, s, content)

	all := states(t, s, 2)
	marks := marksOf(t, s, all[1])
	x, err := s.Thin(t.Context(), Sum(all[0]), marks)
	if err != nil {
		t.Fatal(err)
	}
	c = collection(t, s)
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRename && op.To == blobPath(Sum(all[0])) {
			m.Fail(nil)
			pinned(t, s, Sum(all[0]))
		}
		return nil
	})
	if done, err := c.Replace(t.Context(), x, marks); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	wantBlob(t, s, all[0])
	if got := names(m, "tmp"); len(got) != 0 {
		t.Errorf("tmp has %v", got)
	}
}

// TestDroppedVector reads a golden file of version 3: what is left of the vector
// repeated for the vector borrowed.
func TestDroppedVector(t *testing.T) {
	whole, kept := named(t, "repeated").content(), named(t, "borrowed").content()
	if *update {
		s, m := loadVectors(t)
		collect(t, s, marksOf(t, s, kept))
		saveVector(t, "dropped", loadFile(t, m, blobPath(Sum(whole))))
	}
	file, err := os.ReadFile(vectorPath("dropped"))
	if err != nil {
		t.Fatal(err)
	}
	s, m := loadVectors(t)
	saveFile(t, m, blobPath(Sum(whole)), file)
	wantBlob(t, s, kept)
	rows := rowsOf(t, s, Sum(whole)).Rows
	if len(rows) != 3 || rows[0].Place != format.Held || rows[1].Place != format.Repeated || rows[2].Place != format.Dropped || rows[2].Sum != Sum([]byte("end")) {
		t.Errorf("the rows are %+v", rows)
	}
	if info, err := s.Stat(t.Context(), Sum(whole)); err != nil || !info.Partial || info.Size != int64(len(whole)) {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := s.Open(t.Context(), Sum(whole)); !errors.Is(err, ErrNotFound) {
		t.Errorf("it can be opened: %v", err)
	}
	put(t, s, whole)
	wantBlob(t, s, whole)
}
