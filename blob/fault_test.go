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

// scenario is something that a program does with a store. It returns the
// content that was acknowledged.
type scenario struct {
	name string
	run  func(ctx context.Context, s *Store) (acked [][]byte, err error)
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
	p.damaged = cat(make([]byte, mib), p.lent)
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
	return []scenario{
		{"delta", func(ctx context.Context, s *Store) ([][]byte, error) {
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
		{"known delta", func(ctx context.Context, s *Store) ([][]byte, error) {
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
		{"healed delta", func(ctx context.Context, s *Store) ([][]byte, error) {
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
		{"new", one([]byte("new content"))},
		{"two frames", one(cat(make([]byte, mib), lines(100)))},
		{"borrowed", one(cat(repeated("own\n", mib), p.lent))},
		{"known", one(p.kept...)},
		{"heal", one(p.damaged)},
		{"batch", func(ctx context.Context, s *Store) ([][]byte, error) {
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
}

// TestEveryFailingOperation fails each operation of each scenario in turn, once
// or from then on. Whatever was acknowledged all the same has to be whole,
// now and after a power cut, and nothing may stay in tmp.
func TestEveryFailingOperation(t *testing.T) {
	modes := []struct {
		name   string
		err    error
		sticky bool
	}{
		{"EIO once", syscall.EIO, false},
		{"EIO from then on", syscall.EIO, true},
		{"ENOSPC from then on", syscall.ENOSPC, true},
		{"ENOSPC once after 5 bytes", durable.ShortWrite(5, syscall.ENOSPC), false},
		{"ENOSPC after 100 bytes from then on", durable.ShortWrite(100, syscall.ENOSPC), true},
	}
	base := prepare(t)
	for i, sc := range base.scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			failed, acknowledged := 0, 0
			for _, mode := range modes {
				for n := 1; ; n++ {
					p := base.again()
					sc := p.scenarios()[i] // of this store
					s := openMem(t, p.m, &Options{Known: p.h.known, Workers: 1})
					p.m.Record()
					seen := failFrom(p.m, n, mode.err, mode.sticky)
					acked, err := sc.run(t.Context(), s)
					p.m.Fail(nil)
					if seen() < n {
						if err != nil {
							t.Fatalf("%s: no operation failed, yet %v", mode.name, err)
						}
						break // every operation had its turn
					}
					what := fmt.Sprintf("%s, operation %d", mode.name, n)
					if err != nil {
						failed++
						if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) && !isCorrupt(err) {
							t.Errorf("%s: %v hides the cause", what, err)
						}
					} else {
						acknowledged++
					}
					checkAfterFault(t, p, acked, what)
					if t.Failed() {
						return
					}
				}
			}
			if failed == 0 || failed < acknowledged {
				t.Errorf("%d runs failed, %d were acknowledged", failed, acknowledged)
			}
		})
	}
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

// checkAfterFault looks at the store as another process would, then as one
// after a power cut.
func checkAfterFault(t *testing.T, p *prepared, acked [][]byte, what string) {
	t.Helper()
	verify := func(m durable.FS, how string) {
		t.Helper()
		s := openMem(t, m, nil)
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
	for seed := range uint64(3) {
		verify(p.m.Crash(ops, rand.New(rand.NewPCG(seed, uint64(ops)))), "after a power cut")
	}
	verify(p.m, "reopened")
}

// TestFailedSyncIsNeverAcknowledged fails each kind of sync alone, once.
func TestFailedSyncIsNeverAcknowledged(t *testing.T) {
	base := prepare(t)
	for i, sc := range base.scenarios() {
		for n := 1; ; n++ {
			p := base.again()
			s := openMem(t, p.m, &Options{Known: p.h.known})
			syncs, name := 0, ""
			p.m.Fail(func(op durable.Op) error {
				if op.Kind == durable.OpSync || op.Kind == durable.OpSyncDir {
					if syncs++; syncs == n {
						name = op.String()
						return syscall.EIO
					}
				}
				return nil
			})
			acked, err := p.scenarios()[i].run(t.Context(), s)
			if syncs < n {
				if n <= 2 {
					t.Errorf("%s: only %d syncs", sc.name, syncs)
				}
				break
			}
			if !errors.Is(err, syscall.EIO) || sc.name != "known" && len(acked) > 0 {
				t.Errorf("%s: %s failed, but the put returned %v", sc.name, name, err)
			}
		}
	}
}

// TestBatchStaysFailed asks a batch again whose sync failed.
func TestBatchStaysFailed(t *testing.T) {
	s, m := newMem(t, nil)
	b := s.Batch()
	if _, err := b.Put(t.Context(), strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpSyncDir {
			return syscall.EIO
		}
		return nil
	})
	if err := b.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	m.Fail(nil)
	if err := b.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("a second sync acknowledged what the first could not: %v", err)
	}
	if info := put(t, s, []byte("x")); !info.Known {
		t.Errorf("put through a new batch: %+v", info)
	}
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
