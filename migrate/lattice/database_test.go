package lattice

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

func TestSchemas(t *testing.T) {
	const at = int64(1700000000000000)
	for name, schema := range map[string]string{"current": schemaCurrent, "old": schemaOld, "loose": schemaLoose, "datetime": schemaDatetime} {
		t.Run(name, func(t *testing.T) {
			metadata := "metadata"
			if strings.Contains(schema, "metadata_json") {
				metadata = "metadata_json"
			}
			path := newDatabase(t, schema,
				row{"registered_at": at, "updated_at": fmt.Sprint(at + 1), metadata: `{"architecture":"mlp"}`, "registered_by": "ada", "description": "first"},
				row{"registered_at": "2023-11-14T22:13:20Z", "updated_at": "2023-11-15 03:43:20.000001+05:30", "status": "PRODUCTION", "parent_id": idOfTest(1)},
			)
			all := items(t, open(t, path, nil))
			if len(all) != 2 {
				t.Fatalf("%d items", len(all))
			}
			first, second := all[0].Model, all[1].Model
			if all[0].Err != nil || all[1].Err != nil {
				t.Fatal(all[0].Err, all[1].Err)
			}
			for i, m := range []registry.Model{first, second} {
				if m.RegisteredAt != at || m.UpdatedAt != at+1 {
					t.Errorf("row %d: %d, %d", i+1, m.RegisteredAt, m.UpdatedAt)
				}
			}
			if first.ID.String() != idOfTest(1) || first.Name != "model-1" || first.Version != "1" || first.Status != registry.Pending ||
				first.Metadata.Architecture != "mlp" || first.RegisteredBy != "ada" || first.Description != "first" || first.Origin.Source != "lattice" {
				t.Errorf("first: %+v", first)
			}
			if second.Status != registry.Production || second.Parent != first.ID {
				t.Errorf("second: %+v", second)
			}
			if all[0].From != "row 1" {
				t.Errorf("from %q", all[0].From)
			}
		})
	}
}

