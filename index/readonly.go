package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
)

// aside stands in for index.db where this user can't write: a private copy that
// what the journal has is applied to, or that is built anew if index.db is
// missing or damaged. It is removed by Close; a process that is killed leaves it
// in the folder for temporary files. The zero value is no copy.
type aside struct {
	mu   sync.Mutex
	temp string // the folder of the copy
	dir  *durable.Dir
	db   *database
	bad  fs.FileInfo // of an index.db that is damaged
}

// readOnly says whether err came of a store that this user can't write to.
func readOnly(err error) bool {
	_, ok := errors.AsType[*durable.ReadOnlyError](err)
	return ok
}

// lockShared takes the lock for reading. A read-only store may have no file for
// it, as one on a disc that it was copied to: bbolt's own lock on index.db then
// keeps writers out while a file is read.
func (x *Index) lockShared(ctx context.Context) (unlock func() error, err error) {
	lock, err := x.dir.Lock(ctx, lockName, durable.Shared)
	if readOnly(err) && errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return lock.Unlock, nil
}

// viewAside runs fn with the private copy, up to date.
func (x *Index) viewAside(ctx context.Context, fn func(*Tx) error) error {
	unlock, err := x.lockShared(ctx)
	if err != nil {
		return err
	}
	defer x.logged(ctx, "unlocking the index", unlock)
	db, err := x.copied(ctx)
	if err != nil {
		if _, ok := err.(*damage); ok { //nolint:errorlint // healing asks for the bare one
			return err
		}
		return fmt.Errorf("index: the store %s is read-only for this user and its index is behind the journal; in a private copy: %w; or have somebody who may write to the store list it once", x.store.Dir(), err)
	}
	return x.read(ctx, db, anyway, fn)
}

// copied returns the private copy, up to date. The caller holds the shared lock.
func (x *Index) copied(ctx context.Context) (*database, error) {
	a := &x.aside
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.db == nil {
		if err := x.makeCopy(ctx); err != nil {
			return nil, err
		}
	}
	st, err := a.db.state()
	if err != nil {
		return nil, err
	}
	if st.store != x.store.ID() {
		return nil, &damage{&CorruptError{Err: fmt.Errorf("it is the index of store %s", st.store)}, a.db.info}
	}
	if err := x.upToDate(st.pos); !errors.Is(err, errBehind) {
		return a.db, err
	}
	// The journal can't be settled here, and need not be: nothing is written on
	// top of it.
	return a.db, x.replay(ctx, a.db, st, withBlobs)
}

// makeCopy copies index.db, or builds it anew. The caller holds aside.mu.
func (x *Index) makeCopy(ctx context.Context) (err error) {
	a := &x.aside
	temp, err := os.MkdirTemp("", "heft-index-")
	if err != nil {
		return err
	}
	dir, err := durable.OpenDir(temp)
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Close(), os.RemoveAll(temp))
		}
	}()
	anew := a.bad != nil
	if !anew {
		err := copyDatabase(x.dir, dir)
		if anew = errors.Is(err, fs.ErrNotExist); err != nil && !anew {
			return err
		}
	}
	if anew {
		x.log.WarnContext(ctx, "index: the store is read-only: building a private index.db", "folder", temp)
		if err := x.buildCopy(ctx, dir); err != nil {
			return err
		}
	}
	db, err := openDatabase(dir, databaseName, os.O_RDWR, copyOptions())
	if err != nil {
		return err
	}
	a.temp, a.dir, a.db = temp, dir, db
	return nil
}

// copyOptions are those of a file that nobody needs after a crash.
func copyOptions() *bolt.Options { return &bolt.Options{NoSync: true, NoGrowSync: true} }

// copyDatabase copies index.db: fs.ErrNotExist if there is none, and *damage.
func copyDatabase(from folder, to *durable.Dir) error {
	db, err := openReader(from) // holds bbolt's lock
	if err != nil {
		return err
	}
	f, err := to.Create(databaseName)
	if err != nil {
		return errors.Join(err, db.close())
	}
	_, err = io.Copy(f, io.NewSectionReader(db.file, 0, db.info.Size()))
	return errors.Join(err, f.Close(), db.close())
}

// buildCopy makes an index.db in dir from the journal and the blobs.
func (x *Index) buildCopy(ctx context.Context, dir *durable.Dir) error {
	db, err := createDatabase(dir)
	if err != nil {
		return err
	}
	if err = x.replay(ctx, db, state{store: x.store.ID()}, onlyNames); err == nil {
		err = x.addBlobs(ctx, db)
	}
	if err = errors.Join(err, db.close()); err != nil {
		return err
	}
	return dir.Rename(databaseNew, databaseName)
}

// spoil notes that the index.db of a read-only store is damaged. The caller holds
// x.mu shared.
func (x *Index) spoil(bad *damage) error {
	return x.replaceOwn(func() error { // nobody reads the copy now
		a := &x.aside
		info, err := x.dir.Stat(databaseName)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		copied := a.db != nil && bad.info != nil && os.SameFile(bad.info, a.db.info)
		if err == nil && (copied || bad.info == nil || os.SameFile(info, bad.info)) {
			a.bad = info
		}
		return a.drop()
	})
}

// spoilt says whether index.db is one that was found to be damaged, and that
// this user can't heal.
func (x *Index) spoilt() bool {
	a := &x.aside
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bad == nil {
		return false
	}
	info, err := x.dir.Stat(databaseName)
	if err == nil && os.SameFile(info, a.bad) && info.ModTime().Equal(a.bad.ModTime()) {
		return true
	}
	a.bad = nil // somebody replaced it
	return false
}

// drop removes the copy. Nobody else uses it.
func (a *aside) drop() error {
	if a.db == nil {
		return nil
	}
	err := errors.Join(a.db.close(), a.dir.Close(), os.RemoveAll(a.temp))
	a.temp, a.dir, a.db = "", nil, nil
	return err
}
