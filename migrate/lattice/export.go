package lattice

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate/internal/outdir"
	"github.com/heftstore/heft/registry"
	"github.com/zeebo/blake3"
)

const (
	databaseFile = "models.db"

	// staging is where it all grows, so that a reader sees either nothing of it or
	// models.db, which comes last, and all that it names.
	staging = ".heft-export"
)

// ExportOptions changes how Export works. A nil *ExportOptions, like its zero
// value, is the default throughout.
type ExportOptions struct {
	// Progress hears how many bytes of weights were written since it was called
	// last; nil hears nothing.
	Progress func(bytes int64)
}

// ExportReport says what Export did.
type ExportReport struct {
	Versions int   // that were written
	Bytes    int64 // of weights that were written
	Failed   []ExportFailure

	// Reduced are versions that were written without some of what their rows had
	// in columns that lattice does not know: Err says which.
	Reduced []ExportFailure
}

// ExportFailure is a version that the layout can't hold as it is, or that can't
// be read.
type ExportFailure struct {
	Ref string
	Err error
}

// Export writes versions in lattice's layout into the folder dir, which must be
// empty or not exist: models.db and weights/<name>/<version>/weights.bin. What
// came from a lattice registry is written as it was there, as far as it was not
// changed since. Columns that lattice does not know are added to the table as the
// versions have them, with the values but without a type: at most 64, those of
// the first versions, since an import takes no more, and none called rowid,
// _rowid_ or oid, which SQLite refuses to add.
//
// A version that can't be written, such as one of several files, is in the
// report's Failed, and the others are written all the same: the caller has to
// look. After an error nothing is left in dir. On return without one all
// of it is durable.
func Export(ctx context.Context, r *registry.Registry, models iter.Seq2[*registry.Model, error], dir string, o *ExportOptions) (report ExportReport, err error) {
	made, err := emptyFolder(dir)
	if err != nil {
		return report, err
	}
	out, err := outdir.Open(dir)
	if err != nil {
		return report, err
	}
	e := &exporter{reg: r, out: out, progress: func(int64) {}}
	if o != nil && o.Progress != nil {
		e.progress = o.Progress
	}
	err = e.export(ctx, models)
	if err != nil {
		for _, entry := range append(e.published, staging) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(out.Path(), entry)))
		}
	}
	err = errors.Join(err, out.Close())
	if err != nil && made {
		err = errors.Join(err, os.Remove(dir))
	}
	if err != nil {
		return ExportReport{}, fmt.Errorf("exporting to %s: %w", dir, err)
	}
	return e.report, nil
}

// emptyFolder makes the folder if there is none.
func emptyFolder(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, durable.CreateDir(dir, 0o777)
	case err != nil:
		return false, fmt.Errorf("exporting to %s: %w", dir, err)
	case len(entries) == 1 && entries[0].Name() == staging:
		return false, fmt.Errorf("%w: exporting to %s: an export that was killed left %s there, or one is running: remove it if none is", registry.ErrConflict, dir, staging)
	case len(entries) > 0:
		return false, fmt.Errorf("%w: exporting to %s: it is not empty (%.100q is in it): give a new folder, or empty it", registry.ErrConflict, dir, entries[0].Name())
	}
	return false, nil
}

type exporter struct {
	reg       *registry.Registry
	out       *outdir.Dir
	progress  func(int64)
	report    ExportReport
	published []string // entries of the folder that were moved out of staging
}

func (e *exporter) export(ctx context.Context, models iter.Seq2[*registry.Model, error]) (err error) {
	if err := e.out.Mkdir(staging); err != nil {
		return err
	}
	if err := e.rows(ctx, models); err != nil {
		return err
	}
	f, err := e.out.OpenWrite(path.Join(staging, databaseFile))
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return e.publish(ctx)
}

// rows writes the weights, and the database in one transaction.
func (e *exporter) rows(ctx context.Context, models iter.Seq2[*registry.Model, error]) (err error) {
	// The database is of no use until it is whole, so a crash may spoil it.
	db, err := connect(filepath.Join(e.out.Path(), staging, databaseFile), "rwc", "journal_mode(memory)", "synchronous(off)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	to, err := newTable(ctx, tx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	for m, err := range models {
		if err != nil {
			return err
		}
		err := e.version(ctx, to, m)
		if fe, ok := errors.AsType[*versionError](err); ok {
			e.report.Failed = append(e.report.Failed, ExportFailure{m.Ref(), fe.err})
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Ref(), err)
		}
		e.report.Versions++
	}
	return tx.Commit()
}

// versionError is about one version only.
type versionError struct{ err error }

func (e *versionError) Error() string { return e.err.Error() }

func (e *versionError) Unwrap() error { return e.err }

func (e *exporter) version(ctx context.Context, to *table, m *registry.Model) error {
	r := restore(m)
	taken, err := to.has(ctx, m.Name, m.Version, r.id())
	if err != nil {
		return err
	}
	if taken {
		return &versionError{errors.New("another version with its name and version, or its id, was written already")}
	}
	w, err := e.weights(ctx, &r)
	if err != nil {
		return err
	}
	row, err := r.row(ctx, e.reg, w)
	if err != nil {
		return err
	}
	left, err := to.insert(ctx, row, r.details.Columns)
	if len(left) > 0 {
		e.report.Reduced = append(e.report.Reduced, ExportFailure{m.Ref(), fmt.Errorf("columns that the table can't have besides its others were left out: %s", list(left))})
	}
	return err
}

