package index

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// Position is a place between two records of a journal. It stands for all of them
// before it, since each has the hash of the one before.
type Position struct {
	Records uint64      // before it
	Bytes   int64       // of the journal, before it
	Sum     blob.Digest // of the last record before it
}

func (p position) export() Position { return Position{p.next, p.offset, p.prev} }

// Position returns how far the transaction sees the journal.
func (tx *Tx) Position() Position { return tx.state.pos.export() }

// OtherHistoryError says that the journal of a backup is not the beginning of the
// store's: one of the two has changes that the other lacks.
type OtherHistoryError struct {
	Dir     string
	Records uint64 // of the backup's journal
}

func (e *OtherHistoryError) Error() string {
	return fmt.Sprintf("index: the backup in %s has %d journal records that are not the beginning of the store's journal: it was changed itself, or the store is an older state; nothing was changed there; make the backup into another folder", e.Dir, e.Records)
}

// Unwrap returns ErrConflict.
func (e *OtherHistoryError) Unwrap() error { return ErrConflict }

// CheckBackup returns nil if the folder dir has no journal, or one that is the
// beginning of the store's as far as to. Otherwise it returns an
// *OtherHistoryError, or a *JournalError about the journal that is there.
func (x *Index) CheckBackup(ctx context.Context, dir string, to Position) (err error) {
	d, err := durable.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("index: opening the backup: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	_, err = x.extends(ctx, d, to, io.Discard)
	return err
}

// extends reads the store's journal as far as to, and writes it to w. It fails
// unless the journal in d, if there is one, is the beginning of that. whole says
// that it is all of it.
func (x *Index) extends(ctx context.Context, d folder, to Position, w io.Writer) (whole bool, err error) {
	old, size, err := endOf(ctx, d, x.store.ID())
	if err != nil {
		return false, err
	}
	r, err := readJournal(x.dir, x.store.ID(), position{}, to.Bytes, to.Bytes)
	if err != nil {
		return false, missing(err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	met := r.pos == old
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if _, err := r.next(); err == io.EOF {
			break
		} else if err != nil {
			return false, err
		}
		met = met || r.pos == old
		if _, err := w.Write(r.line); err != nil {
			return false, err
		}
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return false, err
		}
	}
	if r.pos.export() != to {
		return false, r.broken(errForeign)
	}
	if !met {
		return false, &OtherHistoryError{Dir: d.Path(), Records: old.next}
	}
	return size == to.Bytes, nil
}

// endOf returns where the journal in d ends, the zero position if there is none,
// and the size of the file. What a torn append left does not count.
func endOf(ctx context.Context, d folder, store uuid.UUID) (end position, size int64, err error) {
	r, err := readJournal(d, store, position{}, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, 0, nil
	}
	if err != nil {
		return position{}, 0, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return position{}, 0, err
		}
		if _, err := r.next(); err == io.EOF {
			return r.pos, r.size, nil
		} else if err != nil {
			return position{}, 0, fmt.Errorf("the journal of the backup in %s: %w", d.Path(), err)
		}
	}
}

// CopyJournal gives the folder dir the store's journal as far as to, in place of
// one that is the beginning of it: see CheckBackup. That is made at once, and
// durable on return. Everything that the records need has to be there durably
// before.
func (x *Index) CopyJournal(ctx context.Context, dir string, to Position) (err error) {
	d, err := durable.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("index: opening the backup: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// Somebody may have the backup open as a store.
	return lockJournal(ctx, d, func() error { return x.copyJournal(ctx, d, to) })
}

// copyJournal is CopyJournal for an open folder. The caller holds its lock.
func (x *Index) copyJournal(ctx context.Context, d folder, to Position) error {
	whole, err := x.extends(ctx, d, to, io.Discard)
	if err != nil {
		return err
	}
	if !whole {
		if err := d.Remove(journalNew); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("index: writing the backup's journal: %w", err)
		}
		err := durable.Publish(d, journalNew, journalName, func(w io.Writer) error {
			b := bufio.NewWriterSize(w, 1<<20)
			if _, err := x.extends(ctx, d, to, b); err != nil {
				return err
			}
			return b.Flush()
		})
		if err != nil {
			return fmt.Errorf("index: writing the backup's journal: %w", err)
		}
	}
	// Also if it is whole: whoever made it may have died before that.
	if err := d.SyncDir("."); err != nil {
		return fmt.Errorf("index: syncing the backup's folder: %w", err)
	}
	return nil
}
