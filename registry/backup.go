package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// BackupOptions changes how Backup and Restore work. A nil *BackupOptions, like its
// zero value, is the default throughout.
type BackupOptions struct {
	// DryRun writes nothing to the folder, which need not be there, and only
	// tells what would be copied.
	DryRun bool

	// Verify reads back in full what the folder holds then, and checks it.
	Verify bool

	// Begin hears, once, how many plain bytes the blobs have that are looked at;
	// nil hears nothing. Progress hears how many of them were copied, or found
	// there, since it was called last, and with Verify then once more.
	Begin    func(bytes int64)
	Progress func(bytes int64)
}

// Backed says what a backup holds.
type Backed struct {
	Dir      string
	ID       uuid.UUID
	Records  uint64 // of the journal
	Versions int
	Blobs    int       // that the versions are, manifests among them
	Copied   int       // blob files that were copied, those of donors among them; in a dry run, would be
	Written  int64     // bytes of those files
	Encoded  int       // blobs of those that were encoded anew, since their file did not fit what is there
	Damaged  []Checked // blobs that the backup lacks, as they are damaged or missing in the store; with Verify, or in the backup
}

// backupTries is how often a backup begins anew because blobs went away, with the
// versions that had them. The first time all is pinned that is there, so more than
// once takes an index that does not know what blobs need.
const backupTries = 5

// Backup makes the folder dir a store of its own with all that r holds at one
// moment, or brings an earlier backup that is there up to date: what it has already
// is not copied again. Others may change r meanwhile, and collect its garbage.
//
// Blobs are copied as they are stored, and every stored byte is checked while that
// is done. The journal comes last, in one step: whatever happens before, an earlier
// backup stays as it was, and what was copied until then is not copied again. What
// an earlier backup has and this one does not need stays, until a collection in the
// backup removes it. All of it is durable on return.
//
// Damage in r does not end it: see Backed.Damaged. The error is
// an *blob.OtherStoreError, an *index.OtherHistoryError, a *blob.IntoItselfError
// or blob.ErrBusy when the folder can't be a backup of r.
func (r *Registry) Backup(ctx context.Context, dir string, o *BackupOptions) (b Backed, err error) {
	var opts BackupOptions
	if o != nil {
		opts = *o
	}
	if opts.Begin == nil {
		opts.Begin = func(int64) {}
	}
	if opts.Progress == nil {
		opts.Progress = func(int64) {}
	}
	begin := r.store.Backup
	if opts.DryRun {
		begin = r.store.PlanBackup
	}
	t, err := begin(ctx, dir)
	if err != nil {
		return Backed{}, named(err)
	}
	defer func() { err = errors.Join(err, named(t.Close())) }()
	w := &backup{r: r, t: t, dir: dir, opts: opts}
	for try := 1; ; try++ {
		again, err := w.copy(ctx, try == 1)
		if err != nil {
			return w.done, named(err)
		}
		if !again || try == backupTries {
			break
		}
	}
	if opts.DryRun {
		return w.done, nil
	}
	return w.done, named(w.finish(ctx))
}