func TestRows(t *testing.T) {
	for name, tt := range map[string]struct {
		row  row
		fail string
		note string
		is   func(m registry.Model) bool
	}{
		"bad name":                {row: row{"name": "../x"}, fail: `".." component`, is: func(m registry.Model) bool { return m.Name == "../x" }},
		"absolute name":           {row: row{"name": "/x"}, fail: "begins with '/'"},
		"reserved name":           {row: row{"name": "con"}, fail: "reserved"},
		"nul in name":             {row: row{"name": "a\x00b"}, fail: "NUL"},
		"long name":               {row: row{"name": strings.Repeat("x", 300)}, fail: "longer than"},
		"very long name":          {row: row{"name": strings.Repeat("x", 5000)}, fail: "its name has 5000 bytes"},
		"blob name":               {row: row{"name": []byte("x")}, fail: "a blob of 1 bytes"},
		"null name":               {row: row{"name": nil}, fail: "the name is NULL"},
		"empty version":           {row: row{"version": ""}, fail: "is empty"},
		"integer version":         {row: row{"version": int64(7)}, is: func(m registry.Model) bool { return m.Version == "7" }},
		"status in capitals":      {row: row{"status": " Staged "}, is: func(m registry.Model) bool { return m.Status == registry.Staged }},
		"unknown status":          {row: row{"status": "in_production"}, note: `"in_production" is unknown`, is: func(m registry.Model) bool { return m.Status == registry.Pending }},
		"null status":             {row: row{"status": nil}, note: "NULL is unknown"},
		"real time":               {row: row{"registered_at": 2460000.5}, fail: "registered_at is 2.4600005e+06"},
		"null time":               {row: row{"registered_at": nil}, fail: "registered_at is NULL"},
		"text that is no time":    {row: row{"updated_at": "yesterday"}, fail: `updated_at is "yesterday"`},
		"negative time":           {row: row{"registered_at": int64(-5)}, fail: "registered_at is -5: it is before 1970"},
		"time of overflow":        {row: row{"registered_at": "99999999999999999999"}, fail: "out of range"},
		"zero time":               {row: row{"registered_at": int64(0)}, note: "very beginning of 1970", is: func(m registry.Model) bool { return m.RegisteredAt == 1 }},
		"no updated_at":           {row: row{"updated_at": nil}, note: "no updated_at", is: func(m registry.Model) bool { return m.UpdatedAt == m.RegisteredAt }},
		"legacy id":               {row: row{"id": "model-1"}, note: `"model-1" becomes`, is: func(m registry.Model) bool { return m.Origin.LegacyID == "model-1" && m.ID == derive("id", "model-1") }},
		"no id":                   {row: row{"id": nil}, note: "it has no id", is: func(m registry.Model) bool { return m.ID == nameless("model-1", "1") }},
		"own parent":              {row: row{"parent_id": idOfTest(1)}, note: "its own ancestor", is: func(m registry.Model) bool { return m.Parent == uuid.Nil }},
		"no such parent":          {row: row{"parent_id": "gone"}, note: `parent "gone" does not exist`, is: func(m registry.Model) bool { return m.Parent == uuid.Nil }},
		"metadata that is none":   {row: row{"metadata": "weights of tuesday"}, note: "all of it is kept", is: func(m registry.Model) bool { return string(m.Metadata.Extra) == `"weights of tuesday"` }},
		"large metadata":          {row: row{"metadata": `"` + strings.Repeat("x", maxMetadata) + `"`}, fail: "over the limit of 1048576"},
		"description to tidy":     {row: row{"description": "a\r\nb\x00"}, note: "tidied", is: func(m registry.Model) bool { return m.Description == "a\nb\ufffd" }},
		"long description":        {row: row{"description": strings.Repeat("x", maxDescription+1)}, note: "tidied", is: func(m registry.Model) bool { return len(m.Description) == maxDescription }},
		"very long description":   {row: row{"description": strings.Repeat("x", maxText+1)}, fail: "its description has 98305 bytes"},
		"long registered_by":      {row: row{"registered_by": strings.Repeat("x", 300)}, note: "tidied", is: func(m registry.Model) bool { return len(m.RegisteredBy) == 256 }},
		"hash of zeros":           {row: row{"weights_path": "w.bin", "weights_hash": strings.Repeat("0", 64)}, fail: "not the 64 hexadecimal digits"},
		"hash that is none":       {row: row{"weights_path": "w.bin", "weights_hash": "abc"}, fail: "not the 64 hexadecimal digits"},
		"wrong size":              {row: row{"weights_path": "w.bin", "weights_size": int64(5)}, fail: "weights_size is 5, but the file has 7 bytes"},
		"size that is none":       {row: row{"weights_path": "w.bin", "weights_size": "seven"}, fail: `weights_size is "seven"`},
		"missing weights":         {row: row{"weights_path": "weights/gone.bin"}, fail: "there is no such file"},
		"absolute weights":        {row: row{"weights_path": "/etc/passwd"}, fail: "it is absolute"},
		"windows weights":         {row: row{"weights_path": `C:\weights.bin`}, fail: "it is absolute"},
		"weights out of it":       {row: row{"weights_path": "../outside.bin"}, fail: `it has ".."`},
		"weights through a link":  {row: row{"weights_path": "link/outside.bin"}, fail: "is a link"},
		"weights that are a link": {row: row{"weights_path": "w-link.bin"}, fail: "is a link"},
		"weights with nul":        {row: row{"weights_path": "w\x00.bin"}, fail: "NUL"},
		"weights in a folder":     {row: row{"weights_path": "weights"}, fail: "a folder, not a file"},
		"metadata alone":          {row: row{}, is: func(m registry.Model) bool { return true }},
		"metadata that is left":   {row: row{"weights_hash": sha("x"), "weights_size": int64(1)}, note: "its weights are gone"},
		"usual place":             {row: row{"name": "usual"}, note: "found at the usual place"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newDatabase(t, schemaLoose, tt.row)
			dir := filepath.Dir(path)
			write(t, filepath.Join(dir, "w.bin"), "weights")
			write(t, filepath.Join(dir, "weights", "usual", "1", "weights.bin"), "usual")
			write(t, filepath.Join(filepath.Dir(dir), "outside.bin"), "outside")
			if runtime.GOOS != "windows" {
				for link, to := range map[string]string{"link": "..", "w-link.bin": "w.bin"} {
					if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
						t.Fatal(err)
					}
				}
			}
			it := items(t, open(t, path, nil))[0]
			if tt.fail == "" && it.Err != nil || !failed(it, tt.fail) && tt.fail != "" {
				t.Errorf("error %v, want %q", it.Err, tt.fail)
			}
			if tt.note != "" && !noted(it, tt.note) {
				t.Errorf("notes %q, want %q", it.Notes, tt.note)
			}
			if it.Model.ID == uuid.Nil {
				t.Error("no id")
			}
			if tt.is != nil && !tt.is(it.Model) {
				t.Errorf("%+v", it.Model)
			}
			if it.Err == nil {
				if err := it.Model.Check(); err != nil {
					t.Errorf("the registry refuses it: %v", err)
				}
			}
		})
	}
}

