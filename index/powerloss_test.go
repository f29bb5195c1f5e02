package index

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// run is a run of changes whose every operation is logged.
type run struct {
	d     *traced
	base  string // the store's folder
	steps []step
	kept  []kept
	marks []int // operations after which a power cut tells most
	// check says what is bad about what a power cut left, for a run that is no run
	// of changes; otherwise nil. The rest is as for crashed.
	check func(t testing.TB, left *durable.Mem, dir string, n int, twice *rand.Rand) error
}

// kept is a file of quarantine/, there for good after some operations.
type kept struct {
	ops  int
	name string
}

// step is what was acknowledged, and when.
type step struct {
	ops    int      // of the log, when the listing became what it is
	list   []string // nil before the index was opened
	final  bool     // what failed before is known not to have happened
	maybe  []string // what is listed if a change that failed is made all the same
	damage bool     // index.db was damaged or removed on purpose here
}

// listing is what the index says of names: what a user can lose. What it knows
// of blobs is a hint, and depends on when it was built.
func listing(t testing.TB, x *Index) []string {
	t.Helper()
	return names(answers(t, x))
}

func names(answers []string) []string {
	return slices.DeleteFunc(answers, func(s string) bool {
		return strings.HasPrefix(s, "blob ") || strings.HasPrefix(s, "frame ") ||
			strings.HasPrefix(s, "sha256 ") && strings.Contains(s, " false, back")
	})
}

func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "heft-index")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newRun makes a store with some blobs, and no index.
func newRun(t testing.TB, drop string) (*run, *blob.Store) {
	t.Helper()
	base := filepath.Join(fastDir(t), "store")
	s, err := blob.Create(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for i := range 8 {
		put(t, s, fmt.Sprintf("weights %d", i))
		for _, n := range []string{"a", "b"} {
			version(t, s, n, fmt.Sprint(i))
		}
	}
	d := trace(t, base)
	d.drop = drop
	return &run{d: d, base: base}, s
}

func (r *run) open(t testing.TB, s *blob.Store, o Options) *Index {
	t.Helper()
	d, err := durable.OpenDir(r.base)
	if err != nil {
		t.Fatal(err)
	}
	own := &traced{Dir: d, mem: r.d.mem, drop: r.d.drop, sites: r.d.sites, gaps: r.d.gaps}
	x, err := openIn(t.Context(), own, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (r *run) note(t testing.TB, x *Index) *step {
	t.Helper()
	// Reading may have work to do, such as to apply what is in the journal.
	list := listing(t, x)
	r.steps = append(r.steps, step{ops: r.d.mem.Ops(), list: list, final: true})
	return &r.steps[len(r.steps)-1]
}

func (r *run) change(t testing.TB, x *Index, verb string, fn func(*Tx) error) {
	t.Helper()
	update(t, x, verb, fn)
	r.note(t, x)
}

// script makes every kind of change once or more.
func (r *run) script(t testing.TB, s *blob.Store, x *Index, rng *rand.Rand) {
	t.Helper()
	r.note(t, x)
	prod := parseAlias(t, "prod")
	var last *Version
	for i := range 6 {
		f := put(t, s, fmt.Sprintf("weights %d", i))
		v := version(t, s, []string{"a", "b"}[i%2], fmt.Sprint(i))
		v.Metadata = fmt.Appendf(nil, `{"note":%q}`, strings.Repeat("x", rng.IntN(3000)))
		if last != nil {
			v.Parent = last.ID
		}
		r.change(t, x, "register", func(tx *Tx) error { return tx.Register(v, []File{f, at(t, f, "b.bin")}) })
		switch rng.IntN(5) {
		case 0:
			r.change(t, x, "promote", func(tx *Tx) error {
				have, err := tx.Alias(v.Name, prod)
				if err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				return errors.Join(tx.SetStatus(v.ID, "production"), tx.SetAlias(v.Name, prod, have, v.ID))
			})
		case 1:
			r.change(t, x, "metadata", func(tx *Tx) error { return tx.SetMetadata(v.ID, nil, strings.Repeat("d", rng.IntN(6000))) })
		case 2:
			r.change(t, x, "sha256", func(tx *Tx) error {
				return tx.SetSHA256(f.Digest, sha256.Sum256(fmt.Appendf(nil, "weights %d", i)))
			})
		case 3:
			r.change(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.ID) })
			v = last
		}
		last = v
	}
}

var errDisk = errors.New("disk")

// failing makes an update fail, in one of the ways that leave something.
func (r *run) failing(t testing.TB, x *Index, v *Version, rng *rand.Rand, cutToo bool) {
	t.Helper()
	whole := rng.IntN(2) == 0
	failed := false
	v.RegisteredAt, v.UpdatedAt = 1, 1
	maybe := r.made(t, v)
	r.d.mem.Fail(func(op durable.Op) error {
		switch {
		case op.Name != journalName:
		case failed && cutToo:
			return errDisk
		case failed:
		case op.Kind == durable.OpWrite && whole:
			failed = true
			return durable.ShortWrite(op.Len, errDisk)
		case op.Kind == durable.OpSync:
			failed = true
			return errDisk
		}
		return nil
	})
	err := x.Update(t.Context(), Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, nil) })
	r.d.mem.Fail(nil)
	if err == nil && r.d.drop != "" {
		r.note(t, x) // the sync that was to fail was left out
		return
	}
	if !errors.Is(err, errDisk) {
		t.Fatalf("an update that must fail: %v", err)
	}
	if cutToo {
		// It is there or not, and stays so from the next look on.
		r.steps = append(r.steps, step{ops: r.d.mem.Ops(), list: r.steps[len(r.steps)-1].list})
	}
	r.note(t, x).maybe = maybe
}

