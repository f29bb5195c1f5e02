package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
)

// Bulk makes many versions at once: its Drafts share the syncs of folders, and
// those that are committed together one record of the journal. It is safe for
// concurrent use. It holds nothing that has to be closed besides its Drafts.
type Bulk struct {
	r     *Registry
	batch *blob.Batch

	commit sync.Mutex // held by Commit: two that have some Drafts in common must not wait for each other

	mu     sync.Mutex
	drafts map[uuid.UUID]*Draft // begun, and neither committed nor closed
	last   map[name.Name]*Draft // of those of a name, the one that was begun last
}

// Bulk returns a Bulk without Drafts.
func (r *Registry) Bulk() *Bulk {
	return &Bulk{r: r, batch: r.store.Batch(), drafts: map[uuid.UUID]*Draft{}, last: map[name.Name]*Draft{}}
}

// Begin is Registry.Begin for a version of the Bulk, which needs a label. Its
// parent may be another Draft of the Bulk. The files of that one, or without a
// parent those of the Draft of the same name that was begun before, should have
// been put by then: its own may be stored as differences to them.
func (b *Bulk) Begin(ctx context.Context, m Model) (*Draft, error) {
	if m.Version == "" {
		return nil, fmt.Errorf("%w: a version of a bulk needs a label: %s has none", ErrInvalid, m.Name)
	}
	d, err := b.r.newDraft(&m, b.batch)
	if err != nil {
		return nil, err
	}
	d.bulk = b
	b.mu.Lock()
	like := b.drafts[d.rec.Parent]
	if d.rec.Parent == uuid.Nil {
		like = b.last[d.rec.Name]
	}
	b.mu.Unlock()
	if err := d.begin(ctx, like); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if other := b.drafts[d.rec.ID]; other != nil {
		return nil, fmt.Errorf("%w: the bulk has a draft of %s with the id %s already", ErrDuplicate, other.rec.Name, d.rec.ID)
	}
	b.drafts[d.rec.ID], b.last[d.rec.Name] = d, d
	return d, nil
}

func (b *Bulk) drop(d *Draft) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drafts[d.rec.ID] == d {
		delete(b.drafts, d.rec.ID)
	}
	if b.last[d.rec.Name] == d {
		delete(b.last, d.rec.Name)
	}
	if len(b.drafts) == 0 {
		b.r.release(b.batch)
	}
}

// sealers is how many manifests a Bulk stores at once: each waits for a sync,
// and more than eight at a time were no faster (ext4: 0.54 ms for one at a time,
// 0.26 for eight).
const sealers = 8

