package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// markTries is how often to mark anew because others replace files.
const markTries = 8

// confirm runs fn within a transaction of the index, with marks that are up to
// date: nobody registers a version meanwhile.
func (g *collector) confirm(ctx context.Context, fn func(*index.Tx, *blob.Collection) error) error {
	for range markTries {
		outdated := false
		err := g.r.index.Update(ctx, index.Change{Verb: "gc"}, func(tx *index.Tx) (err error) {
			outdated, err = g.confirmed(ctx, tx, fn)
			return err
		})
		if err != nil || !outdated {
			return err
		}
		if err := g.mark(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: other processes, such as heft repair or heft backup, keep replacing blob files in %s: collect again when they have ended", ErrConflict, g.r.Dir())
}

// confirmed runs fn, unless the marks are outdated.
func (g *collector) confirmed(ctx context.Context, tx *index.Tx, fn func(*index.Tx, *blob.Collection) error) (outdated bool, err error) {
	if err := g.complete(); err != nil {
		return false, err
	}
	c, err := g.r.store.Collect(ctx, tx.Now())
	if err != nil {
		return false, err
	}
	if c.Outdated(g.marks) {
		return true, nil
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	g.tx = tx
	defer func() { g.tx = nil }()
	registered, err := tx.RegisteredSince(g.since)
	if err != nil {
		return false, err
	}
	if err := g.include(ctx, c.Pinned(), registered); err != nil {
		return false, err
	}
	return false, fn(tx, c)
}
