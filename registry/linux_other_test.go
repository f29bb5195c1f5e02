//go:build !linux

package registry

import (
	"context"
	"errors"
	"io"
)

// fillDisk needs Linux.
func fillDisk(context.Context, string, string, io.Writer) error { return errors.ErrUnsupported }

// collectAndMeasure needs Linux.
func collectAndMeasure(context.Context, *Registry, io.Writer) error { return errors.ErrUnsupported }
