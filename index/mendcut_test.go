package index

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// mendCase is a journal that is damaged, and how it is mended.
type mendCase struct {
	name    string
	records []int // that are damaged
	missing bool  // the file is
	bare    bool  // the folder quarantine/ is missing, too
	short   int   // records that it ends after, if not 0
	other   int   // records of the other folder's journal; 0: no other folder
	lossy   bool
	want    int // records that it has then; 0: it begins anew
	later   int // records behind the loss
}

// The journal of mendRun has 8 records.
var mendCases = []mendCase{
	{name: "mended and cut", bare: true, records: []int{1, 4}, other: 3, lossy: true, want: 4, later: 3},
	{name: "from another", records: []int{2, 5}, bare: true, other: 6, want: 8},
	{name: "missing", missing: true, other: 8, want: 8},
	{name: "cut", records: []int{3}, other: 2, lossy: true, want: 3, later: 4},
	{name: "ends early", short: 4, lossy: true, want: 4},
	{name: "lost", missing: true, lossy: true},
}

// mending is what is known of a run that mends.
type mending struct {
	mendCase
	r      *run
	store  *blob.Store
	other  string // folder
	bad    []byte // the damaged journal, nil if it is missing
	want   []byte // the mended one
	list   []string
	done   int // operations when it was mended
	forget int // operations before later records are forgotten
	forgot int // and after that
}

func (m *mending) at() int64 { return m.store.CreatedAt() }

// lineage makes a store with 8 records, and returns their lines. It has an
// index.db, which nobody has open.
func lineage(t testing.TB) (s *blob.Store, lines [][]byte) {
	t.Helper()
	s, err := blob.Create(filepath.Join(fastDir(t), "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	x := openIndex(t, s, &Options{Now: clock()})
	for i := range 7 {
		v := version(t, s, []string{"a", "b"}[i%2], fmt.Sprint(i))
		v.Metadata = fmt.Appendf(nil, `{"note":%q}`, strings.Repeat("x", 200*i))
		register(t, x, v)
	}
	version(t, s, "a", "after")
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(journalIn(t, s.Dir())) {
		lines = append(lines, line)
	}
	return s, lines
}

// listedWith returns the listing of a copy of the store with another journal.
func listedWith(t testing.TB, s *blob.Store, journal []byte) []string {
	t.Helper()
	dir := filepath.Join(fastDir(t), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, databaseName)); err != nil {
		t.Fatal(err)
	}
	setJournal(t, dir, journal)
	c, err := blob.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x := openIndex(t, c, nil)
	defer x.Close()
	return listing(t, x)
}

func newMending(t testing.TB, drop string, c mendCase) *mending {
	t.Helper()
	s, lines := lineage(t)
	m := &mending{mendCase: c, store: s}
	all := bytes.Join(lines, nil)
	if !c.missing {
		m.bad = bytes.Clone(all)
		for _, i := range c.records {
			m.bad[len(bytes.Join(lines[:i], nil))+100] ^= 1
		}
		if c.short > 0 {
			m.bad = bytes.Join(lines[:c.short], nil)
		}
	}
	m.want = bytes.Join(lines[:c.want], nil)
	if c.want == 0 {
		line, _, err := encodeRecord(&Record{Time: m.at(), Verb: verbCreate, Store: s.ID()})
		if err != nil {
			t.Fatal(err)
		}
		m.want = line
	}
	m.list = listedWith(t, s, m.want)
	if c.other > 0 {
		m.other = fastDir(t)
		setJournal(t, m.other, bytes.Join(lines[:c.other], nil))
	}
	setJournal(t, s.Dir(), m.bad) // removed at once if it is to be missing
	if c.missing {
		if err := os.Remove(filepath.Join(s.Dir(), journalName)); err != nil {
			t.Fatal(err)
		}
	}
	if c.bare {
		if err := os.Remove(filepath.Join(s.Dir(), "quarantine")); err != nil {
			t.Fatal(err)
		}
	}
	m.r = &run{d: trace(t, s.Dir()), base: s.Dir(), check: m.check}
	m.r.d.drop = drop
	return m
}

// repair is what heft repair does: it mends a journal that is damaged.
func (m *mending) repair(t testing.TB, d folder) error {
	var o folder
	if m.other != "" {
		dir, err := durable.OpenDir(m.other)
		if err != nil {
			return err
		}
		defer dir.Close()
		o = dir
	}
	return lockJournal(t.Context(), d, func() error {
		err := inspect(t.Context(), d, m.store.ID())
		if _, bad := errors.AsType[*JournalError](err); !bad {
			return err
		}
		_, err = (&mender{d: d, o: o, from: m.other, store: m.store.ID(), at: m.at(), lossy: m.lossy}).mend(t.Context())
		return err
	})
}

// failAt has the nth operation that changes something fail, and no other.
func failAt(mem *durable.Mem, n int) {
	mem.Fail(func(op durable.Op) error {
		switch op.Kind {
		case durable.OpWrite, durable.OpSync, durable.OpSyncDir, durable.OpRename, durable.OpMkdir, durable.OpCreate:
			if n--; n == -1 {
				return errDisk
			}
		}
		return nil
	})
}

// mendRun mends a journal, in every second run after it failed to, opens the index
// and forgets what was behind a loss.
func mendRun(t testing.TB, drop string, seed uint64, o Options) *run {
	t.Helper()
	m := newMending(t, drop, mendCases[seed%uint64(len(mendCases))])
	rng := rand.New(rand.NewPCG(seed, 5))
	if seed/uint64(len(mendCases))%2 == 1 {
		failAt(m.r.d.mem, rng.IntN(8))
		if err := m.repair(t, m.r.d); err != nil && !errors.Is(err, errDisk) {
			t.Fatalf("%s: a repair that may fail: %v", m.name, err)
		}
		m.r.d.mem.Fail(nil)
	}
	if err := m.repair(t, m.r.d); err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	m.done = m.r.d.mem.Ops()
	o.Now = clock()
	x := m.r.open(t, m.store, o)
	m.forget = m.r.d.mem.Ops()
	later, pending, err := x.LaterRecords(t.Context())
	if err != nil || pending != m.lossy || len(later) != m.later {
		t.Fatalf("%s: %d later records, %v, %v", m.name, len(later), pending, err)
	}
	if err := x.ForgetLater(); err != nil {
		t.Fatal(err)
	}
	m.forgot = m.r.d.mem.Ops()
	for range 8 {
		m.r.marks = append(m.r.marks, min(m.forget+1, m.forgot))
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return m.r
}

// check says what is bad about what a power cut after n operations left.
func (m *mending) check(t testing.TB, left *durable.Mem, dir string, n int, twice *rand.Rand) error {
	aside, err := left.ReadDir("quarantine")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n >= m.done && m.lossy && !slices.ContainsFunc(aside, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), databaseName+".") }) {
		return errors.New("the index.db that was set aside is gone")
	}
	may := []bool{false, true} // whether later records are pending
	switch {
	case !m.lossy || n >= m.forgot:
		may = []bool{false}
	case n <= m.forget:
		may = []bool{true}
	}
	ops, err := m.again(t, left, dir, n >= m.done, may)
	if err != nil || twice == nil {
		return err
	}
	if may = []bool{false, m.lossy}; n >= m.forgot {
		may = []bool{false}
	}
	for i := range 3 {
		k := twice.IntN(ops + 1)
		at := fmt.Sprintf("%s.%d", dir, i)
		_, err := m.again(t, left.Crash(k, twice), at, n >= m.done || k == ops, may)
		_ = os.RemoveAll(at)
		if err != nil {
			return fmt.Errorf("again after %d operations of %d: %w", k, ops, err)
		}
	}
	return nil
}

