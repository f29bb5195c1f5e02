package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// Dir is an [FS] on a directory of the operating system. It never leaves that
// directory, not through symbolic links either (it is an [os.Root]).
//
// Interrupted system calls and short reads and writes need no handling here:
// os.File repeats both until the work is done or has failed.
//
// A Dir is safe for concurrent use, and any number of processes may use the
// same directory at once. An attempt to write where this user may not is a
// [*ReadOnlyError] if that goes for the directory as a whole.
type Dir struct {
	root   *os.Root
	path   string
	access Access

	patience Patience
	flock    func(*os.File, LockMode) (bool, error) // tryFlock, but in tests
	proven   atomic.Bool                            // locks of d's file system exclude
}

var _ FS = (*Dir)(nil)

// OpenDir opens the existing directory path; fs.ErrNotExist if there is none.
// The caller closes it. To make a directory first, see [CreateDir].
func OpenDir(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("durable: open directory %s: %w", path, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("durable: open directory: %w", err)
	}
	return &Dir{root: root, path: abs, flock: tryFlock}, nil
}

// CreateDir makes the directory path and the parents that are missing, mode
// perm before the umask. On return without an error their names are durable, and
// so is the name of a directory that existed already, path or the first parent
// that did: another process may have made it and died before it synced it. (Only
// a parent that this user may not read is not synced; who made the directory
// could read it.) If CreateDir fails, the directories made so far remain. It is
// safe for concurrent use.
func CreateDir(path string, perm fs.FileMode) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("durable: create directory %s: %w", path, err)
	}
	if err := createDir(osFolders{perm}, abs); err != nil {
		return fmt.Errorf("durable: create directory %s: %w", path, err)
	}
	return nil
}

// folders is what CreateDir needs of a file system. In tests it stands on a [Mem].
type folders interface {
	Parent(name string) string // name itself if it has none
	Stat(name string) (fs.FileInfo, error)
	Mkdir(name string) error
	SyncDir(name string) error
}

// osFolders are those of the operating system, by their paths.
type osFolders struct{ perm fs.FileMode }

func (osFolders) Parent(path string) string             { return filepath.Dir(path) }
func (osFolders) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }
func (f osFolders) Mkdir(path string) error             { return os.Mkdir(path, f.perm) }
func (osFolders) SyncDir(path string) error             { return syncPath(path) }

// createDir is CreateDir for a path that has no "..".
func createDir(f folders, path string) error {
	parent := f.Parent(path)
	info, err := f.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		if parent == path {
			return nil
		}
		if err := f.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) || parent == path {
		return err
	}
	if err := createDir(f, parent); err != nil {
		return err
	}
	// Another process may be first; the parent is synced all the same, because
	// that process may not have come to it yet.
	if err := f.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.SyncDir(parent)
}

// syncPath makes the entries of the directory path durable.
func syncPath(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(root, "."), root.Close())
}

// Path returns the absolute path of the directory, as it was when opened.
func (d *Dir) Path() string { return d.path }

// Create implements [FS].
func (d *Dir) Create(name string) (File, error) {
	return d.open("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements [FS].
func (d *Dir) Open(name string) (File, error) {
	return d.open("open", name, os.O_RDONLY)
}

// OpenWrite implements [FS].
func (d *Dir) OpenWrite(name string) (File, error) {
	return d.open("open", name, os.O_RDWR)
}

func (d *Dir) open(op, name string, flag int) (File, error) {
	f, err := d.openFile(op, name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &dirFile{File: f}, nil
}

// OpenFile is [os.OpenFile] within the directory, for libraries that need an
// *os.File. Nothing about it is durable until it is synced, its name included.
// Of a file that it makes for the Group, the group may do what perm lets the
// owner do. The caller closes it.
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return d.openFile("open", name, flag, perm)
}

func (d *Dir) openFile(op, name string, flag int, perm fs.FileMode) (*os.File, error) {
	local, err := localName(op, name)
	if err != nil {
		return nil, err
	}
	var f *os.File
	if flag&os.O_CREATE != 0 && d.access == Group {
		f, err = d.openGroup(local, flag, perm)
	} else {
		f, err = d.root.OpenFile(local, flag, perm)
	}
	if err != nil && flag&(os.O_RDWR|os.O_WRONLY) != 0 {
		err = d.refused(err)
	}
	return f, err
}

// Rename implements [FS].
func (d *Dir) Rename(oldname, newname string) error {
	oldlocal, err := localName("rename", oldname)
	if err != nil {
		return err
	}
	newlocal, err := localName("rename", newname)
	if err != nil {
		return err
	}
	return d.refused(d.root.Rename(oldlocal, newlocal))
}

// Remove implements [FS].
func (d *Dir) Remove(name string) error {
	local, err := localName("remove", name)
	if err != nil {
		return err
	}
	return d.refused(d.root.Remove(local))
}

// Mkdir implements [FS].
func (d *Dir) Mkdir(name string) error {
	if name == "." {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	local, err := localName("mkdir", name)
	if err != nil {
		return err
	}
	if d.access == Group {
		return d.refused(d.mkdirGroup(local))
	}
	return d.refused(d.root.Mkdir(local, 0o700))
}

// ReadDir implements [FS].
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := checkDirName("readdir", name); err != nil {
		return nil, err
	}
	// The file system of the root takes slash-separated names and sorts.
	return fs.ReadDir(d.root.FS(), name)
}

// Stat implements [FS]. It follows symbolic links within the directory.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	if err := checkDirName("stat", name); err != nil {
		return nil, err
	}
	local, err := filepath.Localize(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Stat(local)
}

// SyncDir implements [FS]. Where the file system has no such operation
// (Windows, some network file systems) it only checks that the directory
// exists: there the system gives no stronger promise.
func (d *Dir) SyncDir(name string) error {
	if err := checkDirName("syncdir", name); err != nil {
		return err
	}
	local, err := filepath.Localize(name)
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: fs.ErrInvalid}
	}
	return syncDir(d.root, local)
}

// Close implements [FS]. Operations on d fail from then on; files that are
// open, and locks that are held, stay valid.
func (d *Dir) Close() error { return d.root.Close() }

// localName is checkName plus the separators of the operating system; it also
// refuses what that system can't name, such as a backslash on Windows.
func localName(op, name string) (string, error) {
	if err := checkName(op, name); err != nil {
		return "", err
	}
	local, err := filepath.Localize(name)
	if err != nil {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return local, nil
}

// dirFile is a File of a Dir. Embedding keeps the fast copies of os.File
// (ReadFrom, WriteTo).
type dirFile struct {
	*os.File

	mu     sync.Mutex
	locked bool
	closed bool
}

// TryLock implements [File] with a lock of the operating system. On network
// file systems it is as good as their advisory locks.
func (f *dirFile) TryLock() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: fs.ErrClosed}
	}
	if f.locked {
		// Asked again, Windows would refuse the lock to its own holder.
		return true, nil
	}
	ok, err := tryFlock(f.File, Exclusive)
	if err != nil {
		return false, lockFailed(f.Name(), err)
	}
	f.locked = ok
	return ok, nil
}

// Close releases the lock before the handle: Windows lets go of it "some time
// later" otherwise, and on Unix a child process that is just being started
// holds a copy of the descriptor for a moment.
func (f *dirFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if !f.locked {
		return f.File.Close()
	}
	f.locked = false
	err := unFlock(f.File)
	if err != nil {
		err = &fs.PathError{Op: "unlock", Path: f.Name(), Err: err}
	}
	return errors.Join(err, f.File.Close())
}
