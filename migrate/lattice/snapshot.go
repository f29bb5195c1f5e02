package lattice

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// LockedError says that a database can't be read now because another program
// writes to it.
type LockedError struct {
	Path string // of the database
	Err  error  // what was seen of it
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("the database %s is in use by another program (%v): let it finish or stop it, then import again", e.Path, e.Err)
}

// Unwrap returns what was seen of it.
func (e *LockedError) Unwrap() error { return e.Err }

const (
	walSuffix     = "-wal"
	journalSuffix = "-journal"

	// attempts is how often a copy is tried of a database that changes meanwhile:
	// one that never rests for as long as a copy takes won't the sixth time.
	attempts = 5

	// settled is the age from which on a file's time tells of a later change:
	// twice the coarsest clock of the usual Linux file systems, 10 ms.
	settled = 20 * time.Millisecond

	// busyTimeout is how long a lock is waited for, in milliseconds: a lattice
	// transaction takes a few of them.
	busyTimeout = 2000

	copyBuffer = 4 << 20 // between two looks at the context
)

// Codes of SQLite: https://www.sqlite.org/rescode.html
const (
	codeBusy        = 5
	codeReadOnly    = 8
	codeCorrupt     = 11
	codeCantOpen    = 14
	codeNotDatabase = 26
)

// errHot says that a transaction has to be rolled back before the database can
// be read.
var errHot = errors.New("a transaction has to be rolled back")

// copyDatabase copies the database at path, with what SQLite needs to recover
// its last state, to the file to. It never opens the original in a way that
// could write to it. It returns a *LockedError if there is no quiet moment.
//
// On POSIX systems a program that closes any descriptor of a file loses all its
// locks on it: a program that has the database open with SQLite itself must not
// rely on its own locks during the call.
func copyDatabase(ctx context.Context, path, to string) error {
	hot := false
	for range attempts {
		err := copyOnce(ctx, path, to, hot)
		switch {
		case errors.Is(err, errHot) && !hot:
			hot = true
		case !errors.Is(err, errChanged):
			return err
		}
		if err := wait(ctx, settled); err != nil {
			return err
		}
	}
	return &LockedError{path, errChanged}
}

// errChanged says that a copy is none of a single moment.
var errChanged = errors.New("it is being written to")

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// original is the open files of a database.
type original struct {
	path  string
	files map[string]*os.File // by suffix
}

func (o *original) close() error {
	var err error
	for _, f := range o.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// add opens the file of that suffix, if there is one with content.
func (o *original) add(suffix string) error {
	at := o.path + suffix
	info, err := os.Lstat(at)
	if suffix != "" && (errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: a database and its journal have to be", at)
	}
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	o.files[suffix] = f
	return nil
}

// copyOnce tries to copy the database at a single moment. hot says that it has
// a journal that has to be rolled back.
func copyOnce(ctx context.Context, path, to string, hot bool) (err error) {
	o := &original{path, map[string]*os.File{}}
	defer func() { err = errors.Join(err, o.close()) }()
	if err := errors.Join(o.add(""), o.add(walSuffix)); err != nil {
		return fmt.Errorf("opening the database %s: %w", path, err)
	}
	head, err := readHead(o.files[""], headerSize)
	if err != nil {
		return fmt.Errorf("reading the database %s: %w", path, err)
	}
	info, err := o.files[""].Stat()
	if err != nil {
		return err
	}
	h, err := checkHeader(path, head, info.Size())
	if err != nil {
		return err
	}
	// Without a journal the file is all there is of it.
	if o.alone() && info.Size() < h.wants() {
		return truncated(path, info.Size(), h.wants())
	}
	// With a log beside it SQLite opens any database as one with a log, and then
	// makes a file of its own there: such a database is not even opened.
	if h.writeAhead() || o.files[walSuffix] != nil || hot {
		if err := o.add(journalSuffix); err != nil {
			return fmt.Errorf("opening the journal of %s: %w", path, err)
		}
		return o.copy(ctx, to)
	}
	lock, err := lockShared(ctx, path)
	if err != nil {
		return err
	}
	// Before the descriptors are closed, or the lock would be gone with them.
	defer func() { err = errors.Join(err, lock.Close()) }()
	return o.copy(ctx, to)
}

// alone reports whether the database has neither a log nor a journal.
func (o *original) alone() bool {
	info, err := os.Lstat(o.path + journalSuffix)
	return o.files[walSuffix] == nil && (err != nil || info.Size() == 0)
}

// lockShared takes SQLite's lock for reading; Close of what it returns gives it
// back. It returns errHot, or a *LockedError.
func lockShared(ctx context.Context, path string) (io.Closer, error) {
	db, err := connect(path, "ro", fmt.Sprintf("busy_timeout(%d)", busyTimeout))
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, "BEGIN")
	if err == nil {
		// It takes the lock, and does not look at the schema.
		var version int
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	}
	if err == nil {
		return db, nil
	}
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		switch se.Code() & 0xFF {
		case codeBusy:
			err = &LockedError{path, err}
		case codeReadOnly, codeCantOpen:
			err = errHot
		default:
			err = damaged(path, err.Error())
		}
	}
	return nil, errors.Join(err, db.Close())
}