// made returns what is listed once v is registered, in a copy of the store.
func (r *run) made(t testing.TB, v *Version) []string {
	t.Helper()
	dir := filepath.Join(fastDir(t), "copy")
	if err := os.CopyFS(dir, os.DirFS(r.base)); err != nil {
		t.Fatal(err)
	}
	s, err := blob.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := openIndex(t, s, nil)
	defer x.Close()
	w := *v
	register(t, x, &w)
	return listing(t, x)
}

// journalRun is creation and changes; some fail. Nothing damages index.db.
func journalRun(t testing.TB, drop string, seed uint64, o Options) *run {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	r, s := newRun(t, drop)
	o.Now = clock()
	x := r.open(t, s, o)
	r.script(t, s, x, rng)
	r.failing(t, x, version(t, s, "a", "6"), rng, false)
	r.failing(t, x, version(t, s, "b", "6"), rng, true)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = r.open(t, s, o)
	r.note(t, x) // it may show what failed
	r.change(t, x, "register", func(tx *Tx) error { return tx.Register(version(t, s, "b", "7"), nil) })
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// damageRun has index.db removed, damaged and rebuilt on the way.
func damageRun(t testing.TB, drop string, seed uint64, o Options) *run {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 8))
	r, s := newRun(t, drop)
	o.Now = clock()
	x := r.open(t, s, o)
	r.script(t, s, x, rng)
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.change(t, x, "register", func(tx *Tx) error { return tx.Register(version(t, s, "a", "6"), nil) })
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	scramble := func(as string) {
		r.steps = append(r.steps, step{ops: r.d.mem.Ops(), list: r.steps[len(r.steps)-1].list, damage: true, final: true})
		err := r.d.Remove(databaseName)
		if err == nil && as != "" {
			err = durable.WriteFile(r.d, "tmp/scramble", databaseName, []byte(strings.Repeat(as, 9000)))
		}
		if err == nil {
			err = r.d.mem.SyncDir(".")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, as := range []string{"", "garbage ", "\x00"} {
		scramble(as)
		x = r.open(t, s, o)
		files, err := r.d.mem.ReadDir("quarantine")
		if err != nil || len(files) != i {
			t.Fatalf("%d files in quarantine, %v", len(files), err)
		}
		for _, f := range files {
			r.kept = append(r.kept, kept{r.d.mem.Ops(), "quarantine/" + f.Name()})
		}
		r.note(t, x)
		r.change(t, x, "register", func(tx *Tx) error { return tx.Register(version(t, s, "b", fmt.Sprint(8+i)), nil) })
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// at returns what may be listed after a power cut after n operations, and
// whether index.db was whole and durable by then.
func (r *run) at(n int) (lists [][]string, whole bool) {
	acked := -1
	for i, s := range r.steps {
		if s.ops <= n {
			acked = i
		}
	}
	for i := max(acked, 0); i < len(r.steps); i++ {
		lists = append(lists, r.steps[i].list)
		if i > acked && r.steps[i].maybe != nil {
			lists = append(lists, r.steps[i].maybe)
		}
		if i > acked && !r.steps[i].damage && r.steps[i].final {
			break // the next one is as far as it can have got
		}
	}
	if acked >= 0 && !r.steps[acked].final {
		// What failed without a word that nothing changed: either way.
		lists = append(lists, r.steps[acked-1].list)
	}
	return lists, acked >= 0 && (!r.steps[acked].damage || r.steps[acked].ops == n)
}

// crashed opens what a power cut left, and says what is bad about it. It makes
// a change, whose listing it returns, and a log of what it did itself.
func (r *run) crashed(t testing.TB, left *durable.Mem, dir string, n int, twice *rand.Rand) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if r.check != nil {
		return r.check(t, left, dir, n, twice)
	}
	lists, whole := r.at(n)
	materialize(t, left, dir, ".")
	if _, err := left.Stat(databaseName); whole && err != nil {
		return fmt.Errorf("index.db is gone: %w", err)
	}
	for _, k := range r.kept {
		if _, err := left.Stat(k.name); k.ops <= n && err != nil {
			return fmt.Errorf("the damaged index.db was not kept: %w", err)
		}
	}
	left.Record()
	own := &run{d: &traced{mem: left, sites: map[string]bool{}, gaps: new([]int), drop: r.d.drop}, base: dir}
	before, after, err := own.reopen(t, lists, whole)
	if err != nil || twice == nil {
		return err
	}
	// Once more, while it was getting over the first.
	for i := range 3 {
		n := twice.IntN(left.Ops() + 1)
		again := left.Crash(n, twice)
		next := append(slices.Clone(lists), before)
		if n == left.Ops() {
			next = nil
		}
		dir := fmt.Sprintf("%s.%d", dir, i)
		materialize(t, again, dir, ".")
		again.Record()
		r := &run{d: &traced{mem: again, sites: map[string]bool{}}, base: dir}
		if _, _, err := r.reopen(t, append(next, after), whole); err != nil {
			return fmt.Errorf("again after %d operations of %d: %w", n, left.Ops(), err)
		}
		_ = os.RemoveAll(dir)
	}
	return nil
}

// reopen returns the listing that it found, which must be one of lists, and the
// one after a change of its own.
func (r *run) reopen(t testing.TB, lists [][]string, whole bool) (before, after []string, err error) {
	s, err := blob.Open(r.base, nil)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	r.d.Dir, err = durable.OpenDir(r.base)
	if err != nil {
		return nil, nil, err
	}
	var heals atomic.Int32
	x, err := openIn(t.Context(), r.d, s, Options{Now: clock(), Logger: slog.New(healed{slog.DiscardHandler, &heals})})
	if err != nil {
		return nil, nil, fmt.Errorf("opening: %w", err)
	}
	defer x.Close()
	if before, err = allAnswers(t, x); err != nil {
		return nil, nil, fmt.Errorf("listing: %w", err)
	}
	before = names(before)
	known := slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, before) || l == nil && len(before) == 1 })
	if !known {
		return before, nil, fmt.Errorf("lists %d lines, %s; acknowledged were %d, %s", len(before), before[0], len(lists[0]), lists[0][:1])
	}
	err = x.Update(t.Context(), Change{Verb: "after"}, func(tx *Tx) error {
		return tx.Register(version(t, s, "a", fmt.Sprintf("after-%d", tx.Applied())), nil)
	})
	if err != nil {
		return before, nil, fmt.Errorf("a change afterwards: %w", err)
	}
	if after, err = allAnswers(t, x); err != nil {
		return before, nil, fmt.Errorf("listing afterwards: %w", err)
	}
	after = names(after)
	if _, err := x.CheckJournal(t.Context()); err != nil {
		return before, after, err
	}
	if whole && heals.Load() > 0 {
		return before, after, errors.New("index.db was damaged")
	}
	return before, after, nil
}

