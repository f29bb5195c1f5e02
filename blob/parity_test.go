package blob

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

func addParity(t testing.TB, s *Store, d Digest, percent int) Parity {
	t.Helper()
	p, err := s.AddParity(t.Context(), d, percent)
	if err != nil {
		t.Fatal(err)
	}
	if got := parityOf(t, s, d); got != p || p.Percent != percent || p.Stale || p.Damaged {
		t.Fatalf("added %+v, there is %+v", p, got)
	}
	return p
}

func parityOf(t testing.TB, s *Store, d Digest) Parity {
	t.Helper()
	p, err := s.ParityOf(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantNoParity(t testing.TB, s *Store, d Digest) {
	t.Helper()
	if p, err := s.ParityOf(t.Context(), d); !errors.Is(err, ErrNoParity) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("there is a parity: %+v, %v", p, err)
	}
}

func parities(t testing.TB, s *Store) (ds []Digest) {
	t.Helper()
	for d, err := range s.Parities(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	return ds
}

func TestAddAndRemoveParity(t *testing.T) {
	s, m := newMem(t, nil)
	content := randomBytes(1, 50_000)
	d := put(t, s, content).Digest
	other := put(t, s, []byte("another")).Digest
	wantNoParity(t, s, d)
	if len(parities(t, s)) != 0 || len(names(m, "parity")) != 0 {
		t.Error("there are parity files")
	}
	if err := s.RemoveParity(t.Context(), d); err != nil {
		t.Errorf("removing none: %v", err)
	}
	p := addParity(t, s, d, 5)
	if st := int64(len(loadFile(t, m, parityPath(d)))); st != p.Stored {
		t.Errorf("%d bytes, not %d", st, p.Stored)
	}
	before := loadFile(t, m, parityPath(d))
	m.Record()
	addParity(t, s, d, 5)
	for _, line := range m.Trace() {
		if !strings.HasPrefix(line, "syncdir ") {
			t.Errorf("a parity that fits is written again: %s", line)
		}
	}
	if q := addParity(t, s, d, 50); q.Stored <= p.Stored {
		t.Errorf("50%% takes %d bytes, 5%% %d", q.Stored, p.Stored)
	}
	q := addParity(t, s, other, 1)
	if total, err := s.ParityStored(t.Context()); err != nil || total != parityOf(t, s, d).Stored+q.Stored {
		t.Errorf("%d bytes of parity, %v", total, err)
	}
	want := []Digest{d, other}
	slices.SortFunc(want, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	var all []Digest
	for d, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	if !slices.Equal(parities(t, s), want) || !slices.Equal(all, want) {
		t.Errorf("blobs %v, parities %v", all, parities(t, s))
	}
	// Damaged in a part that is read when it is opened: it is made anew.
	flip(t, m, parityPath(d), 100, 1)
	if p := parityOf(t, s, d); !p.Damaged {
		t.Errorf("%+v", p)
	}
	addParity(t, s, d, 5)
	if !bytes.Equal(loadFile(t, m, parityPath(d)), before) {
		t.Error("parity of the same file has other bytes")
	}
	saveFile(t, m, parityPath(d), []byte("nothing of it is left"))
	if _, err := s.ParityOf(t.Context(), d); !isCorrupt(err) {
		t.Errorf("a parity file of other bytes: %v", err)
	}
	addParity(t, s, d, 5)
	for range 2 {
		if err := s.RemoveParity(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		wantNoParity(t, s, d)
	}
	if left := names(m, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
	wantBlob(t, s, content)
}

func TestAddParityRefuses(t *testing.T) {
	s, m := newMem(t, nil)
	d := put(t, s, randomBytes(1, 5000)).Digest
	for _, percent := range []int{0, -1, 101} {
		if _, err := s.AddParity(t.Context(), d, percent); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%d%%: %v", percent, err)
		}
	}
	if _, err := openMem(t, m, &Options{Parity: 101}).Put(t.Context(), strings.NewReader("x")); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("an option of 101%%: %v", err)
	}
	if _, err := s.AddParity(t.Context(), Sum([]byte("missing")), 5); !errors.Is(err, ErrNotFound) {
		t.Errorf("no blob: %v", err)
	}
	// A parity is never of a damaged file: the one that it has stays.
	p := addParity(t, s, d, 5)
	flip(t, m, blobPath(d), format.HeaderSize+7, 1)
	if _, err := s.AddParity(t.Context(), d, 50); !isCorrupt(err) {
		t.Errorf("a damaged blob: %v", err)
	}
	if q := parityOf(t, s, d); q != p {
		t.Errorf("now %+v", q)
	}
}

// TestPutWithParity makes parity for what is put, known or not, and for what
// that needs.
func TestPutWithParity(t *testing.T) {
	h := hints{}
	plain, m := newMem(t, nil)
	states := chain()
	a := put(t, plain, states[0]).Digest
	b := putLike(t, plain, states[1], a).Digest
	lent := lines(3000)
	donor := put(t, plain, lent).Digest
	h.learn(t, plain, donor)
	if len(parities(t, plain)) != 0 {
		t.Fatal("there is a parity that nobody asked for")
	}

	s := openMem(t, m, &Options{Parity: 20, Known: h.known})
	c := putLike(t, s, states[2], b)
	borrower := put(t, s, cat(make([]byte, mib), lent))
	if c.Parts.Delta.Frames == 0 || !slices.Equal(borrower.Donors, []Digest{donor}) {
		t.Fatalf("%+v, %+v", c, borrower)
	}
	want := []Digest{a, b, c.Digest, donor, borrower.Digest}
	slices.SortFunc(want, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	if got := parities(t, s); !slices.Equal(got, want) {
		t.Errorf("parities of %v, not of %v", got, want)
	}
	for _, d := range want {
		if p := parityOf(t, s, d); p.Percent != 20 || p.Stale {
			t.Errorf("%+v", p)
		}
	}
	// Known content gets what it lacks, through Put and through Adopt, and keeps
	// what it has.
	addParity(t, s, a, 7)
	for _, again := range []func() error{
		func() error { put(t, s, lent); return nil },
		func() error {
			batch := s.Batch()
			_, err := batch.Adopt(t.Context(), donor)
			return errors.Join(err, batch.Sync(t.Context()))
		},
	} {
		if err := s.RemoveParity(t.Context(), donor); err != nil {
			t.Fatal(err)
		}
		if err := again(); err != nil {
			t.Fatal(err)
		}
		if p := parityOf(t, s, donor); p.Percent != 20 {
			t.Errorf("%+v", p)
		}
	}
	// What a donor needs of others counts too.
	if err := errors.Join(s.RemoveParity(t.Context(), a), s.RemoveParity(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
	if err := s.Batch().protect(t.Context(), Info{Digest: c.Digest, Donors: []Digest{b}}); err != nil {
		t.Fatal(err)
	}
	parityOf(t, s, b)
	parityOf(t, s, a)
	addParity(t, s, a, 7)
	put(t, s, states[0])
	if p := parityOf(t, s, a); p.Percent != 7 {
		t.Errorf("a parity that was there was replaced: %+v", p)
	}
	// A donor that is damaged in a frame that nobody borrows stops nothing.
	more := cat(randomBytes(9, mib), lines(4000))
	weak := put(t, plain, more).Digest
	_, frames, err := plain.Frames(t.Context(), weak)
	if err != nil {
		t.Fatal(err)
	}
	last := len(frames) - 1
	h[frames[last].Digest] = FrameRef{Blob: weak, Frame: uint32(last)}
	flip(t, m, blobPath(weak), format.HeaderSize, 1)
	info := put(t, s, cat(make([]byte, mib), more[len(more)-int(frames[last].Size):]))
	if !slices.Equal(info.Donors, []Digest{weak}) {
		t.Fatalf("%+v", info)
	}
	parityOf(t, s, info.Digest)
	wantNoParity(t, s, weak)
}

// TestHealingRemovesParity damages a blob that borrows, and puts its content
// again: the file is another one then, which others may need as it is.
func TestHealingRemovesParity(t *testing.T) {
	for _, percent := range []int{0, 100} {
		x := newMixed(t)
		addParity(t, x.s, x.blob, 100)
		old := loadFile(t, x.m, parityPath(x.blob))
		flip(t, x.m, blobPath(x.blob), format.HeaderSize, 1)
		s := openMem(t, x.m, &Options{Parity: percent})
		if info := put(t, s, x.content); info.Known || len(info.Donors) != 0 {
			t.Fatalf("%+v", info)
		}
		if percent == 0 {
			wantNoParity(t, s, x.blob)
		} else if p := parityOf(t, s, x.blob); p.Stale {
			t.Errorf("%+v", p)
		}
		// As if an older heft had healed it: the parity is seen to be stale.
		saveFile(t, x.m, parityPath(x.blob), old)
		if p := parityOf(t, s, x.blob); !p.Stale {
			t.Errorf("%+v", p)
		}
		file := loadFile(t, x.m, blobPath(x.blob))
		flip(t, x.m, blobPath(x.blob), format.HeaderSize, 1)
		if _, err := s.RepairFile(t.Context(), x.blob); !errors.Is(err, ErrNoParity) {
			t.Errorf("repaired from the parity of another file: %v", err)
		}
		flip(t, x.m, blobPath(x.blob), format.HeaderSize, 1)
		if !bytes.Equal(loadFile(t, x.m, blobPath(x.blob)), file) {
			t.Error("the file changed")
		}
		addParity(t, s, x.blob, 100)
		flip(t, x.m, blobPath(x.blob), 2, 1)
		wantRepaired(t, s, x.m, x.blob, file)
		wantBlob(t, s, x.content)
	}
}

// TestParityOfAFileThatIsReplaced heals a blob while its parity is made, and
// again and again.
func TestParityOfAFileThatIsReplaced(t *testing.T) {
	for _, times := range []int{1, placeTries - 1, placeTries} {
		s, m := newMem(t, nil)
		content := randomBytes(1, 3000)
		d := put(t, s, content).Digest
		file := loadFile(t, m, blobPath(d))
		n := 0
		m.Fail(func(op durable.Op) error {
			if op.Kind == durable.OpSync && strings.HasPrefix(op.Name, "tmp/") && n < times {
				n++
				saveFile(t, m, blobPath(d), file) // the same bytes, but who knows
			}
			return nil
		})
		_, err := s.AddParity(t.Context(), d, 5)
		m.Fail(nil)
		if (err == nil) != (times < placeTries) || n != times {
			t.Errorf("replaced %d times: %v", n, err)
		}
		if err != nil {
			wantNoParity(t, s, d)
		}
		if left := names(m, "tmp"); len(left) != 0 {
			t.Errorf("tmp has %v", left)
		}
	}
}

func TestTraceParity(t *testing.T) {
	s, m := newMem(t, &Options{Compression: None, Parity: 5})
	m.Record()
	d := put(t, s, randomBytes(7, 1000)).Digest
	wantTrace(t, m, `
create tmp/1
write tmp/1 0+1208
sync tmp/1
mkdir blobs/1e
rename tmp/1 blobs/1e/1e809785
create tmp/2
write tmp/2 512+256
write tmp/2 0+512
write tmp/2 768+512
sync tmp/2
mkdir parity
mkdir parity/1e
rename tmp/2 parity/1e/`+d.String()+`
syncdir .
syncdir blobs
syncdir blobs/1e
syncdir parity
syncdir parity/1e
`)
	// Healing: the parity goes, and that is durable, before the new file comes.
	flip(t, m, blobPath(d), 20, 1)
	m.Record()
	put(t, openMem(t, m, &Options{Compression: None}), randomBytes(7, 1000))
	wantTrace(t, m, `
create tmp/1
write tmp/1 0+1016
create tmp/2
remove tmp/1
write tmp/2 0+1208
sync tmp/2
remove parity/1e/`+d.String()+`
syncdir parity/1e
rename tmp/2 blobs/1e/1e809785
syncdir .
syncdir blobs
syncdir blobs/1e
`)
	if err := s.RemoveParity(context.Background(), d); err != nil {
		t.Fatal(err)
	}
}
