//go:build darwin || linux

package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free returns what is left on the file system of the path, which must exist.
// Quotas are not counted.
func Free(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("durable: free space of %s: %w", path, err)
	}
	s := Space{Bytes: int64(st.Bavail) * int64(st.Bsize), Files: -1} //nolint:unconvert // the types differ between systems
	if st.Files > 0 {
		s.Files = int64(st.Ffree)
	}
	return s, nil
}
