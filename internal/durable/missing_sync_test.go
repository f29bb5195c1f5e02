package durable_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
	"github.com/heftstore/heft/internal/syncsite"
)

// createAfterDeath has a program die in each operation of CreateDir; the next one
// calls it too, and is told that it worked. Then the power fails.
func createAfterDeath(skip string) (states int, lost []string) {
	for died := 1; ; died++ {
		m := durable.NewMem()
		m.Record()
		done := true
		m.Fail(func(op durable.Op) error {
			if op.N >= died {
				done = false
				return syscall.EIO
			}
			return nil
		})
		_ = durable.CreateDirIn(m, "a/b/c") // nobody hears of it
		m.Fail(nil)
		if err := durable.CreateDirIn(syncsite.Skip(m, skip), "a/b/c"); err != nil {
			lost = append(lost, err.Error())
		}
		for seed := range uint64(20) {
			states++
			after := m.Crash(m.Ops(), rand.New(rand.NewPCG(seed, uint64(died))))
			if info, err := after.Stat("a/b/c"); err != nil || !info.IsDir() {
				lost = append(lost, fmt.Sprintf("died in operation %d, power cut %d: %v", died, seed, err))
			}
		}
		if done {
			return states, lost
		}
	}
}

// writeTwice replaces a file, with power cuts everywhere.
func writeTwice(skip string) (states int, lost []string) {
	m := durable.NewMem()
	m.Record()
	f := syncsite.Skip(m, skip)
	var acked []int
	versions := []string{strings.Repeat("old", 300), strings.Repeat("new", 400)}
	for i, v := range versions {
		if err := durable.WriteFile(f, fmt.Sprint("tmp", i), "name", []byte(v)); err != nil {
			return 0, []string{err.Error()}
		}
		acked = append(acked, m.Ops())
	}
	for n := range m.Ops() + 1 {
		for seed := range uint64(40) {
			states++
			got, err := durable.ReadFile(m.Crash(n, rand.New(rand.NewPCG(seed, uint64(n)))), "name", 1<<20)
			if n < acked[0] && err != nil {
				continue
			}
			if err != nil || string(got) != versions[1] && (n >= acked[1] || string(got) != versions[0]) {
				lost = append(lost, fmt.Sprintf("power cut %d after operation %d: %d bytes, %v", seed, n, len(got), err))
			}
		}
	}
	return states, lost
}

// TestPromiseMissingSyncsOfDurableAreNoticed leaves out each sync of the package.
func TestPromiseMissingSyncsOfDurableAreNoticed(t *testing.T) {
	sites, err := syncsite.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	noticed, states := 0, 0
	for _, skip := range append([]string{""}, sites...) {
		made, lost := createAfterDeath(skip)
		written, more := writeTwice(skip)
		states += made + written
		lost = append(lost, more...)
		switch {
		case skip == "" && len(lost) > 0:
			t.Errorf("%d losses, the first: %s", len(lost), lost[0])
		case skip == "" || len(lost) > 0:
			noticed++
		case !strings.HasPrefix(skip, "durable/sync_unix.go:"):
			// That one is what SyncDir is on a disk, below everything here.
			t.Errorf("without the sync at %s nothing is lost: the tests don't cover it, or it is not needed", skip)
		}
	}
	if i := slices.IndexFunc(sites, func(s string) bool { return strings.HasPrefix(s, "durable/dir.go:") }); i < 0 {
		t.Errorf("CreateDir has no sync among %v", sites)
	}
	promise.Kept(t, "%d of %d syncs left out one by one, each noticed in %d states of the disk; with all of them, 0 lost", noticed-1, len(sites)-1, states)
}

// TestCreateDirCannotReadParent makes a folder in one that may be written, not
// read: its name can't be made durable, and wasn't made here.
func TestCreateDirCannotReadParent(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fs.ErrPermission, true},
		{syscall.EIO, false},
	} {
		m := durable.NewMem()
		if err := m.Mkdir("a"); err != nil {
			t.Fatal(err)
		}
		m.Fail(func(op durable.Op) error {
			if op.Kind == durable.OpSyncDir && op.Name == "." {
				return c.err
			}
			return nil
		})
		if err := durable.CreateDirIn(m, "a/b"); (err == nil) != c.want {
			t.Errorf("%v: CreateDir returned %v", c.err, err)
		}
		if err := durable.CreateDirIn(m, "new"); err == nil {
			t.Errorf("%v: a new folder was acknowledged", c.err)
		}
	}
}
