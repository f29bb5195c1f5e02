package blob

import (
	"errors"
	"io/fs"
	"math"
	"testing"
)

// rebased returns a store with the blob d, which borrows frames of e, and with g,
// which has these too; and another one, where d borrows them of g.
func rebased(t *testing.T) (s, from *Store, d, e, g []byte) {
	t.Helper()
	h := hints{}
	shared := randomBytes(1, 2*mib)
	d, e, g = cat(shared, []byte("d")), cat(shared, []byte("e")), cat(shared, randomBytes(2, 2*mib))
	borrow := func(s *Store, donor []byte) {
		put(t, s, donor)
		clear(h)
		h.learn(t, s, Sum(donor))
		if info := put(t, s, d); len(info.Donors) != 1 || info.Donors[0] != Sum(donor) {
			t.Fatalf("%+v", info)
		}
		clear(h)
	}
	from, _ = newMem(t, &Options{Known: h.known})
	borrow(from, g)
	s, _ = newMem(t, &Options{Known: h.known})
	borrow(s, e)
	put(t, s, g)
	return s, from, d, e, g
}

// TestCollectionMeetsTransfer replaces the file of a needed blob by one that borrows
// from another blob, and is done with it before that one is collected.
func TestCollectionMeetsTransfer(t *testing.T) {
	for _, when := range []string{"before", "after"} { // the collection begins
		t.Run(when, func(t *testing.T) {
			s, from, d, e, g := rebased(t)
			marks := s.Marks(nil)
			if err := errors.Join(marks.Begin(t.Context()), marks.Add(t.Context(), Sum(d))); err != nil {
				t.Fatal(err)
			}
			// A frame of g is needed otherwise: what it has more may be dropped.
			tail := rowsOf(t, s, Sum(g)).Rows
			part := &frameSet{}
			part.add(uint32(len(tail) - 1))
			thin := s.Marks(nil)
			thin.blobs[Sum(g)] = part
			x, err := s.Thin(t.Context(), Sum(g), thin)
			if err != nil {
				t.Fatal(err)
			}
			var c *Collection
			if when == "after" {
				c = collection(t, s)
				if c.Outdated(marks) {
					t.Error("outdated by nothing")
				}
			}
			if did := transfer(t, from, s, d); did.Replaced != 1 {
				t.Fatalf("%+v", did)
			}
			if when == "before" {
				if !collection(t, s).Outdated(marks) {
					t.Error("not outdated")
				}
				return
			}
			if done, err := c.Replace(t.Context(), x, thin); done || err != nil {
				t.Errorf("thinned: %v, %v", done, err)
			}
			if done, err := c.Trash(t.Context(), Sum(g)); done || err != nil {
				t.Errorf("trashed: %v, %v", done, err)
			}
			if err := s.Verify(t.Context(), Sum(d)); err != nil {
				t.Error(err)
			}
			if err := marks.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			c = collection(t, s)
			if c.Outdated(marks) {
				t.Error("outdated again")
			}
			if done, err := c.Trash(t.Context(), Sum(e)); !done || err != nil {
				t.Errorf("what is not needed: %v, %v", done, err)
			}
		})
	}
}

// TestFilesThatOutdateMarks brings files back from the trash and from quarantine.
func TestFilesThatOutdateMarks(t *testing.T) {
	s, m := newMem(t, nil)
	content := randomBytes(1, mib)
	d := Sum(content)
	put(t, s, content)
	last := ""
	outdates := func(what string, want bool) {
		t.Helper()
		now, err := s.replaced()
		if err != nil || (now != last) != want {
			t.Errorf("%s: %q became %q, %v", what, last, now, err)
		}
		last = now
	}
	outdates("put", false)
	whole := loadFile(t, m, blobPath(d))
	damage := func() {
		damaged := cat(whole)
		damaged[len(damaged)/2] ^= 1
		saveFile(t, m, blobPath(d), damaged)
	}
	damage()
	q, err := s.Quarantine(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	outdates("quarantine", true)
	saveFile(t, m, q.path(), whole)
	if err := s.Release(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	outdates("release", true)
	if done, err := collection(t, s).Trash(t.Context(), d); !done || err != nil {
		t.Fatal(done, err)
	}
	outdates("trash", false)
	if ok, err := s.Restore(t.Context(), d); !ok || err != nil {
		t.Fatal(ok, err)
	}
	outdates("restore", true)
	if _, err := s.AddParity(t.Context(), d, 10); err != nil {
		t.Fatal(err)
	}
	outdates("parity", false)
	damage()
	if did, err := s.RepairFile(t.Context(), d); !did.File || err != nil {
		t.Fatal(did, err)
	}
	outdates("repair", true)
	if got := len(names(m, "pins")); got != 1 {
		t.Errorf("pins has %d files", got)
	}
}

// TestMarksOfDonorsThatComeBack marks a blob whose donor is missing, and is put again
// meanwhile so that it borrows itself.
func TestMarksOfDonorsThatComeBack(t *testing.T) {
	s, m := newMem(t, nil)
	all := states(t, s, 3)
	donor := loadFile(t, m, blobPath(Sum(all[1])))
	if err := m.Remove(blobPath(Sum(all[1]))); err != nil {
		t.Fatal(err)
	}
	marks := marksOf(t, s, all[2])
	before := int64(0) // that it needs itself
	if part := marks.blobs[Sum(all[0])]; part != nil {
		before = part.len()
	}
	saveFile(t, m, blobPath(Sum(all[1])), donor)
	if err := marks.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if part := marks.blobs[Sum(all[0])]; part == nil || part.len() <= before {
		t.Errorf("of the donor's donor %v is needed, before %d", part, before)
	}
}

// TestLastGeneration collects nothing when a file says that there is no generation
// after its own: the first one would wait for no pin.
func TestLastGeneration(t *testing.T) {
	s, m := newMem(t, nil)
	saveFile(t, m, marker+generation(math.MaxUint64).String(), nil)
	if c, err := s.Collect(t.Context(), 5); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("%+v, %v", c, err)
	}
}
