package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/heftstore/heft/blob"
)

// workerDir makes the test binary one of the processes of TestIndexProcesses.
const workerDir = "HEFT_INDEX_TEST_DIR"

const processes, updates = 4, 50

// work registers versions and moves an alias that all processes share.
func work(t *testing.T, dir, worker string) {
	s, err := blob.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	x := openIndex(t, s, nil)
	last := parseAlias(t, "last")
	for i := range updates {
		v := version(t, s, "shared", fmt.Sprintf("%s.%d", worker, i))
		update(t, x, "register", func(tx *Tx) error {
			have, err := tx.Alias(v.Name, last)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			v.Parent = have
			if err := tx.Register(v, nil); err != nil {
				return err
			}
			return tx.SetAlias(v.Name, last, have, v.ID)
		})
		if err := x.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err }); err != nil {
			t.Fatalf("own write not seen: %v", err)
		}
	}
}

// TestIndexProcesses has several processes open a fresh store and write.
func TestIndexProcesses(t *testing.T) {
	if dir := os.Getenv(workerDir); dir != "" {
		work(t, dir, os.Getenv("HEFT_INDEX_TEST_WORKER"))
		return
	}
	s := newStore(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestIndexProcesses$")
			cmd.Env = append(os.Environ(), workerDir+"="+s.Dir(), fmt.Sprintf("HEFT_INDEX_TEST_WORKER=%d", i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	x := openIndex(t, s, nil)
	if n, err := x.CheckJournal(t.Context()); n != processes*updates+1 || err != nil {
		t.Errorf("CheckJournal: %d, %v", n, err)
	}
	if err := x.View(t.Context(), func(tx *Tx) error {
		if n := len(collect(t, tx.All())); n != processes*updates {
			t.Errorf("%d versions, want %d", n, processes*updates)
		}
		// Each has another parent: no update was made on an old state.
		id, err := tx.Alias(parseName(t, "shared"), parseAlias(t, "last"))
		n := 0
		for ; err == nil && n <= processes*updates; n++ {
			var v *Version
			if v, err = tx.Version(id); err == nil {
				id = v.Parent
			}
		}
		if n != processes*updates+1 {
			t.Errorf("chain of %d parents, want %d; %v", n, processes*updates+1, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	want := dump(t, s)
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), want)
}

// TestIndexGoroutines has goroutines share one Index, exclusive or not.
func TestIndexGoroutines(t *testing.T) {
	for name, o := range map[string]*Options{"shared": nil, "exclusive": {Exclusive: true}} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			x := openIndex(t, s, o)
			const workers, each = 4, 10
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := range each {
						v := version(t, s, "m", fmt.Sprintf("%d.%d", w, i))
						if err := x.Update(t.Context(), Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, nil) }); err != nil {
							t.Error(err)
						}
						if err := x.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err }); err != nil {
							t.Error(err)
						}
						if i == each/2 && w == 0 {
							if err := x.Rebuild(t.Context()); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			if n, err := x.CheckJournal(t.Context()); n != workers*each+1 || err != nil {
				t.Errorf("CheckJournal: %d, %v", n, err)
			}
		})
	}
}

func TestIndexExclusive(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Exclusive: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, s, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second Open: %v", err)
	}
	v := register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	done := make(chan error)
	go func() {
		other, err := Open(t.Context(), s, nil)
		if err == nil {
			err = other.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err })
			err = errors.Join(err, other.Close())
		}
		done <- err
	}()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after the exclusive one was closed: %v", err)
	}
}

func TestIndexDeadline(t *testing.T) {
	s := newStore(t)
	x, other := openIndex(t, s, nil), openIndex(t, s, nil)
	update(t, x, "x", func(*Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := other.View(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("View: %v", err)
		}
		if err := other.Update(ctx, Change{Verb: "x"}, func(*Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update: %v", err)
		}
		return nil
	})
	if err := other.View(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestIndexLeaks counts descriptors and goroutines over many transactions, some
// of which heal.
func TestIndexLeaks(t *testing.T) {
	fds := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc/self/fd to count descriptors in")
		}
		return len(all)
	}
	s := newStore(t)
	x := openIndex(t, s, nil)
	v := register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	path := filepath.Join(s.Dir(), databaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	descriptors, goroutines := fds(), runtime.NumGoroutine()
	for i := range 30 {
		for range 3 {
			if err := x.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err }); err != nil {
				t.Fatal(err)
			}
			update(t, x, "x", func(*Tx) error { return nil })
		}
		replace(t, path, good[:len(good)*i/30])
	}
	if n := fds(); n > descriptors+2 {
		t.Errorf("%d descriptors, %d at first", n, descriptors)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d at first", n, goroutines)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
