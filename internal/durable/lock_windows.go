package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffsetHigh puts the locked byte at 2^62, beyond the end of any file:
// Windows locks are mandatory, and a lock on the content would block the reads
// and writes of other handles. NTFS files end at 2^44 bytes with the default
// cluster size and at 2^53 at most.
const lockOffsetHigh = 1 << 30

// tryFlock takes the lock if it is free and says whether it did.
func tryFlock(f *os.File, mode LockMode) (bool, error) {
	err := lockFileEx(f, lockFlags(mode)|windows.LOCKFILE_FAIL_IMMEDIATELY)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

// waitFlock takes the lock, however long that lasts. It occupies a thread, and
// every other call on the same handle waits behind it.
func waitFlock(f *os.File, mode LockMode) error { return lockFileEx(f, lockFlags(mode)) }

// unFlock releases the lock.
func unFlock(f *os.File) error {
	return control(f, func(h windows.Handle) error {
		return windows.UnlockFileEx(h, 0, 1, 0, &windows.Overlapped{OffsetHigh: lockOffsetHigh})
	})
}

func lockFlags(mode LockMode) uint32 {
	if mode == Exclusive {
		return windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	return 0
}

func lockFileEx(f *os.File, flags uint32) error {
	return control(f, func(h windows.Handle) error {
		return windows.LockFileEx(h, flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: lockOffsetHigh})
	})
}

func control(f *os.File, call func(windows.Handle) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) { err = call(windows.Handle(fd)) })
	return errors.Join(cerr, err)
}
