package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// TestFullDiskHint: an error of a full disk says what to do.
func TestFullDiskHint(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		var out bytes.Buffer
		err := fmt.Errorf("registry: storing w of m: blob: writing: %w", errors.Join(&fs.PathError{Op: "write", Path: "tmp/x", Err: cause}))
		if code := report(t.Context(), &out, err); code != exitError || !strings.Contains(out.String(), cause.Error()) || !strings.Contains(out.String(), "\nhint: the disk is full") {
			t.Errorf("%d: %s", code, &out)
		}
	}
}
