//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durable

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the entries of the directory name in root durable. On darwin
// os.File.Sync is F_FULLFSYNC already, so the drive's cache is flushed too.
func syncDir(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		// fsync(2): the file system can't sync a directory (some network and
		// FUSE file systems). An I/O error is never reported this way.
		err = nil
	}
	return errors.Join(err, f.Close())
}
