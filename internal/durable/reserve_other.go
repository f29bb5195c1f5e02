//go:build !linux

package durable

import "os"

// Reserve does nothing: only Linux can keep room beyond the end of a file.
func Reserve(*os.File, int64, int64) {}
