package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// collector is one collection.
type collector struct {
	Collected
	r        *Registry
	grace    time.Duration
	progress func(string, int)
	dry      bool
	since    index.Mark // what was registered after it is not in marks yet
	marks    *blob.Marks
	tx       *index.Tx // while there is a transaction
}

func (r *Registry) newCollector(o *GCOptions) *collector {
	g := &collector{r: r, grace: DefaultGrace, progress: func(string, int) {}}
	if o != nil && o.Grace != 0 {
		g.grace = o.Grace
	}
	if o != nil && o.Progress != nil {
		g.progress = o.Progress
	}
	return g
}

func (g *collector) done() Collected {
	c := g.Collected
	c.Freed = c.Purged.Bytes + c.Thinned.Bytes - c.Detached.Bytes
	return c
}

// page is how many references one view of the index reads: others wait for it.
const page = 4096

// mark works out which blobs are needed. What is missing is looked for in the
// trash.
func (g *collector) mark(ctx context.Context) error {
	if err := g.complete(); err != nil {
		return err
	}
	g.marks = g.r.store.Marks(func(ctx context.Context, d blob.Digest) ([]blob.Digest, bool) {
		if g.tx == nil {
			return g.r.index.Donors(ctx, d)
		}
		return g.tx.Donors(d)
	})
	if !g.dry {
		if err := g.marks.Begin(ctx); err != nil {
			return err
		}
	}
	var at index.Mark
	err := g.r.index.View(ctx, func(tx *index.Tx) error {
		at = tx.Mark()
		return nil
	})
	if err != nil {
		return err
	}
	g.since = at
	for done := 0; ; {
		var ds []blob.Digest
		next := at
		err := g.r.index.View(ctx, func(tx *index.Tx) (err error) {
			ds, next, err = tx.Referenced(at, page)
			return err
		})
		if err != nil {
			return err
		}
		if ds == nil {
			break
		}
		at = next
		for _, d := range ds {
			if err := g.marks.Add(ctx, d); err != nil {
				return err
			}
		}
		done += len(ds)
		g.progress("marking", done)
	}
	if !g.dry {
		lacking := slices.Clone(g.marks.Lacking())
		for _, d := range slices.Concat(g.marks.Missing(), lacking) {
			if _, err := g.r.store.Restore(ctx, d); err != nil {
				return err
			}
		}
		if err := errors.Join(g.marks.Refresh(ctx), g.marks.Again(ctx, lacking...)); err != nil {
			return err
		}
	}
	g.Lost = Amount{Count: len(g.marks.Missing())}
	pinned, err := g.r.store.Pinned(ctx)
	if err != nil {
		return err
	}
	return g.include(ctx, pinned, nil)
}

// include marks what is pinned, and what was registered since the collection
// began.
func (g *collector) include(ctx context.Context, pinned blob.Pinned, registered []blob.Digest) error {
	if err := g.marks.Refresh(ctx); err != nil {
		return err
	}
	for d := range pinned.Blobs {
		if err := g.marks.Add(ctx, d); err != nil {
			return err
		}
	}
	if err := g.marks.Again(ctx, registered...); err != nil {
		return err
	}
	for _, d := range g.marks.Unreadable() {
		return fmt.Errorf("%w: a collection can't tell what the blob %s needs, whose file is damaged, so nothing was removed: heft repair heals it, or delete the versions that name it (heft verify lists them)", ErrConflict, d)
	}
	return nil
}

// purge empties the trash of what has been there long enough.
func (g *collector) purge(ctx context.Context) error {
	g.Waiting, g.Held = Amount{}, Amount{}
	// Of what could not be brought back the trash may have the only file: reading
	// it may work another time.
	missing := map[blob.Digest]bool{}
	for _, d := range slices.Concat(g.marks.Missing(), g.marks.Lacking()) {
		missing[d] = true
	}
	for t, err := range g.r.store.Trash(ctx) {
		switch {
		case err != nil:
			return err
		case missing[t.Digest], g.grace >= 0 && g.r.now()-t.At < g.grace.Microseconds():
			g.Waiting.add(t.Size)
			continue
		case t.Held:
			g.Held.add(t.Size)
			continue
		case !g.dry:
			if err := g.r.store.Purge(ctx, t); err != nil {
				return err
			}
		}
		g.Purged.add(t.Size)
		g.progress("emptying the trash", g.Purged.Count)
	}
	return nil
}

// detach writes blobs anew that keep deleted ones alive.
func (g *collector) detach(ctx context.Context) error {
	plan, err := g.r.store.Detachable(ctx, g.marks)
	if err != nil {
		return err
	}
	for d, rows := range plan.Frames {
		if g.dry {
			g.Detached.Count++
			continue
		}
		x, err := g.r.store.Detach(ctx, d, rows)
		if full(err) {
			g.r.log.WarnContext(ctx, "registry: not enough space to write a blob anew", "blob", d.String())
			return nil
		}
		if _, corrupt := errors.AsType[*blob.CorruptError](err); corrupt || errors.Is(err, blob.ErrNotFound) {
			g.r.log.WarnContext(ctx, "registry: not writing a blob anew", "blob", d.String(), "error", err)
			continue // verify tells of it
		}
		if err != nil {
			return err
		}
		grown := x.Stored - x.Before
		percent, err := g.protection(ctx, d)
		if err != nil {
			return errors.Join(err, x.Discard())
		}
		done, err := x.Publish(ctx)
		if err != nil {
			return err
		}
		if done {
			if err := g.protect(ctx, d, percent); err != nil {
				return err
			}
			g.Detached.add(grown)
			g.progress("writing blobs anew", g.Detached.Count)
			if err := g.r.index.Update(ctx, index.Change{Verb: "gc"}, func(tx *index.Tx) error { return tx.AddBlob(ctx, d) }); err != nil && !full(err) {
				return err
			}
		}
	}
	if g.dry {
		g.Detached.Bytes = plan.Grows
		g.Thinned.Bytes += plan.Saves + plan.Grows
		return nil
	}
	if len(plan.Frames) == 0 {
		return nil
	}
	return g.mark(ctx) // less is needed now
}