// connect opens the database at path by the rules for one that nobody vouches
// for. It is opened by the first use.
func connect(path, mode string, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/models.db
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode": {mode}, "_pragma": pragmas, "_dqs": {"0"}, "_defensive": {"1"}, "_error_rc": {"1"},
	}.Encode()}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

// stamp is what can be seen of a file without reading all of it.
type stamp struct {
	size     int64
	modified int64
	head     [headerSize]byte // with the counter of changes, or the log's salt
}

// stamps returns those of all the files, and errChanged if one of them is so
// new that a later change could leave its stamp as it is, or is not the one
// that was opened.
func (o *original) stamps() (all [3]stamp, err error) {
	for i, suffix := range []string{"", walSuffix, journalSuffix} {
		f := o.files[suffix]
		info, err := os.Lstat(o.path + suffix)
		switch {
		case f == nil && (errors.Is(err, fs.ErrNotExist) || err == nil && (info.Size() == 0 || suffix == journalSuffix)):
			continue // a journal that was left alone belongs to a writer who waits for the lock
		case err != nil:
			return all, err
		case f == nil:
			return all, errChanged
		}
		opened, err := f.Stat()
		if err != nil {
			return all, err
		}
		if !os.SameFile(info, opened) || time.Since(opened.ModTime()).Abs() < settled {
			return all, errChanged
		}
		all[i] = stamp{size: opened.Size(), modified: opened.ModTime().UnixNano()}
		if _, err := f.ReadAt(all[i].head[:], 0); err != nil && err != io.EOF {
			return all, err
		}
	}
	return all, nil
}

// copy copies the files to the file to and beside it. It returns errChanged if
// they changed meanwhile.
func (o *original) copy(ctx context.Context, to string) error {
	before, err := o.stamps()
	if err != nil {
		return err
	}
	for _, suffix := range []string{"", walSuffix, journalSuffix} {
		if err := os.Remove(to + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f := o.files[suffix]; f != nil {
			if err := copyFile(ctx, f, to+suffix); err != nil {
				return fmt.Errorf("copying %s%s to a private folder: %w", o.path, suffix, err)
			}
		}
	}
	after, err := o.stamps()
	if err != nil {
		return err
	}
	if after != before {
		return errChanged
	}
	if o.files[journalSuffix] == nil {
		return nil
	}
	return checkJournal(o.path, to+journalSuffix)
}

func copyFile(ctx context.Context, src *os.File, to string) error {
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = io.CopyN(dst, src, copyBuffer)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, dst.Close())
}

// journalMagic ends a journal that belongs to a transaction over several
// databases, and begins each part of any journal:
// https://www.sqlite.org/fileformat2.html#the_rollback_journal
const journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

// checkJournal refuses a journal that names a super-journal: SQLite would open
// that file, wherever it is, and delete it. What it looks for at the end of the
// file is the name, its length, a checksum and the magic.
func checkJournal(path, journal string) (err error) {
	f, err := os.Open(journal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || info.Size() < 16 {
		return err
	}
	var tail [16]byte
	if _, err := f.ReadAt(tail[:], info.Size()-16); err != nil {
		return err
	}
	if string(tail[8:]) == journalMagic && binary.BigEndian.Uint32(tail[:]) > 0 {
		return fmt.Errorf("the journal of %s belongs to a transaction over several databases: open it once with the program that wrote it, which finishes that, then import again", path)
	}
	return nil
}