// again looks at what was left, mends it if it has to, opens it and makes a
// change. ops is how many operations it made before that. done says whether the
// journal has to be the mended one at once.
func (m *mending) again(t testing.TB, left *durable.Mem, dir string, done bool, may []bool) (ops int, err error) {
	materialize(t, left, dir, ".")
	if err := m.found(dir, done); err != nil {
		return 0, err
	}
	s, err := blob.Open(dir, nil)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	own, err := durable.OpenDir(dir)
	if err != nil {
		return 0, err
	}
	left.Record()
	d := &traced{Dir: own, mem: left, sites: map[string]bool{}, gaps: new([]int), drop: m.r.d.drop}
	if err := m.repair(t, d); err != nil {
		return 0, errors.Join(fmt.Errorf("mending again: %w", err), own.Close())
	}
	x, err := openIn(t.Context(), d, s, Options{Now: clock()})
	if err != nil {
		return 0, fmt.Errorf("opening: %w", err)
	}
	defer x.Close()
	list, err := allAnswers(t, x)
	if err != nil {
		return 0, fmt.Errorf("listing: %w", err)
	}
	if list = names(list); !slices.Equal(list, m.list) {
		return 0, fmt.Errorf("lists %d lines, not %d", len(list), len(m.list))
	}
	later, pending, err := x.LaterRecords(t.Context())
	switch {
	case err != nil:
		return 0, fmt.Errorf("later records: %w", err)
	case !slices.Contains(may, pending):
		return 0, fmt.Errorf("later records are pending: %v", pending)
	case pending && len(later) != m.later:
		return 0, fmt.Errorf("%d later records, not %d", len(later), m.later)
	}
	if err := x.ForgetLater(); err != nil {
		return 0, fmt.Errorf("forgetting: %w", err)
	}
	if _, pending, err = x.LaterRecords(t.Context()); err != nil || pending {
		return 0, fmt.Errorf("once forgotten: %v, %w", pending, err)
	}
	if err := m.found(dir, true); err != nil {
		return 0, fmt.Errorf("mended again: %w", err)
	}
	ops = left.Ops()
	err = x.Update(t.Context(), Change{Verb: "after"}, func(tx *Tx) error {
		return tx.Register(version(t, s, "a", "after"), nil)
	})
	if err == nil {
		_, err = x.CheckJournal(t.Context())
	}
	if err != nil {
		return 0, fmt.Errorf("a change afterwards: %w", err)
	}
	return ops, nil
}

