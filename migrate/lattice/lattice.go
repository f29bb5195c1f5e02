// Package lattice reads and writes the layout of the lattice registry: SQLite
// beside weights, or a tree of folders.
//
// The database has one table, models, a row for each version; its weights are
// at weights/<name>/<version>/weights.bin beside it. The tree of folders has
// <name>/<version>/weights.bin and, beside each, a metadata.json of what would be
// its row. Whatever is read is never written to, nor is anything near it.
package lattice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/tree"
	"github.com/heftstore/heft/registry"
)

const (
	// kind is what registry.Origin has as its Source.
	kind = "lattice"

	weightsDir   = "weights"
	weightsFile  = registry.WeightsFile
	metadataFile = "metadata.json"
)

// Options changes how a registry is read. A nil *Options, like its zero value,
// is the default throughout.
type Options struct {
	// Orphans imports the files below weights/ that no row of the database names,
	// too; otherwise they are only reported.
	Orphans bool

	// TempDir is the folder for the private copy of the database; "" is that of
	// the system.
	TempDir string
}

// Open opens the lattice registry at path: a database; or a folder with exactly
// one at its top; or else the root of a tree of folders. What it returns is
// a *Database or a *Folder, and the caller closes it.
//
// A link to a database is followed, also at the top of a folder. Weights are then
// looked for beside the link if there is weights/ or the file of any row, and
// otherwise beside the database itself.
//
// A database that is in use by another program is a *LockedError. One that is
// empty, cut off, damaged, of another format or without an ordinary table models
// is an error that says so and what to do. So that versions never get the names
// of folders for want of it, a file at the top of a folder that is only named
// like a database (.db, .sqlite, .sqlite3) counts as one, and so does weights/
// with versions below it if nothing else has any.
func Open(ctx context.Context, path string, o *Options) (migrate.Source, error) {
	if o == nil {
		o = new(Options)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening a lattice registry: %w", err)
	}
	if !info.IsDir() {
		return openDatabase(ctx, path, o)
	}
	t, err := tree.Open(path)
	if err != nil {
		return nil, err
	}
	src, err := openFolder(ctx, t, o)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return src, nil
}

// openFolder chooses by what is in the folder. The tree is the Source's if there
// is no error and it is a *Folder.
func openFolder(ctx context.Context, t *tree.Tree, o *Options) (migrate.Source, error) {
	entries, err := fs.ReadDir(t.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Dir(), err)
	}
	databases, err := findDatabases(t.Dir(), entries)
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking for a database in %s: %w", t.Dir(), err)
	case len(databases) > 1:
		return nil, fmt.Errorf("%s holds %d SQLite databases, or files named like one (%s): name the one to import", t.Dir(), len(databases), list(databases))
	case len(databases) == 1:
		at := filepath.Join(t.Dir(), databases[0])
		src, err := openDatabase(ctx, at, o)
		if is, _ := isDatabase(at); err != nil && !is {
			err = fmt.Errorf("%w; if it has nothing to do with the registry, move it out of the folder", err)
		}
		if err != nil {
			return nil, err
		}
		return src, t.Close()
	}
	found, err := findVersions(ctx, t)
	switch {
	case err != nil:
		return nil, err
	case found == besideDatabase:
		return nil, fmt.Errorf("%s has %s/, but the database that belongs beside it is missing: bring it back, or name %s itself if the folders are all there is",
			t.Dir(), weightsDir, filepath.Join(t.Dir(), weightsDir))
	case found != nowhere:
		return &Folder{tree: t}, nil
	}
	return nil, fmt.Errorf("%s is no lattice registry: it has neither a SQLite database at its top nor a <name>/<version>/%s below", t.Dir(), weightsFile)
}

// findDatabases returns which entries of the folder dir are databases, or named
// like one: what is wrong with such a file is said when it is opened. A link
// counts as what it leads to, once for each file.
func findDatabases(dir string, entries []fs.DirEntry) (found []string, err error) {
	seen := map[string]bool{}
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		info, err := os.Stat(at)
		if err == nil && info.IsDir() {
			continue // <name>/, whatever the name
		}
		is := namedDatabase(e.Name())
		if !is && err == nil {
			if is, err = isDatabase(at); err != nil {
				return nil, err
			}
		}
		if !is {
			continue
		}
		if real, err := filepath.EvalSymlinks(at); err == nil {
			at = real
		}
		if !seen[at] {
			seen[at] = true
			found = append(found, e.Name())
		}
	}
	return found, nil
}

// namedDatabase reports whether people would take a file of that name for
// a database.
func namedDatabase(file string) bool {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".db", ".sqlite", ".sqlite3":
		return true
	}
	return false
}

// maxListed is how many names an error or a note lists: they fill a line or two.
const maxListed = 8

// list writes names for people.
func list(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i == maxListed {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.100q", n)
	}
	return b.String()
}
