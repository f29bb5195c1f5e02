package lattice

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/heftstore/heft/migrate"
)

func symlink(t *testing.T, to, link string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows lets few make links")
	}
	mkdir(t, filepath.Dir(link))
	if err := os.Symlink(to, link); err != nil {
		t.Fatal(err)
	}
}

// TestBadDatabaseIsNoTree has folders whose database is of no use: their weights
// must not become versions of models called weights/….
func TestBadDatabaseIsNoTree(t *testing.T) {
	raw, err := os.ReadFile(newDatabase(t, schemaCurrent, row{}))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ file, content, want string }{
		"empty":       {"models.db", "", "is empty"},
		"cut off":     {"models.db", string(raw[:len(raw)-100]), "is cut off"},
		"lfs pointer": {"models.sqlite3", "version https://git-lfs.github.com/spec/v1", "git lfs pull"},
		"capitals":    {"REGISTRY.DB", "x", "is not a SQLite database"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "registry")
			write(t, filepath.Join(dir, tt.file), tt.content)
			write(t, filepath.Join(dir, "weights", "bert", "1.0.0", "weights.bin"), "x")
			refused(t, dir+"/", tt.file, tt.want)
			write(t, filepath.Join(dir, "bert", "1.0.0", "weights.bin"), "x")
			refused(t, dir+"/", tt.file, tt.want)
		})
	}
	t.Run("dangling link", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "registry")
		symlink(t, "gone.db", filepath.Join(dir, "models.db"))
		write(t, filepath.Join(dir, "weights", "bert", "1.0.0", "weights.bin"), "x")
		refused(t, dir+"/", "gone.db", "no such file")
	})
	t.Run("two", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "registry")
		write(t, filepath.Join(dir, "backup.bin"), string(raw))
		write(t, filepath.Join(dir, "models.db"), "")
		refused(t, dir+"/", "name the one to import", `"backup.bin", "models.db"`)
	})
}

func TestMissingDatabase(t *testing.T) {
	for name, tt := range map[string]struct {
		files   []string
		refused bool
	}{
		"weights alone":                  {[]string{"weights/bert/1/weights.bin"}, true},
		"and its log":                    {[]string{"weights/bert/1/weights.bin", "models.db-wal", "README"}, true},
		"and one too near":               {[]string{"weights/bert/weights.bin", "weights/org/bert/1/weights.bin"}, true},
		"a folder named as a database":   {[]string{"weights/bert/1/weights.bin", "models.db/x"}, true},
		"a model called weights":         {[]string{"weights/1/weights.bin"}, false},
		"a model called as a database":   {[]string{"m.db/1/weights.bin"}, false},
		"weights beside another version": {[]string{"weights/bert/1/weights.bin", "x/1/weights.bin"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "registry")
			for _, f := range tt.files {
				write(t, filepath.Join(dir, filepath.FromSlash(f)), "x")
			}
			if tt.refused {
				refused(t, dir+"/", "database that belongs beside it is missing", filepath.Join(dir, "weights")+" itself")
				all := items(t, open(t, filepath.Join(dir, "weights")+"/", nil))
				if len(all) == 0 || !strings.HasSuffix(all[0].Model.Name, "bert") || strings.HasPrefix(all[0].Model.Name, "weights") {
					t.Errorf("weights itself: %+v", all)
				}
			} else if src, ok := open(t, dir+"/", nil).(*Folder); !ok {
				t.Errorf("%T", src)
			}
		})
	}
}

