package migrate

import (
	"context"
	"iter"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
)

// Plan yields what Apply would do with everything in a source, in order, and
// changes nothing. It reads no weights, unless they have to be compared with a
// version that is there already. An error ends it.
func Plan(ctx context.Context, r *registry.Registry, src Source, o *Options) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		for jobs, err := range newDecider(r, src.Kind(), o).jobs(ctx, src) {
			if err != nil {
				yield(Outcome{}, err)
				return
			}
			for _, j := range jobs {
				if !yield(j.outcome, nil) {
					return
				}
			}
		}
	}
}

// Apply imports everything in a source and yields what became of each Item, in
// order. A version whose Outcome says Imported is durable, its content was
// checked against every hash that the source has of it, and was read back from
// the disk. Each is registered whole or not at all, many of them in one
// transaction; what is wrong with one does not keep the others.
//
// An error ends it: the source or the registry can't go on, or ctx is done. What
// was imported until then stays, and the next Apply continues there.
func Apply(ctx context.Context, r *registry.Registry, src Source, o *Options) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		d := newDecider(r, src.Kind(), o)
		d.storing = map[uuid.UUID]*job{}
		b := newBatch(ctx, d)
		defer func() { b.abandon() }() // of the last one
		// finish ends the batch and says whether to go on.
		finish := func() bool {
			jobs, err := b.commit()
			for _, j := range jobs {
				if !yield(j.outcome, nil) {
					return false
				}
			}
			if err != nil {
				yield(Outcome{}, err)
				return false
			}
			d.stored(jobs)
			b = newBatch(ctx, d)
			return true
		}
		for jobs, err := range d.jobs(ctx, src) {
			if err != nil {
				if finish() {
					yield(Outcome{}, err)
				}
				return
			}
			for _, j := range jobs {
				b.add(j)
			}
			if b.full() && !finish() {
				return
			}
		}
		finish()
	}
}
