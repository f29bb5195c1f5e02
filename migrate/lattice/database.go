package lattice

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/tree"
	"modernc.org/sqlite"
)

// Database is a lattice registry with a SQLite database: a migrate.Source. It
// reads a private copy, made when it was opened, so that what happens to the
// original afterwards changes nothing. Weights are read where they are.
type Database struct {
	tree    *tree.Tree // the folder of the database
	db      *sql.DB    // the copy
	dir     string     // that it is in
	schema  *schema
	orphans bool
}

var _ migrate.Source = (*Database)(nil)

// openDatabase opens the database at given, which may be a link to it.
func openDatabase(ctx context.Context, given string, o *Options) (_ *Database, err error) {
	// SQLite's own files are beside the database itself, not beside a link to it.
	path, err := filepath.EvalSymlinks(given)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", given, err)
	}
	d := &Database{orphans: o.Orphans}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if info, err := os.Lstat(path); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: give the path of the database itself", path)
	}
	if d.dir, err = os.MkdirTemp(o.TempDir, "heft-lattice-"); err != nil {
		return nil, fmt.Errorf("making a private folder for a copy of %s: %w", path, err)
	}
	snapshot := filepath.Join(d.dir, "models.db")
	if err := copyDatabase(ctx, path, snapshot); err != nil {
		return nil, err
	}
	// No CHECK of the schema is run: it would be of no use, and could take long.
	// Nobody else reads the copy, so it is locked once and not for each row.
	d.db, err = connect(snapshot, "rw", "locking_mode(exclusive)", "trusted_schema(0)", "cell_size_check(1)", "mmap_size(0)", "ignore_check_constraints(1)", "query_only(1)")
	if err != nil {
		return nil, err
	}
	if d.schema, err = readSchema(ctx, d.db); err != nil {
		return nil, corrupt(path, err)
	}
	var finding string
	if err := d.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&finding); err != nil {
		return nil, corrupt(path, err)
	}
	if finding != "ok" {
		return nil, damaged(path, finding)
	}
	d.tree, err = d.weightsTree(ctx, filepath.Dir(given), filepath.Dir(path))
	return d, err
}

// weightsTree opens the folder that weights are in: that of the path as it was
// given, if it has any, or else that of the database itself.
func (d *Database) weightsTree(ctx context.Context, given, itself string) (*tree.Tree, error) {
	t, err := tree.Open(given)
	if err != nil {
		return nil, err
	}
	here, err := d.isWeightsTree(ctx, t, itself)
	if here && err == nil {
		return t, nil
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	return tree.Open(itself)
}

// isWeightsTree reports whether t is itself, or has weights/ or the file of any row.
func (d *Database) isWeightsTree(ctx context.Context, t *tree.Tree, itself string) (bool, error) {
	one, err := os.Stat(t.Dir())
	if err != nil {
		return false, err
	}
	if other, err := os.Stat(itself); err != nil || os.SameFile(one, other) {
		return err == nil, err
	}
	if info, err := t.Stat(weightsDir); err == nil && info.IsDir() {
		return true, nil
	}
	rows, err := d.db.QueryContext(ctx, "SELECT "+d.schema.guarded(colWeightsPath)+" FROM "+d.schema.table)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var given any
		if err := rows.Scan(&given); err != nil {
			return false, err
		}
		candidates, err := weightsPaths(text(given))
		if err != nil {
			continue // it is said of the row
		}
		if _, _, err := firstFile(t, candidates); err == nil {
			return true, nil
		}
	}
	return false, rows.Err()
}

// damaged is the error for a database that SQLite finds fault with.
func damaged(path, finding string) error {
	return fmt.Errorf("the database %s is damaged (%.300s): restore it from a copy, or save what is left with: sqlite3 OLD '.recover' | sqlite3 NEW", path, finding)
}

// Kind returns "lattice".
func (d *Database) Kind() string { return kind }

// Close removes the copy of the database.
func (d *Database) Close() error {
	var err error
	if d.db != nil {
		err = d.db.Close()
	}
	if d.tree != nil {
		err = errors.Join(err, d.tree.Close())
	}
	if d.dir != "" {
		err = errors.Join(err, os.RemoveAll(d.dir))
	}
	d.db, d.tree, d.dir = nil, nil, ""
	return err
}

// Items implements migrate.Source: an Item for each row, with its parent's before
// it, then one for each file below weights/ that no row names. What there is to
// say of the table as a whole is said with the first.
func (d *Database) Items(ctx context.Context) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		if err := d.items(ctx, yield); err != nil {
			yield(nil, fmt.Errorf("reading the table models: %w", err))
		}
	}
}

