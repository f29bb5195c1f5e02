package registry

import (
	"context"
	"errors"
	"time"
)

// DefaultGrace is how long what was collected stays in the trash, from where
// repair brings it back.
const DefaultGrace = 24 * time.Hour

// GCOptions changes how GC works. A nil *GCOptions, like its zero value, is the
// default throughout.
type GCOptions struct {
	// Grace is how long what was collected stays in the trash; 0 is
	// DefaultGrace, and below 0 nothing stays.
	Grace time.Duration

	// Progress hears what is being done, and how many blobs are through with it;
	// nil hears nothing.
	Progress func(step string, done int)
}

// Amount is some files and their bytes on the disk.
type Amount struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) { a.Count, a.Bytes = a.Count+1, a.Bytes+bytes }

// Collected is what a collection did, or for PlanGC would do, and why the rest of
// the store stays.
type Collected struct {
	Trashed  Amount `json:"trashed"`  // blobs that no version needs, moved to the trash
	Thinned  Amount `json:"thinned"`  // deleted blobs of which some frames are needed, and what they lost: freed
	Detached Amount `json:"detached"` // blobs that were written anew to stand without deleted ones, and what that takes: more
	Purged   Amount `json:"purged"`   // what left the trash: freed

	Named   Amount `json:"named"`   // blobs that versions name
	Partly  Amount `json:"partly"`  // deleted blobs of which others need frames
	Pinned  Amount `json:"pinned"`  // blobs that running processes are putting or reading for a backup
	Waiting Amount `json:"waiting"` // in the trash, until their time of grace is over, or needed and not readable now
	Held    Amount `json:"held"`    // in the trash, until processes end that are older
	Lost    Amount `json:"lost"`    // blobs that versions name and that are missing or can't be read

	// Freed is how many bytes of the disk are free again: what was purged and
	// thinned, less what detaching took.
	Freed int64 `json:"freed"`
}

// GC removes the blobs that no version needs. They move to the trash, and leave it
// after a time of grace by a later GC. Of a deleted blob from which others borrow
// frames only those stay, and frames that are deltas to deleted ones are encoded
// on their own where that takes less in all. Other processes may put, read and
// delete meanwhile, and collect. It can be interrupted at any time, and works when
// the disk is full. It holds some 80 bytes of memory for each blob.
//
// The error wraps ErrConflict, and nothing more is removed, if it can't be told what
// is needed: a blob is damaged of which the index knows nothing, or Repair was
// interrupted before it made lost versions known again.
func (r *Registry) GC(ctx context.Context, o *GCOptions) (Collected, error) {
	g := r.newCollector(o)
	if err := errors.Join(r.index.Sweep(ctx), g.mark(ctx)); err != nil {
		return g.Collected, named(err)
	}
	for _, step := range []func(context.Context) error{g.purge, g.detach, g.remove, g.forget} {
		if err := step(ctx); err != nil {
			return g.done(), named(err)
		}
	}
	if g.grace < 0 {
		if err := g.purge(ctx); err != nil {
			return g.done(), named(err)
		}
	}
	return g.done(), nil
}

// PlanGC returns what GC would do, and changes nothing.
func (r *Registry) PlanGC(ctx context.Context, o *GCOptions) (Collected, error) {
	g := r.newCollector(o)
	g.dry = true
	for _, step := range []func(context.Context) error{g.mark, g.purge, g.detach, g.remove} {
		if err := step(ctx); err != nil {
			return g.done(), named(err)
		}
	}
	return g.done(), nil
}
