package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heftstore/heft/blob"
)

// blobRepair heals the blobs that a verification found damaged.
type blobRepair struct {
	*repair
	store *blob.Store
	files map[blob.Digest]*faulty
	order []blob.Digest // of files, as found
	used  map[blob.Digest]bool
}

// faulty is a blob's file at fault.
type faulty struct {
	err     error
	uses    []string
	users   []blob.Digest // blobs that could not be read for it
	tried   bool          // what the store itself has
	missing bool
	done    string
	none    bool // no version needs it
}

// faultTries bounds how many files at fault are looked at for one blob: it has at
// most so many donors that are damaged at once in practice, each is mended or
// brought from elsewhere as a whole.
const faultTries = 64

// blobs verifies everything and heals what can be healed.
func (p *repair) blobs(ctx context.Context) error {
	v, err := p.r.BeginVerify(ctx, nil, &VerifyOptions{Quarantine: QuarantineNothing, Progress: p.opts.Progress})
	if err != nil {
		return err
	}
	defer v.Close()
	p.opts.Begin(v.Bytes)
	p.done.Blobs = v.Blobs
	var bad []Checked
	for c, err := range v.Run(ctx) {
		if err != nil {
			return err
		}
		if c.Err != nil {
			bad = append(bad, c)
		}
	}
	found := v.Findings()
	if found.Journal != nil {
		p.find(Finding{What: FoundJournal, Err: found.Journal, Hint: "another process may have written meanwhile: run repair again"})
	}
	b := &blobRepair{repair: p, store: p.r.store, files: map[blob.Digest]*faulty{}, used: map[blob.Digest]bool{}}
	for _, c := range bad {
		b.used[c.Digest] = len(c.Uses) > 0
	}
	for _, c := range bad {
		if err := b.own(ctx, c); err != nil {
			return err
		}
	}
	if err := b.others(ctx, bad); err != nil {
		return err
	}
	if err := b.report(ctx, found.Files); err != nil {
		return err
	}
	return p.index(ctx, found, len(bad) > 0)
}

// index builds the index anew where it is wrong, or may be by now, and then makes
// again what a cut journal has lost.
func (p *repair) index(ctx context.Context, found Findings, touched bool) (err error) {
	wrong := found.Wrong+found.Hints > 0
	if wrong {
		p.find(Finding{
			What: FoundIndex, Err: fmt.Errorf("index.db differs from journal and blobs in %d places, the first is %w", found.Wrong+found.Hints, found.Index[0]),
			Done: "built anew", Healed: !p.opts.DryRun,
		})
	}
	if p.opts.DryRun {
		return nil
	}
	if wrong || touched {
		if err := p.r.index.Rebuild(ctx); err != nil {
			return err
		}
	}
	p.done.Names, _, err = p.r.recoverLost(ctx)
	return err
}

// at returns the file at fault for an error of verifying a blob.
func (b *blobRepair) at(c Checked, err error) (blob.Digest, *faulty) {
	d := c.Digest
	if bad, ok := errors.AsType[*blob.CorruptError](err); ok {
		d = bad.In
	}
	f := b.files[d]
	if f == nil {
		f = &faulty{err: err, none: true}
		b.files[d] = f
		b.order = append(b.order, d)
	}
	if !slices.Contains(f.users, c.Digest) {
		f.users = append(f.users, c.Digest)
		f.uses = append(f.uses, c.Uses...)
	}
	f.none = f.none && len(c.Uses) == 0
	return d, f
}

// own heals a blob with what the store itself has.
func (b *blobRepair) own(ctx context.Context, c Checked) error {
	if hint := beyondRepair(c); hint != "" {
		b.find(Finding{What: FoundBlob, Name: c.Digest.String(), Uses: c.Uses, Err: c.Err, Hint: hint})
		return nil
	}
	for range faultTries {
		err := b.verify(ctx, c.Digest)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		d, f := b.at(c, err)
		if f.tried {
			return nil
		}
		f.tried = true
		if err := b.heal(ctx, d, f); err != nil {
			return err
		}
		if f.done == "" || b.opts.DryRun {
			return nil
		}
	}
	return nil
}

// beyondRepair returns what can be done about an error that no other file mends, ""
// for any else.
func beyondRepair(c Checked) string {
	if _, newer := errors.AsType[*blob.NewerError](c.Err); newer {
		return "install a newer heft"
	}
	if c.In.IsZero() && errors.Is(c.Err, errManifest) {
		return "the manifest is sound, but another version's: tell the authors of heft"
	}
	return ""
}

