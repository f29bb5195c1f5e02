//go:build unix

package registry

import (
	"io/fs"
	"syscall"
)

// links returns how many names the file has.
func links(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 1
	}
	return uint64(st.Nlink) //nolint:unconvert // its type differs between systems
}