// Commit registers Drafts of the Bulk, a parent before its children: all of
// them, or none when it returns an error. What this process stored for them is
// read back from the disk before. On return they are durable, and closed. Its
// errors are those of Draft.Commit, and a *blob.CorruptError for what was not
// stored as it was written; the Drafts may be committed again, one by one too.
func (b *Bulk) Commit(ctx context.Context, n Note, drafts ...*Draft) ([]*Model, error) {
	b.commit.Lock()
	defer b.commit.Unlock()
	all := make([]*closing, len(drafts))
	for i, d := range drafts {
		if d.bulk != b || slices.Contains(drafts[:i], d) {
			return nil, fmt.Errorf("%w: a draft of %s is there twice, or belongs to another bulk", ErrInvalid, d.rec.Name)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.done {
			return nil, errDone
		}
		rec, files, err := d.finished()
		if err != nil {
			return nil, err
		}
		all[i] = &closing{d: d, rec: rec, files: files}
	}
	var wg sync.WaitGroup
	next := make(chan *closing)
	errs := make([]error, sealers)
	for i := range errs {
		wg.Go(func() {
			for c := range next {
				if errs[i] == nil {
					errs[i] = errors.Join(c.seal(ctx), c.readBack(ctx))
				}
			}
		})
	}
	for _, c := range all {
		next <- c
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := b.r.registerAll(ctx, "import", n, b.batch, all); err != nil {
		return nil, err
	}
	models := make([]*Model, len(all))
	for i, c := range all {
		models[i] = c.model
	}
	return models, nil
}

// closing is a Draft on its way to being a version.
type closing struct {
	d     *Draft
	rec   index.Version
	files []index.File
	model *Model // what came of it
}

// seal stores the manifest.
func (c *closing) seal(ctx context.Context) error {
	raw, err := canon.Marshal(newManifest(&c.rec, c.files))
	if err != nil {
		return fmt.Errorf("%w: the manifest: %w", ErrInvalid, err)
	}
	info, err := c.d.batch.Put(ctx, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("registry: storing the manifest of %s: %w", refOf(&c.rec), err)
	}
	c.rec.Manifest, c.rec.Hash = info.Digest, info.Digest
	if len(c.files) == 1 {
		c.rec.Hash = c.files[0].Digest
	}
	return nil
}

// readBack checks on the disk what was written for the version. The caller
// holds the Draft's mu, and seal has returned.
func (c *closing) readBack(ctx context.Context) error {
	written := []blob.Digest{c.rec.Manifest}
	for _, s := range c.d.files {
		if !s.Known {
			written = append(written, s.Digest)
		}
	}
	for _, d := range written {
		if d.IsZero() {
			continue // seal failed
		}
		if err := c.d.r.store.Check(ctx, d); err != nil {
			return fmt.Errorf("registry: reading back what was stored for %s: %w", refOf(&c.rec), err)
		}
	}
	return nil
}

// registerAll registers versions in one transaction and closes their Drafts, whose mu
// the caller holds.
func (r *Registry) registerAll(ctx context.Context, verb string, n Note, batch *blob.Batch, all []*closing) error {
	if err := batch.Sync(ctx); err != nil {
		return named(err)
	}
	change, err := r.change(verb, n)
	if err != nil {
		return err
	}
	err = r.restoring(ctx, func() error {
		return r.update(ctx, change, func(v *view) error { return v.registerAll(all) })
	})
	if err != nil {
		return err
	}
	for _, c := range all {
		c.d.done = true
		if c.d.bulk != nil {
			c.d.bulk.drop(c.d)
		} else {
			r.release(batch)
		}
	}
	return nil
}

// restoring runs fn again as long as it finds that a collection took a blob that
// it needs, and the trash still has it.
func (r *Registry) restoring(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		missing, ok := errors.AsType[*index.MissingBlobError](err)
		if !ok {
			return err
		}
		if ok, failed := r.store.Restore(ctx, missing.Digest); failed != nil {
			return named(errors.Join(err, failed))
		} else if !ok {
			return err
		}
	}
}

// release lets go of what was pinned. What fails there ends with the process at
// the latest.
func (r *Registry) release(b *blob.Batch) {
	if err := b.Release(); err != nil {
		r.log.Warn("registry: letting go of a draft's blobs", "error", err)
	}
}

// registerAll makes the versions known, with what came after their registration.
func (v *view) registerAll(all []*closing) error {
	for _, c := range all {
		if err := v.register(c); err != nil {
			return err
		}
	}
	for _, c := range all {
		if err := recordSHA256(v.tx, c.d.sums); err != nil {
			return err
		}
	}
	// Here, not after the update: an error would say that nothing was registered.
	for _, c := range all {
		rec, err := v.tx.Version(c.rec.ID)
		if err != nil {
			return err
		}
		if c.model, err = v.model(rec); err != nil {
			return err
		}
	}
	return nil
}

// register makes one version known, with what came after its registration.
func (v *view) register(c *closing) error {
	rec := c.rec // the function that calls may run twice
	if err := v.checkParent(&rec); err != nil {
		return err
	}
	if Status(rec.Status) == Production {
		if _, err := v.demote(rec.Name); err != nil {
			return err
		}
	}
	if err := v.tx.Register(&rec, c.files); err != nil {
		return err
	}
	if a := c.d.amended; a != nil {
		if err := v.tx.SetMetadata(rec.ID, a.metadata, a.description); err != nil {
			return err
		}
	}
	for _, a := range c.d.aliases {
		have, err := v.tx.Alias(rec.Name, a)
		if err != nil && !errors.Is(err, index.ErrNotFound) {
			return err
		}
		if err := v.tx.SetAlias(rec.Name, a, have, rec.ID); err != nil {
			return err
		}
	}
	return nil
}