// TestLinkedDatabase has weights beside a link, beside the database that it leads
// to, or both.
func TestLinkedDatabase(t *testing.T) {
	const usual = "weights/m/1/weights.bin"
	for name, tt := range map[string]struct {
		path          string // the row's
		beside, there string // the file beside the link, and the one beside the database
		want          string // "": the row fails
	}{
		"beside the link":      {usual, usual, "", "link"},
		"by default":           {"", usual, "", "link"},
		"beside the database":  {usual, "", usual, "there"},
		"both":                 {usual, usual, usual, "link"},
		"elsewhere":            {"w/x.bin", "w/x.bin", "", "link"},
		"elsewhere, there":     {"w/x.bin", "", "w/x.bin", "there"},
		"elsewhere, both":      {"w/x.bin", "w/x.bin", "w/x.bin", "link"},
		"elsewhere, and usual": {"w/x.bin", "w/x.bin", usual, "link"},
		"nowhere":              {usual, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := row{"id": idOfTest(2), "name": "m"}
			if tt.path != "" {
				r["weights_path"] = tt.path
			}
			db := newDatabase(t, schemaCurrent, row{"name": "other", "weights_path": "../x"}, r)
			link := filepath.Join(t.TempDir(), "registry", "models.db")
			symlink(t, db, link)
			if tt.beside != "" {
				write(t, filepath.Join(filepath.Dir(link), tt.beside), "link")
			}
			if tt.there != "" {
				write(t, filepath.Join(filepath.Dir(db), tt.there), "there")
			}
			// By its own path, and by its folder's.
			for _, path := range []string{link, filepath.Dir(link) + "/"} {
				src := open(t, path, nil)
				if _, ok := src.(*Database); !ok {
					t.Fatalf("%s is opened as %T", path, src)
				}
				it := items(t, src)[1]
				if tt.want == "" {
					if it.Err == nil {
						t.Error("there are no weights, and it does not fail")
					}
				} else if it.Err != nil || len(it.Files) != 1 || content(t, it.Files[0]) != tt.want {
					t.Errorf("%v, %v", it.Err, it.Files)
				}
			}
		})
	}
}

// TestLinkAndDatabase has both at the top: they are one.
func TestLinkAndDatabase(t *testing.T) {
	db := newDatabase(t, schemaCurrent, row{})
	symlink(t, "models.db", filepath.Join(filepath.Dir(db), "current.db"))
	if got := names(t, filepath.Dir(db)+"/"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestLinkedWeights has weights/ as a link, which is not followed, and no reason
// to end it all.
func TestLinkedWeights(t *testing.T) {
	db := newDatabase(t, schemaCurrent, row{"weights_path": "weights/m/1/weights.bin"}, row{})
	elsewhere := filepath.Join(t.TempDir(), "w")
	write(t, filepath.Join(elsewhere, "m", "1", "weights.bin"), "x")
	symlink(t, elsewhere, filepath.Join(filepath.Dir(db), "weights"))
	all := items(t, open(t, db, &Options{Orphans: true}))
	if len(all) != 3 || !failed(all[0], "is a link") || !failed(all[1], "is a link") || all[2].Skip == "" || all[2].From != "weights" {
		for _, it := range all {
			t.Errorf("%s: %v, %s", it.From, it.Err, it.Skip)
		}
	}
}

// TestOrphansOfFailedRows has rows that fail: their weights are theirs.
func TestOrphansOfFailedRows(t *testing.T) {
	long := strings.Repeat("x", maxText+1)
	db := newDatabase(t, schemaLoose,
		row{"name": "large", "description": long},
		row{"name": "large-path", "description": long, "weights_path": "large-path/1/other.pt"},
		row{"name": "long-path", "weights_path": strings.Repeat("x", maxShort+1)},
		row{"name": "absolute", "weights_path": "/srv/weights/absolute/1/weights.bin"},
		row{"name": "gone", "weights_path": "weights/gone.bin"},
		row{"name": strings.Repeat("n", maxShort+1), "weights_path": "weights/named/1/w.bin"},
	)
	for _, p := range []string{"large/1/weights.bin", "large-path/1/other.pt", "large-path/1/weights.bin", "long-path/1/weights.bin",
		"absolute/1/weights.bin", "gone/1/weights.bin", "named/1/w.bin", "orphan/1/weights.bin"} {
		write(t, filepath.Join(filepath.Dir(db), "weights", p), p)
	}
	var all []*migrate.Item
	t.Run("read", func(t *testing.T) { all = items(t, open(t, db, &Options{Orphans: true})) })
	for _, it := range all[:6] {
		if it.Err == nil {
			t.Errorf("%s does not fail", it.From)
		}
	}
	for _, it := range all[6:] {
		if it.From != "weights/orphan/1/weights.bin" {
			t.Errorf("%s is an orphan", it.From)
		}
	}
	if len(all) != 7 {
		t.Errorf("%d items", len(all))
	}
	r := newRegistry(t)
	t.Run("import", func(t *testing.T) { importAll(t, r, open(t, db, &Options{Orphans: true})) })
	sql := openSQL(t, db)
	exec(t, sql, "UPDATE models SET description = 'short' WHERE name = 'large'")
	if err := sql.Close(); err != nil {
		t.Fatal(err)
	}
	if o := importAll(t, r, open(t, db, &Options{Orphans: true}))["row 1"]; o.State != migrate.Imported {
		t.Errorf("when it is mended: %s, %v", o.State, o.Why)
	}
}
