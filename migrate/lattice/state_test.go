package lattice

import (
	"bufio"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// copyFiles copies files as they are at this moment.
func copyFiles(t *testing.T, from, to string, suffixes ...string) {
	t.Helper()
	mkdir(t, filepath.Dir(to))
	for _, s := range suffixes {
		raw, err := os.ReadFile(from + s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+s, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// crashed returns the path of a database as it would be if its writer had been
// killed after write.
func crashed(t *testing.T, pragmas []string, suffix string, write func(db *sql.DB)) string {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live.db")
	db := openSQL(t, live, pragmas...)
	exec(t, db, schemaCurrent)
	insert(t, db, "metadata", row{})
	write(db)
	path := filepath.Join(t.TempDir(), "registry", "models.db")
	copyFiles(t, live, path, "", suffix)
	return path
}

func names(t *testing.T, path string) []string {
	t.Helper()
	var all []string
	for _, it := range items(t, open(t, path, nil)) {
		if it.Err != nil {
			t.Error(it.Err)
		}
		all = append(all, it.Model.Name)
	}
	return all
}

func TestUnmergedLog(t *testing.T) {
	path := crashed(t, []string{"journal_mode(wal)", "wal_autocheckpoint(0)"}, walSuffix, func(db *sql.DB) {
		insert(t, db, "metadata", row{"id": "2", "name": "in-the-log"})
	})
	if got := names(t, path); !slices.Equal(got, []string{"model-1", "in-the-log"}) {
		t.Errorf("%q", got)
	}
	// A log counts even beside a header that knows of none.
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[atWriteVersion], raw[atReadVersion] = 1, 1
	other := filepath.Join(t.TempDir(), "registry", "models.db")
	copyFiles(t, path, other, walSuffix)
	write(t, other, string(raw))
	if got := names(t, other); !slices.Equal(got, []string{"model-1", "in-the-log"}) {
		t.Errorf("%q", got)
	}
}

// TestMergedLog has a log that was merged: the file alone counts.
func TestMergedLog(t *testing.T) {
	live := filepath.Join(t.TempDir(), "registry", "models.db")
	mkdir(t, filepath.Dir(live))
	db := openSQL(t, live, "journal_mode(wal)")
	exec(t, db, schemaCurrent)
	insert(t, db, "metadata", row{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, live); !slices.Equal(got, []string{"model-1"}) {
		t.Errorf("%q", got)
	}
}

// hotJournal returns a database whose transaction changed ten of its pages and
// more, and was killed.
func hotJournal(t *testing.T) string {
	t.Helper()
	return crashed(t, []string{"cache_size(1)", "cache_spill(1)"}, journalSuffix, func(db *sql.DB) {
		var more []row
		for i := range 50 {
			more = append(more, row{"id": fmt.Sprint(i), "name": fmt.Sprint("whole-", i), "metadata": `"` + strings.Repeat("x", 2000) + `"`})
		}
		insert(t, db, "metadata", more...)
		exec(t, db, "BEGIN IMMEDIATE")
		exec(t, db, "UPDATE models SET description = 'half-done'") // more than the cache holds: the file is written to
	})
}

// halfDone counts the rows of a database that have what was not committed.
func halfDone(t *testing.T, path string) (n int) {
	t.Helper()
	src, err := Open(t.Context(), path, &Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, it := range items(t, src) {
		if it.Model.Description != "" {
			n++
		}
	}
	return n
}

func TestHotJournal(t *testing.T) {
	path := hotJournal(t)
	alone := filepath.Join(t.TempDir(), "models.db")
	copyFiles(t, path, alone, "")
	if halfDone(t, alone) == 0 {
		t.Fatal("the fixture has nothing to roll back")
	}
	if got := names(t, path); len(got) != 51 {
		t.Errorf("%q", got)
	}
	if n := halfDone(t, path); n > 0 {
		t.Errorf("%d rows have what was not committed", n)
	}
}

// TestSuperJournal has a journal that would make SQLite delete another file.
func TestSuperJournal(t *testing.T) {
	path := hotJournal(t)
	victim := filepath.Join(filepath.Dir(path), "victim")
	write(t, victim, "precious")
	tail := []byte(victim)
	sum := uint32(0)
	for _, c := range tail {
		sum += uint32(c)
	}
	record := binary.BigEndian.AppendUint32(nil, 0)
	record = append(record, tail...)
	record = binary.BigEndian.AppendUint32(record, uint32(len(tail)))
	record = binary.BigEndian.AppendUint32(record, sum)
	record = append(record, journalMagic...)
	f, err := os.OpenFile(path+journalSuffix, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "several databases")
}

// TestMain is also the other program that holds a lock.
func TestMain(m *testing.M) {
	if path := os.Getenv("LATTICE_LOCK"); path != "" {
		os.Exit(hold(path))
	}
	os.Exit(m.Run())
}

func hold(path string) int {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return 2
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(os.Getenv("LATTICE_BEGIN")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// lockElsewhere has another process begin a transaction that ends with the test.
func lockElsewhere(t *testing.T, path, begin string) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LATTICE_LOCK="+path, "LATTICE_BEGIN="+begin)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
}

func TestLocked(t *testing.T) {
	path := newDatabase(t, schemaCurrent, row{})
	lockElsewhere(t, path, "BEGIN EXCLUSIVE")
	err := openError(t, path)
	if le, ok := errors.AsType[*LockedError](err); !ok || le.Path == "" || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("%T", err)
	}
}

// TestReserved has a writer that has not come to write: what there is is read.
func TestReserved(t *testing.T) {
	path := newDatabase(t, schemaCurrent, row{})
	lockElsewhere(t, path, "BEGIN IMMEDIATE; UPDATE models SET name = 'soon'")
	if got := names(t, path); !slices.Equal(got, []string{"model-1"}) {
		t.Errorf("%q", got)
	}
}

func TestNoDatabase(t *testing.T) {
	whole := newDatabase(t, schemaCurrent, row{}, row{}, row{})
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content string
		want    string
	}{
		"empty":      {"", "is empty"},
		"truncated":  {string(raw[:len(raw)-100]), "is cut off"},
		"header":     {string(raw[:50]), "is cut off: it has 50 bytes"},
		"text":       {"hello there", `text that begins with "hello there"`},
		"json":       {`{"a":1}`, "JSON"},
		"sql":        {"PRAGMA foreign_keys=OFF;", "SQL text"},
		"lfs":        {"version https://git-lfs.github.com/spec/v1", "git lfs pull"},
		"zip":        {"PK\x03\x04...", "unpack it"},
		"zeros":      {strings.Repeat("\x00", 4096), "full of zeros"},
		"encrypted":  {"\x89\xff\x01\xfe random", "encrypted"},
		"old sqlite": {"** This file contains an SQLite 2.1 database **", "SQLite 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "registry", "models.db")
			write(t, path, tt.content)
			refused(t, path, path, tt.want)
			refused(t, filepath.Dir(path)+"/", tt.want) // by its folder
		})
	}
}

func TestDamaged(t *testing.T) {
	path := newDatabase(t, schemaLoose, row{}, row{}, row{})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"schema": 100, "page of the table": 4096, "cell pointers": 4096 + 8} {
		t.Run(name, func(t *testing.T) {
			bad := slices.Clone(raw)
			for i := range 8 {
				bad[at+i] = 0xEE
			}
			path := filepath.Join(t.TempDir(), "registry", "models.db")
			write(t, path, string(bad))
			refused(t, path, "is damaged", ".recover")
		})
	}
}

func TestNotATable(t *testing.T) {
	for name, tt := range map[string]struct{ schema, want string }{
		"view": {`CREATE TABLE t (id, name, version, metadata);
			CREATE VIEW models AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i AS id, i AS name, i AS version, i AS metadata FROM n`, "DROP VIEW models"},
		"virtual table":   {`CREATE VIRTUAL TABLE models USING fts5(id, name, version, metadata)`, "virtual table"},
		"without rowid":   {`CREATE TABLE models (id TEXT PRIMARY KEY, name, version, metadata) WITHOUT ROWID`, "WITHOUT ROWID"},
		"all row numbers": {`CREATE TABLE models (id, name, version, metadata, rowid, _rowid_, OID)`, "rename one of them"},
		"generated":       {`CREATE TABLE models (id, name, version AS (name || '1'), metadata)`, "is generated"},
		"no name":         {`CREATE TABLE models (id, version, metadata)`, "has no column name"},
		"no metadata":     {`CREATE TABLE models (id, name, version)`, "has no column metadata"},
		"other tables":    {`CREATE TABLE users (id); CREATE TABLE "odd""one" (id)`, `no table models, only "odd\"one", "users"`},
		"no table":        {`CREATE TABLE x (id); DROP TABLE x`, "no table at all"},
		"many columns":    {"CREATE TABLE models (id, name, version, metadata, c" + strings.Join(strings.Fields(seq(100)), ", c") + ")", "over the limit of 64"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, newDatabase(t, tt.schema), tt.want)
		})
	}
}

// seq returns the numbers from 0, with spaces between.
func seq(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()
}

func TestOpenChooses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "registry")
	mkdir(t, dir)
	refused(t, filepath.Join(dir, "x"), "no such file")
	refused(t, dir+"/", "is no lattice registry")
	db := newDatabase(t, schemaCurrent, row{})
	copyFiles(t, db, filepath.Join(dir, "registry.bin"), "")
	t.Run("any name", func(t *testing.T) {
		if src, ok := open(t, dir+"/", nil).(*Database); !ok || src.Kind() != "lattice" {
			t.Errorf("%T", src)
		}
	})
	copyFiles(t, db, filepath.Join(dir, "second.db"), "")
	refused(t, dir+"/", "2 SQLite databases", `"registry.bin", "second.db"`)

	tree := filepath.Join(t.TempDir(), "registry")
	write(t, filepath.Join(tree, "m", "1", "weights.bin"), "x")
	write(t, filepath.Join(tree, "empty.db"), "")
	refused(t, tree+"/", "is empty", "move it out of the folder")
	if runtime.GOOS == "windows" {
		return
	}
	link := filepath.Join(t.TempDir(), "registry", "link.db")
	mkdir(t, filepath.Dir(link))
	if err := os.Symlink(db, link); err != nil {
		t.Fatal(err)
	}
	if got := names(t, link); len(got) != 1 {
		t.Errorf("through a link: %q", got)
	}
}

// TestPathsAreNoURIs has a database whose path means something in a URI.
func TestPathsAreNoURIs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such names")
	}
	db := newDatabase(t, schemaCurrent, row{})
	path := filepath.Join(t.TempDir(), "a b?mode=rwc#x%41", "models.db")
	copyFiles(t, db, path, "")
	if got := names(t, path); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
