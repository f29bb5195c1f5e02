package lattice

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// metadataJSON is a metadata.json as lattice wrote it.
const metadataJSON = `{
  "id": "a1b2c3d4-e5f6-4a5b-8c7d-0123456789ab",
  "name": "org/team/m",
  "version": "1.0",
  "status": "production",
  "metadata": {
    "architecture": "mlp",
    "tags": ["a"]
  },
  "registered_at": "2024-01-02T03:04:05.123456789Z",
  "updated_at": "2024-01-02T03:04:05.123456789+05:30",
  "registered_by": "ada",
  "description": null,
  "weights_path": null,
  "weights_size": null,
  "weights_hash": null,
  "parent_id": null,
  "children": []
}`

// folder makes a registry of those files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "registry")
	for p, content := range files {
		write(t, filepath.Join(root, filepath.FromSlash(p)), content)
	}
	return root + string(filepath.Separator)
}

func byFrom(all []*migrate.Item) map[string]*migrate.Item {
	m := map[string]*migrate.Item{}
	for _, it := range all {
		m[it.From] = it
	}
	return m
}

func TestFolder(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(metadataJSON, old, new, 1) }
	root := folder(t, map[string]string{
		"org/team/m/1.0/weights.bin":                "one",
		"org/team/m/1.0/metadata.json":              metadataJSON,
		"org/team/m/1.0/notes.txt":                  "x",
		"m/absent/weights.bin":                      "two",
		"m/stale/metadata.json":                     edit(`"a1b2c3d4-e5f6-4a5b-8c7d-0123456789ab"`, `"stale-1"`),
		"m/broken/weights.bin":                      "three",
		"m/broken/metadata.json":                    "{not json",
		"m/nothing/metadata.json":                   "{",
		"m/other/weights.bin":                       "four",
		"m/other/metadata.json":                     edit(`"a1b2c3d4-e5f6-4a5b-8c7d-0123456789ab"`, `"other"`),
		"m/child/weights.bin":                       "five",
		"m/child/metadata.json":                     `{"id":"child","parent_id":"other","stars":5,"registered_at":1,"metadata":{}}`,
		"m/hash/weights.bin":                        "six",
		"m/hash/metadata.json":                      `{"id":"h","status":"staged","registered_at":1,"updated_at":"2","weights_hash":"` + sha("six") + `","weights_size":4}`,
		"m/time/weights.bin":                        "seven",
		"m/time/metadata.json":                      `{"id":"time","registered_at":"yesterday","metadata":{}}`,
		"weights.bin":                               "eight",
		"flat/weights.bin":                          "nine",
		"strays/1/model.pt":                         "ten",
		"con/1/weights.bin":                         "bad name",
		strings.Repeat("x/", 200) + "1/weights.bin": "deep",
	})
	dir := strings.TrimSuffix(root, "/")
	if runtime.GOOS != "windows" {
		for link, to := range map[string]string{"linked": "org", "m/absent/metadata.json": "../other/metadata.json", "strays/linked/weights.bin": "../../weights.bin"} {
			mkdir(t, filepath.Dir(filepath.Join(dir, link)))
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such names")
	}
	all := items(t, open(t, root, nil))
	by := byFrom(all)
	first := by["org/team/m/1.0"]
	if first.Err != nil || len(first.Files) != 1 || content(t, first.Files[0]) != "one" {
		t.Fatalf("%+v", first)
	}
	m := first.Model
	if m.Name != "org/team/m" || m.Version != "1.0" || m.ID.String() != "a1b2c3d4-e5f6-4a5b-8c7d-0123456789ab" || m.Status != registry.Production ||
		m.RegisteredAt != 1704164645123456 || m.UpdatedAt != 1704144845123456 || m.RegisteredBy != "ada" || m.Metadata.Architecture != "mlp" {
		t.Errorf("%+v", m)
	}
	if !noted(first, `"notes.txt"`) {
		t.Errorf("%q", first.Notes)
	}
	for from, tt := range map[string]struct{ note, fail, skip string }{
		"m/absent":      {note: "is a link"},
		"m/stale":       {note: "its weights.bin is gone"},
		"m/broken":      {note: "can't be read"},
		"m/nothing":     {fail: "there is no file m/nothing/weights.bin"},
		"m/other":       {note: "the folder's name counts"},
		"m/child":       {note: `"stars", which lattice does not know`},
		"m/hash":        {fail: "weights_size is 4, but the file has 3 bytes"},
		"m/time":        {fail: `registered_at is "yesterday"`},
		".":             {fail: "too near the top"},
		"flat":          {fail: "too near the top"},
		"strays/1":      {skip: `"model.pt"`},
		"strays/linked": {fail: "is a link"},
		"linked":        {skip: "links are not followed"},
		"con/1":         {fail: "reserved"},
	} {
		it := by[from]
		if it == nil {
			t.Errorf("%s is not reported", from)
			continue
		}
		if it.Model.ID == uuid.Nil {
			t.Errorf("%s has no id", from)
		}
		if tt.note != "" && (!noted(it, tt.note) || it.Err != nil) {
			t.Errorf("%s: %q, %v", from, it.Notes, it.Err)
		}
		if tt.fail != "" && !failed(it, tt.fail) {
			t.Errorf("%s: error %v, want %s", from, it.Err, tt.fail)
		}
		if !strings.Contains(it.Skip, tt.skip) || (tt.skip == "") != (it.Skip == "") {
			t.Errorf("%s: skipped %q", from, it.Skip)
		}
	}
	if last := all[len(all)-1]; !strings.HasPrefix(last.From, "x/x/") || !failed(last, "nested too deep") {
		t.Errorf("the deep one: %+v", last)
	}
	if by["m/child"].Model.Parent != by["m/other"].Model.ID || by["m/other"].Model.Name != "m" || by["m/other"].Model.Version != "other" {
		t.Errorf("%+v", by["m/child"].Model)
	}
	if got := by["m/broken"].Model; got.ID != nameless("m", "broken") || got.RegisteredAt <= 1 || !strings.Contains(string(got.Origin.Details), `{not json`) {
		t.Errorf("%+v %s", got, got.Origin.Details)
	}
	if len(by["m/stale"].Files) != 0 || by["m/stale"].Model.Metadata.Architecture != "mlp" {
		t.Errorf("%+v", by["m/stale"])
	}
}

