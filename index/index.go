// Package index says which names, versions and frames point at which blobs.
package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// Options changes how an Index works. A nil *Options, like its zero value, is
// the default throughout.
type Options struct {
	// Exclusive keeps the index locked and open until Close: faster for a
	// process that owns the store. Every other Index of the store waits, in
	// this process too. The zero value shares it.
	Exclusive bool

	// Logger hears about what was healed or replayed; nil discards.
	Logger *slog.Logger

	// Patience says what happens while another process has the index; the zero
	// value waits in silence until the context ends.
	Patience blob.Patience

	// Now returns the time, in microseconds since the Unix epoch; nil is the
	// system's clock.
	Now func() int64
}

const (
	// lockName is the side file that orders transactions.
	lockName = "index.lock"
	// createName is the side file that orders the creations of the journal.
	createName = "journal.lock"
)

// Index is the names, versions and frames of a store. It is safe for concurrent
// use, by any number of processes. None of its methods may be called within a
// function that View or Update runs: it could wait for itself.
type Index struct {
	store     *blob.Store
	dir       folder
	log       *slog.Logger
	now       func() int64
	exclusive bool

	// Held shared by every call, exclusively to close or to replace own.
	mu     sync.RWMutex
	closed bool
	lock   *durable.Lock // exclusive only
	own    *database     // exclusive only; nil while it has to be opened again
	aside  aside         // where this user can't write
	writer chan struct{} // exclusive only: orders the Updates

	chained   atomic.Bool // a part of the journal was checked, see checkChain
	chainSize int64       // of that part, in bytes
}

// errBehind says that the journal has more than the index.
var errBehind = errors.New("index is behind the journal")

// errOutdated says that the database has to be opened again.
var errOutdated = errors.New("index.db is outdated")

// Open opens the index of a store, which must be in a folder. A store without a
// journal and an index.db gets both, durably; a missing index.db is built from
// the journal and the blobs; what the journal has and the index lacks is
// applied. A missing journal, or one that lacks what was acknowledged, is a
// [*JournalError]. The caller closes the Index, before the store.
//
// Where this user can't write, View works and creates nothing in the store: if
// index.db is missing, damaged or behind, a private copy is brought up to date
// instead. Update and an Exclusive index are then a [*blob.ReadOnlyError].
func Open(ctx context.Context, store *blob.Store, o *Options) (*Index, error) {
	if store.Dir() == "" {
		return nil, fmt.Errorf("index: a store in memory can't have an index: %w", errors.ErrUnsupported)
	}
	var opts Options
	if o != nil {
		opts = *o
	}
	dir, err := durable.OpenDir(store.Dir())
	if err != nil {
		return nil, fmt.Errorf("index: opening %s: %w", store.Dir(), err)
	}
	dir.SetAccess(store.Access())
	dir.SetPatience(opts.Patience)
	return openIn(ctx, dir, store, opts)
}

