package lattice

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/sourcetest"
	"github.com/heftstore/heft/registry"
)

func newRegistry(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.Create(t.Context(), filepath.Join(t.TempDir(), "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func everything(t *testing.T, r *registry.Registry) iter.Seq2[*registry.Model, error] {
	return r.Find(t.Context(), registry.Query{})
}

// rows returns what is in the table models, by name and version. Metadata and
// times are as they have to come back: one in canonical form, the others in
// microseconds.
func rows(t *testing.T, path string) map[string][]any {
	t.Helper()
	db := openSQL(t, path)
	var list []string
	metadata := "metadata"
	if r, err := db.Query("SELECT metadata FROM models LIMIT 0"); err != nil {
		metadata = "metadata_json"
	} else {
		_ = r.Close()
	}
	for c := range column(columns) {
		name := c.String()
		if c == colMetadata {
			name = metadata
		}
		list = append(list, "+"+name)
	}
	all := map[string][]any{}
	rows, err := db.Query("SELECT " + strings.Join(list, ", ") + " FROM models")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values := make([]any, columns)
		into := make([]any, columns)
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for _, c := range []column{colRegisteredAt, colUpdatedAt} {
			if values[c], err = parseTime(values[c]); err != nil {
				t.Fatal(err)
			}
		}
		if s, ok := values[colMetadata].(string); ok {
			if compact, err := canon.Compact([]byte(s)); err == nil {
				values[colMetadata] = string(compact)
			}
		}
		all[fmt.Sprint(values[colName], ":", values[colVersion])] = values
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// files returns the content of all files below a folder but the database.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == databaseFile {
			return err
		}
		raw, err := os.ReadFile(p)
		rel, relErr := filepath.Rel(dir, p)
		all[filepath.ToSlash(rel)] = string(raw)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// awkward are rows of which each has something that heft holds otherwise.
func awkward() []row {
	w := func(p string) any { return "weights/" + p }
	return []row{
		{"name": "m", "version": "1", "weights_path": w("m/1/weights.bin"), "weights_hash": sha("one"), "weights_size": int64(3), "registered_by": "ada", "description": "plain"},
		{"name": "m", "version": "2", "weights_path": w("m/2/weights.bin"), "parent_id": idOfTest(1), "status": "PRODUCTION"},
		{"name": "m", "version": "3", "weights_path": "m/3/other.pt", "weights_hash": "sha256:" + strings.ToUpper(sha("three")), "status": "production", "updated_at": int64(1)},
		{"name": "m", "version": "4", "weights_size": nil, "parent_id": "gone"},
		{"name": "org/m", "version": "1", "id": "legacy-1", "weights_path": "elsewhere/w.bin", "status": "weird"},
		{"name": "org/m", "version": "2", "id": "B1B2C3D4-E5F6-4A5B-8C7D-0123456789AB", "parent_id": "legacy-1", "weights_path": "elsewhere/w.bin"},
		{"name": "org/m", "version": "3", "id": nil, "parent_id": "b1b2c3d4-e5f6-4a5b-8c7d-0123456789ab"},
		{"name": "a", "version": "1", "id": "self", "parent_id": "self"},
		{"name": "a", "version": "2", "metadata": `{"architecture":null,"tags":[]}`, "description": "", "registered_by": ""},
		{"name": "a", "version": "3", "metadata": `{"custom":{"x":[1.0,null]},"architecture":"mlp"}`},
		{"name": "a", "version": "4", "metadata": "no JSON", "description": "a\r\nb\x00"},
		{"name": "a", "version": "5", "metadata": "not UTF-8 \xff", "registered_by": "x\x1b"},
		{"name": "a", "version": "6", "metadata": []byte{0, 255}, "registered_at": int64(0), "updated_at": int64(0)},
		{"name": "a", "version": "7", "metadata": `{"validation_accuracy":0.123456789012345678901,"parameter_count":7}`},
		{"name": "a", "version": "8", "metadata": ""},
		{"name": "a", "version": "9", "metadata": "null", "weights_size": int64(5), "weights_hash": sha("gone")},
		{"name": "a", "version": "10", "metadata": `{"extra":null}`},
		{"name": "a", "version": "11", "metadata": `{"a":1,"a":2}`, "parent_id": ""},
		{"name": "a", "version": "12", "metadata": `{"architecture":"\ufffd","extra":"\ufffd\u0000"}`, "description": "\ufffd"},
		{"name": "usual", "version": "1"},
	}
}

func awkwardFiles(t *testing.T, dir string) {
	t.Helper()
	for p, content := range map[string]string{
		"weights/m/1/weights.bin": "one", "weights/m/2/weights.bin": "two", "weights/m/3/other.pt": "three",
		"elsewhere/w.bin": "shared", "weights/usual/1/weights.bin": "usual",
	} {
		write(t, filepath.Join(dir, p), content)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, schema := range map[string]string{"current": schemaCurrent, "old": schemaOld} {
		t.Run(name, func(t *testing.T) {
			all := awkward()
			if name == "old" {
				for i, r := range all {
					if m, ok := r["metadata"]; ok {
						r["metadata_json"] = m
						delete(r, "metadata")
					}
					if i%2 == 0 && r["registered_at"] == nil {
						r["registered_at"] = "2024-01-02T03:04:05.123456+05:30"
					}
				}
			}
			path := newDatabase(t, schema, all...)
			awkwardFiles(t, filepath.Dir(path))
			r := newRegistry(t)
			src := open(t, path, nil)
			for from, o := range importAll(t, r, src) {
				if o.State != migrate.Imported {
					t.Errorf("%s: %s, %v", from, o.State, o.Why)
				}
			}
			for from, o := range importAll(t, r, src) {
				if o.State != migrate.Present {
					t.Errorf("again, %s: %s, %v", from, o.State, o.Why)
				}
			}
			dir := filepath.Join(t.TempDir(), "out", "lattice")
			report, err := Export(t.Context(), r, everything(t, r), dir, nil)
			if err != nil || len(report.Failed) > 0 || report.Versions != len(all) {
				t.Fatalf("%+v, %v", report, err)
			}
			if diff := cmp.Diff(rows(t, path), rows(t, filepath.Join(dir, databaseFile))); diff != "" {
				t.Errorf("rows (-source +exported):\n%s", diff)
			}
			if diff := cmp.Diff(files(t, filepath.Dir(path)), files(t, dir)); diff != "" {
				t.Errorf("files (-source +exported):\n%s", diff)
			}
			// What was exported is a lattice registry: it is there already.
			for from, o := range importAll(t, r, open(t, filepath.Join(dir, databaseFile), nil)) {
				if o.State != migrate.Present {
					t.Errorf("exported %s: %s, %v", from, o.State, o.Why)
				}
			}
		})
	}
}

func TestExportOfWhatChanged(t *testing.T) {
	path := newDatabase(t, schemaCurrent,
		row{"id": "one", "status": "PENDING", "metadata": `{"architecture":null}`}, row{"id": "two", "status": "VALIDATED"})
	r := newRegistry(t)
	importAll(t, r, open(t, path, nil))
	if _, err := r.SetStatus(t.Context(), "model-1:1", registry.Staged, registry.Note{}); err != nil {
		t.Fatal(err)
	}
	native, err := r.Register(t.Context(), registry.Model{Name: "new", Parent: derive("id", "one")}, strings.NewReader("new"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	heard := int64(0)
	report, err := Export(t.Context(), r, everything(t, r), dir, &ExportOptions{Progress: func(n int64) { heard += n }})
	if err != nil || report.Versions != 3 || report.Bytes != 3 || heard != 3 {
		t.Fatalf("%+v, %v, %d", report, err, heard)
	}
	got := rows(t, filepath.Join(dir, databaseFile))
	if v := got["model-1:1"]; v[colStatus] != "staged" || v[colMetadata] != `{"architecture":null}` || v[colUpdatedAt] == int64(1700000001000000) {
		t.Errorf("%v", v)
	}
	if v := got["model-2:1"]; v[colStatus] != "VALIDATED" || v[colUpdatedAt] != int64(1700000001000000) {
		t.Errorf("%v", v)
	}
	want := []any{native.ID.String(), "new", "1", "pending", "{}", native.RegisteredAt, native.UpdatedAt, native.RegisteredBy, nil,
		"weights/new/1/weights.bin", int64(3), sha("new"), "one"}
	if diff := cmp.Diff(want, got["new:1"]); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	db := openSQL(t, filepath.Join(dir, databaseFile))
	var indexes int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").Scan(&indexes); err != nil || indexes != 2 {
		t.Errorf("%d indexes, %v", indexes, err)
	}
}

func TestExportFailures(t *testing.T) {
	r := newRegistry(t)
	d, err := r.Begin(t.Context(), registry.Model{Name: "many", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, p := range []string{"a", "b"} {
		if _, err := d.Put(t.Context(), p, strings.NewReader(p)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, err := r.Begin(t.Context(), registry.Model{Name: "one", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if _, err := one.Put(t.Context(), "model.gguf", strings.NewReader("g")); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "x")
	report, err := Export(t.Context(), r, everything(t, r), dir, nil)
	if err != nil || report.Versions != 1 || len(report.Failed) != 1 || report.Failed[0].Ref != "many:1" || !strings.Contains(report.Failed[0].Err.Error(), "several files") {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := files(t, dir); len(got) != 1 || got["weights/one/1/weights.bin"] != "g" {
		t.Errorf("%v", got)
	}
	if _, err := Export(t.Context(), r, everything(t, r), dir, nil); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a folder that is not empty: %v", err)
	}

	wanted := errors.New("no more")
	broken := func(yield func(*registry.Model, error) bool) {
		for m, err := range everything(t, r) {
			if !yield(m, err) {
				return
			}
		}
		yield(nil, wanted)
	}
	for _, made := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "y")
		if !made {
			mkdir(t, dir)
		}
		if _, err := Export(t.Context(), r, broken, dir, nil); !errors.Is(err, wanted) {
			t.Errorf("%v", err)
		}
		entries, err := os.ReadDir(dir)
		if made != errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
}

// TestExportPlaces has details, as a hostile registry may have, that would put
// weights where they don't belong.
func TestExportPlaces(t *testing.T) {
	for _, at := range []string{"../out.bin", "/out.bin", "models.db", "Models.DB-wal/x", ".heft-export/x", "a/../../x", "weights", "weights/m", "weights/m/1/weights.bin/x"} {
		r := newRegistry(t)
		details, err := canon.Marshal(details{Kept: map[string]kept{"weights_path": {Was: encode(at), As: mark("m\x001")}}, WeightsFile: at})
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"a", "m"} { // a takes "weights" as a folder before m is written
			m := registry.Model{Name: name, Version: "1"}
			if i == 1 {
				m.Origin = &registry.Origin{Source: kind, Details: details}
			}
			if _, err := r.Register(t.Context(), m, strings.NewReader(name)); err != nil {
				t.Fatal(err)
			}
		}
		above := t.TempDir()
		report, err := Export(t.Context(), r, r.Find(t.Context(), registry.Query{Sort: []registry.Sort{{Field: "name"}}}), filepath.Join(above, "out"), nil)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		for _, line := range sourcetest.Listing(t, above) {
			p, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, above), string(filepath.Separator)), " ")
			if p != "" && p != "out" && !strings.HasPrefix(p, filepath.Join("out", "models.db")) && !strings.HasPrefix(p, filepath.Join("out", "weights")) {
				t.Errorf("%s: made %s", at, p)
			}
		}
		var place sql.NullString
		db := openSQL(t, filepath.Join(above, "out", databaseFile))
		if err := db.QueryRow("SELECT weights_path FROM models WHERE name = 'm'").Scan(&place); err != nil {
			t.Errorf("%s: %v, %+v", at, err, report)
		}
	}
}

func TestWrongHashFails(t *testing.T) {
	path := newDatabase(t, schemaCurrent, row{"weights_path": "w.bin", "weights_hash": sha("other")}, row{"weights_path": "w.bin", "weights_hash": sha("weights")})
	write(t, filepath.Join(filepath.Dir(path), "w.bin"), "weights")
	got := importAll(t, newRegistry(t), open(t, path, nil))
	if got["row 1"].State != migrate.Failed || got["row 2"].State != migrate.Imported {
		t.Errorf("%+v", got)
	}
}

func TestFolderImport(t *testing.T) {
	root := folder(t, map[string]string{"org/team/m/1.0/weights.bin": "one", "org/team/m/1.0/metadata.json": metadataJSON, "m/2/weights.bin": "two"})
	r := newRegistry(t)
	for from, o := range importAll(t, r, open(t, root, nil)) {
		if o.State != migrate.Imported {
			t.Errorf("%s: %v", from, o.Why)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	if report, err := Export(t.Context(), r, everything(t, r), dir, nil); err != nil || report.Versions != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	got := files(t, dir)
	if got["weights/org/team/m/1.0/weights.bin"] != "one" || got["weights/m/2/weights.bin"] != "two" {
		t.Errorf("%v", got)
	}
	if v := rows(t, filepath.Join(dir, databaseFile))["org/team/m:1.0"]; v[colRegisteredAt] != int64(1704164645123456) || v[colStatus] != "production" {
		t.Errorf("%v", v)
	}
}

// TestRoundTripDroppedParent has parents that can't be imported: their children
// come back as they were.
func TestRoundTripDroppedParent(t *testing.T) {
	all := []row{
		{"name": "m", "version": "1", "weights_hash": sha("other")},
		{"name": "m", "version": "2", "id": "legacy", "weights_hash": sha("other")},
		{"name": "m", "version": "3", "parent_id": idOfTest(1)},
		{"name": "m", "version": "4", "parent_id": "legacy"},
	}
	path := newDatabase(t, schemaCurrent, all...)
	for _, version := range []string{"1", "2", "3", "4"} {
		write(t, filepath.Join(filepath.Dir(path), "weights", "m", version, "weights.bin"), "w"+version)
	}
	r := newRegistry(t)
	states := map[migrate.State]int{}
	for _, o := range importWith(t, r, open(t, path, nil), &migrate.Options{DropParents: true}) {
		states[o.State]++
	}
	if states[migrate.Failed] != 2 || states[migrate.Imported] != 2 {
		t.Fatalf("%v", states)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := Export(t.Context(), r, everything(t, r), dir, nil); err != nil {
		t.Fatal(err)
	}
	want := rows(t, path)
	delete(want, "m:1")
	delete(want, "m:2")
	if diff := cmp.Diff(want, rows(t, filepath.Join(dir, databaseFile))); diff != "" {
		t.Error(diff)
	}
}
