package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// noticeAfter is when somebody is told that a lock is waited for: longer than
// any transaction takes on a slow disk, shorter than people wait in silence.
const noticeAfter = 3 * time.Second

// Patience says what happens while a lock is waited for. The zero value waits
// until the context ends, in silence.
type Patience struct {
	// Tell is called once for a wait that lasts, on a goroutine of its own; nil
	// tells nobody.
	Tell func(Wait)

	// After is how long a wait lasts before Tell is called; 0 is 3 seconds.
	After time.Duration

	// Limit ends a wait with a *BusyError; 0 is no limit.
	Limit time.Duration
}

// Wait describes a lock that is waited for.
type Wait struct {
	Path   string // of its side file, absolute
	Holder string // who has it, as far as that is known: "held by process 12"
}

// BusyError says that a lock was not free within [Patience.Limit].
type BusyError struct {
	Wait
	Limit time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("durable: %s was not free within %v: %s: try again when that process is done", e.Path, e.Limit, e.Holder)
}

// LockError says that the file system of a folder has no locks that work, which
// is no place for what several processes change.
type LockError struct {
	Path string // of the file that was to be locked
	Err  error  // what the system said, or that a lock was granted twice
}

func (e *LockError) Error() string {
	return fmt.Sprintf("durable: file locks don't work on the file system of %s: %v: processes would overwrite each other's changes; mount it with locks, or move the store to a local disk", e.Path, e.Err)
}

// Unwrap returns Err.
func (e *LockError) Unwrap() error { return e.Err }

var errTwice = errors.New("a lock was granted twice")

// SetPatience says what happens while a lock of d is waited for. Call it before
// d is used by several goroutines.
func (d *Dir) SetPatience(p Patience) {
	if p.After <= 0 {
		p.After = noticeAfter
	}
	d.patience = p
}

// wait waits in the queue for the lock name.
func (d *Dir) wait(ctx context.Context, w *waiter, name string) error {
	path := filepath.Join(d.path, filepath.FromSlash(name))
	p := d.patience
	if p.Tell != nil {
		notice := time.AfterFunc(p.After, func() { p.Tell(Wait{Path: path, Holder: d.holder(name)}) })
		defer notice.Stop()
	}
	within := ctx
	if p.Limit > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, p.Limit)
		defer cancel()
	}
	err := w.lock(within)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("durable: lock %s: %w: %s", path, err, d.holder(name))
	case within.Err() != nil && errors.Is(err, within.Err()):
		return &BusyError{Wait: Wait{Path: path, Holder: d.holder(name)}, Limit: p.Limit}
	}
	return lockFailed(path, err)
}

// openLock opens the side file of a lock, which it makes if it is missing. For a
// Shared lock a file that this user can read is enough.
func (d *Dir) openLock(name string, mode LockMode) (*os.File, error) {
	file, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil || mode != Shared || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return file, err
	}
	file, rerr := d.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(rerr, fs.ErrNotExist) {
		return nil, &ReadOnlyError{Dir: d.path, Err: rerr}
	}
	return file, rerr
}

// prove finds out, once for d, whether the lock name, which the caller has
// exclusively, keeps others out. It takes as long as opening a file.
func (d *Dir) prove(name string) error {
	if d.proven.Load() {
		return nil
	}
	path := filepath.Join(d.path, filepath.FromSlash(name))
	second, err := d.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("durable: trying out the lock %s: %w", path, err)
	}
	defer release(second)
	ok, err := d.flock(second, Shared)
	if err != nil {
		return lockFailed(path, err)
	}
	if ok {
		return &LockError{Path: path, Err: errTwice}
	}
	d.proven.Store(true)
	return nil
}

// lockFailed is the error for a lock of the file path that failed with err.
func lockFailed(path string, err error) error {
	for _, unsupported := range []error{syscall.ENOLCK, errors.ErrUnsupported, syscall.EINVAL} {
		// ENOSYS and ENOTSUP are ErrUnsupported. flock(2) gives EINVAL for an
		// operation that the file system does not know.
		if errors.Is(err, unsupported) {
			return &LockError{Path: path, Err: err}
		}
	}
	return fmt.Errorf("durable: lock %s: %w", path, err)
}
