package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// complete returns an error if the index lacks versions that Repair has yet to make
// known again: what they need would go.
func (g *collector) complete() error {
	pending, err := g.r.index.LossPending()
	if err == nil && pending {
		err = fmt.Errorf("%w: records of the journal of %s were lost and the versions that they told of are not known again yet, so nothing was removed: run heft repair to the end first", ErrConflict, g.r.Dir())
	}
	return err
}

// forget has the index forget blobs that are gone, and removes their parity.
func (g *collector) forget(ctx context.Context) error {
	for d, err := range g.r.store.Parities(ctx) {
		if err != nil {
			return err
		}
		if g.marks.Needed(d) {
			continue
		}
		if _, err := g.r.store.Stat(ctx, d); errors.Is(err, blob.ErrNotFound) {
			if err := g.r.store.RemoveParity(ctx, d); err != nil {
				return err
			}
		}
	}
	for from := (blob.Digest{}); ; {
		var known, gone []blob.Digest
		err := g.r.index.View(ctx, func(tx *index.Tx) (err error) {
			known, err = tx.BlobsFrom(from, page)
			return err
		})
		if err != nil || len(known) == 0 {
			return err
		}
		for _, d := range known {
			if g.marks.Needed(d) {
				continue
			}
			if _, err := g.r.store.Stat(ctx, d); errors.Is(err, blob.ErrNotFound) {
				gone = append(gone, d)
			}
		}
		from = known[len(known)-1]
		if len(gone) == 0 {
			continue
		}
		err = g.r.index.Update(ctx, index.Change{Verb: "gc"}, func(tx *index.Tx) error {
			for _, d := range gone {
				if _, err := g.r.store.Stat(ctx, d); errors.Is(err, blob.ErrNotFound) { // nobody put it again
					if err := tx.RemoveBlob(ctx, d); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if full(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
