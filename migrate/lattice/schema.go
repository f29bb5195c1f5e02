package lattice

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// maxUnknownColumns is how many columns besides its own a table may have: the
// lattice that had most had three, and each costs every row a look.
const maxUnknownColumns = 64

// schema is how the table models is read.
type schema struct {
	table  string // its name as an SQL identifier
	rowid  string // what its row numbers are called
	column [columns]string
	others []string // that the layout does not know
	notes  []string
}

// rowidAliases returns what SQLite calls the number of a row where no column has
// that name.
func rowidAliases() []string { return []string{"rowid", "_rowid_", "oid"} }

// quote writes an SQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// makePlain says how to make a table that can be imported; what is TABLE or VIEW.
func makePlain(what string) string {
	return "make a plain table of it in a copy of the database, with: CREATE TABLE t AS SELECT * FROM models; DROP " + what + " models; ALTER TABLE t RENAME TO models"
}

// readSchema finds out how to read the table models. It refuses one whose
// reading could run what the database itself brings: a view, a virtual table,
// generated columns.
func readSchema(ctx context.Context, db *sql.DB) (*schema, error) {
	s := new(schema)
	if err := s.findTable(ctx, db); err != nil {
		return nil, err
	}
	taken, err := s.readColumns(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, alias := range rowidAliases() {
		if !taken[alias] {
			s.rowid = alias
			break
		}
	}
	if s.rowid == "" {
		return nil, errors.New("the table models has columns called rowid, _rowid_ and oid, so that its rows can't be told apart: rename one of them in a copy of the database")
	}
	rows, err := db.QueryContext(ctx, "SELECT "+s.rowid+" FROM "+s.table+" LIMIT 0")
	if err != nil {
		return nil, fmt.Errorf("the table models can't be read by row number, as if it were WITHOUT ROWID (%w): %s", err, makePlain("TABLE"))
	}
	return s, errors.Join(rows.Err(), rows.Close())
}

func (s *schema) findTable(ctx context.Context, db *sql.DB) error {
	var name, what string
	var root int64
	err := db.QueryRowContext(ctx, "SELECT name, type, coalesce(rootpage, 0) FROM sqlite_schema "+
		"WHERE name = 'models' COLLATE NOCASE AND type IN ('table', 'view')").Scan(&name, &what, &root)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return s.noTable(ctx, db)
	case err != nil:
		return err
	case what == "view":
		return fmt.Errorf("models is a view, not a table: %s", makePlain("VIEW"))
	case root == 0:
		return fmt.Errorf("models is a virtual table, not an ordinary one: %s", makePlain("TABLE"))
	}
	s.table = quote(name)
	return nil
}

