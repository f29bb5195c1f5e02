//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A flock belongs to the open file, not to the process, so two handles of one
// process exclude each other as two processes do.

// tryFlock takes the lock if it is free and says whether it did.
func tryFlock(f *os.File, mode LockMode) (bool, error) {
	err := flock(f, flockHow(mode)|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// waitFlock takes the lock, however long that lasts. It occupies a thread.
func waitFlock(f *os.File, mode LockMode) error { return flock(f, flockHow(mode)) }

// unFlock releases the lock.
func unFlock(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flockHow(mode LockMode) int {
	if mode == Exclusive {
		return unix.LOCK_EX
	}
	return unix.LOCK_SH
}

func flock(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		for {
			// The runtime's own signals restart system calls, but those of a
			// C library or a debugger may not.
			err = unix.Flock(int(fd), how)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(cerr, err)
}
