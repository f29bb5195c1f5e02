// Package outdir writes what leaves a store: files that are there whole and
// durable or not at all, with the modes that the user's umask gives.
package outdir

import (
	"errors"
	"fmt"
	"io"
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

// Publish makes the file name of what fill writes, so that its name never shows
// part of it, in place of a file that has the name. It grows as the file tmp,
// which must not exist and does not afterwards. After an error name is as it
// was. The content is durable on return; the name is once the folder is synced.
func Publish(fsys durable.FS, tmp, name string, fill func(io.Writer) error) error {
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, errors.Join(err, fsys.Remove(tmp)))
	}
	return nil
}