// Restore makes a store in the folder dir, which has to be empty or missing, from
// a backup, as Backup does. One that was interrupted is completed by another one.
// A folder with a store in it is an error that wraps fs.ErrExist: Repair heals
// a store with what a backup has.
func Restore(ctx context.Context, backup, dir string, o *BackupOptions) (b Backed, err error) {
	r, err := Open(ctx, backup, nil)
	if err != nil {
		return Backed{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	there, err := blob.Open(dir, nil)
	if err == nil {
		return Backed{}, errors.Join(fmt.Errorf("registry: %s holds a store already, %s: %w", dir, there.ID(), fs.ErrExist), there.Close())
	}
	if !errors.Is(err, blob.ErrNotFound) {
		return Backed{}, named(err)
	}
	return r.Backup(ctx, dir, o)
}

// backup is one that is made.
type backup struct {
	r    *Registry
	t    *blob.Transfer
	dir  string
	opts BackupOptions

	to       index.Position
	work     []*check // the blobs of the versions as of to
	replaced int
	done     Backed
}

// copy copies the blobs of all versions that there are now. again says that some
// were gone, and their versions by now too.
func (w *backup) copy(ctx context.Context, first bool) (again bool, err error) {
	if err := w.take(ctx); err != nil {
		return false, err
	}
	// Before a long copy rather than after it.
	if err := w.r.index.CheckBackup(ctx, w.dir, w.to); err != nil {
		return false, err
	}
	if first {
		total := int64(0)
		for _, c := range w.work {
			total += c.Size
		}
		if w.opts.Verify {
			total *= 2
		}
		w.opts.Begin(total)
	}
	w.done.Damaged = nil
	for _, c := range w.work {
		did, err := w.t.Copy(ctx, c.Digest)
		w.done.Copied += did.Files
		w.done.Written += did.Written
		w.replaced += did.Replaced
		if did.Encoded {
			w.done.Encoded++
		}
		if err == nil {
			w.opts.Progress(c.Size)
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			return false, err
		}
		if _, corrupt := errors.AsType[*blob.CorruptError](err); !corrupt && !errors.Is(err, blob.ErrNotFound) {
			return false, err
		}
		c.Err = c.first(err)
		w.done.Damaged = append(w.done.Damaged, c.Checked)
	}
	if len(w.done.Damaged) == 0 {
		return false, nil
	}
	return w.outdated(ctx)
}

// take notes how far the journal is, and which blobs the versions are, and pins
// them and what the index knows that they need. Nothing is collected while that is
// done.
func (w *backup) take(ctx context.Context) error {
	at := map[blob.Digest]*check{}
	err := w.r.view(ctx, func(v *view) error {
		clear(at)
		w.done = Backed{Dir: w.t.Dir(), ID: w.r.ID(), Copied: w.done.Copied, Written: w.done.Written, Encoded: w.done.Encoded}
		w.to = v.tx.Position()
		w.done.Records = w.to.Records
		for rec, err := range v.tx.All() {
			if err != nil {
				return err
			}
			w.done.Versions++
			if err := v.addChecks(at, rec); err != nil {
				return err
			}
		}
		return v.pin(w.t, at)
	})
	if err != nil {
		return err
	}
	w.work = w.work[:0]
	for _, c := range at {
		w.work = append(w.work, c)
	}
	slices.SortFunc(w.work, byDigest)
	w.done.Blobs = len(w.work)
	return nil
}

// pin pins blobs with all that they need, as far as the index knows.
func (v *view) pin(t *blob.Transfer, at map[blob.Digest]*check) error {
	left := make([]blob.Digest, 0, len(at))
	seen := map[blob.Digest]bool{}
	for d := range at {
		seen[d] = true
		left = append(left, d)
	}
	if err := t.Pin(left...); err != nil {
		return err
	}
	for len(left) > 0 {
		d := left[len(left)-1]
		left = left[:len(left)-1]
		b, err := v.tx.Blob(d)
		if errors.Is(err, index.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range b.Donors {
			if !seen[e] {
				seen[e] = true
				left = append(left, e)
				if err := t.Pin(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// outdated reports whether a blob that could not be copied belongs to no version
// any more.
func (w *backup) outdated(ctx context.Context) (bool, error) {
	at := map[blob.Digest]*check{}
	err := w.r.view(ctx, func(v *view) error {
		clear(at)
		for rec, err := range v.tx.All() {
			if err != nil {
				return err
			}
			if err := v.addChecks(at, rec); err != nil {
				return err
			}
		}
		return nil
	})
	return slices.ContainsFunc(w.done.Damaged, func(c Checked) bool { return at[c.Digest] == nil }), err
}

// finish makes what was copied durable, and then the folder a store as of the
// moment that was taken.
func (w *backup) finish(ctx context.Context) (err error) {
	if err := w.t.Sync(ctx); err != nil {
		return err
	}
	if err := w.r.index.CopyJournal(ctx, w.dir, w.to); err != nil {
		return err
	}
	if err := w.t.Seal(); err != nil {
		return err
	}
	// It applies to the index what the journal has, so that the next one who
	// opens it need not.
	to, err := Open(ctx, w.dir, &Options{Actor: w.r.actor, Now: w.r.now})
	if err != nil {
		return fmt.Errorf("the backup was made, but does not open: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if w.replaced > 0 {
		// What it knows of their files is of the ones before.
		if err := to.index.Rebuild(ctx); err != nil {
			return err
		}
	}
	if !w.opts.Verify {
		return nil
	}
	known := map[blob.Digest]bool{}
	for _, c := range w.done.Damaged {
		known[c.Digest] = true
	}
	for c, err := range to.Verify(ctx, "", &VerifyOptions{Progress: w.opts.Progress, Quarantine: QuarantineNothing}) {
		if err != nil {
			return err
		}
		if c.Err != nil && !known[c.Digest] {
			w.done.Damaged = append(w.done.Damaged, c)
		}
	}
	return nil
}
