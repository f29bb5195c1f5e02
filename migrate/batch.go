package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
)

// Limits of a batch: what an interrupt may lose of the names (never of the
// content), and what one record of the journal holds, which has to be far below
// 16 MiB.
const (
	batchVersions = 1000
	batchBytes    = 512 << 20
	batchRecord   = 4 << 20
	fileRecord    = 200 // bytes of a record for a file, besides its path
)

// orderedSize is from how many bytes on a version waits for the one of its name
// before it, to be stored as a difference to that.
const orderedSize = 256 << 10

// batch is jobs that are committed together.
type batch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	d      *decider
	bulk   *registry.Bulk
	jobs   []*job
	last   map[string]*job // by name, of those to be imported
	size   int64
	record int

	work chan *job
	wg   sync.WaitGroup
}

func newBatch(ctx context.Context, d *decider) *batch {
	b := &batch{d: d, bulk: d.r.Bulk(), last: map[string]*job{}, work: make(chan *job, batchVersions+chunkItems)}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	for range d.opts.Workers {
		b.wg.Go(func() {
			for j := range b.work {
				b.store(j)
				close(j.done)
			}
		})
	}
	return b
}

// add gives a job to the workers, if there is something to store.
func (b *batch) add(j *job) {
	b.jobs = append(b.jobs, j)
	if j.outcome.State != Imported {
		b.d.opts.Progress(j.outcome.Size)
		return
	}
	j.done = make(chan struct{})
	if j.after == nil && j.outcome.Size >= orderedSize {
		j.after = b.last[j.model.Name]
	}
	b.last[j.model.Name] = j
	b.size += j.outcome.Size
	b.record += len(j.model.Description) + len(j.model.Metadata.Extra)
	if e := j.item.Edited; e != nil {
		b.record += len(e.Description) + len(e.Metadata.Extra)
	}
	if o := j.model.Origin; o != nil {
		b.record += len(o.Details)
	}
	for _, f := range j.item.Files {
		b.record += fileRecord + len(f.Path)
	}
	b.work <- j
}

func (b *batch) full() bool {
	return len(b.jobs) >= batchVersions || b.size >= batchBytes || b.record >= batchRecord
}

// abandon ends the workers of a batch that is not committed. It may be called
// after commit.
func (b *batch) abandon() {
	b.cancel(context.Canceled)
	b.join()
	for _, j := range b.jobs {
		if j.draft != nil {
			_ = j.draft.Close() // it only lets go
		}
	}
}

func (b *batch) join() {
	if b.work != nil {
		close(b.work)
		b.wg.Wait()
		b.work = nil
	}
}

// store stores the files of a version. What it can't do for a reason that lies
// in the source is the outcome; another error ends the batch.
func (b *batch) store(j *job) {
	if j.after != nil {
		// It was given to the workers before, so one of them has it.
		<-j.after.done
		if j.parent && j.after.outcome.State == Failed && !b.d.withoutParent(j) {
			j.fail(j.outcome.Why)
			b.d.opts.Progress(j.outcome.Size)
			return
		}
	}
	if context.Cause(b.ctx) != nil {
		return
	}
	err := b.storeFiles(j)
	if err == nil {
		return
	}
	if !ownFault(err) {
		b.cancel(fmt.Errorf("importing %s: %w", j.outcome.Ref, err))
		return
	}
	j.fail(err)
}

// fail ends a job that was to be imported.
func (j *job) fail(err error) {
	j.end(Failed, err)
	j.outcome.ID, j.outcome.Written = uuid.Nil, 0
	if j.draft != nil {
		_ = j.draft.Close() // it only lets go
		j.draft = nil
	}
}

// ownFault reports whether an error is about one version and not about the
// registry.
func ownFault(err error) bool {
	_, source := errors.AsType[*sourceError](err)
	_, path := errors.AsType[*index.PathConflictError](err)
	return source || path || errors.Is(err, fs.ErrInvalid) || errors.Is(err, registry.ErrDuplicate) ||
		errors.Is(err, registry.ErrConflict) || errors.Is(err, registry.ErrNotFound)
}

func (b *batch) storeFiles(j *job) (err error) {
	if j.draft, err = b.bulk.Begin(b.ctx, j.model); err != nil {
		return err
	}
	if e := j.item.Edited; e != nil {
		if err := j.draft.Amend(e.Metadata, e.Description); err != nil {
			return err
		}
	}
	for i := range j.item.Files {
		f := &j.item.Files[i]
		s, err := b.storeFile(j.draft, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		j.outcome.Written += s.Written
	}
	return nil
}

func (b *batch) storeFile(d *registry.Draft, f *File) (s registry.Stored, err error) {
	if !f.Want.BLAKE3.IsZero() {
		s, err := d.Adopt(b.ctx, f.Path, f.Want.BLAKE3)
		if err == nil {
			b.d.opts.Progress(f.Size)
			return s, nil
		}
		if !errors.Is(err, registry.ErrNotFound) {
			return s, err
		}
	}
	r, err := open(b.ctx, f, b.d.opts.Progress)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.src.Close()) }()
	put := d.Put
	if f.Want.SHA256 != (registry.SHA256{}) {
		put = d.PutSHA256
	}
	s, err = put(b.ctx, f.Path, r.stream())
	if failed := r.failure(); failed != nil {
		return s, &sourceError{failed}
	}
	if err == nil {
		err = r.check(f)
	}
	if err == nil {
		err = checkStored(f, s)
	}
	return s, err
}

// commit registers what was stored and returns the jobs of the batch whose
// outcome is certain, in order, also beside an error. It ends the batch.
func (b *batch) commit() ([]*job, error) {
	b.join()
	defer b.abandon()
	if err := context.Cause(b.ctx); err != nil {
		return nil, err
	}
	var drafts []*registry.Draft
	for _, j := range b.jobs {
		if j.draft != nil {
			drafts = append(drafts, j.draft)
		}
	}
	if len(drafts) > 0 {
		_, err := b.bulk.Commit(b.ctx, b.d.opts.Note, drafts...)
		if err != nil && !ownFault(err) {
			return nil, err
		}
		if err != nil {
			if jobs, err := b.commitEach(); err != nil {
				return jobs, err
			}
		}
	}
	return b.jobs, b.setAliases()
}

// commitEach registers versions one by one, after one of them kept them all from
// being registered. Beside an error it returns the jobs that have their outcome.
func (b *batch) commitEach() (certain []*job, err error) {
	for _, j := range b.jobs {
		if j.draft != nil && err == nil {
			_, failed := b.bulk.Commit(b.ctx, b.d.opts.Note, j.draft)
			switch {
			case failed == nil:
			case ownFault(failed):
				j.fail(failed)
			default:
				err = fmt.Errorf("importing %s: %w", j.outcome.Ref, failed)
			}
		}
		if j.draft == nil || err == nil {
			certain = append(certain, j)
		}
	}
	return certain, err
}

// setAliases gives versions that were there the aliases that they lack.
func (b *batch) setAliases() error {
	for _, j := range b.jobs {
		for _, a := range j.aliases {
			err := b.d.r.SetAlias(b.ctx, j.model.Name, a, j.model.ID.String(), b.d.opts.Note)
			switch {
			case err != nil && ownFault(err):
				j.note("the alias %s could not be set: %v", a, err)
			case err != nil:
				return fmt.Errorf("setting the alias %s of %s: %w", a, j.outcome.Ref, err)
			}
		}
	}
	return nil
}
