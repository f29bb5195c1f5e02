package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// parityHistory is a recorded run, for power cuts at any moment of it.
type parityHistory struct {
	m       *durable.Mem
	created int
	blobs   []ack
	made    []parityAck
	damaged map[Digest][2]int // the blob may be damaged between these operations
}

// parityAck says that from the operation at to the operation until, a parity of
// the blob must be there.
type parityAck struct {
	at, until int
	blob      Digest
}

// recordParity runs whatever concerns parity on fsys, which stands on m.
func recordParity(t testing.TB, m *durable.Mem, fsys durable.FS) *parityHistory {
	t.Helper()
	h := hints{}
	hist := &parityHistory{m: m, damaged: map[Digest][2]int{}}
	const never = 1 << 30
	m.Record()
	plain, err := create(fsys, &Options{Known: h.known, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	hist.created = m.Ops()
	s := openMem(t, fsys, &Options{Known: h.known, Workers: 1, Parity: 60})
	do := func(s *Store, content []byte) Digest {
		d := put(t, s, content).Digest
		hist.blobs = append(hist.blobs, ack{m.Ops(), content})
		return d
	}
	protected := func(d Digest, until int) {
		hist.made = append(hist.made, parityAck{m.Ops(), until, d})
	}
	// Damaged and made whole.
	mend := func(d Digest, how func()) {
		from := m.Ops()
		flip(t, m, blobPath(d), format.HeaderSize+3, 1)
		how()
		hist.damaged[d] = [2]int{from, m.Ops()}
	}

	first := do(plain, []byte("first"))
	addParity(t, plain, first, 10)
	protected(first, never)
	second := do(s, randomBytes(1, 2000))
	protected(second, never)
	put(t, s, []byte("first"))

	// A batch shares its syncs.
	b := s.Batch()
	contents := [][]byte{[]byte("one"), lines(1000)}
	for _, c := range contents {
		if _, err := b.Put(t.Context(), bytes.NewReader(c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		hist.blobs = append(hist.blobs, ack{m.Ops(), c})
		protected(Sum(c), never)
	}

	// One that borrows is healed, and then holds all its frames. Its parity is of
	// the earlier file until then, and may be none.
	h.learn(t, plain, Sum(contents[1]))
	content := cat(repeated("x", mib), contents[1])
	borrower := do(s, content)
	protected(borrower, m.Ops())
	mend(borrower, func() { put(t, plain, content) })
	addParity(t, plain, borrower, 100)
	protected(borrower, never)
	mend(second, func() {
		if r, err := s.RepairFile(t.Context(), second); err != nil || r.Shards != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
	for i := range hist.made {
		if hist.made[i].blob == first {
			hist.made[i].until = m.Ops()
		}
	}
	if err := s.RemoveParity(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	removed := m.Ops()
	hist.made = append(hist.made, parityAck{-removed, never, first}) // from then on none
	do(s, []byte("last"))
	return hist
}

// check cuts the power after n operations and returns what is then missing or
// wrong.
func (hist *parityHistory) check(ctx context.Context, n int, rng *rand.Rand) (lost []error) {
	fail := func(format string, args ...any) { lost = append(lost, fmt.Errorf(format, args...)) }
	if n < hist.created {
		return nil
	}
	after := hist.m.Crash(n, rng)
	s, err := open(after, nil)
	if err != nil {
		return []error{err}
	}
	for _, a := range hist.blobs {
		window := hist.damaged[Sum(a.content)]
		if n < a.at || n > window[0] && n < window[1] {
			continue
		}
		if err := s.Verify(ctx, Sum(a.content)); err != nil {
			lost = append(lost, err)
		}
	}
	for _, a := range hist.made {
		p, err := s.ParityOf(ctx, a.blob)
		switch {
		case a.at < 0 && n >= -a.at:
			if !errors.Is(err, ErrNoParity) {
				fail("a parity that was removed is there: %+v, %w", p, err)
			}
		case a.at >= 0 && n >= a.at && n <= a.until && (err != nil || p.Damaged):
			fail("a parity that was acknowledged: %+v, %w", p, err)
		}
	}
	// Whatever parity there is, it is of the file that is there, and repairs it.
	for d, err := range s.Parities(ctx) {
		if err != nil {
			return append(lost, err)
		}
		if p, err := s.ParityOf(ctx, d); err != nil || p.Stale || p.Damaged {
			fail("a parity file: %+v, %w", p, err)
			continue
		}
		before, err := durable.ReadFile(after, blobPath(d), 1<<20)
		if err != nil {
			continue // none was acknowledged
		}
		sound := s.Check(ctx, d) == nil
		if err := flipByte(after, blobPath(d), 20); err != nil {
			return append(lost, err)
		}
		if _, err := s.RepairFile(ctx, d); err != nil {
			fail("repair: %w", err)
		}
		repaired, err := durable.ReadFile(after, blobPath(d), 1<<20)
		if err != nil || sound && !bytes.Equal(repaired, before) {
			fail("repaired %s is another file, %w", d, err)
		}
		if err := s.Check(ctx, d); err != nil {
			fail("repaired: %w", err)
		}
	}
	if _, err := s.Put(ctx, strings.NewReader("after")); err != nil {
		lost = append(lost, err)
	}
	if left := names(after, "tmp"); len(left) > 0 {
		fail("tmp holds %v", left)
	}
	return lost
}

func flipByte(fsys durable.FS, name string, at int64) error {
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
	}
	return errors.Join(err, f.Close())
}

func TestPowerCutsWithParity(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	hist := recordParity(t, m, m)
	const seeds = 6
	for n := range m.Ops() + 1 {
		for seed := range uint64(seeds) {
			for _, err := range hist.check(t.Context(), n, rand.New(rand.NewPCG(seed, uint64(n)))) {
				t.Errorf("power cut after operation %d of %d, seed %d: %v", n, m.Ops(), seed, err)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// TestPowerCutsFindMissingSyncsOfParity shows that TestPowerCutsWithParity can
// fail: each sync that is left out loses something, or leaves a parity of
// another file.
func TestPowerCutsFindMissingSyncsOfParity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		skip func(name string) bool // folders; nil skips the syncs of files
	}{
		{"files", nil},
		{"the root", func(name string) bool { return name == "." }},
		{"parity", func(name string) bool { return name == "parity" }},
		{"the folders in parity", func(name string) bool { return strings.HasPrefix(name, "parity/") }},
		{"of the blob that is healed", func(name string) bool {
			return name == parityDir(Sum(cat(repeated("x", mib), lines(1000))))
		}},
		{"blobs", func(name string) bool { return strings.HasPrefix(name, "blobs/") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := durable.NewMem()
			over := durable.FS(&forgetful{FS: m, skip: c.skip})
			if c.skip == nil {
				over = unsyncing{m}
			}
			hist := recordParity(t, m, over)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				if len(hist.check(t.Context(), rng.IntN(m.Ops()+1), rng)) > 0 {
					return
				}
			}
			t.Error("2000 power cuts lost nothing")
		})
	}
}

// unsyncing is a file system that skips the syncs of new files.
type unsyncing struct{ durable.FS }

func (u unsyncing) Create(name string) (durable.File, error) {
	f, err := u.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return unsyncingFile{f}, nil
}

type unsyncingFile struct{ durable.File }

func (unsyncingFile) Sync() error { return nil }

// parityScenarios are what a program does about parity.
func (p *prepared) parityScenarios() []scenario {
	return []scenario{
		{name: "put", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			content := []byte("new content")
			if _, err := s.Put(ctx, bytes.NewReader(content)); err != nil {
				return nil, err
			}
			if q, err := s.ParityOf(context.WithoutCancel(ctx), Sum(content)); err == nil && q.Stale {
				return nil, errors.New("acknowledged with a stale parity")
			}
			return [][]byte{content}, nil
		}},
		{name: "heal", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			_, err := s.Put(ctx, bytes.NewReader(p.damaged))
			if err != nil {
				return nil, err
			}
			return [][]byte{p.damaged}, nil
		}},
		{name: "add", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			_, err := s.AddParity(ctx, Sum(p.lent), 30)
			return nil, err
		}},
		{name: "repair", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			if err := flipByte(s.fsys, blobPath(Sum([]byte("small"))), format.HeaderSize); err != nil {
				return nil, err
			}
			_, err := s.RepairFile(ctx, Sum([]byte("small")))
			return nil, err
		}},
		{name: "remove", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			return nil, s.RemoveParity(ctx, Sum([]byte("small")))
		}},
	}
}

// TestEveryFailingOperationOfParity fails each operation of each scenario in
// turn, once or from then on: what was there stays whole, and nothing stays in
// tmp.
func TestEveryFailingOperationOfParity(t *testing.T) {
	t.Parallel()
	base := prepare(t)
	addParity(t, openMem(t, base.m, nil), Sum([]byte("small")), 100)
	base.m.Record()
	for i, sc := range base.parityScenarios() {
		t.Run(sc.name, func(t *testing.T) {
			failed := 0
			for _, mode := range []struct {
				err    error
				sticky bool
			}{{syscall.EIO, false}, {syscall.ENOSPC, true}} {
				for n := 1; ; n++ {
					p := base.again()
					small := loadFile(t, p.m, blobPath(Sum([]byte("small"))))
					s := openMem(t, p.m, &Options{Known: p.h.known, Workers: 1, Parity: 50})
					p.m.Record()
					seen := failFrom(p.m, n, mode.err, mode.sticky)
					acked, err := p.parityScenarios()[i].run(t.Context(), s)
					p.m.Fail(nil)
					if seen() < n {
						if err != nil {
							t.Fatalf("no operation failed, yet %v", err)
						}
						break
					}
					what := fmt.Sprintf("%v, operation %d", mode.err, n)
					if err != nil {
						failed++
					}
					if sc.name == "repair" {
						// Damaged still, or whole: a repair that failed can be repeated.
						if _, err := openMem(t, p.m, nil).RepairFile(t.Context(), Sum([]byte("small"))); err != nil {
							t.Errorf("%s: %v", what, err)
						}
						if !bytes.Equal(loadFile(t, p.m, blobPath(Sum([]byte("small")))), small) {
							t.Errorf("%s: the repaired file is another one", what)
						}
					}
					(&faults{t: t, cuts: 3}).check(p, acked, what)
					if t.Failed() {
						return
					}
				}
			}
			if failed == 0 {
				t.Error("nothing failed")
			}
		})
	}
}
