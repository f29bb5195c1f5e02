package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// transfer copies contents to another store and returns what it took.
func transfer(t testing.TB, from, to *Store, contents ...[]byte) (total Copied) {
	t.Helper()
	x := newTransfer(from, to)
	if err := x.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range contents {
		did, err := x.Copy(t.Context(), Sum(c))
		if err != nil {
			t.Fatalf("copying %d: %v", i, err)
		}
		total.Add(did)
		total.Encoded = total.Encoded || did.Encoded
	}
	if err := errors.Join(x.Sync(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	return total
}

// TestTransferCopiesFiles copies the files of a chain of states byte for byte, and
// nothing a second time.
func TestTransferCopiesFiles(t *testing.T) {
	s, m := newMem(t, nil)
	all := states(t, s, 4)
	collect(t, s, marksOf(t, s, all[3])) // thins the others
	to, tm := newMem(t, nil)
	first := transfer(t, s, to, all[3])
	wantBlob(t, openMem(t, tm, nil), all[3])
	if first.Files < 2 || first.Encoded || first.Replaced != 0 {
		t.Errorf("%+v", first)
	}
	var total int64
	for d, err := range to.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got := loadFile(t, tm, blobPath(d))
		total += int64(len(got))
		if !bytes.Equal(got, loadFile(t, m, blobPath(d))) {
			t.Errorf("%s is another file", d)
		}
	}
	if total != first.Written {
		t.Errorf("%d bytes are there, %d were written", total, first.Written)
	}
	if again := transfer(t, s, to, all[3]); again != (Copied{}) {
		t.Errorf("once more: %+v", again)
	}
	if n := names(tm, "tmp"); len(n) != 0 {
		t.Errorf("tmp has %v", n)
	}
}

// TestTransferFollowsTheSource brings to the target what a file of the source has
// become: whole where it was partial, detached where it was a delta.
func TestTransferFollowsTheSource(t *testing.T) {
	s, _ := newMem(t, nil)
	all := states(t, s, 3)
	to, tm := newMem(t, nil)
	marks := marksOf(t, s, all[2])
	collect(t, s, marks)
	transfer(t, s, to, all[2])
	if info, err := to.Stat(t.Context(), Sum(all[1])); err != nil || !info.Partial {
		t.Fatalf("%+v, %v", info, err)
	}
	put(t, s, all[1]) // whole again
	if did := transfer(t, s, to, all[1], all[2]); did.Files == 0 {
		t.Errorf("%+v", did)
	}
	for _, c := range all[1:] {
		wantBlob(t, openMem(t, tm, nil), c)
	}

	s2, _ := newMem(t, nil)
	all = states(t, s2, 3)
	to2, tm2 := newMem(t, nil)
	transfer(t, s2, to2, all[2])
	marks = marksOf(t, s2, all[2])
	plan, err := s2.Detachable(t.Context(), marks)
	if err != nil || len(plan.Frames) == 0 {
		t.Fatal(plan, err)
	}
	for d, rows := range plan.Frames {
		x, err := s2.Detach(t.Context(), d, rows)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := x.Publish(t.Context()); !done || err != nil {
			t.Fatal(done, err)
		}
	}
	collect(t, s2, marksOf(t, s2, all[2]))
	purge(t, s2)
	if did := transfer(t, s2, to2, all[2]); did.Files != 1 || did.Replaced != 1 || did.Encoded {
		t.Errorf("the detached one: %+v", did)
	}
	wantBlob(t, openMem(t, tm2, nil), all[2])
}

// TestTransferOfOtherCuts copies a donor that the target has under the same name,
// but cut in another way, and that others there need as it is.
func TestTransferOfOtherCuts(t *testing.T) {
	h := hints{}
	donor := randomBytes(1, 2*mib)
	other := randomBytes(2, len(donor)) // the cuts of another file of that size
	old := cat(donor[:mib+mib/2], []byte("old"))
	young := cat(donor[:len(donor)-5], []byte("young"))

	first, _ := newMem(t, &Options{Known: h.known})
	put(t, first, donor)
	h.learn(t, first, Sum(donor))
	if info := put(t, first, old); len(info.Donors) == 0 {
		t.Fatal("nothing is borrowed")
	}
	to, tm := newMem(t, nil)
	transfer(t, first, to, old)

	clear(h)
	second, _ := newMem(t, &Options{Known: h.known})
	put(t, second, other)
	putLike(t, second, donor, Sum(other))
	h.learn(t, second, Sum(donor))
	if info := putLike(t, second, young, Sum(donor)); len(info.Donors) == 0 {
		t.Fatal("nothing is borrowed")
	}
	if a, b := lens(rowsOf(t, first, Sum(donor)).Rows), lens(rowsOf(t, second, Sum(donor)).Rows); len(a) == len(b) {
		t.Fatalf("the donor is cut alike: %v", a)
	}
	if did := transfer(t, second, to, young); !did.Encoded {
		t.Errorf("%+v", did)
	}
	transfer(t, second, to, donor) // whose file has to stay as it is
	for _, c := range [][]byte{old, young, donor} {
		wantBlob(t, openMem(t, tm, nil), c)
	}
}

// TestTransferOfDamage reports what is damaged in the source and goes on, and
// copies nothing of it; nor does it matter where the target has it.
func TestTransferOfDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, m *durable.Mem, d Digest)
		gone   bool
	}{
		{"a frame", func(t *testing.T, m *durable.Mem, d Digest) { flip(t, m, blobPath(d), format.HeaderSize+5, 1) }, false},
		{"the table", func(t *testing.T, m *durable.Mem, d Digest) {
			flip(t, m, blobPath(d), int64(len(loadFile(t, m, blobPath(d)))-format.FooterSize-9), 1)
		}, false},
		{"all of it", func(t *testing.T, m *durable.Mem, d Digest) {
			if err := m.Remove(blobPath(d)); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			bad, good := lines(3000), lines(2000)
			put(t, s, bad)
			put(t, s, good)
			had, hm := newMem(t, nil)
			transfer(t, s, had, bad)
			tt.damage(t, m, Sum(bad))

			to, tm := newMem(t, nil)
			x := newTransfer(s, to)
			if err := x.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := x.Copy(t.Context(), Sum(bad))
			if tt.gone && !errors.Is(err, ErrNotFound) || !tt.gone && !isDamaged(err) {
				t.Errorf("copying what is damaged: %v", err)
			}
			if _, err := x.Copy(t.Context(), Sum(good)); err != nil {
				t.Error(err)
			}
			if err := errors.Join(x.Sync(t.Context()), x.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Stat(t.Context(), Sum(bad)); !errors.Is(err, ErrNotFound) {
				t.Errorf("what is damaged was copied: %v", err)
			}
			wantBlob(t, openMem(t, tm, nil), good)
			if n := names(tm, "tmp"); len(n) != 0 {
				t.Errorf("tmp has %v", n)
			}

			if did := transfer(t, s, had, bad); did.Files != 0 {
				t.Errorf("where it was sound: %+v", did)
			}
			wantBlob(t, openMem(t, hm, nil), bad)
		})
	}
}