// openIn is Open for the store's folder, which it closes if it fails.
func openIn(ctx context.Context, dir folder, store *blob.Store, opts Options) (*Index, error) {
	x := &Index{store: store, dir: dir, log: opts.Logger, now: opts.Now, exclusive: opts.Exclusive, writer: make(chan struct{}, 1), chainSize: maxChain}
	if x.log == nil {
		x.log = slog.New(slog.DiscardHandler)
	}
	if x.now == nil {
		x.now = func() int64 { return time.Now().UnixMicro() }
	}
	if err := x.open(ctx); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

func (x *Index) open(ctx context.Context) error {
	if err := x.createIfNew(ctx); err != nil {
		return err
	}
	if x.exclusive {
		lock, err := x.dir.Lock(ctx, lockName, durable.Exclusive)
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		x.lock = lock
	}
	return x.View(ctx, func(*Tx) error { return nil })
}

// createIfNew makes the journal of a store that has neither that nor index.db.
// A store that was opened before and has blobs has lost its journal: a new one
// would make that loss final.
func (x *Index) createIfNew(ctx context.Context) (err error) {
	// Only who has seen a durable journal makes lockName, so that a creation
	// that was cut off is not taken for a loss.
	_, lockErr := x.dir.Stat(lockName)
	switch _, err := x.dir.Stat(journalName); {
	case err == nil && lockErr == nil:
		return nil
	case err == nil:
		if err := x.dir.SyncDir("."); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("index: %w", err)
	}
	lock, err := x.dir.Lock(ctx, createName, durable.Exclusive)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	for _, name := range []string{journalName, databaseName} {
		if _, err := x.dir.Stat(name); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("index: %w", err)
		}
	}
	if lockErr == nil {
		for _, err := range x.store.All(ctx) {
			if err != nil {
				return fmt.Errorf("index: %w", err)
			}
			return &JournalError{Err: fmt.Errorf("the file %s is missing, and so is %s, but the store has blobs", journalName, databaseName)}
		}
	}
	return createJournal(x.dir, x.store.ID(), x.now())
}

// View runs fn with a consistent view of the index. It returns what fn does, or
// the reason why fn could not be run: ctx is done before the lock is there, a
// [*JournalError], a [*CorruptError], or an error of reading.
//
// fn may be run twice: if the index turns out to be damaged it is built anew and
// what fn did is discarded, so fn must reset what it collects. Calls of View run
// side by side, but not beside an Update of another process, nor, unless the
// index is exclusive, of this one.
func (x *Index) View(ctx context.Context, fn func(*Tx) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.healing(ctx, func() error {
		if x.exclusive {
			return x.withOwn(ctx, func(db *database) error { return x.read(ctx, db, anyway, fn) })
		}
		if x.spoilt() {
			return x.viewAside(ctx, fn)
		}
		err := x.viewShared(ctx, fn)
		if !errors.Is(err, errBehind) {
			return err
		}
		err = x.withLock(ctx, func(db *database) error { return x.read(ctx, db, anyway, fn) })
		if readOnly(err) {
			return x.viewAside(ctx, fn)
		}
		return err
	})
}

// Update runs fn and makes the changes that it calls for, all of them or none,
// as one journal record. They are durable when it returns without an error. If
// fn returns an error or panics nothing has changed. If fn changes nothing,
// nothing is recorded.
//
// The first Update that changes something also checks up to 16 MiB of the
// journal, the next part in turn: damage there is a [*JournalError], and nothing
// is written on top of it. [Index.CheckJournal] checks all of it.
//
// The errors are those of View and Update's own, if the record could not be
// written. As with View, fn may be run twice. Updates run one after another,
// across all processes; ctx bounds the wait.
func (x *Index) Update(ctx context.Context, c Change, fn func(*Tx) error) error {
	if c.Verb == "" || c.Verb == verbCreate {
		return fmt.Errorf("index: verb %q: a change needs one of its own: %w", c.Verb, fs.ErrInvalid)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.healing(ctx, func() error {
		if !x.exclusive {
			return x.withLock(ctx, func(db *database) error { return x.write(ctx, db, c, fn) })
		}
		return x.withOwn(ctx, func(db *database) error {
			select {
			case x.writer <- struct{}{}:
			case <-ctx.Done():
				return fmt.Errorf("index: waiting for another update: %w", ctx.Err())
			}
			defer func() { <-x.writer }()
			if db.outdated.Load() {
				return errOutdated
			}
			// An append that failed may have left something.
			if err := x.catchUp(ctx, db); err != nil {
				return err
			}
			return x.write(ctx, db, c, fn)
		})
	})
}

// Close releases the index, after the calls that run have ended. Later calls
// fail with an error that wraps fs.ErrClosed, a second Close too.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed()
	}
	x.closed = true
	var errs []error
	if x.own != nil {
		errs = append(errs, x.own.close())
	}
	if x.lock != nil {
		errs = append(errs, x.lock.Unlock())
	}
	errs = append(errs, x.aside.drop())
	return errors.Join(append(errs, x.dir.Close())...)
}

