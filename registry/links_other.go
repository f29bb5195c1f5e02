//go:build !unix

package registry

import "io/fs"

// links returns 1: the system's FileInfo does not tell.
func links(fs.FileInfo) uint64 { return 1 }