// items returns an error unless yield returned false.
func (d *Database) items(ctx context.Context, yield func(*migrate.Item, error) bool) error {
	rowids, s, err := d.survey(ctx)
	if err != nil {
		return err
	}
	// A statement is not for a context of its own: it is watched by a goroutine
	// for each row.
	row, err := d.db.PrepareContext(ctx, d.schema.rowQuery())
	if err != nil {
		return err
	}
	defer row.Close()
	order, verdicts, err := s.plan(func(i int32, v verdict) (bool, error) {
		c, err := d.convert(ctx, row, rowids[i], v)
		return err == nil && c.finish().Err == nil, err
	})
	if err != nil {
		return err
	}
	named := newPathSet(len(order))
	for n, i := range order {
		c, err := d.convert(ctx, row, rowids[i], verdicts[i])
		if err != nil {
			return err
		}
		item := c.finish()
		for _, at := range c.claims {
			named.add(at)
		}
		if item.Err != nil {
			// Its weights, imported as an orphan, would take its name.
			named.add(defaultPlace(item.Model.Name, item.Model.Version))
		}
		if n == 0 {
			item.Notes = append(d.schema.notes[:len(d.schema.notes):len(d.schema.notes)], item.Notes...)
		}
		if !yield(item, nil) {
			return nil
		}
	}
	return d.findOrphans(ctx, named, yield)
}

// convert reads a row and converts it, with its weights.
func (d *Database) convert(ctx context.Context, all *sql.Stmt, rowid int64, v verdict) (*conversion, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rec, err := d.record(all, rowid, v)
	if err != nil {
		return nil, err
	}
	c := convert(rec, v)
	if v&tooLarge != 0 {
		c.claimUnread(d.tree)
		return c, d.explain(ctx, c, rowid)
	}
	c.weights(d.tree)
	return c, nil
}

// survey is the first pass over the table.
func (d *Database) survey(ctx context.Context) (rowids []int64, s *survey, err error) {
	var count int64
	if err := d.db.QueryRowContext(ctx, "SELECT count(*) FROM "+d.schema.table).Scan(&count); err != nil {
		return nil, nil, err
	}
	if count > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%d rows are more than can be imported at once, %d: split the database", count, math.MaxInt32)
	}
	rowids, s = make([]int64, 0, count), newSurvey(int(count))
	rows, err := d.db.QueryContext(ctx, d.schema.surveyQuery()+" ORDER BY "+d.schema.rowid)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		rowid, rec, v, err := scanSurvey(rows)
		if err != nil {
			return nil, nil, err
		}
		rowids = append(rowids, rowid)
		s.add(rec, v)
	}
	return rowids, s, rows.Err()
}

// scanner is *sql.Rows or *sql.Row.
type scanner interface{ Scan(into ...any) error }

// scanSurvey reads a row of the surveyQuery.
func scanSurvey(row scanner) (rowid int64, rec *record, v verdict, err error) {
	rec = new(record)
	large := false
	into := []any{&rowid, &large}
	for _, c := range surveyed() {
		into = append(into, &rec.cells[c])
	}
	if err := row.Scan(into...); err != nil {
		return 0, nil, 0, err
	}
	if large {
		v = tooLarge
	}
	rec.from = fmt.Sprintf("row %d", rowid)
	return rowid, rec, v, nil
}

// record reads a row: of one that is too large only what is surveyed.
func (d *Database) record(all *sql.Stmt, rowid int64, v verdict) (rec *record, err error) {
	if v&tooLarge != 0 {
		_, rec, _, err = scanSurvey(d.db.QueryRow(d.schema.surveyQuery()+" WHERE "+d.schema.rowid+" = ?", rowid))
		return rec, err
	}
	rec = &record{from: fmt.Sprintf("row %d", rowid), unknown: make([]unknown, len(d.schema.others))}
	into := make([]any, 0, columns+len(rec.unknown))
	for c := range rec.cells {
		into = append(into, &rec.cells[c])
	}
	for i, name := range d.schema.others {
		rec.unknown[i].name = name
		into = append(into, &rec.unknown[i].value)
	}
	return rec, all.QueryRow(rowid).Scan(into...)
}

// explain makes a row that is too large fail, and says why.
func (d *Database) explain(ctx context.Context, c *conversion, rowid int64) error {
	var sizes [columns]sql.NullInt64
	var into []any
	for i := range sizes {
		into = append(into, &sizes[i])
	}
	if err := d.db.QueryRowContext(ctx, d.schema.sizeQuery(), rowid).Scan(into...); err != nil {
		return err
	}
	c.errs = nil // that a value which was not read is missing would mislead
	for i, size := range sizes {
		if size.Valid {
			c.fail("its %s has %d bytes, over the limit of %d: shorten it, or put it into a file", column(i), size.Int64, column(i).limit())
		}
	}
	if c.errs == nil {
		c.fail("its columns that lattice does not know (%s) have more than %d bytes together: shorten them", list(d.schema.others), maxUnknown)
	}
	return nil
}

// corrupt says what to do about an error with which SQLite says that it can't
// make sense of the database. Others it returns as they are.
func corrupt(path string, err error) error {
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		switch se.Code() & 0xFF {
		case codeCorrupt, codeNotDatabase:
			return damaged(path, err.Error())
		}
	}
	return err
}
