package lattice

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/sourcetest"
	"github.com/heftstore/heft/registry"
)

// The schemas that there were.
const (
	schemaCurrent = currentSchema
	schemaOld     = `CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, status TEXT NOT NULL,
		metadata_json TEXT NOT NULL, registered_at TEXT NOT NULL, updated_at TEXT NOT NULL, registered_by TEXT, description TEXT,
		weights_path TEXT, weights_size INTEGER, weights_hash TEXT, parent_id TEXT, UNIQUE(name, version));`
	schemaLoose = `CREATE TABLE models (id, name, version, status, metadata, registered_at, updated_at,
		registered_by, description, weights_path, weights_size, weights_hash, parent_id);`
	schemaDatetime = `CREATE TABLE Models ("ID" TEXT, Name TEXT, version TEXT, status TEXT, metadata_json TEXT, registered_at DATETIME,
		updated_at TIMESTAMP, registered_by TEXT, description TEXT, weights_path TEXT, weights_size BOOLEAN, weights_hash TEXT, parent_id TEXT);`
)

// row is what a test sets of a row; the rest is plain.
type row map[string]any

// idOfTest returns a canonical UUID.
func idOfTest(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// insert adds rows to the table models.
func insert(t testing.TB, db *sql.DB, metadata string, rows ...row) {
	t.Helper()
	for i, r := range rows {
		full := row{"id": idOfTest(i + 1), "name": fmt.Sprintf("model-%d", i+1), "version": "1", "status": "pending",
			metadata: "{}", "registered_at": int64(1700000000000000), "updated_at": int64(1700000001000000)}
		maps.Copy(full, r)
		var columns, marks []string
		var values []any
		for k, v := range full {
			columns, marks, values = append(columns, quote(k)), append(marks, "?"), append(values, v)
		}
		_, err := db.Exec("INSERT INTO models ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", values...)
		if err != nil {
			t.Fatalf("row %d: %v", i+1, err)
		}
	}
}

// openSQL opens a database for a test to write.
func openSQL(t testing.TB, path string, pragmas ...string) *sql.DB {
	t.Helper()
	var dsn strings.Builder
	dsn.WriteString("file:" + path + "?_pragma=busy_timeout(1000)")
	for _, p := range pragmas {
		dsn.WriteString("&_pragma=" + p)
	}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// newDatabase makes models.db in a new folder, below another one.
func newDatabase(t testing.TB, schema string, rows ...row) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "registry")
	mkdir(t, dir)
	path := filepath.Join(dir, "models.db")
	db := openSQL(t, path)
	exec(t, db, schema)
	metadata := "metadata"
	if strings.Contains(schema, "metadata_json") {
		metadata = "metadata_json"
	}
	insert(t, db, metadata, rows...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// write makes a file and the folders above it.
func write(t testing.TB, path, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// untouched returns a function that checks that nothing in the folder above that
// of path has changed.
func untouched(t testing.TB, path string) func() {
	t.Helper()
	return sourcetest.Untouched(t, filepath.Dir(filepath.Dir(path)))
}

// open opens a source that is left as it is until the test ends.
func open(t testing.TB, path string, o *Options) migrate.Source {
	t.Helper()
	t.Cleanup(untouched(t, path))
	if o == nil {
		o = new(Options)
	}
	o.TempDir = t.TempDir()
	src, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		if left := sourcetest.Listing(t, o.TempDir); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	})
	return src
}

// refused checks that a source can't be opened, for a reason that has all the
// texts, and is left as it is.
func refused(t testing.TB, path string, texts ...string) {
	t.Helper()
	err := openError(t, path)
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error lacks %q: %v", text, err)
		}
	}
}

// openError returns the error of opening a source that is left as it is.
func openError(t testing.TB, path string) error {
	t.Helper()
	defer untouched(t, path)()
	tmp := t.TempDir()
	src, err := Open(t.Context(), path, &Options{TempDir: tmp})
	if err == nil {
		t.Fatalf("opened as %T", src)
	}
	if left := sourcetest.Listing(t, tmp); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	return err
}

// items reads all of a source.
func items(t testing.TB, src migrate.Source) []*migrate.Item {
	t.Helper()
	var all []*migrate.Item
	for it, err := range src.Items(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, it)
	}
	return all
}

// importAll imports a source and returns the outcomes by where they were.
func importAll(t *testing.T, r *registry.Registry, src migrate.Source) map[string]migrate.Outcome {
	t.Helper()
	return importWith(t, r, src, nil)
}

func importWith(t *testing.T, r *registry.Registry, src migrate.Source, o *migrate.Options) map[string]migrate.Outcome {
	t.Helper()
	all := map[string]migrate.Outcome{}
	for o, err := range migrate.Apply(t.Context(), r, src, o) {
		if err != nil {
			t.Fatal(err)
		}
		all[o.From] = o
	}
	return all
}

// noted reports whether one of the notes has the text.
func noted(it *migrate.Item, text string) bool {
	return strings.Contains(strings.Join(it.Notes, "\n"), text)
}

// failed reports whether the error has the text.
func failed(it *migrate.Item, text string) bool {
	return it.Err != nil && strings.Contains(it.Err.Error(), text)
}

func sha(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
