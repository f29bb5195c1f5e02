package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
)

// CopyOptions says what goes along with the versions that a Copy has. A nil
// *CopyOptions, like its zero value, is the default throughout.
type CopyOptions struct {
	// Lineage takes the ancestors of the versions along. Without, a version
	// whose parent is not in the other registry has none there.
	Lineage bool

	// Aliases takes the versions' aliases along.
	Aliases bool
}

// Copy is a Source that has versions of a registry, with their ids, times,
// status and origin. Content that the other registry has already is not read.
type Copy struct {
	from   *registry.Registry
	models []*registry.Model // ancestors before descendants
	opts   CopyOptions
}

// NewCopy returns a Source with versions of a registry. The registry has to stay
// open until the Source is closed.
func NewCopy(ctx context.Context, from *registry.Registry, models []*registry.Model, o *CopyOptions) (*Copy, error) {
	c := &Copy{from: from}
	if o != nil {
		c.opts = *o
	}
	taken := map[uuid.UUID]bool{}
	for _, m := range models {
		if err := c.take(ctx, m, taken); err != nil {
			return nil, err
		}
	}
	c.models = parentsFirst(c.models)
	return c, nil
}

func (c *Copy) take(ctx context.Context, m *registry.Model, taken map[uuid.UUID]bool) error {
	for !taken[m.ID] {
		taken[m.ID] = true
		c.models = append(c.models, m)
		if !c.opts.Lineage || m.Parent == uuid.Nil {
			break
		}
		parent, err := c.from.Get(ctx, m.Parent.String())
		if errors.Is(err, registry.ErrNotFound) {
			break // it was deleted
		}
		if err != nil {
			return err
		}
		m = parent
	}
	return nil
}

// parentsFirst returns models in an order that has each after its parent, if
// that is among them, and otherwise keeps theirs.
func parentsFirst(models []*registry.Model) []*registry.Model {
	byID := make(map[uuid.UUID]*registry.Model, len(models))
	for _, m := range models {
		byID[m.ID] = m
	}
	ordered := make([]*registry.Model, 0, len(models))
	var line []*registry.Model // a model and its ancestors
	for _, m := range models {
		for m := m; m != nil && byID[m.ID] != nil; m = byID[m.Parent] {
			line = append(line, m)
			delete(byID, m.ID)
		}
		slices.Reverse(line)
		ordered = append(ordered, line...)
		line = line[:0]
	}
	return ordered
}

// Kind returns "heft".
func (c *Copy) Kind() string { return "heft" }

// Items implements Source.
func (c *Copy) Items(ctx context.Context) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		for _, m := range c.models {
			it, err := c.item(ctx, m)
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

func (c *Copy) item(ctx context.Context, m *registry.Model) (*Item, error) {
	it := &Item{From: m.Ref(), Model: *m}
	was, err := m.AsRegistered(ctx)
	if _, damaged := errors.AsType[*registry.CorruptError](err); damaged {
		it.Err = err
		return it, nil
	}
	if err != nil {
		return nil, err
	}
	if it.Model.Metadata, it.Model.Description = was.Metadata, was.Description; !reflect.DeepEqual(m.Metadata, was.Metadata) || m.Description != was.Description {
		it.Edited = &Edited{m.Metadata, m.Description}
	}
	if !c.opts.Aliases {
		it.Model.Aliases = nil
	}
	for f, err := range m.List(ctx) {
		if errors.Is(err, registry.ErrNotFound) {
			it.Err = fmt.Errorf("it was deleted meanwhile: %w", err)
			return it, nil
		}
		if err != nil {
			return nil, err
		}
		it.Files = append(it.Files, File{
			Path: f.Path, Size: f.Size, Want: Hashes{BLAKE3: f.Digest},
			Open: func(ctx context.Context) (io.ReadCloser, error) { return m.Open(ctx, f.Path) },
		})
	}
	return it, nil
}

// Close implements Source. It leaves the registry open.
func (c *Copy) Close() error { return nil }
