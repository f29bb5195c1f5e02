package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/zeebo/blake3"
)

// Names in the store's folder. The new ones are only used under the exclusive
// lock, so that what is found there is left from a process that died.
const (
	journalName = "journal"
	journalNew  = "journal.new"
)

// verbCreate is the verb of record 0.
const verbCreate = "create"

// position is a place between two records of the journal. The zero position is
// its beginning.
type position struct {
	next   uint64      // sequence number of the record that begins here
	offset int64       // in bytes
	prev   blob.Digest // of the record that ends here
}

// hexSize is the length of a line before the JSON, without the space.
const hexSize = 64

// encodeRecord returns the line of r, with its newline, and its hash.
func encodeRecord(r *Record) ([]byte, blob.Digest, error) {
	if r.Ops == nil {
		r.Ops = []Op{}
	}
	text, err := canon.Marshal(r)
	if err != nil {
		return nil, blob.Digest{}, fmt.Errorf("index: change can't be written as a journal record: %w", err)
	}
	sum := blob.Digest(blake3.Sum256(text))
	line := make([]byte, 0, hexSize+2+len(text))
	line = append(append(line, sum.String()...), ' ')
	return append(append(line, text...), '\n'), sum, nil
}

// createJournal makes a journal with record 0. It is durable on return. The
// caller holds the exclusive lock and knows that there is none.
func createJournal(fsys durable.FS, store uuid.UUID, now int64) error {
	line, _, err := encodeRecord(&Record{Time: now, Verb: verbCreate, Store: store})
	if err != nil {
		return err
	}
	if err := fsys.Remove(journalNew); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: creating the journal: %w", err)
	}
	if err := durable.WriteFile(fsys, journalNew, journalName, line); err != nil {
		return fmt.Errorf("index: creating the journal: %w", err)
	}
	return nil
}

// appendRecord writes line at the offset at, which must be the journal's end.
// It is durable on return. After an error the journal is as it was, unless the
// error says that it could not be cut back.
func appendRecord(fsys durable.FS, at int64, line []byte) error {
	f, err := fsys.OpenWrite(journalName)
	if err != nil {
		return fmt.Errorf("index: appending to the journal: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != at {
		// Never write over what somebody else wrote.
		err = fmt.Errorf("it has %d bytes, not %d", info.Size(), at)
	}
	if err != nil {
		return fmt.Errorf("index: appending to the journal: %w", errors.Join(err, f.Close()))
	}
	_, err = f.WriteAt(line, at)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return nil
	}
	// On a fresh descriptor: what the failed one would report is not known.
	if cerr := cutJournal(fsys, at); cerr != nil {
		return fmt.Errorf("index: appending to the journal: %w; the record could not be cut off either, so the change may show later: %w", err, cerr)
	}
	return fmt.Errorf("index: appending to the journal, nothing was changed: %w", err)
}

// cutJournal drops what is beyond the offset at. That is durable on return.
func cutJournal(fsys durable.FS, at int64) error {
	f, err := fsys.OpenWrite(journalName)
	if err != nil {
		return err
	}
	if err = f.Truncate(at); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// settleJournal writes the bytes from one offset to another again in place,
// drops those beyond, and syncs. A process that died after a failed sync can
// have left records in the page cache that the disk has not, and that later
// syncs don't write: the cache holds them to be clean.
func settleJournal(fsys durable.FS, from, to int64) error {
	f, err := fsys.OpenWrite(journalName)
	if err != nil {
		return fmt.Errorf("index: settling the journal: %w", err)
	}
	err = rewrite(f, from, to)
	if err == nil {
		err = f.Truncate(to)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("index: settling the journal: %w", err)
	}
	return nil
}

func rewrite(f durable.File, from, to int64) error {
	buf := make([]byte, 64<<10)
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if _, err := f.ReadAt(b, from); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}