func content(t *testing.T, f migrate.File) string {
	t.Helper()
	r, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWeights(t *testing.T) {
	path := newDatabase(t, schemaCurrent,
		row{"weights_path": "weights/m/1/weights.bin", "weights_hash": "sha256:" + strings.ToUpper(sha("one")), "weights_size": int64(3)},
		row{"weights_path": "m/2/model.safetensors", "weights_hash": nil},
		row{"weights_path": `weights\m\3\w.bin`, "weights_hash": sha("other")},
	)
	dir := filepath.Dir(path)
	write(t, filepath.Join(dir, "weights/m/1/weights.bin"), "one")
	write(t, filepath.Join(dir, "weights/m/2/model.safetensors"), "two")
	write(t, filepath.Join(dir, "weights/m/3/w.bin"), "three")
	all := items(t, open(t, path, nil))
	if len(all) != 3 {
		t.Fatalf("%d items", len(all))
	}
	for i, want := range []string{"one", "two", "three"} {
		if all[i].Err != nil || len(all[i].Files) != 1 {
			t.Fatalf("row %d: %v, %v", i+1, all[i].Err, all[i].Files)
		}
		f := all[i].Files[0]
		if f.Path != registry.WeightsFile || f.Size != int64(len(want)) || content(t, f) != want {
			t.Errorf("row %d: %+v", i+1, f)
		}
	}
	if got := all[0].Files[0].Want.SHA256.String(); got != sha("one") {
		t.Errorf("hash %s", got)
	}
	if all[1].Files[0].Want != (migrate.Hashes{}) || !noted(all[1], "no weights_hash") || !strings.Contains(string(all[1].Model.Origin.Details), `"weights_hash":{"was":null}`) {
		t.Errorf("%q, %s", all[1].Notes, all[1].Model.Origin.Details)
	}
}

func TestOrphans(t *testing.T) {
	path := newDatabase(t, schemaCurrent, row{"weights_path": "weights/m/1/weights.bin"}, row{"weights_path": "weights/gone/1/weights.bin"},
		row{"weights_path": "weights/bad/1/weights.bin", "status": "x", "registered_at": "never"})
	dir := filepath.Dir(path)
	for _, p := range []string{"m/1/weights.bin", "bad/1/weights.bin", "org/team/m/2/weights.bin", "shallow.bin", "m/shallow.bin"} {
		write(t, filepath.Join(dir, "weights", p), p)
	}
	if runtime.GOOS != "windows" {
		if err := os.Symlink("m", filepath.Join(dir, "weights", "z-link")); err != nil {
			t.Fatal(err)
		}
	}
	skipped := items(t, open(t, path, nil))
	got := []string{}
	for _, it := range skipped[3:] {
		got = append(got, fmt.Sprintf("%s: %s%v %s %s", it.From, it.Skip, it.Err, it.Model.Name, it.Model.Version))
	}
	want := []string{
		"weights/m/shallow.bin: <nil> ",
		"weights/org/team/m/2/weights.bin: no row names it; --orphans imports it<nil> org/team/m 2",
		"weights/shallow.bin: <nil> ",
		"weights/z-link: it is a link, and links are not followed<nil> ",
	}
	for i := range got {
		if i >= len(want) || !strings.HasPrefix(got[i], want[i][:min(len(want[i]), 20)]) {
			t.Errorf("item %d: %s", i, got[i])
		}
	}
	if len(got) != len(want) || got[1] != want[1] {
		t.Fatalf("%q", got)
	}
	if !failed(skipped[3], "too near the top") || !failed(skipped[5], "too near the top") {
		t.Errorf("shallow files: %v, %v", skipped[3].Err, skipped[5].Err)
	}
	taken := items(t, open(t, path, &Options{Orphans: true}))[4]
	if taken.Err != nil || taken.Skip != "" || len(taken.Files) != 1 || content(t, taken.Files[0]) != "org/team/m/2/weights.bin" ||
		taken.Model.Name != "org/team/m" || taken.Model.Version != "2" || taken.Model.RegisteredAt <= 1 {
		t.Errorf("%+v", taken)
	}
}

func TestLineage(t *testing.T) {
	// Children before parents, ids in several spellings, a circle, a chain into it.
	upper := strings.ToUpper("ABCDEF00-0000-4000-8000-000000000001")
	path := newDatabase(t, schemaLoose,
		row{"id": "child", "parent_id": "mother"},
		row{"id": "mother", "parent_id": strings.ToLower(upper)},
		row{"id": upper},
		row{"id": "a", "parent_id": "c"},
		row{"id": "b", "parent_id": "a"},
		row{"id": "c", "parent_id": "b"},
		row{"id": "into", "parent_id": "b"},
		row{"id": "child", "name": "again"},
		row{"id": "{" + upper + "}", "name": "brace"},
	)
	all := items(t, open(t, path, nil))
	var order []string
	byFrom := map[string]*migrate.Item{}
	for _, it := range all {
		order = append(order, strings.TrimPrefix(it.From, "row "))
		byFrom[it.From] = it
	}
	if got := strings.Join(order, " "); got != "3 2 1 4 5 6 7 8 9" {
		t.Errorf("order %s", got)
	}
	seen := map[uuid.UUID]bool{uuid.Nil: true}
	for _, it := range all {
		if !seen[it.Model.Parent] {
			t.Errorf("%s comes before its parent", it.From)
		}
		seen[it.Model.ID] = true
	}
	if byFrom["row 1"].Model.Parent != byFrom["row 2"].Model.ID || byFrom["row 2"].Model.Parent != byFrom["row 3"].Model.ID {
		t.Error("parents are lost")
	}
	if !noted(byFrom["row 4"], "its own ancestor") || byFrom["row 4"].Model.Parent != uuid.Nil || byFrom["row 6"].Model.Parent != byFrom["row 5"].Model.ID {
		t.Errorf("the circle: %q", byFrom["row 4"].Notes)
	}
	for _, twice := range []string{"row 8", "row 9"} {
		if !failed(byFrom[twice], "that of another version before it") {
			t.Errorf("%s: %v", twice, byFrom[twice].Err)
		}
	}
}

func TestOneInProduction(t *testing.T) {
	path := newDatabase(t, schemaLoose,
		row{"name": "m", "version": "1", "status": "production", "updated_at": int64(30)},
		row{"name": "m", "version": "2", "status": "PRODUCTION", "updated_at": int64(40), "registered_at": int64(1)},
		row{"name": "m", "version": "3", "status": "production", "updated_at": "40", "registered_at": int64(2)},
		row{"name": "m", "version": "4", "status": "production", "updated_at": "never"},
		row{"name": "n", "version": "1", "status": "production", "updated_at": int64(1)},
		row{"name": "m", "version": "5", "status": "staged", "updated_at": int64(99)},
	)
	want := []registry.Status{registry.Staged, registry.Staged, registry.Production, registry.Production, registry.Production, registry.Staged}
	for i, it := range items(t, open(t, path, nil)) {
		if it.Model.Status != want[i] {
			t.Errorf("row %d is %s, want %s", i+1, it.Model.Status, want[i])
		}
		if noted(it, "is in production") != (i < 2) {
			t.Errorf("row %d: notes %q", i+1, it.Notes)
		}
	}
}

// TestElection has versions in production that can't be imported: they leave it
// to the latest that can.
func TestElection(t *testing.T) {
	large := strings.Repeat("x", maxText+1)
	path := newDatabase(t, schemaLoose,
		row{"name": "m", "version": "1", "status": "production", "updated_at": int64(1)},
		row{"name": "m", "version": "2", "status": "production", "updated_at": int64(2), "weights_path": "w.bin"},
		row{"name": "m", "version": "3", "status": "production", "updated_at": int64(3), "weights_path": "gone.bin"},
		row{"name": "m", "version": "4", "status": "production", "updated_at": int64(4), "description": large},
		row{"name": "m", "version": "5", "status": "production", "updated_at": int64(5), "id": idOfTest(1)},
		row{"name": "m", "version": "..", "status": "production", "updated_at": int64(6)},
		row{"name": "m", "version": "7", "status": "production", "updated_at": int64(7), "weights_path": "w.bin", "weights_size": int64(1)},
		row{"name": "none", "version": "1", "status": "production", "weights_path": "gone.bin"},
		row{"name": "none", "version": "2", "status": "production", "weights_path": "gone.bin"},
	)
	write(t, filepath.Join(filepath.Dir(path), "w.bin"), "weights")
	for i, it := range items(t, open(t, path, nil)) {
		staged := i == 0
		if (it.Model.Status == registry.Staged) != staged || noted(it, "is in production") != staged {
			t.Errorf("row %d is %s: %q", i+1, it.Model.Status, it.Notes)
		}
		if (it.Err == nil) != (i < 2) {
			t.Errorf("row %d: %v", i+1, it.Err)
		}
	}
}

func TestExtraAndMissingColumns(t *testing.T) {
	path := newDatabase(t, `CREATE TABLE models (rowid TEXT, id TEXT, name TEXT, version TEXT, metadata TEXT, registered_at INTEGER, updated_at INTEGER,
		stars INTEGER, "weird ""name" BLOB, note TEXT, status TEXT, metadata_json TEXT, twice TEXT GENERATED ALWAYS AS (note || note) VIRTUAL)`,
		row{"metadata_json": `{"old":1}`, "stars": int64(5), `weird "name`: []byte{1, 2}, "note": "x", "rowid": "r", "metadata": `{"architecture":"mlp"}`})
	it := items(t, open(t, path, nil))[0]
	if it.Err != nil {
		t.Fatal(it.Err)
	}
	if it.Model.Metadata.Architecture != "mlp" {
		t.Errorf("metadata %+v", it.Model.Metadata)
	}
	for _, want := range []string{`"stars":5`, `"weird \"name":{"base64":"AQI="}`, `"note":"x"`, `"metadata_json":"{\"old\":1}"`, `"rowid":"r"`} {
		if !strings.Contains(string(it.Model.Origin.Details), want) {
			t.Errorf("the details lack %s: %s", want, it.Model.Origin.Details)
		}
	}
	for _, want := range []string{"no column", "weights_path", "does not know", `"twice" is generated`} {
		if !noted(it, want) {
			t.Errorf("the notes lack %s: %q", want, it.Notes)
		}
	}
	if !slices.Contains(items(t, open(t, path, nil))[0].Notes, it.Notes[0]) {
		t.Error("a second reading says something else")
	}
}