// weights writes the only file of a version.
func (e *exporter) weights(ctx context.Context, r *restored) (stored, error) {
	var files []registry.File
	for f, err := range r.List(ctx) {
		if err != nil {
			return stored{}, ofVersion(err)
		}
		if files = append(files, f); len(files) > 1 {
			return stored{}, &versionError{errors.New("it has several files, and lattice has one for each version: export it as plain files")}
		}
	}
	if len(files) == 0 {
		return stored{}, nil
	}
	usual := path.Join(weightsDir, r.Name, r.Version, weightsFile)
	if place := r.place(); place != "" && place != usual {
		w, err := e.write(ctx, r, files[0], place)
		if !errors.Is(err, errTaken) {
			return w, err
		}
	}
	w, err := e.write(ctx, r, files[0], usual)
	if errors.Is(err, errTaken) {
		err = &versionError{fmt.Errorf("writing %s: %w", usual, err)}
	}
	return w, err
}

// ofVersion makes an error about what the store has one of the version.
func ofVersion(err error) error {
	_, corrupt := errors.AsType[*registry.CorruptError](err)
	if corrupt || errors.Is(err, registry.ErrNotFound) {
		return &versionError{err}
	}
	return err
}

// errTaken says that there is something else in a place.
var errTaken = errors.New("weights of another version are there")

// isPlace reports whether weights may be written there: below the folder, and
// not where the database or its journals are.
func isPlace(at string) bool {
	if _, err := name.ParsePath(at); err != nil || !filepath.IsLocal(filepath.FromSlash(at)) {
		return false
	}
	first, _, _ := strings.Cut(strings.ToLower(at), "/")
	return !strings.HasPrefix(first, databaseFile) && first != staging
}

// write writes a file to its place, unless it is there.
func (e *exporter) write(ctx context.Context, r *restored, file registry.File, place string) (w stored, err error) {
	w = stored{place: place, size: file.Size}
	at := path.Join(staging, place)
	if err := e.mkdirs(path.Dir(at)); err != nil {
		return w, err
	}
	f, err := e.out.Create(at)
	if errors.Is(err, fs.ErrExist) {
		return e.share(at, file, w)
	}
	if err != nil {
		return w, err
	}
	var sum hash.Hash
	to := io.Writer(&counter{f, e})
	if !r.unhashed() {
		sum = sha256.New()
		to = io.MultiWriter(to, sum)
	}
	err = e.fill(ctx, r, file, to)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return w, errors.Join(err, e.out.Remove(at))
	}
	if sum != nil {
		w.sum = registry.SHA256(sum.Sum(nil))
	}
	return w, nil
}

func (e *exporter) fill(ctx context.Context, r *restored, file registry.File, to io.Writer) (err error) {
	src, err := r.Open(ctx, file.Path)
	if err != nil {
		return ofVersion(err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	_, err = src.WriteTo(to)
	return ofVersion(err)
}

// share returns what is in a place already, if that is the same.
func (e *exporter) share(at string, file registry.File, w stored) (_ stored, err error) {
	f, err := e.out.Open(at)
	if err != nil {
		return w, errTaken // a folder, or what can't be told from one
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	digest, sum := blake3.New(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(digest, sum), f); err != nil {
		return w, errTaken
	}
	if blob.Digest(digest.Sum(nil)) != file.Digest {
		return w, errTaken
	}
	w.sum = registry.SHA256(sum.Sum(nil))
	return w, nil
}

// mkdirs makes a folder and those above it.
func (e *exporter) mkdirs(dir string) error {
	info, err := e.out.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return errTaken
	case !errors.Is(err, fs.ErrNotExist):
		// A file among those above it is reported in ways of each system's own.
		if up := path.Dir(dir); up != "." {
			return e.mkdirs(up)
		}
		return err
	}
	if err := e.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	return e.out.Mkdir(dir)
}

// counter reports what is written through it.
type counter struct {
	w io.Writer
	e *exporter
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.e.report.Bytes += int64(n)
	c.e.progress(int64(n))
	return n, err
}

// publish moves what has grown in staging to where it belongs, the database last.
func (e *exporter) publish(ctx context.Context) error {
	err := fs.WalkDir(os.DirFS(e.out.Path()), staging, func(at string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && entry.IsDir() {
			err = e.out.SyncDir(at)
		}
		return err
	})
	if err != nil {
		return err
	}
	entries, err := e.out.ReadDir(staging)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != databaseFile {
			if err := e.move(entry.Name()); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(e.out.SyncDir("."), e.move(databaseFile), e.out.Remove(staging)); err != nil {
		return err
	}
	return e.out.SyncDir(".")
}

func (e *exporter) move(entry string) error {
	if err := e.out.Rename(path.Join(staging, entry), entry); err != nil {
		return err
	}
	e.published = append(e.published, entry)
	return nil
}
