//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durable

import "golang.org/x/sys/unix"

// writable says whether this user may make files in the folder path.
func writable(path string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
}
