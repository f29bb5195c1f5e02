//go:build unix && !aix && !solaris && !android

package index

import (
	"os"
	"syscall"
)

// unlock releases bbolt's lock on a file that bbolt can't close any more.
// Closing the descriptor is not enough: the memory map keeps the file open, and
// with it the lock.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
