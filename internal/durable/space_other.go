//go:build !darwin && !linux && !windows

package durable

import (
	"errors"
	"fmt"
)

// Free is not known here.
func Free(path string) (Space, error) {
	return Space{}, fmt.Errorf("durable: free space of %s: %w", path, errors.ErrUnsupported)
}
