package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	databaseName = "index.db"
	databaseNew  = "index.db.new"
)

// folder is the store's folder. Tests put something between a *durable.Dir and
// the Index, to see and to fail what it does.
type folder interface {
	durable.FS
	Path() string
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Lock(ctx context.Context, name string, mode durable.LockMode) (*durable.Lock, error)
}

// watcher is a folder that is told of the databases that are opened in it.
type watcher interface {
	watch(db *database)
}

// database is an open index.db. bbolt's own lock on it is a backstop: the side
// file's orders everything.
type database struct {
	bolt *bolt.DB
	file *os.File     // bbolt's handle
	info fs.FileInfo  // of file: says whether a damaged one was replaced since
	sync func() error // of bbolt: for a database that does not sync its commits
	// stuck: bbolt panicked while it held its own locks, and its Close would
	// wait for them for ever.
	stuck atomic.Bool
	// outdated: a commit failed after its record was durable. Only an exclusive
	// index keeps a database long enough to ask.
	outdated atomic.Bool
}

// damage is a *CorruptError that heft can heal: it says in which file.
type damage struct {
	*CorruptError
	info fs.FileInfo // nil if the file could not be opened
}

func (d *damage) Unwrap() error { return d.CorruptError }

// openReader opens index.db for reading: fs.ErrNotExist if there is none, and
// *damage.
func openReader(dir folder) (*database, error) {
	return openDatabase(dir, databaseName, os.O_RDONLY, &bolt.Options{ReadOnly: true})
}

// openWriter opens index.db for both: fs.ErrNotExist if there is none, and
// *damage.
func openWriter(dir folder) (*database, error) {
	return openDatabase(dir, databaseName, os.O_RDWR, &bolt.Options{})
}

// createDatabase makes an empty one under the name databaseNew. Nothing of it is
// synced before finish.
func createDatabase(dir folder) (*database, error) {
	if err := dir.Remove(databaseNew); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("index: making %s: %w", databaseName, err)
	}
	db, err := openDatabase(dir, databaseNew, os.O_RDWR|os.O_CREATE|os.O_EXCL, &bolt.Options{NoSync: true, NoGrowSync: true})
	if err != nil {
		return nil, err
	}
	if err := db.write(func(s *kv) error { return s.create() }); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

func openDatabase(dir folder, name string, flag int, opts *bolt.Options) (*database, error) {
	db := new(database)
	// The lock is free unless somebody else looks at the file: a second is for
	// a backup or a person with bbolt's own tool.
	opts.Timeout = time.Second
	opts.FreelistType = bolt.FreelistMapType
	opts.NoStatistics = true
	opts.OpenFile = func(_ string, _ int, perm os.FileMode) (*os.File, error) {
		f, err := dir.OpenFile(name, flag, perm)
		if err != nil {
			return nil, err
		}
		db.file = f
		if db.info, err = f.Stat(); err == nil && flag&os.O_CREATE == 0 && db.info.Size() == 0 {
			// bbolt would take it for a new one.
			err = &CorruptError{Err: errors.New("the file is empty")}
		} else if err == nil && flag&os.O_RDWR != 0 && db.info.Size() > 0 {
			err = checkFreelist(f, db.info.Size())
		}
		return f, err
	}
	err := guard(func() (err error) {
		db.bolt, err = bolt.Open(name, 0o600, opts)
		return err
	})
	if err == nil {
		db.sync = db.bolt.Sync
		if w, ok := dir.(watcher); ok {
			w.watch(db)
		}
		return db, nil
	}
	if db.file != nil {
		// bbolt closes it when it fails, but not when it panics.
		_ = errors.Join(unlock(db.file), db.file.Close())
	}
	_, path := errors.AsType[*fs.PathError](err)
	_, call := errors.AsType[syscall.Errno](err)
	if path || call || errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("index: opening %s: %w", name, err)
	}
	ce, ok := errors.AsType[*CorruptError](err)
	if !ok {
		ce = &CorruptError{Err: err}
	}
	return nil, &damage{ce, db.info}
}

// close closes the file. Transactions must have ended.
func (db *database) close() error {
	if !db.stuck.Load() {
		err := guard(db.bolt.Close)
		if _, ok := errors.AsType[*CorruptError](err); !ok {
			return err
		}
	}
	// Frees the lock and the descriptor. The memory map stays until the process
	// ends: only bbolt knows it.
	_ = errors.Join(unlock(db.file), db.file.Close())
	return nil
}

// begin starts a transaction. It returns *damage if that is not possible.
func (db *database) begin(start func(*bolt.DB) (*bolt.Tx, error)) (*bolt.Tx, error) {
	var btx *bolt.Tx
	err := guard(func() (err error) {
		btx, err = start(db.bolt)
		return err
	})
	if ce, ok := errors.AsType[*CorruptError](err); ok {
		db.stuck.Store(true)
		return nil, &damage{ce, db.info}
	}
	if err != nil {
		return nil, fmt.Errorf("index: beginning a transaction: %w", err)
	}
	return btx, nil
}

func reading(b *bolt.DB) (*bolt.Tx, error) { return b.Begin(false) }
func writing(b *bolt.DB) (*bolt.Tx, error) { return b.Begin(true) }

// rollback ends a transaction, if commit has not.
func (db *database) rollback(btx *bolt.Tx) {
	err := guard(btx.Rollback)
	if _, ok := errors.AsType[*CorruptError](err); ok {
		db.stuck.Store(true)
	}
}

// commit makes a transaction durable, or returns *damage or another error.
func (db *database) commit(btx *bolt.Tx) error {
	err := guard(btx.Commit)
	if ce, ok := errors.AsType[*CorruptError](err); ok {
		return &damage{ce, db.info}
	}
	if err != nil {
		return fmt.Errorf("index: writing %s: %w", databaseName, err)
	}
	return nil
}

// write runs fn, which calls nothing of a user's, in a write transaction.
func (db *database) write(fn func(*kv) error) error {
	btx, err := db.begin(writing)
	if err != nil {
		return err
	}
	defer db.rollback(btx)
	s := &kv{btx: btx, db: db}
	err = fn(s)
	if s.corrupt != nil {
		return &damage{s.corrupt, db.info}
	}
	if err != nil {
		return err
	}
	return db.commit(btx)
}

// state reads the state.
func (db *database) state() (st state, err error) {
	btx, err := db.begin(reading)
	if err != nil {
		return st, err
	}
	defer db.rollback(btx)
	s := &kv{btx: btx, db: db}
	if st, err = s.state(); s.corrupt != nil {
		err = &damage{s.corrupt, db.info}
	}
	return st, err
}
