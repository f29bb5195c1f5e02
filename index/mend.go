package index

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// ReadCreation returns what the first record of the journal in the folder dir says:
// the id of the store, and when it was created, in microseconds. A journal that is
// missing, or damaged there, is a *JournalError.
func ReadCreation(ctx context.Context, dir string) (id uuid.UUID, at int64, err error) {
	err = withJournal(ctx, dir, func(d folder) error {
		lines, err := scan(ctx, d)
		if err != nil {
			return missing(err)
		}
		if len(lines.all) == 0 || lines.all[0].seq != 0 || lines.all[0].offset != 0 {
			return &JournalError{Err: errors.New("its first record can't be read")}
		}
		rec, err := lines.record(d, 0)
		if err != nil {
			return err
		}
		id, at = rec.Store, rec.Time
		return rec.check(id)
	})
	return id, at, err
}

// InspectJournal returns nil if the journal in the folder dir of the store with
// that id is whole, and has all that index.db has applied, where that can tell.
// Else it is a *JournalError. A torn last append, which was never acknowledged, is
// no damage.
func InspectJournal(ctx context.Context, dir string, store uuid.UUID) error {
	return withJournal(ctx, dir, func(d folder) error { return inspect(ctx, d, store) })
}

func inspect(ctx context.Context, d folder, store uuid.UUID) (err error) {
	known := applied(d, store)
	r, err := readJournal(d, store, position{}, known.offset, -1)
	if err != nil {
		return missing(err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for {
		if r.pos.offset == known.offset && r.pos != known {
			return r.broken(errForeign)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := r.next(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if r.pos.next == 0 {
		return r.broken(errors.New("it has no first record"))
	}
	return nil
}

// applied returns up to where index.db says that the journal was acknowledged, the
// zero position if it can't tell.
func applied(d folder, store uuid.UUID) position {
	db, err := openReader(d)
	if err != nil {
		return position{}
	}
	st, err := db.state()
	_ = db.close() // nothing was written
	if err != nil || st.store != store {
		return position{}
	}
	return st.pos
}

// withJournal runs fn with the folder dir, while no process changes its journal.
func withJournal(ctx context.Context, dir string, fn func(folder) error) (err error) {
	d, err := durable.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("index: opening %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := d.FindAccess(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return lockJournal(ctx, d, func() error { return fn(d) })
}

// lockJournal runs fn while no other process changes the journal in d.
func lockJournal(ctx context.Context, d folder, fn func() error) (err error) {
	lock, err := d.Lock(ctx, lockName, durable.Exclusive)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	return fn()
}

// JournalLossError says that records of a damaged journal are nowhere to be found.
// Nothing was changed.
type JournalLossError struct {
	Kept  uint64 // records before the first one that is lost
	Later int    // whole records behind it, whose changes can be made again
}

func (e *JournalLossError) Error() string {
	return fmt.Sprintf("index: journal record %d is lost, and what comes after it, but for %d later records that are whole; a backup made after it would have it", e.Kept, e.Later)
}

// Mended says what became of a damaged journal.
type Mended struct {
	Records uint64 // that it has now
	Taken   uint64 // of those from the other store
	Aside   string // the damaged one's name in quarantine/, "" if there was none
}

// MendJournal gives the store in dir, which has that id, a whole journal in place
// of a damaged or missing one: its own records, and in the gaps those that the
// store or backup in the folder from has, "" for none. The chain of hashes decides
// what fits. All whole records are kept, with all that index.db has applied and as
// much as the damaged file was long; otherwise the error is a *JournalLossError.
// The damaged file is kept in quarantine/. It is durable on return.
func MendJournal(ctx context.Context, dir string, store uuid.UUID, from string) (Mended, error) {
	return (&mender{store: store}).run(ctx, dir, from)
}

// CutJournal is MendJournal that accepts a loss: the journal ends before the first
// record that is lost. Without any it begins anew, for a store that was created at
// createdAt, in microseconds. Index.LaterRecords has what is whole behind the loss,
// until Index.ForgetLater.
func CutJournal(ctx context.Context, dir string, store uuid.UUID, createdAt int64, from string) (Mended, error) {
	return (&mender{store: store, at: createdAt, lossy: true}).run(ctx, dir, from)
}

// A damaged journal of which records are to be made again has this at the end of
// its name.
const pendingSuffix = ".pending"

// mender gives a store a whole journal.
type mender struct {
	d     folder
	o     folder // the other store's folder; nil for none
	from  string // its name
	store uuid.UUID
	at    int64 // when the store was created
	lossy bool  // a loss is accepted
	lost  bool  // there is no journal
	whole bool  // nothing is lost
	chain journalChain
}

func (m *mender) run(ctx context.Context, dir, from string) (done Mended, err error) {
	err = withJournal(ctx, dir, func(d folder) (err error) {
		m.d, m.from = d, from
		if from != "" {
			if m.o, err = durable.OpenDir(from); err != nil {
				return fmt.Errorf("index: opening %s: %w", from, err)
			}
			defer func() { err = errors.Join(err, m.o.Close()) }()
		}
		done, err = m.mend(ctx)
		return err
	})
	return done, err
}

func (m *mender) mend(ctx context.Context) (done Mended, err error) {
	own, err := scan(ctx, m.d)
	if m.lost = errors.Is(err, fs.ErrNotExist); m.lost {
		own = new(journalLines)
	} else if err != nil {
		return Mended{}, err
	}
	other := new(journalLines)
	if m.o != nil {
		if other, err = scan(ctx, m.o); err != nil {
			return Mended{}, fmt.Errorf("index: reading the journal of %s: %w", m.from, err)
		}
	}
	m.chain = assemble(own, other)
	later := len(own.all) - m.chain.own()
	if len(m.chain) > 0 {
		rec, err := m.chain[0].record(m.d, m.o)
		if err == nil {
			err = rec.check(m.store)
		}
		if err != nil {
			return Mended{}, fmt.Errorf("index: the first record: %w", err)
		}
	}
	known := applied(m.d, m.store)
	m.whole = len(m.chain) > 0 && later == 0 && m.chain.bytes() >= own.size-own.torn && m.chain.holds(known) &&
		(!m.lost || known != (position{})) // without either, who knows how long it was
	if !m.whole && !m.lossy {
		return Mended{}, &JournalLossError{Kept: uint64(len(m.chain)), Later: later}
	}
	done = Mended{Records: uint64(len(m.chain)), Taken: uint64(len(m.chain) - m.chain.own())}
	done.Aside, err = m.keep()
	if err == nil {
		err = m.write()
	}
	return done, err
}

// keep keeps the damaged journal, and says if some of it is to be made again.
func (m *mender) keep() (name string, err error) {
	if err := m.d.Mkdir("quarantine"); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("index: %w", err)
	}
	if m.lost && m.whole {
		return "", nil
	}
	name = journalName + "." + uuid.NewString()
	if !m.whole {
		name += pendingSuffix
	}
	// A copy: a power cut must not leave the store without any.
	from := journalName
	if m.lost {
		from = ""
	}
	err = copyAside(m.d, from, "quarantine/"+name)
	if err == nil {
		err = m.d.SyncDir(".") // the folder may be new
	}
	if err != nil {
		return "", fmt.Errorf("index: keeping the damaged journal: %w", err)
	}
	if m.whole {
		return name, nil
	}
	// It may have applied what is lost.
	err = m.d.Rename(databaseName, "quarantine/"+databaseName+"."+uuid.NewString())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("index: setting %s aside: %w", databaseName, err)
	}
	return name, nil
}

// write writes the chain as the journal.
func (m *mender) write() error {
	if err := m.d.Remove(journalNew); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: writing the journal: %w", err)
	}
	err := durable.Publish(m.d, journalNew, journalName, func(w io.Writer) error {
		if len(m.chain) == 0 {
			line, _, err := encodeRecord(&Record{Time: m.at, Verb: verbCreate, Store: m.store})
			if err == nil {
				_, err = w.Write(line)
			}
			return err
		}
		b := bufio.NewWriterSize(w, 1<<20)
		for _, l := range m.chain {
			line, err := l.read(m.d, m.o, journalName)
			if err != nil {
				return err
			}
			if _, err := b.Write(line); err != nil {
				return err
			}
		}
		return b.Flush()
	})
	if err == nil {
		err = m.d.SyncDir("quarantine") // index.db may have moved there
	}
	if err == nil {
		err = m.d.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("index: writing the journal: %w", err)
	}
	return nil
}

// copyAside copies a file, "" for an empty one, to a name in quarantine/. It is
// durable there on return.
func copyAside(d folder, from, name string) (err error) {
	var in io.Reader = strings.NewReader("")
	if from != "" {
		f, oerr := d.Open(from)
		if oerr != nil {
			return oerr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	// Who was killed while copying to the same name left it.
	if err := d.Remove(name + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = durable.Publish(d, name+".new", name, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err == nil {
		err = d.SyncDir("quarantine")
	}
	return err
}

// CommonRecords returns how many of the whole records in the journal of the folder
// dir are in that of another folder, too.
func CommonRecords(ctx context.Context, dir, other string) (n int, err error) {
	err = withJournal(ctx, dir, func(d folder) error {
		own, err := scan(ctx, d)
		if err != nil {
			return missing(err)
		}
		o, err := durable.OpenDir(other)
		if err != nil {
			return fmt.Errorf("index: opening %s: %w", other, err)
		}
		defer o.Close()
		theirs, err := scan(ctx, o)
		if err != nil {
			return missing(err)
		}
		sums := map[blob.Digest]bool{}
		for _, l := range theirs.all {
			sums[l.sum] = true
		}
		for _, l := range own.all {
			if sums[l.sum] {
				n++
			}
		}
		return nil
	})
	return n, err
}

// LaterRecords returns the records behind those that CutJournal gave up, in their
// order, until ForgetLater. pending says whether a journal was cut.
func (x *Index) LaterRecords(ctx context.Context) (later []Record, pending bool, err error) {
	names, err := x.pendingJournals()
	if err != nil || len(names) == 0 {
		return nil, false, err
	}
	have := map[blob.Digest]bool{}
	now, err := scan(ctx, x.dir)
	if err != nil {
		return nil, false, missing(err)
	}
	for _, l := range now.all {
		have[l.sum] = true
	}
	for _, name := range names {
		ls, err := scanFile(ctx, x.dir, name)
		if err != nil {
			return nil, false, err
		}
		for _, l := range ls.all {
			if have[l.sum] {
				continue
			}
			have[l.sum] = true
			rec, err := l.recordOf(x.dir, nil, name)
			if err != nil {
				return nil, false, err
			}
			later = append(later, *rec)
		}
	}
	return later, true, nil
}

// ForgetLater says that what LaterRecords returned was made again. The damaged
// journals stay in quarantine/. It is durable on return; after an error some may
// be pending still.
func (x *Index) ForgetLater() error {
	names, err := x.pendingJournals()
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		// A copy: of a renaming a power cut may leave nothing but the removal.
		if err := copyAside(x.dir, name, strings.TrimSuffix(name, pendingSuffix)); err != nil {
			return fmt.Errorf("index: keeping the damaged journal: %w", err)
		}
		if err := x.dir.Remove(name); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	if err := x.dir.SyncDir("quarantine"); err != nil {
		return fmt.Errorf("index: syncing the folder quarantine: %w", err)
	}
	return nil
}

// LossPending reports whether a journal was cut of which LaterRecords tells, and
// ForgetLater was not called since: the index lacks versions whose blobs are there.
func (x *Index) LossPending() (bool, error) {
	names, err := x.pendingJournals()
	return len(names) > 0, err
}

func (x *Index) pendingJournals() (names []string, err error) {
	entries, err := x.dir.ReadDir("quarantine")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("index: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), journalName+".") && strings.HasSuffix(e.Name(), pendingSuffix) {
			names = append(names, "quarantine/"+e.Name())
		}
	}
	return names, nil
}
