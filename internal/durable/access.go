package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Access says who may use the files and folders that a [Dir] makes.
type Access uint8

const (
	// Private leaves them to their owner: files 0600 and folders 0700, less the
	// umask.
	Private Access = iota
	// Group gives them to the folder's group as well, whatever the umask: files
	// 0660, folders 2770, so that what is made in them has their group too.
	Group
)

// ReadOnlyError says that this user can't write to a folder: its mode or its
// file system forbids it.
type ReadOnlyError struct {
	Dir string // absolute
	Err error  // what was refused
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("%s is read-only for this user: %v: ask its owner for access", e.Dir, e.Err)
}

// Unwrap returns Err.
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// SetAccess says who may use what is made through d from now on; it is Private
// before. Call it before d is used by several goroutines. Windows has no modes:
// there it changes nothing.
func (d *Dir) SetAccess(a Access) {
	if runtime.GOOS != "windows" {
		d.access = a
	}
}

// FindAccess is SetAccess for what the directory's own mode says, and returns it.
func (d *Dir) FindAccess() (Access, error) {
	info, err := d.Stat(".")
	if err != nil {
		return Private, err
	}
	a := Private
	if info.Mode()&fs.ModeSetgid != 0 && info.Mode().Perm()&0o020 != 0 {
		a = Group
	}
	d.SetAccess(a)
	return a, nil
}

// Share gives a file or folder that exists to the group that it has: modes 0660
// and 2770. Somebody else's that the group can use already is left as it is. It
// is an error where the system has no groups, and where this user is not in the
// group, because what others make there would then not be for it.
func (d *Dir) Share(name string) error {
	if runtime.GOOS == "windows" {
		return &fs.PathError{Op: "share", Path: name, Err: errors.ErrUnsupported}
	}
	if err := checkDirName("share", name); err != nil {
		return err
	}
	local, err := filepath.Localize(name)
	if err != nil {
		return &fs.PathError{Op: "share", Path: name, Err: fs.ErrInvalid}
	}
	return d.share(local)
}

// share is Share for a name of the operating system.
func (d *Dir) share(local string) error {
	info, err := d.root.Stat(local)
	if err != nil {
		return err
	}
	want := groupMode(0o600)
	if info.IsDir() {
		want = groupMode(0o700) | fs.ModeSetgid
	}
	const bits = fs.ModePerm | fs.ModeSetgid
	if info.Mode()&bits == want {
		return nil
	}
	if err := d.root.Chmod(local, want); err != nil {
		if errors.Is(err, fs.ErrPermission) && info.Mode()&0o070 == want&0o070 {
			return nil
		}
		return err
	}
	if info, err = d.root.Stat(local); err != nil {
		return err
	}
	// The system drops the bit without an error when the user is not in the
	// group. Only Linux needs it: elsewhere a new file always has its folder's
	// group.
	if runtime.GOOS == "linux" && info.Mode()&bits != want {
		return &fs.PathError{Op: "share", Path: filepath.Join(d.path, local), Err: fmt.Errorf("it has mode %v, not %v: give it to a group that this user is in (chgrp): %w", info.Mode(), want, fs.ErrPermission)}
	}
	return nil
}

// groupMode gives the group what the owner has.
func groupMode(perm fs.FileMode) fs.FileMode { return perm | perm&0o700>>3 }

// openGroup is root.OpenFile with O_CREATE, of a file that is the group's.
func (d *Dir) openGroup(local string, flag int, perm fs.FileMode) (*os.File, error) {
	if flag&os.O_EXCL != 0 {
		return d.createGroup(local, flag, perm)
	}
	for {
		f, err := d.root.OpenFile(local, flag&^os.O_CREATE, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if err := d.placeGroup(local, perm); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// placeGroup makes an empty file that is the group's from the moment that it has
// its name, for a file that others open without having made it: fs.ErrExist if
// there is one.
func (d *Dir) placeGroup(local string, perm fs.FileMode) error {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	temp := local + "." + hex.EncodeToString(b[:])
	f, err := d.createGroup(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = d.root.Link(temp, local)
	cleanup := errors.Join(f.Close(), d.root.Remove(temp))
	if err == nil || errors.Is(err, fs.ErrExist) {
		return errors.Join(err, cleanup)
	}
	// A file system without hard links: for a moment others may be refused.
	if f, err = d.createGroup(local, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm); err != nil {
		return err
	}
	return errors.Join(f.Close(), cleanup)
}

// createGroup makes a file, with O_EXCL, and gives it to the group.
func (d *Dir) createGroup(local string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := d.root.OpenFile(local, flag, perm)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(groupMode(perm)); err != nil {
		return nil, errors.Join(err, f.Close(), d.root.Remove(local))
	}
	return f, nil
}

// mkdirGroup makes a folder and gives it to the group.
func (d *Dir) mkdirGroup(local string) error {
	if err := d.root.Mkdir(local, 0o700); err != nil {
		return err
	}
	if err := d.share(local); err != nil {
		return errors.Join(err, d.root.Remove(local))
	}
	return nil
}

// refused makes of an error of writing a *ReadOnlyError, if that is why.
func (d *Dir) refused(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) && !writable(d.path) {
		return &ReadOnlyError{Dir: d.path, Err: err}
	}
	return err
}
