package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/durable"
)

// backupLock is the file that is locked while a backup into its folder runs.
const backupLock = "backup.lock"

// ErrBusy says that another process is making a backup into a folder.
var ErrBusy = errors.New("blob: another backup into the folder is under way")

// OtherStoreError says that a folder holds another store than the one that was to
// be copied there. It wraps fs.ErrExist.
type OtherStoreError struct {
	Dir  string
	Have uuid.UUID // zero if the folder holds other files than a store's
	Want uuid.UUID
	File string // one of the other files
}

func (e *OtherStoreError) Error() string {
	if e.Have == uuid.Nil {
		return fmt.Sprintf("blob: the folder %s holds %s, which is no part of a backup: name a new or empty folder", e.Dir, e.File)
	}
	return fmt.Sprintf("blob: the folder %s holds the store %s, not a backup of %s: name another folder", e.Dir, e.Have, e.Want)
}

// Unwrap returns fs.ErrExist.
func (e *OtherStoreError) Unwrap() error { return fs.ErrExist }

// IntoItselfError says that a store was to be copied into its own folder.
type IntoItselfError struct{ Dir, Store string }

func (e *IntoItselfError) Error() string {
	return fmt.Sprintf("blob: %s is the store %s, or within it: name a folder outside", e.Dir, e.Store)
}

// Unwrap returns fs.ErrInvalid.
func (e *IntoItselfError) Unwrap() error { return fs.ErrInvalid }

// Backup begins a Transfer from s to the folder dir, which it makes too if need
// be. The folder is empty, or holds what an earlier backup of the store left, whole
// or not. Nobody else makes a backup into it until Close. The folder becomes a
// store, with the id of s, with Seal.
//
// The error is an *OtherStoreError for a folder that holds other things, an
// *IntoItselfError for one of s itself, and ErrBusy.
func (s *Store) Backup(ctx context.Context, dir string) (t *Transfer, err error) {
	abs, err := s.outside(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateDir(abs, 0o700); err != nil {
		return nil, fmt.Errorf("blob: making the folder of the backup: %w", err)
	}
	fsys, err := durable.OpenDir(abs)
	if err != nil {
		return nil, fmt.Errorf("blob: opening the folder of the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fsys.Close())
		}
	}()
	// Before a lock is made in a folder that is somebody else's.
	sealed, err := s.backsUp(fsys, abs)
	if err != nil {
		return nil, err
	}
	lock, err := fsys.OpenFile(backupLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("blob: locking the folder of the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if ok, err := durable.TryLock(lock); err != nil {
		return nil, fmt.Errorf("blob: locking the folder of the backup: %w", err)
	} else if !ok {
		return nil, fmt.Errorf("%w: %s; wait for it", ErrBusy, abs)
	}
	to := s.twin(fsys)
	if err := share(fsys, s.Access()); err != nil {
		return nil, err
	}
	if err := makeFolders(fsys, s.Access()); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	t = newTransfer(s, to)
	t.sealed = sealed
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	t.folder = lock
	return t, nil
}

// PlanBackup is Backup for a Transfer that writes nothing to the folder, which
// need not be there, and only counts.
func (s *Store) PlanBackup(ctx context.Context, dir string) (*Transfer, error) {
	abs, err := s.outside(dir)
	if err != nil {
		return nil, err
	}
	var fsys durable.FS
	d, err := durable.OpenDir(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fsys = durable.NewMem()
	case err != nil:
		return nil, fmt.Errorf("blob: opening the folder of the backup: %w", err)
	default:
		fsys = d
		if _, err := s.backsUp(d, abs); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	t := newTransfer(s, s.twin(fsys))
	t.plan = true
	return t, t.begin(ctx)
}

// twin returns a store like s in another folder.
func (s *Store) twin(fsys durable.FS) *Store {
	return newStore(fsys, &Options{Compression: s.opts.Compression, Workers: s.opts.Workers, Logger: s.opts.Logger}, s.config)
}

// outside returns the absolute path of dir, which has to be outside of the store's
// folder.
func (s *Store) outside(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("blob: the folder of the backup: %w", err)
	}
	if s.Dir() == "" {
		return abs, nil
	}
	own, err := os.Stat(s.Dir())
	if err != nil {
		return "", fmt.Errorf("blob: the folder of the store: %w", err)
	}
	// The part that exists may lead anywhere through links.
	at := abs
	for {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			at = real
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(at) == at {
			return "", fmt.Errorf("blob: the folder of the backup: %w", err)
		}
		at = filepath.Dir(at)
	}
	for {
		if info, err := os.Stat(at); err == nil && os.SameFile(info, own) {
			return "", &IntoItselfError{Dir: abs, Store: s.Dir()}
		}
		if filepath.Dir(at) == at {
			return abs, nil
		}
		at = filepath.Dir(at)
	}
}

// backsUp checks that a folder is empty, or what a backup of s has left, and
// reports whether it is a store.
func (s *Store) backsUp(fsys durable.FS, dir string) (sealed bool, err error) {
	c, err := readConfig(fsys)
	if err == nil {
		if c.StoreID != s.config.StoreID {
			return false, &OtherStoreError{Dir: dir, Have: c.StoreID, Want: s.config.StoreID}
		}
		return true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, fmt.Errorf("the backup in %s: %w", dir, err)
	}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return false, fmt.Errorf("blob: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains(folders, e.Name()) && !slices.ContainsFunc([]string{publishLock, backupLock, "journal", "index."}, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			return false, &OtherStoreError{Dir: dir, Want: s.config.StoreID, File: e.Name()}
		}
	}
	return false, nil
}

// Dir returns the folder that is copied to.
func (t *Transfer) Dir() string { return t.to.Dir() }

// Planned reports whether nothing is written.
func (t *Transfer) Planned() bool { return t.plan }

// Sealed reports whether the target is a store already.
func (t *Transfer) Sealed() bool { return t.sealed }

// Seal makes the target of a backup a store, if it is none. It is durable on
// return. The caller has synced all that the store is to hold.
func (t *Transfer) Seal() error {
	if t.sealed || t.plan {
		return nil
	}
	if err := t.to.config.write(t.to.fsys); err != nil {
		return fmt.Errorf("blob: making the backup a store: %w", err)
	}
	t.sealed = true
	return nil
}
