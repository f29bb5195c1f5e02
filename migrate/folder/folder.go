// Package folder reads plain folders of checkpoints, as any trainer leaves
// them, by a pattern that says where the names and versions stand.
package folder

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
	"github.com/heftstore/heft/migrate/internal/tree"
	"github.com/heftstore/heft/registry"
)

// kind is what Kind returns.
const kind = "folder"

// namespace is that of the items' ids, which are UUIDs of version 5 of
// "folder", the name and the version, parted by NUL. It must never change: a
// second import would not know what the first one did. It is itself that of
// the URL https://github.com/heftstore/heft/migrate/folder.
const namespace = "2a6f0b81-cf65-55ac-9a91-9ceb8dbaf61c"

// Options are the settings of Open. A nil *Options means the defaults.
type Options struct {
	// Name is that of every version, for a pattern without {name}. "" means
	// that the pattern has it.
	Name string

	// Status is that of every version. "" means registry.Pending.
	Status registry.Status
}

// Source yields one item for each checkpoint that the pattern matches.
type Source struct {
	tree    *tree.Tree
	pattern *pattern
	options Options
}

// Open opens the folder above what the pattern matches. The caller closes it.
//
// A pattern is a path, with slashes on every system, in which {name} and
// {version} stand for one or more characters of one component and * for any
// number: runs/{name}/step-{version}/. Everything before the first component
// with one of them is the folder that is opened. {version} is needed once,
// {name} at least once unless Options.Name is given; several are joined with
// "/". In a component each takes as much as it can, those on the left first:
// {name}-step-{version} makes a-step-b-step-10 version 10 of a-step-b. There
// is no way to mean a brace or an asterisk itself, and a backslash is an
// ordinary character.
//
// A folder that matches is a version with all regular files below it. A file
// that matches is one with that file alone; a pattern that ends with a slash
// matches folders only. Links are not followed: one that matches is skipped,
// and one inside a folder that matches fails that version. Versions of a name
// come in the order in which people count, each with the one before as parent.
//
// Its error wraps ErrPattern for a pattern that can't be used, fs.ErrNotExist
// when there is no such folder and fs.ErrInvalid for bad options.
func Open(ctx context.Context, pattern string, o *Options) (*Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Source{}
	if o != nil {
		s.options = *o
	}
	if s.options.Name != "" {
		if _, err := name.ParseName(s.options.Name); err != nil {
			return nil, fmt.Errorf("folder: the name for all versions: %w", err)
		}
	}
	if s.options.Status == "" {
		s.options.Status = registry.Pending
	}
	status, err := registry.ParseStatus(string(s.options.Status))
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	s.options.Status = status
	if s.pattern, err = parsePattern(pattern, s.options.Name != ""); err != nil {
		return nil, err
	}
	if s.tree, err = tree.Open(s.pattern.root); err != nil {
		return nil, fmt.Errorf("folder: pattern %.200q: %w", pattern, err)
	}
	return s, nil
}

// Kind returns "folder".
func (s *Source) Kind() string { return kind }

// Close releases the folder.
func (s *Source) Close() error { return s.tree.Close() }

// Items yields what the pattern matches, by name and then by version in
// natural order. That nothing matches is an error that wraps fs.ErrNotExist and
// says what was there instead.
func (s *Source) Items(ctx context.Context) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		w := walk{tree: s.tree, pattern: s.pattern}
		err := w.run(ctx, ".", 0, captured{name: s.options.Name})
		if err == nil && len(w.found) == 0 {
			err = w.none()
		}
		if err != nil {
			yield(nil, err)
			return
		}
		w.sort()
		var before match // the last one that can be a parent
		var parent uuid.UUID
		for _, m := range w.found {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if before.name != m.name {
				parent = uuid.Nil
			}
			item := s.item(ctx, m, parent)
			if item.Err == nil && item.Skip == "" {
				if before.captured == m.captured {
					item.Err = fmt.Errorf("%s and %s are both version %s of %s: make the pattern match one of them",
						shown(before.path), shown(m.path), m.version, m.name)
					item.Files = nil
				} else {
					before, parent = m, item.Model.ID
				}
			}
			if item.Err != nil || item.Skip != "" {
				item.Model.ID = newID(m.name, m.version, m.path) // the other is that of what is imported
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// item describes a match.
func (s *Source) item(ctx context.Context, m match, parent uuid.UUID) *migrate.Item {
	item := &migrate.Item{
		From: shown(m.path),
		Model: registry.Model{
			ID: newID(m.name, m.version), Name: m.name, Version: m.version, Status: s.options.Status, Parent: parent,
			RegisteredAt: 1, UpdatedAt: 1, Origin: &registry.Origin{Source: kind},
		},
		Skip: m.skip,
		Err:  m.err,
	}
	if item.Skip != "" || item.Err != nil {
		return item
	}
	if item.Err = checkNames(m.captured); item.Err != nil {
		return item
	}
	if item.Model.Origin.Details, item.Err = canon.Marshal(map[string]string{"path": m.path}); item.Err != nil {
		return item
	}
	newest, err := s.files(ctx, m.path, item)
	switch {
	case err != nil:
		item.Err, item.Files = err, nil
	case len(item.Files) == 0:
		item.Skip = "there is no file in it"
	default:
		item.Model.RegisteredAt = entry.Time(newest)
		item.Model.UpdatedAt = item.Model.RegisteredAt
	}
	return item
}

// checkNames says why heft can't hold the name or the version.
func checkNames(c captured) error {
	if _, err := name.ParseName(c.name); err != nil {
		return fmt.Errorf("what {name} matches: %w", err)
	}
	if _, err := name.ParseVersion(c.version); err != nil {
		return fmt.Errorf("what {version} matches: %w", err)
	}
	return nil
}

// files adds the files at or below root to the item, and returns when the
// newest of them was changed.
func (s *Source) files(ctx context.Context, root string, item *migrate.Item) (newest time.Time, err error) {
	err = fs.WalkDir(s.tree.FS(), root, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		as := path.Base(p)
		if p != root {
			as = strings.TrimPrefix(p, root+"/")
		}
		if _, err := name.ParsePath(as); err != nil {
			return fmt.Errorf("a file of it: %w", err)
		}
		f, err := s.tree.File(p, as)
		if err != nil {
			return err
		}
		if at := time.Unix(0, f.Modified); at.After(newest) {
			newest = at
		}
		item.Files = append(item.Files, f)
		return nil
	})
	return newest, err
}

// shown makes a path of the disk fit for a message.
func shown(p string) string { return strings.ToValidUTF8(p, "\uFFFD") }

// newID makes an id of what identifies an item.
func newID(parts ...string) uuid.UUID {
	return entry.ID(namespace, append([]string{kind}, parts...)...)
}
