package blob

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// syncFault fails syncs.
type syncFault struct {
	n      int    // of them all, the one that fails
	sticky bool   // those after it fail too
	dir    string // or, if set, all of this folder

	seen   int
	failed string // the first that did
}

func (f *syncFault) hook(op durable.Op) error {
	if op.Kind != durable.OpSync && op.Kind != durable.OpSyncDir {
		return nil
	}
	f.seen++
	if f.dir != "" && op.Name == f.dir && op.Kind == durable.OpSyncDir || f.dir == "" && (f.seen == f.n || f.sticky && f.seen > f.n) {
		if f.failed == "" {
			f.failed = op.String()
		}
		return syscall.EIO
	}
	return nil
}

// swallowing is a file system whose programs don't hear of failed syncs, or try
// again until one works.
type swallowing struct {
	durable.FS
	file func(durable.File) error // instead of a file's Sync
	dir  func(durable.FS, string) error
}

func (s *swallowing) SyncDir(name string) error {
	if s.dir == nil {
		return s.FS.SyncDir(name)
	}
	return s.dir(s.FS, name)
}

func (s *swallowing) Create(name string) (durable.File, error) {
	f, err := s.FS.Create(name)
	if err != nil || s.file == nil {
		return f, err
	}
	return swallowingFile{f, s.file}, nil
}

type swallowingFile struct {
	durable.File
	sync func(durable.File) error
}

func (f swallowingFile) Sync() error { return f.sync(f.File) }

// unsynced runs one scenario with failing syncs, then again without, by the same
// program or by another one, and cuts the power.
type unsynced struct {
	t        *testing.T
	base     *prepared
	scenario int
	cuts     int
	own      mount
	after    mount
	runs     int
	false    []string // what was acknowledged though a sync failed, or is lost
}

// run reports whether a sync failed.
func (x *unsynced) run(fault syncFault, again string, over func(durable.FS) durable.FS) bool {
	t, p := x.t, x.base.again()
	opts := &Options{Known: p.h.known, Workers: 1}
	s, err := x.own.open(over(p.m), opts)
	if err != nil {
		t.Fatal(err)
	}
	sc := p.scenarios()[x.scenario]
	p.m.Record()
	p.m.Fail(fault.hook)
	acked, err := sc.run(t.Context(), s)
	p.m.Fail(nil)
	if fault.failed == "" {
		if err != nil {
			t.Errorf("%s: no sync failed, yet %v", sc.name, err)
		}
		return false
	}
	x.runs++
	what := fmt.Sprintf("%s: %s failed", sc.name, fault.failed)
	if err == nil {
		x.false = append(x.false, what+", but all was acknowledged")
	} else if !errors.Is(err, syscall.EIO) {
		t.Errorf("%s: %v hides the cause", what, err)
	}
	x.lost(p, acked, what)
	if again == "by another" {
		s = openMem(t, over(p.m), opts)
	}
	acked, err = sc.run(t.Context(), s)
	if err != nil {
		t.Errorf("%s, and again %s: %v", what, again, err)
	}
	x.lost(p, acked, what+", and again "+again)
	return true
}

// lost cuts the power, and notes what was acknowledged and is gone.
func (x *unsynced) lost(p *prepared, acked [][]byte, what string) {
	ops := p.m.Ops()
	for seed := range uint64(x.cuts) {
		s, err := x.after.open(p.m.Crash(ops, rand.New(rand.NewPCG(seed, uint64(ops)))), nil)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, c := range acked {
			if err := s.Verify(x.t.Context(), Sum(c)); err != nil {
				x.false = append(x.false, fmt.Sprintf("%s: lost: %v", what, err))
			}
		}
	}
}

// all runs every scenario that syncs with each sync failing, once and from then
// on.
func (x *unsynced) all(over func(durable.FS) durable.FS) {
	for i, sc := range x.base.scenarios() {
		x.scenario = i
		for _, sticky := range []bool{false, true} {
			for _, again := range []string{"by the same program", "by another"} {
				n := 1
				for x.run(syncFault{n: n, sticky: sticky}, again, over) {
					n++
				}
				if looks := strings.HasSuffix(sc.name, "verify") || strings.HasSuffix(sc.name, "read"); looks != (n == 1) {
					x.t.Errorf("%s: %d syncs", sc.name, n-1)
				}
			}
		}
	}
}

// TestPromiseFailedSyncsAreNeverAcknowledged fails each sync of each scenario. No
// content is acknowledged then, and what is acknowledged when it is put again is
// there after a power cut: what a failed sync dropped was written again.
func TestPromiseFailedSyncsAreNeverAcknowledged(t *testing.T) {
	same := func(fsys durable.FS) durable.FS { return fsys }
	x := &unsynced{t: t, base: prepare(t), cuts: promise.Times(3, 40)}
	x.all(same)
	// A folder that never can be synced.
	folders := 0
	for i := range x.base.scenarios() {
		x.scenario = i
		for _, c := range append(x.base.chain, x.base.damaged, x.base.lent, []byte("small"), x.base.borrower()) {
			if x.run(syncFault{dir: blobDir(Sum(c))}, "by another", same) {
				folders++
			}
		}
		for _, dir := range []string{".", "blobs"} {
			x.run(syncFault{dir: dir}, "by another", same)
		}
	}
	for _, what := range x.false {
		t.Error(what)
	}
	if folders < 10 {
		t.Errorf("only %d runs with a folder that can't be synced", folders)
	}
	promise.Kept(t, "%d runs with failing syncs, and as many again without: 0 false acknowledgements, 0 lost after %d power cuts each", x.runs, x.cuts)
}

// TestFailedSyncsAreMissed shows that the test above can fail.
func TestFailedSyncsAreMissed(t *testing.T) {
	for name, sw := range map[string]swallowing{
		"a file's sync is tried again": {file: func(f durable.File) error {
			if f.Sync() != nil {
				return f.Sync()
			}
			return nil
		}},
		"nobody hears of a file":   {file: func(f durable.File) error { _ = f.Sync(); return nil }},
		"nobody hears of a folder": {dir: func(f durable.FS, name string) error { _ = f.SyncDir(name); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			x := &unsynced{t: t, base: prepare(t), cuts: 3}
			over := func(fsys durable.FS) durable.FS {
				s := sw
				s.FS = fsys
				return &s
			}
			for i := range x.base.scenarios() {
				x.scenario = i
				for n := 1; x.run(syncFault{n: n}, "by another", over); n++ {
				}
				if slices.ContainsFunc(x.false, func(what string) bool { return strings.Contains(what, "lost") }) {
					return
				}
			}
			t.Errorf("nothing is lost, in %d runs", x.runs)
		})
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
