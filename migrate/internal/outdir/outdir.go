// Package outdir opens the folders that what leaves a store is written to, with
// the modes that the user's umask gives.
package outdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/heftstore/heft/internal/durable"
)

// Dir is a durable.Dir for others to read: its new files have mode 0666 and its
// new folders 0777 before the umask. Like a durable.Dir it never leaves its
// folder, and it is safe for concurrent use.
type Dir struct {
	*durable.Dir
	root *os.Root
}

var _ durable.FS = (*Dir)(nil)

// Open opens the existing folder path. The caller closes it.
func Open(path string) (*Dir, error) {
	d, err := durable.OpenDir(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(d.Path())
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Dir{d, root}, nil
}

// Create implements durable.FS.
func (d *Dir) Create(name string) (durable.File, error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Mkdir implements durable.FS.
func (d *Dir) Mkdir(name string) error {
	local, err := filepath.Localize(name)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Mkdir(local, 0o777)
}

// Lstat describes the file, folder or link at name; it follows no link.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	local, err := filepath.Localize(name)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Lstat(local)
}

// Close implements durable.FS.
func (d *Dir) Close() error { return errors.Join(d.root.Close(), d.Dir.Close()) }

type file struct{ *os.File }

// TryLock implements durable.File.
func (f file) TryLock() (bool, error) { return durable.TryLock(f.File) }
