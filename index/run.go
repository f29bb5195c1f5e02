package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
)

func (x *Index) newTx(ctx context.Context, db *database, btx *bolt.Tx) *Tx {
	return &Tx{
		kv: kv{btx: btx, db: db}, ctx: ctx, store: x.store, dir: x.dir, now: x.now(),
		known: map[blob.Digest]blob.Info{}, gone: map[blob.Digest]bool{},
	}
}

// run calls fn, ends tx and says what became of it.
func (tx *Tx) run(db *database, fn func(*Tx) error) error {
	defer func() { tx.btx = nil }()
	err := fn(tx)
	if tx.corrupt != nil {
		// Even if fn made nothing of it.
		return &damage{tx.corrupt, db.info}
	}
	if err == nil {
		err = tx.broken
	}
	return err
}

// load reads the state and checks that it is this store's.
func (x *Index) load(s *kv) (state, error) {
	st, err := s.state()
	if err == nil && st.store != x.store.ID() {
		err = s.damaged(bucketMeta, []byte(keyState), fmt.Errorf("it is the index of store %s", st.store))
	}
	return st, err
}

// read runs fn in a read transaction, if check lets it.
func (x *Index) read(ctx context.Context, db *database, check func(position) error, fn func(*Tx) error) error {
	btx, err := db.begin(reading)
	if err != nil {
		return err
	}
	defer db.rollback(btx)
	tx := x.newTx(ctx, db, btx)
	return tx.run(db, func(tx *Tx) error {
		if tx.state, err = x.load(&tx.kv); err != nil {
			return err
		}
		if err := check(tx.state.pos); err != nil {
			return err
		}
		return fn(tx)
	})
}

// anyway is for a caller who has caught up already.
func anyway(position) error { return nil }

// upToDate compares the journal's size with what is applied: errBehind if there
// is more, a *JournalError if there is less.
func (x *Index) upToDate(pos position) error {
	info, err := x.dir.Stat(journalName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &JournalError{Seq: 0, Err: fmt.Errorf("the file %s is missing: %w", journalName, err)}
	case err != nil:
		return fmt.Errorf("index: %w", err)
	case info.Size() < pos.offset:
		return lostRecords(info.Size(), pos.next, pos.offset)
	case info.Size() > pos.offset:
		return errBehind
	}
	return nil
}

// write runs fn in a write transaction, and writes its record before it commits.
// The database is up to date and nobody else writes.
func (x *Index) write(ctx context.Context, db *database, c Change, fn func(*Tx) error) error {
	btx, err := db.begin(writing)
	if err != nil {
		return err
	}
	defer db.rollback(btx)
	tx := x.newTx(ctx, db, btx)
	tx.update = true
	var line []byte
	err = tx.run(db, func(tx *Tx) error {
		if tx.state, err = x.load(&tx.kv); err != nil {
			return err
		}
		if err := fn(tx); err != nil || tx.broken != nil || tx.corrupt != nil || len(tx.ops) == 0 {
			return err
		}
		if err := x.checkChain(tx); err != nil {
			return err
		}
		line, err = tx.finish(c)
		return err
	})
	if err != nil || tx.writes == 0 {
		return err
	}
	if line == nil {
		return db.commit(btx)
	}
	// Before the commit, after which it is too late to ask.
	x.reserve(db, tx.state.pos.offset+int64(len(line)), btx.Size())
	if err := appendRecord(x.dir, tx.state.pos.offset, line); err != nil {
		return err
	}
	if tx.chained {
		x.chained.Store(true)
	}
	if err := db.commit(btx); err != nil {
		// The record is durable, so the change is made. Whoever looks next
		// applies it, and heals what is damaged.
		x.log.ErrorContext(ctx, "index: the change is in the journal, and index.db will follow", "error", err)
		db.outdated.Store(true)
	}
	return nil
}

// What is kept free behind the end of the journal and of the pages of index.db
// that are in use, so that versions can be deleted when the disk is full: 64 KiB
// are some 200 deletions, each of which changes some 25 pages of 4 KiB.
const (
	reserveJournal  = 64 << 10
	reserveDatabase = 512 << 10
)

// reserve has the disk keep room for the updates to come. What can't be had now
// is asked for again by the next one.
func (x *Index) reserve(db *database, journal, pages int64) {
	durable.Reserve(db.file, pages, reserveDatabase)
	f, err := x.dir.OpenFile(journalName, os.O_WRONLY, 0)
	if err != nil {
		return // appending will tell
	}
	durable.Reserve(f, journal, reserveJournal)
	_ = f.Close() // nothing was written
}

// finish returns the transaction's line for the journal, and has the index say
// that it is applied.
func (tx *Tx) finish(c Change) ([]byte, error) {
	pos := tx.state.pos
	line, sum, err := encodeRecord(&Record{
		Seq: pos.next, Time: tx.now, Prev: pos.prev,
		Verb: c.Verb, Actor: c.Actor, Reason: c.Reason, Ops: tx.ops,
	})
	if err != nil {
		return nil, err
	}
	next := state{pos: position{pos.next + 1, pos.offset + int64(len(line)), sum}, store: tx.state.store}
	return line, tx.setState(next)
}