func (s *schema) noTable(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT substr(name, 1, 200) FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 1000")
	if err != nil {
		return err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(tables) == 0 {
		return errors.New("the database has no table at all, so no models either: is it the right file?")
	}
	return fmt.Errorf("the database has no table models, only %s: is it the right file?", list(tables))
}

// readColumns returns the names that are taken, in lower case.
func (s *schema) readColumns(ctx context.Context, db *sql.DB) (map[string]bool, error) {
	rows, err := db.QueryContext(ctx, "SELECT name, hidden FROM pragma_table_xinfo("+literal(s.table)+")")
	if err != nil {
		return nil, fmt.Errorf("reading the columns of the table models: %w", err)
	}
	defer rows.Close()
	known := map[string]column{"metadata_json": colMetadata}
	for c := range column(columns) {
		known[c.String()] = c
	}
	taken := map[string]bool{}
	for rows.Next() {
		var name string
		var hidden int
		if err := rows.Scan(&name, &hidden); err != nil {
			return nil, err
		}
		lower := lowerASCII(name)
		taken[lower] = true
		c, ok := known[lower]
		switch {
		case hidden != 0 && ok:
			return nil, fmt.Errorf("the column %s of the table models is generated, so that reading it would run what the database says: %s", name, makePlain("TABLE"))
		case hidden != 0:
			s.notes = append(s.notes, fmt.Sprintf("the table's column %.100q is generated from others: it is left out", name))
		case ok && (s.column[c] == "" || lower == c.String()): // metadata, where there is metadata_json too
			if s.column[c] != "" {
				s.others = append(s.others, s.column[c])
			}
			s.column[c] = name
		default:
			s.others = append(s.others, name)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return taken, s.check()
}

func (s *schema) check() error {
	var missing []string
	for c, name := range s.column {
		if name != "" {
			continue
		}
		switch c := column(c); c {
		case colID, colName, colVersion, colMetadata:
			return fmt.Errorf("the table models has no column %s: is it of another program?", c)
		default:
			missing = append(missing, c.String())
		}
	}
	if len(missing) > 0 {
		s.notes = append(s.notes, "the table has no column "+list(missing)+": it is as if each row had NULL there")
	}
	if len(s.others) > maxUnknownColumns {
		return fmt.Errorf("the table models has %d columns that lattice does not know, over the limit of %d: drop some in a copy of the database", len(s.others), maxUnknownColumns)
	}
	if len(s.others) > 0 {
		s.notes = append(s.notes, "the table has columns that lattice does not know, "+list(s.others)+": their values are kept in the details of the origin")
	}
	return nil
}

// literal writes an SQL text: of the table's name without its quotes.
func literal(identifier string) string {
	name := strings.ReplaceAll(identifier[1:len(identifier)-1], `""`, `"`)
	return "'" + strings.ReplaceAll(name, "'", "''") + "'"
}

// lowerASCII is how SQLite compares identifiers: without regard to the case of
// the 26 letters.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// surveyQuery reads what a survey needs: row number, whether a value is over its
// limit, and the columns of surveyed, as far as they are within theirs.
func (s *schema) surveyQuery() string {
	var over, total []string
	for c := range column(columns) {
		if s.column[c] != "" {
			over = append(over, fmt.Sprintf("octet_length(%s) > %d", quote(s.column[c]), c.limit()))
		}
	}
	for _, name := range s.others {
		total = append(total, fmt.Sprintf("coalesce(octet_length(%s), 0)", quote(name)))
	}
	if len(total) > 0 {
		over = append(over, fmt.Sprintf("%s > %d", strings.Join(total, " + "), maxUnknown))
	}
	list := []string{s.rowid, "(" + strings.Join(over, " OR ") + ") IS TRUE"}
	for _, c := range surveyed() {
		list = append(list, s.guarded(c))
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + s.table
}

// guarded reads a column as NULL if it is over its limit.
func (s *schema) guarded(c column) string {
	if s.column[c] == "" {
		return "NULL"
	}
	name := quote(s.column[c])
	return fmt.Sprintf("CASE WHEN octet_length(%s) <= %d THEN %s END", name, c.limit(), name)
}

// rowQuery reads all columns of a row, the known ones first. The plus keeps the
// driver from converting what a column says it holds: it may hold anything.
func (s *schema) rowQuery() string {
	var list []string
	for c := range column(columns) {
		if s.column[c] == "" {
			list = append(list, "NULL")
		} else {
			list = append(list, "+"+quote(s.column[c]))
		}
	}
	for _, name := range s.others {
		list = append(list, "+"+quote(name))
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + s.table + " WHERE " + s.rowid + " = ?"
}

// sizeQuery reads the sizes of the columns of a row that are over their limits,
// as text for people.
func (s *schema) sizeQuery() string {
	var list []string
	for c := range column(columns) {
		if s.column[c] != "" {
			list = append(list, fmt.Sprintf("CASE WHEN octet_length(%s) > %d THEN octet_length(%[1]s) END", quote(s.column[c]), c.limit()))
		} else {
			list = append(list, "NULL")
		}
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + s.table + " WHERE " + s.rowid + " = ?"
}
