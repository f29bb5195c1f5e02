package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// LockMode says with whom a [Lock] can be shared. The zero value is invalid.
type LockMode int

const (
	// Shared excludes Exclusive holders only.
	Shared LockMode = iota + 1
	// Exclusive excludes every other holder.
	Exclusive
)

// The side file of a lock. All of it is a hint: the lock itself is the
// operating system's, which releases it when a process dies.
//
//	offset 0, 1 byte    markWaiting while somebody waits at the head of the queue
//	offset 1, 20 bytes  process id of the last Exclusive holder, spaces, newline
//	offset 21, 65 bytes the name of its machine, cut, spaces, newline
const (
	markWaiting  = 'w'
	markNone     = '-'
	holderOffset = 1
	holderSize   = 20
	hostSize     = 65
)

// turnSuffix names the queue's own lock file.
const turnSuffix = ".turn"

// Lock is a lock on a side file, held until Unlock. Keep it reachable: a Lock
// that the garbage collector finds is released.
type Lock struct {
	file *os.File
}

// Lock waits for the lock on the side file name, which it makes if it is
// missing and never removes. Handles exclude each other within a process and
// across processes alike; a process that dies releases its locks.
//
// Waiting is fair, so that readers can't starve a writer, nor one busy process
// the others: only those who come in the moment until the head of the queue has
// left its mark can still slip past. Who doesn't get the lock
// at once queues on the lock of a second file, name+".turn"; the head of the
// queue holds that one while it waits for the first, and marks the first byte
// of name. Newcomers who see the mark queue up too instead of trying their luck
// (one byte read, the only extra system call for an uncontended Shared lock; an
// Exclusive one also writes its process id). The mark of a waiter that was
// killed costs the next caller a look at the empty queue, which erases it.
// Waiters in the queue are served in the order of the operating system's locks,
// which is first come, first served on Linux.
//
// Who may not write gets a Shared lock all the same, on a side file that it can
// read; if there is none, the error is a [*ReadOnlyError] that wraps
// fs.ErrNotExist. A file system whose locks don't work is a [*LockError]: the
// first Exclusive lock through d is tried out on a second handle.
//
// When ctx is done the error wraps ctx.Err(), names the file and says who holds
// the lock if that is known; [Dir.SetPatience] can end the wait earlier, with a
// [*BusyError]. A goroutine stays behind, blocked in the operating
// system with one thread and up to two open files; it gives up its place at the
// head of the queue at once, and if it gets the lock later it only releases it.
// No goroutine is started if the lock is free or ctx can't be done.
//
// Lock is safe for concurrent use. A second Lock by the same goroutine waits for
// the first one like any other, so Exclusive twice is a deadlock. The Go memory
// model knows nothing of it: guard what goroutines share with a mutex as well.
func (d *Dir) Lock(ctx context.Context, name string, mode LockMode) (*Lock, error) {
	path := filepath.Join(d.path, filepath.FromSlash(name))
	if mode != Shared && mode != Exclusive {
		return nil, fmt.Errorf("durable: lock %s: mode %d: %w", path, mode, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("durable: lock %s: %w", path, err)
	}
	file, err := d.openLock(name, mode)
	if err != nil {
		return nil, fmt.Errorf("durable: open lock file: %w", err)
	}
	if !waitingMark(file) {
		ok, err := d.flock(file, mode)
		if err != nil {
			return nil, errors.Join(lockFailed(path, err), file.Close())
		}
		if ok {
			return d.newLock(file, name, mode)
		}
	}
	turn, err := d.openLock(name+turnSuffix, mode)
	if _, ro := errors.AsType[*ReadOnlyError](err); ro && mode == Shared {
		turn, err = nil, nil // it waits outside the queue
	}
	if err != nil {
		return nil, fmt.Errorf("durable: open lock file: %w", errors.Join(err, file.Close()))
	}
	w := &waiter{file: file, turn: turn, mode: mode}
	if err := d.wait(ctx, w, name); err != nil {
		return nil, err
	}
	return d.newLock(file, name, mode)
}

// newLock notes the holder. A failure is ignored: on a full disk the note is
// lost, but deleting, which needs the lock, must still work.
func (d *Dir) newLock(file *os.File, name string, mode LockMode) (*Lock, error) {
	if mode == Exclusive {
		if err := d.prove(name); err != nil {
			release(file)
			return nil, err
		}
		host, _ := os.Hostname() // a hint as well
		note := fmt.Sprintf("%-*d\n%-*.*s\n", holderSize-1, os.Getpid(), hostSize-1, hostSize-1, host)
		_, _ = file.WriteAt([]byte(note), holderOffset)
	}
	return &Lock{file: file}, nil
}

// Unlock releases the lock. Call it once; a second call returns an error that
// wraps fs.ErrClosed.
func (l *Lock) Unlock() error {
	// Closing alone would do, but see dirFile.Close.
	if err := errors.Join(unFlock(l.file), l.file.Close()); err != nil {
		return fmt.Errorf("durable: unlock %s: %w", l.file.Name(), err)
	}
	return nil
}

// waitingMark says whether somebody waits at the head of the queue. An
// unreadable mark counts as none, which costs fairness, not safety.
func waitingMark(file *os.File) bool {
	var b [1]byte
	_, err := file.ReadAt(b[:], 0)
	return err == nil && b[0] == markWaiting
}

// setMark writes the mark. Only the holder of the turn lock may. Errors are
// ignored for the reason given at newLock.
func setMark(file *os.File, mark byte) { _, _ = file.WriteAt([]byte{mark}, 0) }

// holder describes who has the lock, for an error text. It looks with a handle
// of its own, and a moment later than the caller, so it can be out of date.
func (d *Dir) holder(name string) string {
	const unknown = "held by an unknown process"
	file, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return unknown
	}
	defer release(file)
	ok, err := tryFlock(file, Shared)
	if err != nil {
		return unknown
	}
	if ok {
		// The note, if any, is of a past holder.
		return "no exclusive holder now; shared holders or waiters are ahead"
	}
	var note [holderSize + hostSize]byte
	n, err := file.ReadAt(note[:], holderOffset)
	if n < holderSize {
		return unknown
	}
	pid, perr := strconv.Atoi(strings.TrimSpace(string(note[:holderSize])))
	if perr != nil {
		return unknown
	}
	there := strings.TrimSpace(string(note[holderSize:n]))
	if here, herr := os.Hostname(); err != nil || herr != nil || there == "" || strings.HasPrefix(here, there) {
		return fmt.Sprintf("held by process %d", pid)
	}
	return fmt.Sprintf("held by process %d on %.64q", pid, there)
}

