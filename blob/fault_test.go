package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
	"github.com/heftstore/heft/internal/promise"
)

// scenario is something that a program does with a store. It returns the
// content that was acknowledged.
type scenario struct {
	name   string
	run    func(ctx context.Context, s *Store) (acked [][]byte, err error)
	adopts bool // what can't be read is not there, as far as it is concerned
}

// prepared is a store with a donor, a damaged blob, hints at both, and a
// temporary file that nobody owns.
type prepared struct {
	m       *durable.Mem
	h       hints
	lent    []byte
	damaged []byte
	chain   [][]byte // states of a model; the first two are there, the second as a delta
	kept    [][]byte // what must stay readable whatever happens
}

func prepare(t testing.TB) *prepared {
	t.Helper()
	p := &prepared{h: hints{}, lent: lines(500)}
	s, m := newMem(t, nil)
	p.m = m
	p.kept = [][]byte{p.lent, []byte("small")}
	for _, c := range p.kept {
		p.h.learn(t, s, put(t, s, c).Digest)
	}
	p.chain = chain()
	put(t, s, p.chain[0])
	putLike(t, s, p.chain[1], Sum(p.chain[0]))
	p.kept = append(p.kept, p.chain[0])
	p.damaged = around(p.lent)
	d := put(t, openMem(t, m, &Options{Known: p.h.known}), p.damaged).Digest
	flip(t, m, blobPath(d), format.HeaderSize, 1)
	saveFile(t, m, "tmp/00112233", []byte("left by a writer that died"))
	m.Record() // the above is durable
	return p
}

// again returns an equal p on a disk of its own.
func (p *prepared) again() *prepared {
	q := *p
	q.m = p.m.Crash(0, rand.New(rand.NewPCG(1, 1)))
	return &q
}

func (p *prepared) scenarios() []scenario {
	one := func(contents ...[]byte) func(context.Context, *Store) ([][]byte, error) {
		return func(ctx context.Context, s *Store) (acked [][]byte, err error) {
			for _, c := range contents {
				_, err := s.Put(ctx, bytes.NewReader(c))
				if err != nil {
					return acked, err
				}
				acked = append(acked, c)
			}
			return acked, nil
		}
	}
	like := func(ctx context.Context, b *Batch, content []byte, like ...[]byte) error {
		var ds []Digest
		for _, c := range like {
			ds = append(ds, Sum(c))
		}
		_, err := b.PutLike(ctx, bytes.NewReader(content), ds)
		return err
	}
	list := []scenario{
		{name: "delta", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			b := s.Batch()
			err := like(ctx, b, p.chain[2], p.chain[1], p.chain[0])
			if err == nil {
				err = b.Sync(ctx)
			}
			if err != nil {
				return nil, err
			}
			return p.chain[1:3], nil
		}},
		{name: "known delta", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			b := s.Batch()
			err := like(ctx, b, p.chain[1], p.chain[0])
			if err == nil {
				err = b.Sync(ctx)
			}
			if err != nil {
				return nil, err
			}
			return p.chain[1:2], nil
		}},
		{name: "healed delta", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			if err := cutTail(s, Sum(p.chain[1])); err != nil {
				return nil, err
			}
			b := s.Batch()
			err := like(ctx, b, p.chain[1], p.chain[1], p.chain[0])
			if err == nil {
				err = b.Sync(ctx)
			}
			if err != nil {
				return nil, err
			}
			return p.chain[1:2], nil
		}},
		{name: "new", run: one([]byte("new content"))},
		{name: "two frames", run: one(cat(make([]byte, mib), lines(100)))},
		{name: "borrowed", run: one(p.borrower())},
		{name: "known", run: one(p.kept...)},
		{name: "heal", run: one(p.damaged)},
		{name: "batch", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			b := s.Batch()
			all := [][]byte{[]byte("one"), []byte("small"), nil, p.damaged}
			for _, c := range all {
				if _, err := b.Put(ctx, bytes.NewReader(c)); err != nil {
					return nil, err
				}
			}
			if err := b.Sync(ctx); err != nil {
				return nil, err
			}
			return all, nil
		}},
	}
	return append(list, p.more()...)
}

// borrower borrows its frame from the donor.
func (p *prepared) borrower() []byte {
	return safetensors(tensor{"own", "U8", []byte("of its own")}, tensor{"content", "F32", p.lent})
}