// protection returns the percentage of the parity that the blob d has, 0 for none.
func (g *collector) protection(ctx context.Context, d blob.Digest) (int, error) {
	p, err := g.r.store.ParityOf(ctx, d)
	if err != nil {
		return 0, passOver(err)
	}
	return p.Percent, nil
}

// protect gives a blob that was written anew a parity like the one before.
func (g *collector) protect(ctx context.Context, d blob.Digest, percent int) error {
	if percent == 0 {
		return nil
	}
	_, err := g.r.store.AddParity(ctx, d, percent)
	if full(err) {
		g.r.log.WarnContext(ctx, "registry: not enough space for the parity of a blob that was written anew", "blob", d.String())
		return nil
	}
	return passOver(err)
}

// full reports whether the disk has no room for the index. What it keeps of blobs
// may then wait.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// A transaction of a collection ends after so many blobs or frames: others wait
// for it.
const (
	batchBlobs  = 256
	batchFrames = 4096
)

// remove moves what is not needed to the trash, and thins what is needed in part.
func (g *collector) remove(ctx context.Context) error {
	var batch []blob.Digest
	frames := 0
	flush := func() error {
		defer func() { batch, frames = batch[:0], 0 }()
		if len(batch) == 0 || g.dry {
			return nil
		}
		return g.trash(ctx, batch)
	}
	g.Named, g.Partly, g.Pinned = Amount{}, Amount{}, Amount{}
	pinned, err := g.r.store.Pinned(ctx)
	if err != nil {
		return err
	}
	for d, err := range g.r.store.All(ctx) {
		if err != nil {
			return err
		}
		info, there, err := g.r.statFile(ctx, d)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		_, isPinned := pinned.Blobs[d]
		switch {
		case isPinned:
			g.Pinned.add(info.Stored)
		case g.marks.Whole(d):
			g.Named.add(info.Stored)
		case g.marks.Needed(d):
			if err := g.thin(ctx, info); err != nil {
				return err
			}
		default:
			if g.dry {
				g.Trashed.add(info.Stored)
			}
			batch = append(batch, d)
			frames += info.Parts.Raw.Frames + info.Parts.Self.Frames + info.Parts.Delta.Frames
			if len(batch) >= batchBlobs || frames >= batchFrames {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// trash moves those blobs to the trash that are not needed still.
func (g *collector) trash(ctx context.Context, batch []blob.Digest) error {
	var moved Amount
	err := g.confirm(ctx, func(tx *index.Tx, c *blob.Collection) error {
		moved = Amount{}
		for _, d := range batch {
			if g.marks.Needed(d) {
				continue
			}
			info, there, err := g.r.statFile(ctx, d)
			if err != nil {
				return err
			}
			if !there {
				continue
			}
			if err := tx.RemoveBlob(ctx, d); err != nil {
				return err
			}
			done, err := c.Trash(ctx, d)
			if err != nil {
				return err
			}
			if done {
				moved.add(info.Stored)
			} else if err := tx.AddBlob(ctx, d); err != nil && !errors.Is(err, blob.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	g.Trashed.Count += moved.Count
	g.Trashed.Bytes += moved.Bytes
	g.progress("collecting", g.Trashed.Count)
	if full(err) {
		return nil // the blobs are moved: a later collection has the index forget them
	}
	return err
}

// leastDrop is the part of a deleted blob's file that thinning it has to free, and
// leastBytes how much at least: a block of most file systems.
const (
	leastDrop  = 16
	leastBytes = 4096
)

// thin removes the frames of a deleted blob that nobody needs.
func (g *collector) thin(ctx context.Context, info blob.Info) error {
	g.Partly.add(info.Stored)
	drop, err := g.r.store.Droppable(ctx, info.Digest, g.marks)
	if err != nil || drop < leastBytes || drop < info.Stored/leastDrop {
		return passOver(err)
	}
	if g.dry {
		g.Thinned.add(drop)
		g.Partly.Bytes -= drop
		return nil
	}
	x, err := g.r.store.Thin(ctx, info.Digest, g.marks)
	if full(err) {
		return nil
	}
	if err != nil {
		return passOver(err)
	}
	freed := x.Before - x.Stored
	percent, err := g.protection(ctx, info.Digest)
	if err != nil {
		return errors.Join(err, x.Discard())
	}
	done := false
	err = g.confirm(ctx, func(tx *index.Tx, c *blob.Collection) error {
		if err := tx.RemoveBlob(ctx, info.Digest); err != nil {
			return err
		}
		if done, err = c.Replace(ctx, x, g.marks); err != nil {
			return err
		}
		return passOver(tx.AddBlob(ctx, info.Digest))
	})
	if done {
		g.Thinned.add(freed)
		g.Partly.Bytes -= freed
		g.progress("thinning", g.Thinned.Count)
		if err := g.protect(ctx, info.Digest, percent); err != nil {
			return err
		}
	}
	if full(err) {
		err = nil
	}
	return errors.Join(err, x.Discard())
}

// passOver drops an error that says of one blob that it is damaged or gone.
func passOver(err error) error {
	if _, corrupt := errors.AsType[*blob.CorruptError](err); corrupt || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