// TestTransferFromHeals replaces what is damaged with the other store's, and keeps
// the damaged file.
func TestTransferFromHeals(t *testing.T) {
	s, _ := newMem(t, nil)
	all := states(t, s, 3)
	own, om := newMem(t, nil)
	transfer(t, s, own, all...)
	base := Sum(all[0])
	flip(t, om, blobPath(base), format.HeaderSize+5, 1)
	broken := loadFile(t, om, blobPath(base))
	x, err := own.TransferFrom(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	x.Distrust(base)
	for _, c := range all {
		if _, err := x.Copy(t.Context(), Sum(c)); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(x.Sync(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		wantBlob(t, openMem(t, om, nil), c)
	}
	if n := names(om, "quarantine"); len(n) != 1 || !bytes.Equal(loadFile(t, om, "quarantine/"+n[0]), broken) {
		t.Errorf("quarantine has %v", n)
	}
}

// career is a store that is put to, deleted from and collected at random.
type career struct {
	t     *testing.T
	rng   *rand.Rand
	s     *Store
	m     *durable.Mem
	h     hints
	last  [][]tensor // by model
	lives [][]byte
	dead  [][]byte
}

func newCareer(t *testing.T, seed uint64) *career {
	l := &career{t: t, rng: rand.New(rand.NewPCG(seed, 7)), h: hints{}}
	l.s, l.m = newMem(t, &Options{Known: l.h.known})
	for i := range 2 {
		l.last = append(l.last, []tensor{
			{"a", "BF16", normals(seed+uint64(10*i), "BF16", 96<<10)},
			{"b", "F32", normals(seed+uint64(10*i+1), "F32", 80<<10)},
		})
	}
	return l
}

func (l *career) put(content []byte) {
	var like []Digest
	if len(l.lives) > 0 && l.rng.IntN(4) > 0 {
		like = append(like, Sum(l.lives[len(l.lives)-1-l.rng.IntN(min(len(l.lives), 2))]))
	}
	putLike(l.t, l.s, content, like...)
	l.lives = append(l.lives, content)
	if l.rng.IntN(2) == 0 {
		l.h.learn(l.t, l.s, Sum(content))
	}
}

func (l *career) step() {
	switch n := l.rng.IntN(10); {
	case n < 4: // another state of a model
		i := l.rng.IntN(len(l.last))
		l.last[i] = step(l.rng.Uint64(), l.last[i], 0.3)
		l.put(safetensors(l.last[i]...))
	case n < 6 && len(l.dead) > 0: // what was deleted, in whatever way it is put now
		i := l.rng.IntN(len(l.dead))
		c := l.dead[i]
		l.dead = append(l.dead[:i], l.dead[i+1:]...)
		l.put(c)
	case n < 7: // bytes that are cut like others of that size, or not
		l.put(cat(fmt.Append(nil, l.rng.IntN(100)), randomBytes(l.rng.Uint64N(2), 400<<10), randomBytes(l.rng.Uint64N(4), 100<<10)))
	case len(l.lives) > 1:
		i := l.rng.IntN(len(l.lives))
		c := l.lives[i]
		l.lives = append(l.lives[:i], l.lives[i+1:]...)
		l.dead = append(l.dead, c)
		if l.rng.IntN(2) == 0 {
			l.collect(l.s, l.lives)
		}
	}
}

// collect is a collection that now and then detaches frames, too.
func (l *career) collect(s *Store, needed [][]byte) {
	if l.rng.IntN(2) == 0 {
		plan, err := s.Detachable(l.t.Context(), marksOf(l.t, s, needed...))
		if err != nil {
			l.t.Fatal(err)
		}
		for d, rows := range plan.Frames {
			x, err := s.Detach(l.t.Context(), d, rows)
			if err != nil {
				l.t.Fatal(err)
			}
			if _, err := x.Publish(l.t.Context()); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	collect(l.t, s, marksOf(l.t, s, needed...))
	if l.rng.IntN(2) == 0 {
		purge(l.t, s)
	}
}

// TestTransferThroughACareer copies a store again and again while it is put to,
// deleted from and collected. After each time the target has all that the source
// has, and all that it had before unless that was collected there.
func TestTransferThroughACareer(t *testing.T) {
	encoded, replaced := 0, 0
	for seed := range uint64(4) {
		l := newCareer(t, seed)
		to, tm := newMem(t, nil)
		kept := map[Digest][]byte{}
		for round := range 12 {
			for range 1 + l.rng.IntN(5) {
				l.step()
			}
			did := transfer(t, l.s, to, l.lives...)
			replaced += did.Replaced
			if did.Encoded {
				encoded++
			}
			for _, c := range l.lives {
				kept[Sum(c)] = c
			}
			again := openMem(t, tm, nil)
			for d, c := range kept {
				if got, err := readAll(t.Context(), again, d); err != nil || !bytes.Equal(got, c) {
					t.Fatalf("seed %d, round %d: %s: %v", seed, round, d.Short(), err)
				}
			}
			if more := transfer(t, l.s, to, l.lives...); more.Files != 0 {
				t.Fatalf("seed %d, round %d: once more: %+v", seed, round, more)
			}
			if l.rng.IntN(4) == 0 {
				clear(kept)
				for _, c := range l.lives {
					kept[Sum(c)] = c
				}
				l.collect(to, l.lives)
			}
		}
	}
	if replaced == 0 {
		t.Error("no file was ever replaced")
	}
	t.Logf("%d files were replaced, %d rounds encoded something anew", replaced, encoded)
}

// TestTransferPowerCuts cuts the power at every moment of a second transfer: what
// the first one has brought stays readable, and what is synced is there.
func TestTransferPowerCuts(t *testing.T) {
	s, _ := newMem(t, nil)
	all := states(t, s, 3)
	to, tm := newMem(t, nil)
	collect(t, s, marksOf(t, s, all[2]))
	transfer(t, s, to, all[2]) // the others as partial ones
	put(t, s, all[1])
	more := lines(3000)
	put(t, s, more)
	tm.Record()
	if did := transfer(t, s, to, all[1], more); did.Files < 2 {
		t.Fatalf("%+v", did)
	}
	for n := range tm.Ops() + 1 {
		seeds := uint64(2)
		if n == tm.Ops() {
			seeds = 64
		}
		for seed := range seeds {
			after := openMem(t, tm.Crash(n, rand.New(rand.NewPCG(seed, uint64(n)))), nil)
			wantBlob(t, after, all[2])
			if n == tm.Ops() {
				wantBlob(t, after, all[1])
				wantBlob(t, after, more)
			}
		}
		if t.Failed() {
			t.Fatalf("power cut after %d of %d", n, tm.Ops())
		}
	}
}

// TestTransferFaults fails every operation of the target in turn.
func TestTransferFaults(t *testing.T) {
	s, _ := newMem(t, nil)
	all := states(t, s, 2)
	for n := 0; ; n++ {
		to, tm := newMem(t, nil)
		seen := failFrom(tm, n, errors.New("failing on demand"), false)
		x := newTransfer(s, to)
		err := x.begin(t.Context())
		for _, c := range all {
			if err == nil {
				_, err = x.Copy(t.Context(), Sum(c))
			}
		}
		if err == nil {
			err = x.Sync(t.Context())
		}
		_ = x.Close() // it may be what fails
		done := seen() < n
		tm.Fail(nil)
		after := openMem(t, tm, nil)
		for _, c := range all {
			if got, rerr := readAll(t.Context(), after, Sum(c)); rerr == nil && !bytes.Equal(got, c) || err == nil && rerr != nil {
				t.Fatalf("operation %d: copied with %v, read with %v", n, err, rerr)
			}
		}
		if done {
			if n < 10 {
				t.Errorf("only %d operations", n)
			}
			return
		}
	}
}

// TestBackupFolder takes the folders that may be a backup, and refuses others.
func TestBackupFolder(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "store")
	s, err := Create(own, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	other, err := Create(filepath.Join(dir, "other"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if err := os.MkdirAll(filepath.Join(dir, "full", "of"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(own, filepath.Join(dir, "link")); err != nil {
		t.Skip("no links here:", err)
	}
	type beginner func(context.Context, string) (*Transfer, error)
	for _, begin := range []beginner{s.Backup, s.PlanBackup} {
		for _, name := range []string{"store", "store/blobs", "store/new/er", "link", "link/new"} {
			_, err := begin(t.Context(), filepath.Join(dir, name))
			if _, ok := errors.AsType[*IntoItselfError](err); !ok {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, name := range []string{"other", "full"} {
			_, err := begin(t.Context(), filepath.Join(dir, name))
			if _, ok := errors.AsType[*OtherStoreError](err); !ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := len(names(must1(durable.OpenDir(filepath.Join(dir, "full"))), ".")); n != 1 {
		t.Errorf("the refused folder has %d entries", n)
	}
	to := filepath.Join(dir, "a", "backup")
	plan, err := s.PlanBackup(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plan made the folder: %v", err)
	}
	x, err := s.Backup(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), to); !errors.Is(err, ErrBusy) {
		t.Errorf("a second backup: %v", err)
	}
	if _, err := Open(to, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is a store before it is sealed: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if x, err = s.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Seal(), x.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := Open(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.ID() != s.ID() || b.CreatedAt() != s.CreatedAt() {
		t.Errorf("the backup is %s of %d", b.ID(), b.CreatedAt())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
