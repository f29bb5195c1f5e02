package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/promise"
)

// load changes a store from several goroutines, each of which has it open for
// itself, as processes do: they register states of models, promote, label, delete
// and collect.
type load struct {
	t      *testing.T
	dir    string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	errs   chan error
}

func startLoad(t *testing.T, dir string, models int) *load {
	l := &load{t: t, dir: dir, errs: make(chan error, models+2)}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	for i := range models {
		l.run(func(r *Registry, rng *rand.Rand, n int) error { return trainOn(l.ctx, r, fmt.Sprint("m", i), rng, n) })
	}
	l.run(func(r *Registry, rng *rand.Rand, _ int) error { return tidyOn(l.ctx, r, rng) })
	l.run(func(r *Registry, _ *rand.Rand, n int) error { return collectGarbage(l.ctx, r, int64(n)) })
	return l
}

func (l *load) run(once func(r *Registry, rng *rand.Rand, n int) error) {
	l.wg.Go(func() {
		r, err := Open(l.ctx, l.dir, &Options{Actor: "load"})
		if err != nil {
			l.errs <- err
			return
		}
		rng := rand.New(rand.NewPCG(1, rand.Uint64()))
		for n := 0; err == nil && l.ctx.Err() == nil; n++ {
			err = once(r, rng, n)
		}
		if l.ctx.Err() != nil {
			err = nil
		}
		l.errs <- errors.Join(err, r.Close())
	})
}

func (l *load) stop() {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	close(l.errs)
	for err := range l.errs {
		if err != nil {
			l.t.Errorf("the load: %v", err)
		}
	}
}

// trainOn registers another state of a model.
func trainOn(ctx context.Context, r *Registry, name string, rng *rand.Rand, n int) error {
	w := weights(uint64(len(name)), 150_000)
	for range 1 + n%7 {
		copy(w[rng.IntN(len(w)):], "something else")
	}
	m, err := r.Register(ctx, Model{Name: name}, bytes.NewReader(w))
	if err == nil && rng.IntN(3) == 0 {
		_, err = r.Promote(ctx, m.Ref(), Note{})
	}
	if err == nil && rng.IntN(3) == 0 {
		err = r.SetAlias(ctx, name, "newest", m.Ref(), Note{})
	}
	if errors.Is(err, ErrNotFound) { // deleted by another one
		err = nil
	}
	return err
}

// tidyOn deletes all but some versions of each model.
func tidyOn(ctx context.Context, r *Registry, rng *rand.Rand) error {
	for s, err := range r.Names(ctx, "") {
		if err != nil {
			return err
		}
		var refs []string
		for m, err := range r.Versions(ctx, s.Name) {
			if err != nil {
				return err
			}
			refs = append(refs, m.Ref())
		}
		for len(refs) > 6 {
			i := rng.IntN(len(refs))
			if err := r.ForceDelete(ctx, refs[i], Note{}); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			refs = slices.Delete(refs, i, i+1)
		}
	}
	return nil
}

// Backups are made while several others register, promote, label, delete and
// collect. Each one opens, all of it is sound, its journal is the beginning of the
// store's, and it holds what that says.
func TestPromiseHotBackup(t *testing.T) {
	times := promise.Times(6, 100)
	r := newRegistry(t)
	ctx := t.Context()
	add(t, r, "m0")
	l := startLoad(t, r.Dir(), 2)
	defer l.cancel()
	one := filepath.Join(t.TempDir(), "one")
	var seen uint64
	blobs, versions := 0, 0
	for i := range times {
		dir := one // brought up to date, and now and then one from nothing
		if i%5 == 4 {
			dir = filepath.Join(t.TempDir(), fmt.Sprint(i))
		}
		b := backUp(t, r, dir, &BackupOptions{Verify: true})
		if b.Records < seen {
			t.Fatalf("backup %d has %d records, the one before %d", i, b.Records, seen)
		}
		seen = b.Records
		blobs += b.Blobs
		versions += b.Versions
		checkBackup(ctx, t, r, dir, b)
		if t.Failed() {
			break
		}
	}
	l.stop()
	if promise.Full() && seen < 300 {
		t.Errorf("only %d changes were made meanwhile", seen)
	}
	promise.Kept(t, "%d backups during %d changes, %d versions in %d blobs verified, 0 wrong", times, seen, versions, blobs)
}

// checkBackup opens a backup and compares it with the journal of its store.
func checkBackup(ctx context.Context, t *testing.T, r *Registry, dir string, b Backed) {
	t.Helper()
	got, err := Open(ctx, dir, &Options{Actor: "tester"})
	must(t, err)
	defer got.Close()
	have := all(t, got.index.Records(ctx, 0))
	if uint64(len(have)) != b.Records {
		t.Errorf("%d records, want %d", len(have), b.Records)
	}
	var want []index.Record
	for rec, err := range r.index.Records(ctx, 0) {
		must(t, err)
		if want = append(want, rec); len(want) == len(have) {
			break
		}
	}
	for i := range want {
		a, err := json.Marshal(have[i])
		must(t, err)
		b, err := json.Marshal(want[i])
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Fatalf("record %d of the backup is %s, want %s", i, a, b)
		}
	}
	same(t, "the listing", stated(t, got), replayed(want))
	wantClean(t, got)
}