// more are scenarios with the other ways in, and those that only look.
func (p *prepared) more() []scenario {
	long := cat(make([]byte, mib), lines(100))
	return []scenario{
		{name: "writer", run: func(ctx context.Context, s *Store) (acked [][]byte, err error) {
			w := s.Writer(ctx)
			defer func() { err = errors.Join(err, w.Close()) }()
			for at := 0; at < len(long); at += 300 << 10 {
				if _, err := w.Write(long[at:min(at+300<<10, len(long))]); err != nil {
					return nil, err
				}
			}
			if _, err := w.Commit(Sum(long)); err != nil {
				return nil, err
			}
			return [][]byte{long}, nil
		}},
		{name: "writers of a batch", run: func(ctx context.Context, s *Store) (acked [][]byte, err error) {
			b := s.Batch()
			for _, c := range [][]byte{p.borrower(), []byte("by a writer")} {
				w := b.Writer(ctx)
				_, err := w.ReadFrom(stream(c))
				if err == nil {
					_, err = w.Commit(Digest{})
				}
				if err = errors.Join(err, w.Close()); err != nil {
					return nil, err
				}
				acked = append(acked, c)
			}
			if err := b.Sync(ctx); err != nil {
				return nil, err
			}
			return acked, nil
		}},
		{name: "adopt", adopts: true, run: func(ctx context.Context, s *Store) ([][]byte, error) {
			b := s.Batch()
			for _, c := range p.chain[:2] {
				if _, err := b.Adopt(ctx, Sum(c)); err != nil {
					return nil, err
				}
			}
			if err := b.Sync(ctx); err != nil {
				return nil, err
			}
			return p.chain[:2], nil
		}},
		{name: "check and verify", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			for _, c := range p.chain[:2] {
				if err := s.Check(ctx, Sum(c)); err != nil {
					return nil, err
				}
				if err := s.Verify(ctx, Sum(c)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}},
		{name: "list and read", run: func(ctx context.Context, s *Store) ([][]byte, error) {
			for d, err := range s.All(ctx) {
				if err != nil {
					return nil, err
				}
				if _, err := s.Stat(ctx, d); err != nil {
					return nil, err
				}
			}
			return nil, p.read(ctx, s)
		}},
	}
}

// read reads what is kept, in pieces, whole and from the middle.
func (p *prepared) read(ctx context.Context, s *Store) error {
	for _, c := range append([][]byte{p.chain[1]}, p.kept...) {
		got, err := readAll(ctx, s, Sum(c))
		if !bytes.HasPrefix(c, got) || err == nil && len(got) < len(c) {
			return fmt.Errorf("%d wrong bytes, %w", len(got), err)
		}
		if err != nil {
			return err
		}
		r, err := s.Open(ctx, Sum(c))
		if err != nil {
			return err
		}
		var whole bytes.Buffer
		_, err = r.WriteTo(&whole)
		part := make([]byte, len(c)/3)
		n, partErr := r.ReadAt(part, int64(len(c)/2))
		if !bytes.HasPrefix(c, whole.Bytes()) || !bytes.HasPrefix(c[len(c)/2:], part[:n]) {
			return fmt.Errorf("wrong bytes, %w", errors.Join(err, partErr, r.Close()))
		}
		if err := errors.Join(err, partErr, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// TestPromiseIOErrorsAreClean fails each operation of each scenario in turn, once
// or from then on. Whatever was acknowledged all the same has to be whole, now and
// after a power cut; nothing may stay in tmp, no goroutine behind, and the same
// again has to work when the trouble is over.
func TestPromiseIOErrorsAreClean(t *testing.T) {
	modes := []mode{
		{"EIO once", syscall.EIO, false},
		{"ENOSPC after 100 bytes from then on", durable.ShortWrite(100, syscall.ENOSPC), true},
		{"EIO from then on", syscall.EIO, true},
		{"ENOSPC once", syscall.ENOSPC, false},
		{"ENOSPC from then on", syscall.ENOSPC, true},
		{"EINTR once", syscall.EINTR, false},
		{"EINTR from then on", syscall.EINTR, true},
		{"ENOSPC once after 5 bytes", durable.ShortWrite(5, syscall.ENOSPC), false},
		{"EINTR once after 300 bytes", durable.ShortWrite(300, syscall.EINTR), false},
	}
	modes = modes[:promise.Times(2, len(modes))]
	cuts := promise.Times(1, 4)
	var runs, failed atomic.Int64
	base := prepare(t)
	t.Run("scenarios", func(t *testing.T) {
		for i, sc := range base.scenarios() {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				// A bubble doesn't end before its goroutines do.
				synctest.Test(t, func(t *testing.T) {
					x := &faults{t: t, base: base, scenario: i, cuts: cuts}
					for _, mode := range modes {
						for n := 1; x.run(mode, n); n++ {
						}
					}
					if x.failed == 0 || x.failed < x.acknowledged && !sc.adopts {
						t.Errorf("%d runs failed, %d were acknowledged", x.failed, x.acknowledged)
					}
					runs.Add(int64(x.failed + x.acknowledged))
					failed.Add(int64(x.failed))
				})
			})
		}
	})
	promise.Kept(t, "%d runs of %d scenarios with an I/O error in each operation in %d ways: %d failed cleanly, the others did without; 0 wrong bytes, 0 lost, 0 files or goroutines left, all worked when tried again", runs.Load(), len(base.scenarios()), len(modes), failed.Load())
}

// mode is a way in which the n-th operation fails.
type mode struct {
	name   string
	err    error
	sticky bool // the later ones fail too
}

// faults runs one scenario again and again.
type faults struct {
	t                    *testing.T
	base                 *prepared
	scenario, cuts       int
	own, other           mount
	failed, acknowledged int
}

// run fails the n-th operation. It returns false if there are not so many, or if
// the test has failed.
func (x *faults) run(mode mode, n int) bool {
	t, p := x.t, x.base.again()
	sc := p.scenarios()[x.scenario] // of this store
	s, err := x.own.open(p.m, &Options{Known: p.h.known, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	what := fmt.Sprintf("%s, operation %d", mode.name, n)
	p.m.Record()
	seen := failFrom(p.m, n, mode.err, mode.sticky)
	acked, err := sc.run(t.Context(), s)
	p.m.Fail(nil)
	switch {
	case seen() < n && err != nil:
		t.Errorf("%s: no operation failed, yet %v", what, err)
	case seen() < n: // every operation had its turn
		return false
	case err == nil:
		x.acknowledged++
	case errors.Is(err, mode.err), errors.Is(err, errors.Unwrap(mode.err)), isCorrupt(err), sc.adopts && errors.Is(err, ErrNotFound):
		x.failed++
	default:
		t.Errorf("%s: %v hides the cause", what, err)
	}
	x.check(p, acked, what)
	if acked, err = sc.run(t.Context(), s); err != nil {
		t.Errorf("%s, and then without trouble: %v", what, err)
	}
	x.check(p, acked, what+", and once more")
	return !t.Failed()
}

// cutTail makes a blob's file shorter, below the store's back.
func cutTail(s *Store, d Digest) error {
	f, err := s.fsys.OpenWrite(blobPath(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(1000), f.Sync(), f.Close())
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// failFrom makes the n-th operation fail, and the later ones if sticky. The
// function that it returns tells how many there were.
func failFrom(m *durable.Mem, n int, err error, sticky bool) (seen func() int) {
	last := make(chan int, 1)
	last <- 0
	m.Fail(func(op durable.Op) error {
		last <- max(op.N, <-last)
		if op.N == n || sticky && op.N > n {
			return err
		}
		return nil
	})
	return func() int {
		n := <-last
		last <- n
		return n
	}
}

// check looks at the store as another process would, then as one after a power
// cut.
func (x *faults) check(p *prepared, acked [][]byte, what string) {
	t := x.t
	t.Helper()
	verify := func(m durable.FS, how string) {
		t.Helper()
		s, err := x.other.open(m, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range append(acked, p.kept...) {
			if err := s.Verify(t.Context(), Sum(c)); err != nil {
				t.Errorf("%s, %s: %v", what, how, err)
			}
		}
		put(t, s, []byte("the next put sweeps"))
		if left := names(m, "tmp"); len(left) != 0 {
			t.Errorf("%s, %s: tmp has %v", what, how, left)
		}
	}
	ops := p.m.Ops()
	for seed := range uint64(x.cuts) {
		verify(p.m.Crash(ops, rand.New(rand.NewPCG(seed, uint64(ops)))), "after a power cut")
	}
	verify(p.m, "reopened")
}

// TestFailingCreate fails each operation of a creation; afterwards the folder is
// a store or can be made one.
func TestFailingCreate(t *testing.T) {
	for n := 1; ; n++ {
		m := durable.NewMem()
		seen := failFrom(m, n, syscall.EIO, true)
		_, err := create(m, nil)
		m.Fail(nil)
		if seen() < n {
			if err != nil || n < 10 {
				t.Fatalf("after %d operations: %v", n, err)
			}
			return
		}
		acknowledged := err == nil
		s, err := open(m, nil)
		if err != nil && !acknowledged {
			s, err = create(m, nil)
		}
		if err != nil {
			t.Fatalf("operation %d: %v", n, err)
		}
		put(t, s, []byte("x"))
		if left := names(m, "tmp"); len(left) != 0 {
			t.Errorf("operation %d: tmp has %v", n, left)
		}
	}
}
