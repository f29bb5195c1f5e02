package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLockThatExcludesNobody has a file system that grants every lock.
func TestLockThatExcludesNobody(t *testing.T) {
	d := newDir(t)
	d.flock = func(f *os.File, mode LockMode) (bool, error) {
		_, err := tryFlock(f, mode)
		return true, err
	}
	for range 2 { // it isn't taken for proven
		_, err := d.Lock(t.Context(), "lock", Exclusive)
		le, ok := errors.AsType[*LockError](err)
		if !ok || !errors.Is(err, errTwice) || !strings.HasSuffix(le.Path, "lock") {
			t.Fatalf("%v is no *LockError of a lock granted twice", err)
		}
	}
	// The lock was not kept.
	d.flock = tryFlock
	must(t, lock(t, d, Exclusive).Unlock())
}

// TestLockUnsupported has a file system without locks.
func TestLockUnsupported(t *testing.T) {
	for _, errno := range []error{syscall.ENOLCK, syscall.ENOTSUP, syscall.ENOSYS, syscall.EINVAL} {
		for _, mode := range []LockMode{Shared, Exclusive} {
			d := newDir(t)
			d.flock = func(*os.File, LockMode) (bool, error) { return false, errno }
			_, err := d.Lock(t.Context(), "lock", mode)
			le, ok := errors.AsType[*LockError](err)
			if !ok || !errors.Is(err, errno) {
				t.Fatalf("%v, mode %d: %v is no *LockError", errno, mode, err)
			}
			want := fmt.Sprintf("durable: file locks don't work on the file system of %s: %v: processes would overwrite each other's changes; mount it with locks, or move the store to a local disk", le.Path, errno)
			if le.Error() != want {
				t.Errorf("%q, want %q", le, want)
			}
		}
	}
	d := newDir(t)
	d.flock = func(*os.File, LockMode) (bool, error) { return false, syscall.EIO }
	_, err := d.Lock(t.Context(), "lock", Exclusive)
	if _, ok := errors.AsType[*LockError](err); ok || !errors.Is(err, syscall.EIO) {
		t.Errorf("a failing disk: %v", err)
	}
}

// TestLockIsProvenOnce counts the calls for a lock.
func TestLockIsProvenOnce(t *testing.T) {
	d := newDir(t)
	calls := 0
	d.flock = func(f *os.File, m LockMode) (bool, error) { calls++; return tryFlock(f, m) }
	for i, want := range []int{2, 3, 4} {
		must(t, lock(t, d, Exclusive).Unlock())
		if calls != want {
			t.Errorf("after %d locks: %d calls, want %d", i+1, calls, want)
		}
	}
}

func TestLockTellsWhoItWaitsFor(t *testing.T) {
	d := newDir(t)
	held := lock(t, d, Exclusive)
	told := make(chan Wait, 1)
	d.SetPatience(Patience{Tell: func(w Wait) { told <- w }, After: time.Nanosecond})
	got := make(chan error)
	go func() {
		l, err := d.Lock(t.Context(), "lock", Exclusive)
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}()
	w := <-told
	if want := fmt.Sprintf("held by process %d", os.Getpid()); w.Holder != want || !strings.HasSuffix(w.Path, "lock") {
		t.Errorf("told %+v, want %q", w, want)
	}
	must(t, held.Unlock())
	must(t, <-got)
}

func TestLockLimit(t *testing.T) {
	d := newDir(t)
	held := lock(t, d, Exclusive)
	d.SetPatience(Patience{Limit: time.Nanosecond})
	_, err := d.Lock(t.Context(), "lock", Shared)
	be, ok := errors.AsType[*BusyError](err)
	if !ok || be.Limit != time.Nanosecond || be.Holder != fmt.Sprintf("held by process %d", os.Getpid()) {
		t.Errorf("%v is no *BusyError with its holder", err)
	}
	// The caller's own context comes first.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.SetPatience(Patience{Limit: time.Hour})
	if _, err := d.Lock(ctx, "lock", Shared); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is done: %v", err)
	}
	must(t, held.Unlock())
	must(t, lock(t, d, Shared).Unlock())
}

// TestLockHolderElsewhere reads the note of a process on another machine, and
// one of an older heft.
func TestLockHolderElsewhere(t *testing.T) {
	d := newDir(t)
	for note, want := range map[string]string{
		fmt.Sprintf("%-19d\n%-64s\n", 77, "gpu-17"): `held by process 77 on "gpu-17"`,
		fmt.Sprintf("%-19d\n", 78):                  "held by process 78",
		"x":                                         "held by an unknown process",
	} {
		l := lock(t, d, Exclusive)
		must(t, os.Truncate(l.file.Name(), 0))
		if _, err := l.file.WriteAt([]byte(note), holderOffset); err != nil {
			t.Fatal(err)
		}
		if got := d.holder("lock"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		must(t, l.Unlock())
	}
}

func TestReadOnlyErrorOnlyForTheWhole(t *testing.T) {
	d := newDir(t)
	theirs := &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}
	if err := d.refused(theirs); err != error(theirs) { //nolint:errorlint // the very same
		t.Errorf("one file of somebody else: %v", err)
	}
	err := d.refused(&fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS})
	re, ok := errors.AsType[*ReadOnlyError](err)
	if !ok || re.Dir != d.Path() || !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v is no *ReadOnlyError", err)
	}
	if d.refused(nil) != nil {
		t.Error("nothing was refused")
	}
}

func BenchmarkProve(b *testing.B) {
	d := newDir(b)
	l, err := d.Lock(b.Context(), "lock", Exclusive)
	must(b, err)
	for b.Loop() {
		d.proven.Store(false)
		must(b, d.prove("lock"))
	}
	must(b, l.Unlock())
}
