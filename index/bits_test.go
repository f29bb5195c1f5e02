package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

const smallVersions = 6

// smallStore returns the folder of a store whose index has a few pages of each
// kind, pages that are not in use too, and the listing of it. One version has so
// many files more, whose long paths make a deep tree.
func smallStore(t *testing.T, files int) (dir string, want []string) {
	t.Helper()
	dir = filepath.Join(fastDir(t), "store")
	s, err := blob.Create(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := openIndex(t, s, &Options{Now: clock()})
	var last *Version
	for i := range smallVersions {
		v := version(t, s, "m", fmt.Sprint(i))
		if last != nil {
			v.Parent = last.ID
		}
		f := put(t, s, fmt.Sprintf("weights %d", i%5))
		v.Metadata = fmt.Appendf(nil, `{"n":%q}`, bytes.Repeat([]byte("n"), 900*os.Getpagesize()/4096))
		all := []File{f}
		for j := 0; j < files && i == 2; j++ {
			all = append(all, at(t, f, fmt.Sprintf("%03d%s", j, strings.Repeat("/"+strings.Repeat("d", 99), 9))))
		}
		last = register(t, x, v, all...)
	}
	// One status or alias after the other: each leaves a page of the past behind.
	for _, status := range []string{"one", "two", "three"} {
		update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(last.ID, status) })
	}
	update(t, x, "alias", func(tx *Tx) error { return tx.SetAlias(last.Name, parseAlias(t, "prod"), [16]byte{}, last.ID) })
	want = listing(t, x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// use does with a store what a registry does: lists all, reads the journal, and
// makes a change. It returns the listing before that, or the first error.
func use(ctx context.Context, t testing.TB, dir string) (list []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s, err := blob.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	x, err := Open(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if list, err = allAnswers(t, x); err != nil {
		return nil, err
	}
	list = names(list)
	if _, err := x.CheckJournal(ctx); err != nil {
		return nil, err
	}
	err = x.Update(ctx, Change{Verb: "after"}, func(tx *Tx) error {
		for v, err := range tx.All() {
			if err != nil {
				return err
			}
			if err := tx.SetStatus(v.ID, "after"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = x.Update(ctx, Change{Verb: "delete"}, func(tx *Tx) error {
		i := 0
		for v, err := range tx.All() {
			if err == nil && i%2 == 0 {
				err = tx.Delete(v.ID)
			}
			if err != nil {
				return err
			}
			i++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// What was written on top of the damage must be sound too.
	n := 0
	return list, x.View(ctx, func(tx *Tx) error {
		n = 0
		for _, err := range tx.ByStatus("after") {
			if err != nil {
				return err
			}
			n++
		}
		for _, err := range tx.Paths("") {
			if err != nil {
				return err
			}
			n += 100
		}
		if n != smallVersions/2*101 {
			return fmt.Errorf("%d versions and %d files are left", n%100, n/100)
		}
		return nil
	})
}

// flipper tries bits in copies of one store.
type flipper struct {
	dir     string
	want    []string
	name    string // of the file
	typed   func(error) bool
	refused atomic.Int32 // errors
	bits    atomic.Int32
}

// try flips one bit of the file and says what is wrong with what follows.
func (f *flipper) try(t testing.TB, dir string, content []byte, bit int) error {
	content[bit/8] ^= 1 << (bit % 8)
	defer func() { content[bit/8] ^= 1 << (bit % 8) }()
	for _, name := range []string{journalName, databaseName, "heft.json"} {
		b := content
		if name != f.name {
			var err error
			if b, err = os.ReadFile(filepath.Join(f.dir, name)); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "quarantine")); err != nil {
		return err
	}
	got, err := use(t.Context(), t, dir)
	f.bits.Add(1)
	switch {
	case err != nil && f.typed(err):
		f.refused.Add(1)
	case err != nil:
		return fmt.Errorf("an error that names nothing: %w", err)
	case !slices.Equal(got, f.want):
		return fmt.Errorf("another listing: %s", firstDifference(got, f.want))
	}
	return nil
}

// run tries every step-th bit, beginning with those that rng says.
func (f *flipper) run(t *testing.T, step int, rng *rand.Rand) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(f.dir, f.name))
	if err != nil {
		t.Fatal(err)
	}
	inUse := func(int) bool { return true }
	if f.name == databaseName {
		inUse = usedBytes(t, f.dir)
	}
	var bits []int
	for at := 0; at < 8*len(content); at += step {
		// Bytes that are not in use are tried less often.
		if bit := at + rng.IntN(step); bit < 8*len(content) && (inUse(bit/8) || step > 64 || rng.IntN(64) == 0) {
			bits = append(bits, bit)
		}
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for w := range 2 {
		dir := filepath.Join(filepath.Dir(f.dir), fmt.Sprint(f.name, w))
		if err := os.CopyFS(dir, os.DirFS(f.dir)); err != nil {
			t.Fatal(err)
		}
		own := slices.Clone(content)
		wg.Go(func() {
			for bit := range next {
				// A hang is one bit's fault: say which.
				watch := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("%s, byte %d, bit %d: hangs", f.name, bit/8, bit%8)) })
				if err := f.try(t, dir, own, bit); err != nil {
					t.Errorf("%s, byte %d, bit %d: %v", f.name, bit/8, bit%8, err)
				}
				watch.Stop()
			}
		})
	}
	for _, bit := range bits {
		if t.Failed() {
			break
		}
		next <- bit
	}
	close(next)
	wg.Wait()
}

// usedBytes says which bytes of index.db mean something: not those of pages that
// are not in use, nor of the end of a page beyond its last entry.
func usedBytes(t *testing.T, dir string) func(int) bool {
	t.Helper()
	d, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	db, err := openReader(d)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	btx, err := db.begin(reading)
	if err != nil {
		t.Fatal(err)
	}
	defer db.rollback(btx)
	p, err := newPages(db, btx)
	if err != nil {
		t.Fatal(err)
	}
	used := map[int]int{0: pageHeader + metaSize, 1: pageHeader + metaSize}
	m, _, err := readMeta(db.file, int64(btx.ID()%2)*p.unit)
	if err != nil {
		t.Fatal(err)
	}
	used[int(m.freelist)] = pageHeader + len(p.free)
	var visit func(id uint64)
	visit = func(id uint64) {
		pg, err := p.load(id, 0)
		if err != nil {
			t.Fatal(err)
		}
		used[int(id)] = int(pg.used)
		for i := 0; pg.branch && i < pg.count; i++ {
			visit(pg.child(i))
		}
	}
	visit(p.root)
	branches := 0
	for _, b := range allBuckets() {
		if _, err := p.check(b, []byte(floor)); err != nil {
			t.Fatal(err)
		}
		if root := p.buckets[b].root; root != 0 {
			visit(root)
			if p.known[root].branch {
				branches++
			}
		}
	}
	if branches == 0 || len(p.free) < 8 {
		t.Errorf("%d branches, %d pages not in use: nothing to be led astray by", branches, len(p.free)/8)
	}
	return func(at int) bool { return at%int(p.unit) < used[at/int(p.unit)] }
}

// TestPromiseEveryIndexBit flips every bit of index.db, journal and heft.json,
// one at a time. The answers are what they were, because the index heals, or an
// error says what is damaged.
func TestPromiseEveryIndexBit(t *testing.T) {
	dir, want := smallStore(t, 0)
	rng := rand.New(rand.NewPCG(5, 6))
	files := []struct {
		name  string
		step  int
		typed func(error) bool
	}{
		{databaseName, promise.Times(1500, 1), func(error) bool { return false }},
		{journalName, promise.Times(800, 1), func(err error) bool {
			je, ok := errors.AsType[*JournalError](err)
			return ok && je.Err != nil
		}},
		{"heft.json", promise.Times(10, 1), func(err error) bool {
			return errors.Is(err, blob.ErrDamagedStore) || errors.As(err, new(*blob.NewerError))
		}},
	}
	var lines [3]string
	for i, file := range files {
		f := &flipper{dir: dir, want: want, name: file.name, typed: file.typed}
		f.run(t, file.step, rng)
		lines[i] = fmt.Sprintf("%d bits of %s (%d errors)", f.bits.Load(), file.name, f.refused.Load())
	}
	promise.Kept(t, "%s, %s, %s: 0 silently wrong, 0 hung, 0 crashed", lines[0], lines[1], lines[2])
}
