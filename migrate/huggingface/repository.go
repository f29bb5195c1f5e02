package huggingface

import (
	"cmp"
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
)

// repository is a model in the cache.
type repository struct {
	tree   *tree.Tree
	cache  *tree.Tree // as of the Source
	closed error
	dir    string // below the tree; "." if it is the tree
	name   string // of the model
}

// repository yields the items of the repository in a folder of the cache.
func (s *Source) repository(ctx context.Context, folder string) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		r := repository{tree: s.tree, cache: s.cache, closed: s.closed, dir: folder}
		if s.only != "" {
			r.dir = "."
		}
		id, ok := strings.CutPrefix(folder, prefixModel)
		if !ok {
			item := newItem(folder, "folder", folder)
			item.Skip = "it is a dataset or a space, and only models are imported"
			yield(item, nil)
			return
		}
		r.name = strings.ReplaceAll(id, "--", "/")
		commits, odd, err := r.snapshots()
		if err != nil {
			item := newItem(r.name, "folder", folder)
			item.Model.Name = r.name
			if errors.Is(err, fs.ErrNotExist) {
				item.Skip = "it has no snapshot: nothing of it was downloaded to the end"
			} else {
				item.Err = err
			}
			yield(item, nil)
			return
		}
		refs, more := r.refs(commits)
		for _, item := range append(odd, more...) {
			if !yield(item, nil) {
				return
			}
		}
		// Times come from the files, so all snapshots are described before the
		// first is yielded.
		var items []*migrate.Item
		for _, c := range commits {
			item, err := r.snapshot(ctx, c, refs[c])
			if err != nil {
				yield(nil, err)
				return
			}
			items = append(items, item)
		}
		slices.SortFunc(items, func(a, b *migrate.Item) int {
			return cmp.Or(cmp.Compare(a.Model.RegisteredAt, b.Model.RegisteredAt), strings.Compare(a.Model.Version, b.Model.Version))
		})
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// at returns the path of something in the repository below the tree.
func (r *repository) at(parts ...string) string {
	return path.Join(r.dir, path.Join(parts...))
}

// list lists a folder of the repository that no link leads to, without the
// files that desktops leave in every folder, which the Hub's own library
// ignores too.
func (r *repository) list(parts ...string) ([]fs.DirEntry, error) {
	at := r.at(parts...)
	if at != "." {
		info, err := r.tree.Stat(at)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("%s is no folder: %w", at, fs.ErrInvalid)
		}
	}
	entries, err := fs.ReadDir(r.tree.FS(), at)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return isLitter(e.Name()) }), err
}

func isLitter(file string) bool {
	return file == ".DS_Store" || file == "Thumbs.db" || file == "desktop.ini"
}

// snapshots returns the commits that there are snapshots of, and items about
// what else is there.
func (r *repository) snapshots() (commits []string, odd []*migrate.Item, err error) {
	entries, err := r.list("snapshots")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			commits = append(commits, e.Name())
			continue
		}
		at := r.at("snapshots", e.Name())
		item := newItem(at, r.name, "path", at)
		item.Model.Name = r.name
		if e.Type() == fs.ModeSymlink {
			item.Err = &tree.LinkError{Path: at}
		} else {
			item.Skip = "it is a file, where only folders with snapshots are"
		}
		odd = append(odd, item)
	}
	if len(entries) == 0 {
		return nil, nil, fs.ErrNotExist
	}
	return commits, odd, nil
}
