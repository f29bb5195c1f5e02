package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/heftstore/heft/internal/durable"
)

// Access says who may use a store. It is settled when the store is made.
type Access = durable.Access

const (
	// Private leaves a store to its owner: files have mode 0600 and folders
	// 0700, less the umask.
	Private = durable.Private
	// Shared gives it to the folder's group as well: files have mode 0660 and
	// folders 2770, whatever the umask, so that every member's files are
	// everybody's. A release before it refuses such a store with a
	// [*NewerError]. There is none on Windows.
	Shared = durable.Group
)

// Patience says what happens while a lock is waited for.
type Patience = durable.Patience

// Wait describes a lock that is waited for.
type Wait = durable.Wait

// BusyError says that a lock was not free within Patience.Limit.
type BusyError = durable.BusyError

// LockError says that the file system of a store has no locks that work. Nothing
// was written. That two machines don't see each other's locks can't be noticed.
type LockError = durable.LockError

// ReadOnlyError says that this user can't write to a store. Reading works.
type ReadOnlyError = durable.ReadOnlyError

// Access returns who may use the store.
func (s *Store) Access() Access { return s.config.access() }

// checkAccess says whether a store for opts.Access can be made in dir.
func checkAccess(dir string, opts *Options) error {
	if opts == nil || opts.Access == Private {
		return nil
	}
	if opts.Access != Shared {
		return fmt.Errorf("access %d: %w", opts.Access, fs.ErrInvalid)
	}
	if runtime.GOOS == "windows" {
		return fmt.Errorf("a store for a group needs the groups of Unix: %w", errors.ErrUnsupported)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(abs)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("for a shared store make the folder above it first, and let the group enter it: %w", err)
	}
	return nil
}

// share has everything that is made in the store's folder from now on be the
// group's, the folder first.
func share(d *durable.Dir, a Access) error {
	d.SetAccess(a)
	if a != Shared {
		return nil
	}
	if err := d.Share("."); err != nil {
		return fmt.Errorf("blob: giving the folder to its group: %w", err)
	}
	return nil
}

// makeFolders makes the folders of a store, durably. A shared one gets those for
// the blobs too: a folder that was just made is not yet the group's, and another
// user who puts a blob in that moment would be refused.
func makeFolders(fsys durable.FS, a Access) error {
	names := slices.Clone(folders)
	if a == Shared {
		for i := range 256 {
			names = append(names, fmt.Sprintf("blobs/%02x", i))
		}
	}
	d, _ := fsys.(*durable.Dir)
	for _, name := range names {
		err := fsys.Mkdir(name)
		if errors.Is(err, fs.ErrExist) {
			if err = nil; a == Shared && d != nil {
				err = d.Share(name) // what an interrupted creation left
			}
		}
		if err != nil {
			return err
		}
	}
	if a == Shared {
		if err := fsys.SyncDir("blobs"); err != nil {
			return err
		}
	}
	return fsys.SyncDir(".")
}

// missingFolder makes of an error that something in blobs/ is not there one that
// says that blobs/ itself is gone, if it is. It is never made again in silence:
// the store would look sound and empty, and a disk that is not mounted would be
// filled anew.
func (s *Store) missingFolder(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, serr := s.fsys.Stat("blobs"); !errors.Is(serr, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w: the folder blobs of %s is missing, and with it the content of every version; names and history are still there: mount or restore it, or make an empty one if the content is to be given up", ErrDamagedStore, s.Dir())
}