// heal heals one file from the trash, the quarantine or its parity, if one of them
// can.
func (b *blobRepair) heal(ctx context.Context, d blob.Digest, f *faulty) error {
	_, err := b.store.Stat(ctx, d)
	f.missing = errors.Is(err, blob.ErrNotFound)
	if b.opts.DryRun {
		return b.plan(ctx, d, f)
	}
	restore := b.store.ReplaceFromTrash
	if f.missing {
		restore = b.store.Restore
	}
	if ok, err := restore(ctx, d); err != nil {
		return err
	} else if ok {
		f.done = "brought back from the trash"
		return nil
	}
	var held []blob.Quarantined
	for q, err := range b.store.Quarantined(ctx) {
		if err != nil {
			return err
		}
		if q.Digest == d {
			held = append(held, q)
		}
	}
	for _, q := range held {
		err := b.store.Release(ctx, q)
		if err == nil {
			f.done = "brought back from quarantine/" + q.File
			return nil
		}
		if _, bad := errors.AsType[*blob.CorruptError](err); !bad && !errors.Is(err, blob.ErrExist) && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	did, err := b.store.RepairFile(ctx, d)
	if err == nil && did.File {
		f.done = "rebuilt from its parity"
		return nil
	}
	return ignoreUseless(err)
}

// ignoreUseless returns nil for an error that says that a parity is of no use.
func ignoreUseless(err error) error {
	_, beyond := errors.AsType[*blob.BeyondError](err)
	_, corrupt := errors.AsType[*blob.CorruptError](err)
	if beyond || corrupt || errors.Is(err, blob.ErrNoParity) || errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

// plan says what heal would try.
func (b *blobRepair) plan(ctx context.Context, d blob.Digest, f *faulty) error {
	for x, err := range b.store.Trash(ctx) {
		if err != nil {
			return err
		}
		if x.Digest == d {
			f.done = "brought back from the trash, if it is sound there"
			return nil
		}
	}
	for q, err := range b.store.Quarantined(ctx) {
		if err != nil {
			return err
		}
		if q.Digest == d {
			f.done = "brought back from quarantine/" + q.File + ", if it is sound"
			return nil
		}
	}
	if p, err := b.store.ParityOf(ctx, d); err == nil && !p.Stale {
		f.done = fmt.Sprintf("rebuilt from its parity, if no more than %d%% are damaged", p.Percent)
	} else if err := ignoreUseless(err); err != nil {
		return err
	}
	return nil
}

// verify is Store.Verify of a blob, which has to be whole if a version has it.
func (b *blobRepair) verify(ctx context.Context, d blob.Digest) error {
	return b.store.VerifyWith(ctx, d, &blob.VerifyOptions{Whole: b.used[d]})
}

// others heals what is left with what the other store has.
func (b *blobRepair) others(ctx context.Context, bad []Checked) (err error) {
	if b.from == nil {
		return nil
	}
	t, err := b.store.TransferFrom(ctx, b.from.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for _, used := range []bool{true, false} { // what versions have may bring along what others are
		for _, c := range bad {
			if used != (len(c.Uses) > 0) {
				continue
			}
			if err := b.bring(ctx, t, c); err != nil {
				return err
			}
		}
	}
	if b.opts.DryRun {
		return nil
	}
	return t.Sync(ctx)
}

// bring heals one blob with what the other store has.
func (b *blobRepair) bring(ctx context.Context, t *blob.Transfer, c Checked) error {
	distrusted := map[blob.Digest]bool{}
	for range faultTries {
		err := b.verify(ctx, c.Digest)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		d, f := b.at(c, err)
		if b.opts.DryRun {
			if info, err := b.from.store.Stat(ctx, c.Digest); err == nil && !info.Partial && f.done == "" {
				f.done = "brought from " + b.from.Dir()
			}
			return nil
		}
		if distrusted[d] {
			return nil
		}
		distrusted[d] = true
		t.Distrust(d)
		_, err = t.Copy(ctx, c.Digest)
		if _, corrupt := errors.AsType[*blob.CorruptError](err); corrupt || errors.Is(err, blob.ErrNotFound) {
			return nil // it does not have it either
		}
		if err != nil {
			return err
		}
		f.done = "brought from " + b.from.Dir()
	}
	return nil
}

// report makes findings of the files at fault.
func (b *blobRepair) report(ctx context.Context, files []FileDamage) error {
	touched := map[blob.Digest][]string{}
	for _, f := range files {
		touched[f.Digest] = f.Touches
	}
	for _, d := range b.order {
		f := b.files[d]
		slices.Sort(f.uses)
		out := Finding{What: FoundBlob, Name: d.String(), Uses: slices.Compact(f.uses), Err: f.err, Done: f.done}
		if !b.opts.DryRun {
			out.Healed = true
			for _, u := range f.users {
				if err := b.verify(ctx, u); err != nil {
					if cause := context.Cause(ctx); cause != nil {
						return cause
					}
					out.Healed = false
				}
			}
			if !out.Healed && f.none && len(touched[d]) == 0 {
				if err := b.setAside(ctx, d, &out); err != nil {
					return err
				}
			}
		}
		if !out.Healed && (out.Done == "" || !b.opts.DryRun) {
			out.Done = ""
			out.Hint = "put the same content again, or repair with --from a backup or another store that has it"
		}
		b.find(out)
	}
	return nil
}

// setAside moves a damaged file away that no version needs.
func (b *blobRepair) setAside(ctx context.Context, d blob.Digest, out *Finding) error {
	q, err := b.store.Quarantine(ctx, d)
	switch {
	case err == nil:
		out.Done, out.Healed = "moved to quarantine/"+q.File+": no version needs it", true
	case errors.Is(err, blob.ErrNotFound):
		out.Done, out.Healed = "nothing: no version needs it, and it is gone", true
	case !errors.Is(err, blob.ErrSound):
		return err
	}
	return nil
}
