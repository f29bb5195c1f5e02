package lattice

import (
	"database/sql"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// columnValues returns what a column holds and how SQLite has it, by name.
func columnValues(t *testing.T, path, column string) map[string]string {
	t.Helper()
	db := openSQL(t, path)
	rows, err := db.Query(fmt.Sprintf("SELECT name, typeof(%[1]s) || ' ' || quote(%[1]s), hex(%[1]s) FROM models", quote(column)))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var name, is, digits string
		if err := rows.Scan(&name, &is, &digits); err != nil {
			t.Fatal(err)
		}
		all[name] = is + " " + digits
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func tableColumns(t *testing.T, db *sql.DB) (names []string) {
	t.Helper()
	rows, err := db.Query("SELECT name FROM pragma_table_info('models')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRoundTripColumns has columns that lattice does not know, with values of
// every kind.
func TestRoundTripColumns(t *testing.T) {
	const hostile = `x"); DROP TABLE models; --`
	names := []string{"stars", hostile, "metadata_json", "Ünïcode 'q' [b] `t`", "select"}
	var quoted []string
	for _, n := range names {
		quoted = append(quoted, quote(n))
	}
	schema := strings.Replace(schemaLoose, "parent_id", "parent_id, "+strings.Join(quoted, ", "), 1)
	var all []row
	for i, v := range []any{nil, int64(5), int64(math.MinInt64), 0.1, 2.0, 1e300, math.Inf(-1), "", "text", "5", "not UTF-8 \xff", "a\x00b", `{"base64":"eA=="}`, []byte{}, []byte{0, 255}} {
		r := row{"name": fmt.Sprint("m", i), "id": idOfTest(i + 1), "metadata": "{}"}
		for j, n := range names {
			if (i+j)%2 == 0 || n == "stars" {
				r[n] = v
			}
		}
		switch i {
		case 1:
			r["registered_by"] = ""
		case 2:
			r["registered_by"] = nil
		case 3:
			r["registered_by"] = "ada"
		}
		all = append(all, r)
	}
	path := newDatabase(t, schema, all...)
	r := newRegistry(t)
	for from, o := range importAll(t, r, open(t, path, nil)) {
		if o.State != migrate.Imported {
			t.Errorf("%s: %s, %v", from, o.State, o.Why)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	report, err := Export(t.Context(), r, everything(t, r), out, nil)
	if err != nil || report.Versions != len(all) || len(report.Failed)+len(report.Reduced) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	exported := filepath.Join(out, databaseFile)
	for _, n := range append(names, "registered_by") {
		want := columnValues(t, path, n)
		if len(want) != len(all) {
			t.Fatalf("%d rows of the source", len(want))
		}
		if diff := cmp.Diff(want, columnValues(t, exported, n)); diff != "" {
			t.Errorf("%s (-source +exported):\n%s", n, diff)
		}
	}
	if diff := cmp.Diff(rows(t, path), rows(t, exported)); diff != "" {
		t.Errorf("rows (-source +exported):\n%s", diff)
	}
	for from, o := range importAll(t, r, open(t, exported, nil)) {
		if o.State != migrate.Present {
			t.Errorf("exported %s: %s, %v", from, o.State, o.Why)
		}
	}
}

// register adds a version as if it came from a row with such columns.
func register(t *testing.T, r *registry.Registry, name string, columns map[string]any) {
	t.Helper()
	raw, err := canon.Marshal(map[string]any{"columns": columns})
	if err != nil {
		t.Fatal(err)
	}
	m := registry.Model{Name: name, Version: "1", Origin: &registry.Origin{Source: kind, Details: raw}}
	if _, err := r.Register(t.Context(), m, strings.NewReader(name)); err != nil {
		t.Fatal(err)
	}
}

// TestExportColumns has columns that no table can have, or not all together.
func TestExportColumns(t *testing.T) {
	r := newRegistry(t)
	register(t, r, "a", map[string]any{"Stars": 1, "stars": 2, "NAME": "x", "name": "overruled", "weights_path": nil,
		"": 1, "n\x00l": 1, strings.Repeat("x", maxShort+1): 1, strings.Repeat(`"`, maxShort): "quotes", "list": []any{1, true}, "yes": true, "base": map[string]any{"base64": "!"}})
	register(t, r, "b", map[string]any{"STARS": "three", "rowid": 1, "OID": 2, "_RowID_": 3})
	many := map[string]any{}
	for i := range maxUnknownColumns {
		many[fmt.Sprintf("c%02d", i)] = i
	}
	register(t, r, "c", many)
	register(t, r, "d", map[string]any{"c00": "d", "c63": "d", "stars": 0.5})
	out := filepath.Join(t.TempDir(), "out")
	byName := r.Find(t.Context(), registry.Query{Sort: []registry.Sort{{Field: "name"}}})
	report, err := Export(t.Context(), r, byName, out, nil)
	if err != nil || report.Versions != 4 || len(report.Failed) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	var reduced []string
	for _, f := range report.Reduced {
		reduced = append(reduced, f.Ref)
	}
	if diff := cmp.Diff([]string{"a:1", "b:1", "c:1", "d:1"}, reduced); diff != "" {
		t.Fatalf("reduced (-want +got):\n%s", diff)
	}
	for i, want := range []string{`: "", "NAME", "n\x00l", "stars", "xxx`, `left out: "OID", "_RowID_", "rowid"`, `left out: "c59", `, `left out: "c63"`} {
		if got := report.Reduced[i].Err.Error(); !strings.Contains(got, want) {
			t.Errorf("%s lacks %s: %s", report.Reduced[i].Ref, want, got)
		}
	}
	exported := filepath.Join(out, databaseFile)
	if diff := cmp.Diff(map[string]string{"a": "integer 1 31", "b": "text 'three' 7468726565", "c": "null NULL ", "d": "real 0.5 302E35"}, columnValues(t, exported, "stars")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for column, want := range map[string]string{"list": "text '[1,true]'", "yes": "text 'true'", "base": `text '{"base64":"!"}'`, strings.Repeat(`"`, maxShort): "text 'quotes'"} {
		if got := columnValues(t, exported, column)["a"]; !strings.HasPrefix(got, want+" ") {
			t.Errorf("%.10s is %s, want %s", column, got, want)
		}
	}
	if got := len(tableColumns(t, openSQL(t, exported))); got != columns+maxUnknownColumns {
		t.Errorf("%d columns", got)
	}
	// It can be imported as it is.
	for _, it := range items(t, open(t, exported, nil)) {
		if it.Err != nil {
			t.Errorf("%s: %v", it.From, it.Err)
		}
	}
}
