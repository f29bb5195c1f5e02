//go:build !unix || aix || solaris || android

package index

import "os"

// unlock does nothing: here closing the descriptor releases bbolt's lock.
func unlock(*os.File) error { return nil }
