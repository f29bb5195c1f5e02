package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/durable"
)

// Rebuild makes index.db anew from the journal and the blobs, and replaces it.
// It reads all of the journal and every blob's table; a blob whose table can't
// be read is logged and passed over. Others wait meanwhile. After an error the
// index is as it was. A damaged journal is a [*JournalError].
func (x *Index) Rebuild(ctx context.Context) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return errClosed()
	}
	return x.replacing(ctx, func() error { return x.build(ctx) })
}

// replacing runs fn, which replaces index.db, while nobody has it open. The
// caller holds mu shared.
func (x *Index) replacing(ctx context.Context, fn func() error) error {
	if !x.exclusive {
		lock, err := x.dir.Lock(ctx, lockName, durable.Exclusive)
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		defer x.logged(ctx, "unlocking the index", lock.Unlock)
		return fn()
	}
	return x.replaceOwn(func() error {
		if x.own != nil {
			x.logged(ctx, "closing index.db", x.own.close)
			x.own = nil
		}
		return fn()
	})
}

// heal replaces a damaged index.db, which it keeps in quarantine/.
func (x *Index) heal(ctx context.Context, bad *damage) error {
	return x.replacing(ctx, func() error {
		info, err := x.dir.Stat(databaseName)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if bad.info != nil && !os.SameFile(info, bad.info) {
			// Somebody else was first.
			return nil
		}
		if err := x.dir.Mkdir("quarantine"); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// If the build fails the damaged file must still be there: it may tell
		// up to where the journal was acknowledged.
		kept := "quarantine/" + databaseName + "." + uuid.NewString()
		if err := x.buildTo(ctx, func() error { return x.dir.Rename(databaseName, kept) }); err != nil {
			return err
		}
		return x.dir.SyncDir("quarantine")
	})
}

// build makes index.db anew. The caller holds the exclusive lock, and nobody has
// the file open.
func (x *Index) build(ctx context.Context) error {
	return x.buildTo(ctx, func() error { return nil })
}

// buildTo is build; it calls before when all is ready but the renaming.
func (x *Index) buildTo(ctx context.Context, before func() error) error {
	if err := x.settle(ctx, x.acknowledged(), position{}); err != nil {
		return err
	}
	db, err := createDatabase(x.dir)
	if err != nil {
		return err
	}
	if err = x.replay(ctx, db, state{store: x.store.ID()}, onlyNames); err == nil {
		err = x.addBlobs(ctx, db)
	}
	if err != nil {
		x.logged(ctx, "closing index.db.new", db.close)
		return err
	}
	// The only sync: until its name changes the file means nothing.
	if err = errors.Join(db.bolt.Sync(), db.close()); err == nil {
		err = before()
	}
	if err == nil {
		err = x.dir.Rename(databaseNew, databaseName)
	}
	if err == nil {
		err = x.dir.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("index: building %s: %w", databaseName, err)
	}
	return nil
}

// acknowledged returns up to where the journal is known to be acknowledged: what
// index.db says, if it is there and can be read.
func (x *Index) acknowledged() position {
	db, err := openReader(x.dir)
	if err != nil {
		return position{}
	}
	st, err := db.state()
	_ = db.close() // nothing was written
	if err != nil || st.store != x.store.ID() {
		return position{}
	}
	return st.pos
}

var errForeign = errors.New("it is another journal than the one that the index has applied")

// settle checks the journal from a position on and makes what is beyond known
// durable, see settleJournal. known, if it is not zero, is a position that must
// be one of the journal's.
func (x *Index) settle(ctx context.Context, known, from position) error {
	r, err := readJournal(x.dir, x.store.ID(), from, known.offset, -1)
	if err != nil {
		return missing(err)
	}
	defer r.close()
	for {
		if r.pos.offset == known.offset && r.pos != known && known != (position{}) {
			return r.broken(errForeign)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if r.pos.next == 0 {
		return r.broken(errors.New("it has no first record"))
	}
	if r.pos.offset == known.offset && r.torn == 0 {
		return nil
	}
	if r.torn > 0 {
		x.log.WarnContext(ctx, "index: dropping a torn journal record, which was never acknowledged", "offset", r.pos.offset, "bytes", r.torn)
	}
	// Only the last record can be without a sync of its own: whoever appended
	// one had settled the ones before. Rewriting more of them costs nothing
	// when they are few, and is not needed when they are many.
	return settleJournal(x.dir, r.last, r.pos.offset)
}

// missing makes the error for a journal that is not there a *JournalError.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &JournalError{Err: fmt.Errorf("the file %s is missing: %w", journalName, err)}
	}
	return err
}

// catchUp applies what the journal has and the database lacks. The caller is the
// only writer.
func (x *Index) catchUp(ctx context.Context, db *database) error {
	st, err := db.state()
	if err != nil {
		return err
	}
	if st.store != x.store.ID() {
		return &damage{&CorruptError{Err: fmt.Errorf("it is the index of store %s", st.store)}, db.info}
	}
	if err := x.upToDate(st.pos); !errors.Is(err, errBehind) {
		return err
	}
	if err := x.settle(ctx, st.pos, st.pos); err != nil {
		return err
	}
	x.log.InfoContext(ctx, "index: applying journal records", "from", st.pos.next)
	return x.replay(ctx, db, st, withBlobs)
}

