package lattice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/tree"
	"github.com/heftstore/heft/registry"
)

// visited is a folder of a version, or an Item about something else.
type visited struct {
	path string
	item *migrate.Item
}

// visit yields every version's folder below the tree, and what else there is to
// report, in the order of their paths. It holds the names of one folder at each
// level.
func visit(ctx context.Context, t *tree.Tree) iter.Seq2[visited, error] {
	return func(yield func(visited, error) bool) {
		pending := []string{"."}
		for len(pending) > 0 {
			at := pending[len(pending)-1]
			pending = pending[:len(pending)-1]
			if err := ctx.Err(); err != nil {
				yield(visited{}, err)
				return
			}
			entries, err := fs.ReadDir(t.FS(), at)
			if err != nil && at == "." {
				yield(visited{}, err)
				return
			}
			found, below := look(at, entries, err)
			for _, v := range found {
				if !yield(v, nil) {
					return
				}
			}
			for _, dir := range slices.Backward(below) {
				pending = append(pending, dir)
			}
		}
	}
}

// look tells what is in a folder, and which folders to look into next. err is
// why its entries are not all there.
func look(at string, entries []fs.DirEntry, err error) (found []visited, below []string) {
	report := func(about string, skip string, err error) {
		m := registry.Model{ID: derive("folder", about), Origin: &registry.Origin{Source: kind}}
		found = append(found, visited{item: &migrate.Item{From: about, Model: m, Skip: skip, Err: err}})
	}
	if err != nil {
		report(at, "", fmt.Errorf("this folder can't be read: %w", err))
		return found, nil
	}
	version := false
	var strays, links []string
	for _, e := range entries {
		p := path.Join(at, e.Name())
		switch {
		case e.IsDir() && len(p) > maxPlace:
			report(p, "", fmt.Errorf("this folder is nested too deep: no name and version have more than %d bytes", maxPlace))
		case e.IsDir():
			below = append(below, p)
		case e.Name() == weightsFile || e.Name() == metadataFile:
			version = true
		case e.Type()&fs.ModeSymlink != 0:
			links = append(links, p)
		default:
			strays = append(strays, e.Name())
		}
	}
	if version && strings.Contains(at, "/") {
		// Its other files are in its notes.
		return append([]visited{{path: at}}, found...), below
	}
	if version {
		report(at, "", errors.New("it has "+weightsFile+" or "+metadataFile+", but is too near the top to tell a name and a version: move it to <name>/<version>/"))
	}
	for _, p := range links {
		report(p, skipLink, nil)
	}
	if len(strays) > 0 {
		report(at, "it is no version, having neither "+weightsFile+" nor "+metadataFile+": files in it are not imported: "+list(strays), nil)
	}
	return found, below
}

// where says where the versions below a tree are.
type where uint8

const (
	nowhere        where = iota
	ofWeights            // only of a model called weights
	besideDatabase       // only where a database beside them has its weights
	inFolders
)

// findVersions tells where the versions below the tree are. A model may be called
// weights: only a longer name says that weights/ is none.
func findVersions(ctx context.Context, t *tree.Tree) (where, error) {
	found := nowhere
	for v, err := range visit(ctx, t) {
		switch {
		case err != nil:
			return nowhere, fmt.Errorf("reading %s: %w", t.Dir(), err)
		case v.item != nil:
		case !strings.HasPrefix(v.path, weightsDir+"/"):
			return inFolders, nil
		case strings.Count(v.path, "/") > 1:
			found = besideDatabase
		default:
			found = max(found, ofWeights)
		}
	}
	return found, nil
}
