//go:build darwin || linux || windows

package durable

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

func TestFree(t *testing.T) {
	d := newDir(t)
	s, err := Free(d.Path())
	must(t, err)
	if s.Bytes <= 0 || s.Bytes > 1<<60 || s.Files == 0 || s.Files < -1 {
		t.Errorf("%+v", s)
	}
	if _, err := Free(filepath.Join(d.Path(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing path: %v", err)
	}
}