// What replay does besides the names.
func onlyNames(*Tx, *Record) error { return nil }

// withBlobs adds the blobs of versions, as far as they are there.
func withBlobs(tx *Tx, rec *Record) error {
	for i := range rec.Ops {
		r := rec.Ops[i].Register
		if r == nil {
			continue
		}
		for _, d := range blobsOf(&r.Version, r.Files) {
			if err := tx.AddBlob(tx.ctx, d); err != nil && !unusable(err) {
				return err
			}
		}
	}
	return nil
}

// A transaction of a replay ends after so many records or bytes of journal:
// bbolt holds all pages that a transaction changes in memory.
const (
	batchRecords = 1000
	batchBytes   = 8 << 20
)

// replay applies the journal's records from st on, which were checked before.
func (x *Index) replay(ctx context.Context, db *database, st state, also func(*Tx, *Record) error) error {
	r, err := readJournal(x.dir, x.store.ID(), st.pos, 0, -1)
	if err != nil {
		return missing(err)
	}
	defer r.close()
	return x.replayAll(ctx, db, st, r, also)
}

// replayAll applies what r reads, from st on.
func (x *Index) replayAll(ctx context.Context, db *database, st state, r *journalReader, also func(*Tx, *Record) error) error {
	for end := false; !end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := x.batch(ctx, db, func(tx *Tx) error {
			first := r.pos.offset
			for n := 0; n < batchRecords && r.pos.offset-first < batchBytes; n++ {
				at := r.pos
				rec, err := r.next()
				if err == io.EOF {
					end = true
					break
				}
				if err != nil {
					return err
				}
				if err := tx.replay(rec, at); err != nil {
					return err
				}
				if err := also(tx, rec); err != nil {
					return err
				}
			}
			return tx.setState(state{pos: r.pos, store: st.store})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// replay applies rec, which begins at the position at.
func (tx *Tx) replay(rec *Record, at position) error {
	for i := range rec.Ops {
		err := apply(&tx.kv, rec.Seq, rec.Time, &rec.Ops[i])
		if err != nil && tx.corrupt == nil {
			return &JournalError{Offset: at.offset, Seq: at.next, Err: fmt.Errorf("change %d does not fit the records before: %w", i, err)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batch runs fn in a write transaction that leaves no record.
func (x *Index) batch(ctx context.Context, db *database, fn func(*Tx) error) error {
	return db.write(func(s *kv) error {
		tx := x.newTx(ctx, s.btx)
		tx.update = true
		err := fn(tx)
		s.corrupt = tx.corrupt
		return err
	})
}

// addBlobs adds every blob of the store.
func (x *Index) addBlobs(ctx context.Context, db *database) error {
	next, stop := iter.Pull2(x.store.All(ctx))
	defer stop()
	for end := false; !end; {
		err := x.batch(ctx, db, func(tx *Tx) error {
			for range batchRecords {
				d, err, ok := next()
				if !ok {
					end = true
					return nil
				}
				if err != nil {
					return err
				}
				if err := tx.AddBlob(ctx, d); err != nil {
					if !unusable(err) || tx.broken != nil {
						return err
					}
					x.log.WarnContext(ctx, "index: passing over a blob that can't be read", "blob", d.String(), "error", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Records lists the journal's records from the sequence number from on, in
// order, and checks every one from the beginning. It shows what was acknowledged
// when it was called, and holds no lock while it runs. Damage is a
// [*JournalError], after the records before it.
func (x *Index) Records(ctx context.Context, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		end, err := x.position(ctx)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for rec, err := range x.records(ctx, end) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if rec.Seq >= from && !yield(*rec, nil) {
				return
			}
		}
	}
}

// CheckJournal reads the whole journal and returns how many records it has. A
// [*JournalError] says that it is damaged, or that the index has not applied
// exactly this one.
func (x *Index) CheckJournal(ctx context.Context) (records uint64, err error) {
	end, err := x.position(ctx)
	if err != nil {
		return 0, err
	}
	for _, err := range x.records(ctx, end) {
		if err != nil {
			return 0, err
		}
	}
	return end.next, nil
}

// position returns where the journal ends for everybody.
func (x *Index) position(ctx context.Context) (pos position, err error) {
	err = x.View(ctx, func(tx *Tx) error {
		pos = tx.state.pos
		return nil
	})
	return pos, err
}

// records reads the journal from its beginning to end, where the index says that
// it is.
func (x *Index) records(ctx context.Context, end position) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		r, err := readJournal(x.dir, x.store.ID(), position{}, end.offset, end.offset)
		if err != nil {
			yield(nil, missing(err))
			return
		}
		defer r.close()
		for {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			rec, err := r.next()
			if err == io.EOF {
				break
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
		if r.pos != end {
			yield(nil, r.broken(errForeign))
		}
	}
}
