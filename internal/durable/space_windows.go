package durable

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// Free returns what is left on the file system of the path, which must exist.
func Free(path string) (Space, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Space{}, fmt.Errorf("durable: free space of %s: %w", path, err)
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return Space{}, fmt.Errorf("durable: free space of %s: %w", path, err)
	}
	return Space{Bytes: int64(free), Files: -1}, nil
}