// found looks at the journal in dir, and at what was kept of it.
func (m *mending) found(dir string, done bool) error {
	got, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	missing := err != nil
	untouched := missing == m.missing && bytes.Equal(got, m.bad)
	switch {
	case !missing && bytes.Equal(got, m.want):
	case done:
		return fmt.Errorf("the mended journal is gone, there are %d bytes", len(got))
	case !untouched:
		return fmt.Errorf("the journal is neither the damaged nor the mended one: %d bytes, missing %v", len(got), missing)
	}
	_, err = os.Stat(filepath.Join(dir, databaseName))
	gone := err != nil
	if gone && !m.lossy {
		return fmt.Errorf("index.db is gone: %w", err)
	}
	if untouched && !gone && !done || m.missing && !m.lossy {
		return nil
	}
	kept, err := filepath.Glob(filepath.Join(dir, "quarantine", journalName+".*"))
	if err != nil {
		return err
	}
	same := func(name string) bool {
		b, err := os.ReadFile(name)
		return err == nil && bytes.Equal(b, m.bad) && !strings.HasSuffix(name, ".new")
	}
	if !slices.ContainsFunc(kept, same) {
		return fmt.Errorf("the damaged journal is not among the %d that were kept", len(kept))
	}
	return nil
}

// unfinishedRun has a process die before the mended journal's name is durable. The
// next one finds the journal whole, and changes something.
func unfinishedRun(t testing.TB, drop string, _ uint64, o Options) *run {
	t.Helper()
	m := newMending(t, drop, mendCases[1])
	m.r.d.mem.Fail(func(op durable.Op) error {
		if b, err := os.ReadFile(filepath.Join(m.r.base, journalName)); err == nil && bytes.Equal(b, m.want) && op.Kind == durable.OpSyncDir {
			return errDisk
		}
		return nil
	})
	if err := m.repair(t, m.r.d); !errors.Is(err, errDisk) {
		t.Fatalf("a repair that must fail: %v", err)
	}
	m.r.d.mem.Fail(nil)
	o.Now = clock()
	x := m.r.open(t, m.store, o)
	register(t, x, version(t, m.store, "a", "after"))
	acked, want := m.r.d.mem.Ops(), journalIn(t, m.r.base)
	for i := range 5 {
		register(t, x, version(t, m.store, "b", fmt.Sprint("after-", i)))
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	m.r.check = func(_ testing.TB, left *durable.Mem, _ string, n int, _ *rand.Rand) error {
		if n < acked {
			return nil
		}
		got, err := durable.ReadFile(left, journalName, 1<<20)
		if err == nil && !bytes.HasPrefix(got, want) {
			err = fmt.Errorf("the journal of %d bytes lacks some of the %d that were acknowledged", len(got), len(want))
		}
		return err
	}
	return m.r
}

// TestPromiseMendedAndCopiedJournalsSurvivePowerLoss mends journals that are
// damaged, missing and cut, and copies journals to a backup. Whenever the power is
// cut, the damaged journal is there or the whole mended one, mending works again,
// and what quarantine/ was to keep is there before anything replaces it.
func TestPromiseMendedAndCopiedJournalsSurvivePowerLoss(t *testing.T) {
	kinds := []func(testing.TB, string, uint64, Options) *run{mendRun, copyRun, unfinishedRun}
	seeds := promise.Times(2*len(mendCases), 8*len(mendCases))
	each := promise.Times(5, 25)
	all := 0
	for seed := range uint64(seeds) {
		for k, kind := range kinds {
			r := kind(t, "", seed, Options{Exclusive: seed%4 > 1})
			states, bad, first := r.cut(t, append(append(r.evenly(each), r.d.mem.Ops()), r.marks...), seed)
			all += states
			if bad > 0 {
				t.Errorf("seed %d, run %d: %d of %d states are bad, the first: %v", seed, k, bad, states, first)
			}
		}
	}
	promise.Kept(t, "%d states, 0 bad", all)
}