// evenly returns count numbers of operations, from none to all of the run.
func (r *run) evenly(count int) []int {
	after := make([]int, count)
	for i := range after {
		after[i] = i * (r.d.mem.Ops() + 1) / count
	}
	return after
}

// cut cuts the power after so many operations each, and returns how many states
// are bad, and why the first one is. Without a sync, it is content with one.
func (r *run) cut(t testing.TB, after []int, seed uint64) (states, bad int, first error) {
	t.Helper()
	type job struct {
		left *durable.Mem
		n, i int
	}
	jobs := make(chan job)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var done atomic.Bool
	dir := fastDir(t)
	for w := range uint64(2) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, w))
			defer func() {
				for range jobs { // if a Fatal ended this one
				}
			}()
			for j := range jobs {
				var twice *rand.Rand
				if r.d.drop == "" {
					twice = rng
				}
				at := filepath.Join(dir, fmt.Sprint(j.i))
				err := r.crashed(t, j.left, at, j.n, twice)
				_ = os.RemoveAll(at)
				mu.Lock()
				states++
				if twice != nil {
					states += 3
				}
				if err != nil {
					bad++
					if first == nil {
						first = fmt.Errorf("power cut after %d operations of %d: %w", j.n, r.d.mem.Ops(), err)
					}
					done.Store(r.d.drop != "")
				}
				mu.Unlock()
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	for i, n := range after {
		if done.Load() {
			break
		}
		jobs <- job{r.d.mem.Crash(n, rng), n, i}
	}
	close(jobs)
	wg.Wait()
	return states, bad, first
}

// TestPromiseJournalAndIndexSurvivePowerLoss: journal and index.db, from their
// creation on. A state is bad if it lacks what was acknowledged, shows what was
// not, can't be opened or changed, or has to build an index.db anew that nobody
// damaged.
func TestPromiseJournalAndIndexSurvivePowerLoss(t *testing.T) {
	kinds := []func(testing.TB, string, uint64, Options) *run{journalRun, retriedRun, damageRun}
	modes := []Options{{}, {Exclusive: true}}
	seeds := promise.Times(1, 5)
	each := promise.Times(20, 130)
	all := 0
	for seed := range uint64(seeds) {
		for k, kind := range kinds {
			for m, mode := range modes {
				r := kind(t, "", seed, mode)
				states, bad, first := r.cut(t, r.evenly(each), seed)
				all += states
				if bad > 0 {
					t.Errorf("seed %d, run %d, mode %d: %d of %d states are bad, the first: %v", seed, k, m, bad, states, first)
				}
			}
		}
	}
	promise.Kept(t, "%d states, 0 bad", all)
}
