package lattice

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// currentSchema is that of the last lattice.
const currentSchema = `
CREATE TABLE models (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	version TEXT NOT NULL,
	status TEXT NOT NULL,
	metadata TEXT NOT NULL,
	registered_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	registered_by TEXT,
	description TEXT,
	weights_path TEXT,
	weights_size INTEGER,
	weights_hash TEXT,
	parent_id TEXT,
	UNIQUE(name, version)
);
CREATE INDEX idx_models_name ON models(name);
CREATE INDEX idx_models_status ON models(status);
`

// table is the table models while it is written.
type table struct {
	tx      *sql.Tx
	stmt    *sql.Stmt      // inserts a row
	others  []string       // the columns that the layout does not know
	numbers map[string]int // of the others, by their names in lower case; -1 is for the layout's own
}

func newTable(ctx context.Context, tx *sql.Tx) (*table, error) {
	if _, err := tx.ExecContext(ctx, currentSchema); err != nil {
		return nil, err
	}
	t := &table{tx: tx, numbers: map[string]int{}}
	for c := range column(columns) {
		t.numbers[c.String()] = -1
	}
	return t, t.prepare(ctx)
}

func (t *table) close() error {
	if t.stmt == nil { // it could not be prepared for one more column
		return nil
	}
	return t.stmt.Close()
}

// prepare makes the statement one for the columns that there are.
func (t *table) prepare(ctx context.Context) (err error) {
	var names []string
	for c := range column(columns) {
		names = append(names, c.String())
	}
	for _, other := range t.others {
		names = append(names, quote(other))
	}
	marks := strings.Repeat(", ?", len(names))[2:]
	t.stmt, err = t.tx.PrepareContext(ctx, "INSERT INTO models ("+strings.Join(names, ", ")+") VALUES ("+marks+")")
	return err
}

// has reports whether there is a row with that id, or that name and version.
func (t *table) has(ctx context.Context, name, version string, id any) (bool, error) {
	var rows int
	err := t.tx.QueryRowContext(ctx, "SELECT count(*) FROM models WHERE name = ? AND version = ? OR id = ?", name, version, id).Scan(&rows)
	return rows > 0, err
}

// insert adds a row: the values of the known columns and, by column, those of
// others, of which it returns the columns that the table can't have.
func (t *table) insert(ctx context.Context, row []any, others map[string]json.RawMessage) (left []string, err error) {
	row = append(row[:len(row):len(row)], make([]any, maxUnknownColumns)...)
	set := map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		n, err := t.number(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case n < 0 || set[n]:
			if !isColumn(name) { // those of a metadata.json, that its folder overruled
				left = append(left, name)
			}
		default:
			set[n] = true
			row[columns+n] = columnValue(others[name])
		}
	}
	_, err = t.stmt.ExecContext(ctx, row[:columns+len(t.others)]...)
	return left, err
}

// number returns which of the others a column is, adding it if there is none yet,
// and -1 if the table can't have it.
func (t *table) number(ctx context.Context, name string) (int, error) {
	lower := lowerASCII(name)
	if n, ok := t.numbers[lower]; ok {
		return n, nil
	}
	if len(t.others) == maxUnknownColumns || len(name) > maxShort || name == "" || strings.ContainsRune(name, 0) || slices.Contains(rowidAliases(), lower) {
		return -1, nil // SQLite adds none called like a row's number
	}
	if _, err := t.tx.ExecContext(ctx, "ALTER TABLE models ADD COLUMN "+quote(name)); err != nil {
		return -1, err
	}
	t.numbers[lower] = len(t.others)
	t.others = append(t.others, name)
	if err := t.stmt.Close(); err != nil {
		return -1, err
	}
	return t.numbers[lower], t.prepare(ctx)
}

// isColumn reports whether a name is that of a column of the layout.
func isColumn(name string) bool {
	for c := range column(columns) {
		if c.String() == name {
			return true
		}
	}
	return false
}

// columnValue returns the value of a column that the layout does not know. What
// only a metadata.json can hold, such as an array, is the text of it.
func columnValue(raw json.RawMessage) any {
	if v, err := decode(raw); err == nil {
		return v
	}
	return cell(raw)
}
