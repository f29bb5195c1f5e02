package folder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/heftstore/heft/migrate/internal/tree"
)

// match is a place that the pattern matches, or what stopped the way to one.
type match struct {
	captured

	path string // below the root
	skip string // why it is left out
	err  error  // why it can't be read
}

// maxHint is how many entries an error about no match names: enough to see
// how they are called, on one line.
const maxHint = 5

// walk finds what a pattern matches. It keeps no more of a checkpoint than its
// match.
type walk struct {
	tree    *tree.Tree
	pattern *pattern
	found   []match

	// Where matching got furthest, for the error when nothing matches.
	deepest int
	stopped string
	there   []string
}

func (w *walk) run(ctx context.Context, dir string, level int, c captured) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l := &w.pattern.levels[level]
	if l.literal {
		info, err := w.tree.Stat(path.Join(dir, l.text))
		if _, link := errors.AsType[*tree.LinkError](err); link {
			return w.entry(ctx, dir, level, c, l.text, fs.ModeSymlink)
		}
		if err == nil {
			return w.entry(ctx, dir, level, c, l.text, info.Mode().Type())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			w.found = append(w.found, match{captured: c, path: path.Join(dir, l.text), err: err})
			return nil
		}
		if w.noted(level) {
			return nil
		}
	}
	entries, err := fs.ReadDir(w.tree.FS(), dir)
	if err != nil {
		if level == 0 {
			return fmt.Errorf("listing %s: %w", w.tree.Dir(), err)
		}
		w.found = append(w.found, match{captured: c, path: dir, err: fmt.Errorf("listing it: %w", err)})
		return nil
	}
	w.note(dir, level, entries)
	for _, e := range entries {
		if next, ok := l.take(e.Name(), c); ok {
			if err := w.entry(ctx, dir, level, next, e.Name(), e.Type()); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry goes on with an entry of dir that the level matches.
func (w *walk) entry(ctx context.Context, dir string, level int, c captured, entry string, kind fs.FileMode) error {
	at := path.Join(dir, entry)
	last := level == len(w.pattern.levels)-1
	switch {
	case kind&fs.ModeSymlink != 0:
		skip := "it is a link, and links are not followed: what it leads to is found where it is, if the pattern matches there"
		w.found = append(w.found, match{captured: c, path: at, skip: skip})
	case kind.IsDir() && !last:
		return w.run(ctx, at, level+1, c)
	case last && (kind.IsDir() || kind.IsRegular() && !w.pattern.folder):
		w.found = append(w.found, match{captured: c, path: at})
	}
	return nil
}

// noted reports whether the hint has as good a place already.
func (w *walk) noted(level int) bool {
	return level < w.deepest || level == w.deepest && len(w.there) > 0
}

// note remembers what is where matching got furthest.
func (w *walk) note(dir string, level int, entries []fs.DirEntry) {
	if w.noted(level) {
		return
	}
	w.deepest, w.stopped, w.there = level, dir, nil
	for _, e := range entries[:min(len(entries), maxHint)] {
		shown := e.Name()
		if e.IsDir() {
			shown += "/"
		}
		w.there = append(w.there, fmt.Sprintf("%.100q", shown))
	}
	if len(entries) > maxHint {
		w.there = append(w.there, fmt.Sprintf("and %d more", len(entries)-maxHint))
	}
}

// none is the error about a pattern that matches nothing.
func (w *walk) none() error {
	want := w.pattern.levels[w.deepest].text
	if w.pattern.folder || w.deepest < len(w.pattern.levels)-1 {
		want += "/"
	}
	there := "which is empty"
	if len(w.there) > 0 {
		there = "where there are " + strings.Join(w.there, ", ")
	}
	where := filepath.Join(w.tree.Dir(), filepath.FromSlash(w.stopped))
	return fmt.Errorf("folder: pattern %.200q matches nothing: there is no %.100q in %s, %s: %w", w.pattern.text, want, where, there, fs.ErrNotExist)
}

// sort puts the matches in the order of their items: by name, versions as
// people count them.
func (w *walk) sort() {
	slices.SortFunc(w.found, func(a, b match) int {
		return cmp.Or(strings.Compare(a.name, b.name), natural(a.version, b.version), strings.Compare(a.path, b.path))
	})
}
