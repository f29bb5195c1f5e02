package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func lock(t testing.TB, d *Dir, mode LockMode) *Lock {
	t.Helper()
	l, err := d.Lock(t.Context(), "lock", mode)
	must(t, err)
	return l
}

// lockFails waits for the lock some milliseconds and returns the error.
func lockFails(t testing.TB, d *Dir, mode LockMode) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	l, err := d.Lock(ctx, "lock", mode)
	if err == nil {
		_ = l.Unlock()
		t.Fatal("got a lock that is held")
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got error %v, want a deadline", err)
	}
	if !strings.Contains(err.Error(), filepath.Join(d.Path(), "lock")) {
		t.Errorf("error %q doesn't name the lock file", err)
	}
	return err
}

// mark returns the first byte of the lock file.
func mark(t testing.TB, d *Dir) byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.Path(), "lock"))
	must(t, err)
	if len(data) == 0 {
		return 0
	}
	return data[0]
}

// awaitMark returns when somebody waits at the head of the queue.
func awaitMark(t testing.TB, d *Dir) {
	t.Helper()
	for mark(t, d) != markWaiting {
		if t.Context().Err() != nil {
			t.Fatal("nobody waits")
		}
		runtime.Gosched()
	}
}

func TestLockModes(t *testing.T) {
	d := newDir(t)
	must(t, lock(t, d, Exclusive).Unlock()) // its note must not be believed later
	a, b := lock(t, d, Shared), lock(t, d, Shared)
	if err := lockFails(t, d, Exclusive); strings.Contains(err.Error(), "held by process") {
		t.Errorf("no process has it exclusively, but: %v", err)
	}
	must(t, a.Unlock())
	_ = lockFails(t, d, Exclusive)
	must(t, b.Unlock())
	c := lock(t, d, Exclusive)
	for _, mode := range []LockMode{Shared, Exclusive} {
		err := lockFails(t, d, mode)
		if want := fmt.Sprintf("held by process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
			t.Errorf("error %q doesn't say %q", err, want)
		}
	}
	must(t, c.Unlock())
	wantErr(t, "second Unlock", c.Unlock(), fs.ErrClosed)
	must(t, lock(t, d, Shared).Unlock())
	for _, name := range []string{"lock", "lock" + turnSuffix} {
		if _, err := d.Stat(name); err != nil {
			t.Errorf("the lock file is gone: %v", err)
		}
	}
}

func TestLockArguments(t *testing.T) {
	d := newDir(t)
	_, err := d.Lock(t.Context(), "lock", 0)
	wantErr(t, "mode 0", err, fs.ErrInvalid)
	_, err = d.Lock(t.Context(), "../lock", Shared)
	wantErr(t, "name outside", err, fs.ErrInvalid)
	_, err = d.Lock(t.Context(), "none/lock", Shared)
	wantErr(t, "no directory", err, fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Lock(ctx, "lock", Shared)
	wantErr(t, "canceled before", err, context.Canceled)
	_, err = d.Stat("lock")
	wantErr(t, "lock file after nothing was locked", err, fs.ErrNotExist)
}

// TestLockAbandoned lets waiters give up in every position of the queue, and
// checks that they leave nothing locked when they get the lock late.
func TestLockAbandoned(t *testing.T) {
	d := newDir(t)
	for _, held := range []LockMode{Shared, Exclusive} {
		for range 20 {
			l := lock(t, d, held)
			_ = lockFails(t, d, Exclusive) // at the head of the queue
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() { _ = lockFails(t, d, Exclusive) })
			}
			wg.Wait()
			must(t, l.Unlock())
			must(t, lock(t, d, Exclusive).Unlock())
		}
	}
}

// TestLockReadersPassAbandonedWriter checks that readers don't queue behind a
// writer that has given up.
func TestLockReadersPassAbandonedWriter(t *testing.T) {
	d := newDir(t)
	first := lock(t, d, Shared)
	_ = lockFails(t, d, Exclusive)
	if mark(t, d) != markWaiting {
		t.Fatal("the writer did not queue, so this test shows nothing")
	}
	second := lock(t, d, Shared) // would hang
	if mark(t, d) == markWaiting {
		t.Error("the mark of the writer that gave up is still there")
	}
	must(t, second.Unlock())
	must(t, first.Unlock())
}

// TestLockStaleMark is the state after a waiter was killed.
func TestLockStaleMark(t *testing.T) {
	for _, mode := range []LockMode{Shared, Exclusive} {
		d := newDir(t)
		put(t, d, "lock", string(rune(markWaiting)))
		must(t, lock(t, d, mode).Unlock())
		if mark(t, d) == markWaiting {
			t.Errorf("mode %d: the stale mark is still there", mode)
		}
	}
}

func TestLockWriterIsNotStarved(t *testing.T) {
	d := newDir(t)
	reader := lock(t, d, Shared)
	writer := make(chan *Lock)
	go func() {
		l, err := d.Lock(t.Context(), "lock", Exclusive)
		if err != nil {
			t.Error(err)
		}
		writer <- l
	}()
	awaitMark(t, d)
	_ = lockFails(t, d, Shared) // a later reader waits, although the lock is shared
	must(t, reader.Unlock())
	l := <-writer
	if mark(t, d) == markWaiting {
		t.Error("the mark is still there after the writer got the lock")
	}
	_ = lockFails(t, d, Shared)
	must(t, l.Unlock())
	must(t, lock(t, d, Shared).Unlock())
}

func TestLockWithoutDeadline(t *testing.T) {
	d := newDir(t)
	l := lock(t, d, Exclusive)
	got := make(chan error)
	go func() {
		second, err := d.Lock(context.Background(), "lock", Exclusive)
		if err == nil {
			err = second.Unlock()
		}
		got <- err
	}()
	awaitMark(t, d)
	must(t, l.Unlock())
	must(t, <-got)
}

// TestLockGoroutines mixes readers, writers and waiters that give up.
func TestLockGoroutines(t *testing.T) {
	d := newDir(t)
	var readers, writers, exclusive atomic.Int32
	var wg sync.WaitGroup
	const goroutines, rounds = 6, 100
	for i := range goroutines {
		wg.Go(func() {
			for j := range rounds {
				if (i+j)%10 == 0 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
					if l, err := d.Lock(ctx, "lock", Exclusive); err == nil {
						_ = l.Unlock()
					}
					cancel()
				}
				mode := Shared
				if i%2 == 0 {
					mode = Exclusive
				}
				l, err := d.Lock(t.Context(), "lock", mode)
				if err != nil {
					t.Error(err)
					return
				}
				if mode == Exclusive {
					n := exclusive.Load()
					if writers.Add(1) != 1 || readers.Load() != 0 {
						t.Error("a writer is not alone")
					}
					runtime.Gosched()
					exclusive.Store(n + 1) // one step with Load only under the lock
					writers.Add(-1)
				} else {
					readers.Add(1)
					if writers.Load() != 0 {
						t.Error("a reader is in together with a writer")
					}
					runtime.Gosched()
					readers.Add(-1)
				}
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := int(exclusive.Load()), goroutines/2*rounds; got != want {
		t.Errorf("%d exclusive rounds, want %d", got, want)
	}
}

func BenchmarkLock(b *testing.B) {
	for name, mode := range map[string]LockMode{"shared": Shared, "exclusive": Exclusive} {
		b.Run(name, func(b *testing.B) {
			d := newDir(b)
			for b.Loop() {
				l, err := d.Lock(b.Context(), "lock", mode)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Unlock(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
