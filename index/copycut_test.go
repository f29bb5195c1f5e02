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
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// copying is what is known of a run that makes a backup.
type copying struct {
	r     *run
	x     *Index // of the store
	to    []Position
	lists [][]string
	done  []int // operations when the backup was made as far as to
}

func (c *copying) copy(t testing.TB, d folder, i int) error {
	return lockJournal(t.Context(), d, func() error { return c.x.copyJournal(t.Context(), d, c.to[i]) })
}

// copyRun copies a journal to a backup, and then again once there are more records.
// In every second run a copy before that was left unfinished.
func copyRun(t testing.TB, drop string, seed uint64, _ Options) *run {
	t.Helper()
	s, lines := lineage(t)
	base := filepath.Join(fastDir(t), "backup")
	if err := os.CopyFS(base, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{journalName, databaseName, lockName, createName} {
		if err := os.Remove(filepath.Join(base, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	c := &copying{x: openIndex(t, s, &Options{Now: clock()})}
	for _, n := range []int{4, len(lines)} {
		c.lists = append(c.lists, listedWith(t, s, bytes.Join(lines[:n], nil)))
		p := Position{Records: uint64(n), Bytes: int64(len(bytes.Join(lines[:n], nil)))}
		if err := p.Sum.UnmarshalText(lines[n-1][:hexSize]); err != nil {
			t.Fatal(err)
		}
		c.to = append(c.to, p)
	}
	c.r = &run{d: trace(t, base), base: base, check: c.check}
	c.r.d.drop = drop
	for i := range c.to {
		if seed%2 == 1 {
			c.r.d.mem.Fail(func(op durable.Op) error {
				if op.Kind == durable.OpSyncDir {
					return errDisk
				}
				return nil
			})
			if err := c.copy(t, c.r.d, i); !errors.Is(err, errDisk) && drop == "" {
				t.Fatalf("a copy that must fail: %v", err)
			}
			c.r.d.mem.Fail(nil)
		}
		if err := c.copy(t, c.r.d, i); err != nil {
			t.Fatal(err)
		}
		c.done = append(c.done, c.r.d.mem.Ops())
	}
	return c.r
}

// check says what is bad about the backup that a power cut after n operations left.
func (c *copying) check(t testing.TB, left *durable.Mem, dir string, n int, twice *rand.Rand) error {
	first := 0 // of the copies that may be there
	for first < len(c.done) && c.done[first] <= n {
		first++
	}
	ops, err := c.again(t, left, dir, first)
	if err != nil || twice == nil {
		return err
	}
	for i := range 3 {
		k := twice.IntN(ops + 1)
		least := first
		if k == ops {
			least = len(c.to)
		}
		at := fmt.Sprintf("%s.%d", dir, i)
		_, err := c.again(t, left.Crash(k, twice), at, least)
		_ = os.RemoveAll(at)
		if err != nil {
			return fmt.Errorf("again after %d operations of %d: %w", k, ops, err)
		}
	}
	return nil
}

// again looks at the backup, which has least copies or more, and copies once more.
func (c *copying) again(t testing.TB, left *durable.Mem, dir string, least int) (ops int, err error) {
	materialize(t, left, dir, ".")
	got, err := os.ReadFile(filepath.Join(dir, journalName))
	switch {
	case err == nil:
		i := slices.IndexFunc(c.to, func(p Position) bool { return p.Bytes == int64(len(got)) })
		if i < 0 || i+1 < least {
			return 0, fmt.Errorf("its journal has %d bytes; copied were %d", len(got), least)
		}
		if err := c.opens(t, dir, i); err != nil {
			return 0, err
		}
	case !errors.Is(err, fs.ErrNotExist) || least > 0:
		return 0, err
	}
	own, err := durable.OpenDir(dir)
	if err != nil {
		return 0, err
	}
	left.Record()
	d := &traced{Dir: own, mem: left, sites: map[string]bool{}, gaps: new([]int), drop: c.r.d.drop}
	if err := errors.Join(c.copy(t, d, len(c.to)-1), own.Close()); err != nil {
		return 0, fmt.Errorf("copying again: %w", err)
	}
	return left.Ops(), c.opens(t, dir, len(c.to)-1)
}

// opens opens the backup, which must list what copy i does.
func (c *copying) opens(t testing.TB, dir string, i int) (err error) {
	s, err := blob.Open(dir, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	x, err := Open(t.Context(), s, nil)
	if err != nil {
		return fmt.Errorf("opening the backup: %w", err)
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	list, err := allAnswers(t, x)
	if err != nil {
		return fmt.Errorf("listing the backup: %w", err)
	}
	if !slices.Equal(names(list), c.lists[i]) {
		return fmt.Errorf("the backup lists %d lines, not %d", len(list), len(c.lists[i]))
	}
	_, err = x.CheckJournal(t.Context())
	return err
}