func errClosed() error { return fmt.Errorf("index: %w", fs.ErrClosed) }

// healing runs fn, and if index.db is damaged builds it anew and runs fn again.
// The caller holds mu shared.
func (x *Index) healing(ctx context.Context, fn func() error) error {
	if x.closed {
		return errClosed()
	}
	err := fn()
	bad, ok := err.(*damage) //nolint:errorlint // run returns it bare; what fn returns is never one
	if !ok {
		return err
	}
	x.log.WarnContext(ctx, "index: building index.db anew", "reason", bad.CorruptError)
	if err := x.heal(ctx, bad); err != nil {
		return fmt.Errorf("%w; this came up while index.db was built anew, which is damaged: %w", err, bad.Err)
	}
	err = fn()
	if bad, ok := err.(*damage); ok { //nolint:errorlint // as above
		return bad.CorruptError
	}
	return err
}

// withLock runs fn with the database, up to date and open for writing, under the
// exclusive lock.
func (x *Index) withLock(ctx context.Context, fn func(*database) error) (err error) {
	lock, err := x.dir.Lock(ctx, lockName, durable.Exclusive)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer x.logged(ctx, "unlocking the index", lock.Unlock)
	db, err := x.ready(ctx)
	if err != nil {
		return err
	}
	defer x.logged(ctx, "closing index.db", db.close)
	return fn(db)
}

// logged runs a cleanup whose failure changes nothing for the caller: what was
// written is durable by then.
func (x *Index) logged(ctx context.Context, what string, fn func() error) {
	if err := fn(); err != nil {
		x.log.ErrorContext(ctx, "index: "+what, "error", err)
	}
}

// viewShared runs fn under the shared lock. It returns errBehind if the index
// can't be served as it is.
func (x *Index) viewShared(ctx context.Context, fn func(*Tx) error) error {
	unlock, err := x.lockShared(ctx)
	if err != nil {
		return err
	}
	defer x.logged(ctx, "unlocking the index", unlock)
	db, err := openReader(x.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return errBehind
	}
	if err != nil {
		return err
	}
	defer x.logged(ctx, "closing index.db", db.close)
	return x.read(ctx, db, x.upToDate, fn)
}

// ready opens the database, makes it if it is missing, and applies what it
// lacks. The caller holds the exclusive lock.
func (x *Index) ready(ctx context.Context) (*database, error) {
	db, err := openWriter(x.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := x.build(ctx); err != nil {
			return nil, err
		}
		db, err = openWriter(x.dir)
	}
	if err != nil {
		return nil, err
	}
	if err := x.catchUp(ctx, db); err != nil {
		x.logged(ctx, "closing index.db", db.close)
		return nil, err
	}
	return db, nil
}

// withOwn runs fn with the database of an exclusive index. The caller holds mu
// shared; it is let go of for a moment if the database has to be opened.
func (x *Index) withOwn(ctx context.Context, fn func(*database) error) error {
	for {
		for x.own == nil || x.own.outdated.Load() {
			if err := x.reopen(ctx); err != nil {
				return err
			}
		}
		if err := fn(x.own); !errors.Is(err, errOutdated) {
			return err
		}
	}
}

// replaceOwn runs fn with mu held exclusively instead of shared.
func (x *Index) replaceOwn(fn func() error) error {
	x.mu.RUnlock()
	defer x.mu.RLock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed()
	}
	return fn()
}

func (x *Index) reopen(ctx context.Context) error {
	return x.replaceOwn(func() error {
		if x.own != nil {
			if !x.own.outdated.Load() {
				return nil
			}
			x.logged(ctx, "closing index.db", x.own.close)
			x.own = nil
		}
		db, err := x.ready(ctx)
		if err != nil {
			return err
		}
		x.own = db
		return nil
	})
}