func TestFolderSameRules(t *testing.T) {
	record := func(fields string) string {
		return `{"registered_at":10,"metadata":{},"status":"production",` + fields + `}`
	}
	by := byFrom(items(t, open(t, folder(t, map[string]string{
		"m/1/metadata.json": record(`"id":"a","parent_id":"b","updated_at":5`),
		"m/2/metadata.json": record(`"id":"b","parent_id":"a","updated_at":6`),
		"m/3/metadata.json": record(`"id":"a","updated_at":1`),
		"m/4/metadata.json": record(`"id":"c","parent_id":"gone","updated_at":2`),
		"m/5/metadata.json": record(`"id":"d","updated_at":7,"weights_size":9`), // which fails
		"m/5/weights.bin":   "x",
	}), nil)))
	if !noted(by["m/1"], "its own ancestor") || by["m/2"].Model.Parent != by["m/1"].Model.ID {
		t.Errorf("the circle: %q", by["m/1"].Notes)
	}
	if by["m/2"].Model.Status != registry.Production || by["m/1"].Model.Status != registry.Staged {
		t.Error("not the last one is in production")
	}
	if !failed(by["m/5"], "weights_size is 9") || by["m/5"].Model.Status != registry.Production {
		t.Errorf("the one that fails: %v, %s", by["m/5"].Err, by["m/5"].Model.Status)
	}
	if !failed(by["m/3"], "that of another version before it") || !noted(by["m/4"], "does not exist") {
		t.Errorf("%v, %q", by["m/3"].Err, by["m/4"].Notes)
	}
}

func TestLargeMetadataFile(t *testing.T) {
	it := items(t, open(t, folder(t, map[string]string{
		"m/1/metadata.json": `{"description":"` + strings.Repeat("x", maxMetadataFile) + `"}`,
		"m/1/weights.bin":   "x",
	}), nil))[0]
	if it.Err != nil || !noted(it, "has more than 8388608 bytes") {
		t.Errorf("%v, %q", it.Err, it.Notes)
	}
}