// waiter is one caller's place in the queue for a lock. It owns both files.
type waiter struct {
	file *os.File // the lock itself
	turn *os.File // locked by the head of the queue; nil outside it
	mode LockMode

	mu        sync.Mutex
	head      bool // turn is locked, and is ours to release
	done      bool // file is locked
	abandoned bool // the caller is gone
}

// lock waits for the lock. On success turn is closed; on failure the files are
// closed, now or by the goroutine that stays behind.
func (w *waiter) lock(ctx context.Context) error {
	var err error
	if w.turn == nil {
		w.head = true
	} else if w.head, err = tryFlock(w.turn, Exclusive); err != nil {
		return errors.Join(err, w.file.Close(), w.turn.Close())
	}
	if w.head {
		ok, err := tryFlock(w.file, w.mode)
		if err != nil {
			return errors.Join(err, w.file.Close(), w.turn.Close())
		}
		if ok {
			setMark(w.file, markNone)
			release(w.turn)
			return nil
		}
	}
	if ctx.Done() == nil {
		return w.wait()
	}
	result := make(chan error, 1)
	go func() { result <- w.wait() }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	if w.abandon() {
		return ctx.Err()
	}
	return <-result
}

// wait blocks until the lock is there, or until it has come too late.
func (w *waiter) wait() error {
	err := w.block()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && !w.abandoned {
		setMark(w.file, markNone)
		w.done = true
		release(w.turn)
		return nil
	}
	w.done = !w.abandoned
	release(w.file)
	release(w.turn)
	return err
}

// block takes turn, then file. It returns early, without an error, if the
// caller is gone when turn comes.
func (w *waiter) block() error {
	w.mu.Lock()
	head := w.head || w.abandoned
	w.mu.Unlock()
	if !head {
		if err := waitFlock(w.turn, Exclusive); err != nil {
			return err
		}
	}
	w.mu.Lock()
	if w.abandoned {
		w.mu.Unlock()
		return nil
	}
	w.head = true
	setMark(w.file, markWaiting)
	w.mu.Unlock()
	return waitFlock(w.file, w.mode)
}

// abandon tells wait that the caller is gone, and gives up the place at the
// head of the queue, because those behind it would wait for nobody. It returns
// false if wait has finished first.
func (w *waiter) abandon() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return false
	}
	w.abandoned = true
	if w.head {
		// The mark stays, because a call on file may block (on Windows it does,
		// behind the one that waits); the next caller erases it.
		w.head = false
		_ = unFlock(w.turn)
	}
	return true
}

// release unlocks and closes a lock file, whether it is locked or not. Errors
// don't matter: unlocking fails if it isn't, and closing unlocks in any case.
func release(file *os.File) {
	_ = unFlock(file)
	_ = file.Close()
}

// TryLock takes an exclusive advisory lock on an open file, as [File] does:
// kept until f is closed; false if another handle, of any process, has it. It
// never blocks.
func TryLock(f *os.File) (bool, error) { return tryFlock(f, Exclusive) }
