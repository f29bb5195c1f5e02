package migrate

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

// hostile are texts that would lead out of a folder, or mean something else to
// some system, if they were taken for paths.
var hostile = []string{
	"", ".", "..", "../x", "a/../../x", "/", "/etc/passwd", "/x", `..\x`, `C:\x`, `\\host\share`, "a//b", "a/", "a\x00b", "\x00", "a\nb",
	"con", "NUL", "com1.bin", "a:b", "a@b", "b3", "-x", " a", "a ", "a.", "\u202ea", "\xff", "~", "~/x", "$HOME/x",
	strings.Repeat("a", 300), strings.Repeat("a/", 2000) + "a", strings.Repeat("../", 100) + "x",
}

// TestApplyHostile gives an import such texts for all that it takes. Whatever it
// makes of them, nothing appears beside the store, and nothing in it besides
// what a store has.
func TestApplyHostile(t *testing.T) {
	ctx := t.Context()
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "store")
	if err := os.WriteFile(filepath.Join(parent, "x"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := registry.Create(ctx, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := outside(t, parent, dir)
	var items []*Item
	for i, s := range hostile {
		for j, set := range []func(*Item){
			func(it *Item) { it.Model.Name = s },
			func(it *Item) { it.Model.Version = s },
			func(it *Item) { it.Files[0].Path = s },
			func(it *Item) { it.Model.Aliases = []string{s} },
			func(it *Item) { it.Model.Description, it.Model.RegisteredBy = s, s },
			func(it *Item) { it.Model.Origin = &registry.Origin{Source: s, LegacyID: s} },
			func(it *Item) { it.From = s },
		} {
			it := item(fmt.Sprintf("m%d-%d:1", i, j), "content")
			set(it)
			items = append(items, it)
		}
	}
	var report Report
	for o, err := range Apply(ctx, r, &fake{items: items}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		report.Add(o)
	}
	if report.Imported+report.Failed != len(items) || report.Failed < 3*len(hostile)/2 || report.Imported < len(items)/3 {
		t.Errorf("of %d: %+v", len(items), report)
	}
	if diff := cmp.Diff(before, outside(t, parent, dir)); diff != "" {
		t.Errorf("outside of the store:\n%s", diff)
	}
	err = fs.WalkDir(os.DirFS(dir), ".", func(p string, e fs.DirEntry, err error) error {
		top, rest, _ := strings.Cut(p, "/")
		switch {
		case err != nil:
			return err
		case top == "blobs" && !e.IsDir() && len(rest) != 2+1+64:
			t.Errorf("%s is no blob", p)
		case strings.Contains(p, "..") || rest != "" && top != "blobs":
			t.Errorf("%s is in the store", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for c, err := range r.Verify(ctx, "", nil) {
		if err != nil || c.Err != nil {
			t.Error(err, c.Err)
		}
	}
}

// outside lists what is below parent but not below dir, with the content of
// files.
func outside(t *testing.T, parent, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(parent, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == dir {
			return fs.SkipDir
		}
		content := "folder"
		if !e.IsDir() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			content = string(b)
		}
		all[p] = content
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
