//go:build !linux

package registry

import (
	"context"
	"errors"
	"io"
)

// fillDisk needs Linux.
func fillDisk(context.Context, string, string, io.Writer) error { return errors.ErrUnsupported }
