package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// Protection is how a blob is protected by parity.
type Protection struct {
	Digest  blob.Digest
	Stored  int64       // bytes of the blob's file; 0 if it can't be read
	Uses    []string    // name:version/path of every file that it is, in the versions that were named; none for one that these only borrow from
	Parity  blob.Parity // its Percent is 0 if there is none
	Changed bool        // from SetParity and RemoveParity: it was made, or removed
	Err     error       // why nothing is known, or was done; others are not concerned
}

// Parity yields how the blobs of versions are protected: of each version that
// refs name the manifest, the files and whatever blobs these borrow from; or,
// without refs, all blobs of the store, and what has a parity but is gone. It yields each blob once; an error of its
// own ends it.
func (r *Registry) Parity(ctx context.Context, refs ...string) iter.Seq2[Protection, error] {
	return r.eachBlob(ctx, refs, func(p *Protection) {
		p.Parity, p.Err = r.store.ParityOf(ctx, p.Digest)
		if errors.Is(p.Err, blob.ErrNoParity) {
			p.Err = nil
		}
	})
}

// SetParity gives the blobs that [Registry.Parity] yields a parity of percent,
// from blob.MinParity to blob.MaxParity, in place of what they have. What was
// yielded as changed is durable. A blob that is damaged gets none.
func (r *Registry) SetParity(ctx context.Context, percent int, refs ...string) iter.Seq2[Protection, error] {
	if percent < blob.MinParity || percent > blob.MaxParity {
		return func(yield func(Protection, error) bool) {
			yield(Protection{}, fmt.Errorf("%w: a parity of %d%%: it is %d to %d", ErrInvalid, percent, blob.MinParity, blob.MaxParity))
		}
	}
	return r.eachBlob(ctx, refs, func(p *Protection) {
		before, err := r.store.ParityOf(ctx, p.Digest)
		p.Parity, p.Err = r.store.AddParity(ctx, p.Digest, percent)
		p.Changed = p.Err == nil && (err != nil || before != p.Parity)
	})
}

// RemoveParity removes the parity of the blobs that [Registry.Parity] yields,
// also where other versions use them. What was yielded as changed is durable.
func (r *Registry) RemoveParity(ctx context.Context, refs ...string) iter.Seq2[Protection, error] {
	return r.eachBlob(ctx, refs, func(p *Protection) {
		_, err := r.store.ParityOf(ctx, p.Digest)
		p.Err = r.store.RemoveParity(ctx, p.Digest)
		p.Changed = p.Err == nil && !errors.Is(err, blob.ErrNoParity)
	})
}

// eachBlob yields the blobs that refs mean, after do.
func (r *Registry) eachBlob(ctx context.Context, refs []string, do func(*Protection)) iter.Seq2[Protection, error] {
	return func(yield func(Protection, error) bool) {
		todo, err := r.usedBlobs(ctx, refs)
		if err != nil {
			yield(Protection{}, err)
			return
		}
		seen := map[blob.Digest]bool{}
		for _, p := range todo {
			seen[p.Digest] = true
		}
		for i := 0; i < len(todo); i++ {
			if err := context.Cause(ctx); err != nil {
				yield(Protection{}, err)
				return
			}
			p := todo[i]
			info, statErr := r.store.Stat(ctx, p.Digest)
			p.Stored = info.Stored
			for _, d := range info.Donors {
				if !seen[d] {
					seen[d] = true
					todo = append(todo, Protection{Digest: d})
				}
			}
			if do(&p); p.Err == nil && !p.Changed {
				p.Err = statErr
			}
			p.Err = named(p.Err)
			if err := context.Cause(ctx); err != nil && p.Err != nil {
				yield(Protection{}, err)
				return
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// usedBlobs lists the blobs of the versions that refs name, or all of the store.
func (r *Registry) usedBlobs(ctx context.Context, refs []string) (all []Protection, err error) {
	at := map[blob.Digest]int{}
	add := func(d blob.Digest, use string) {
		i, ok := at[d]
		if !ok {
			i = len(all)
			at[d] = i
			all = append(all, Protection{Digest: d})
		}
		if use != "" {
			all[i].Uses = append(all[i].Uses, use)
		}
	}
	err = r.view(ctx, func(v *view) error {
		clear(at)
		all = nil
		recs := v.tx.All()
		if len(refs) > 0 {
			var named []*index.Version
			for _, ref := range refs {
				rec, err := v.resolveRef(ref)
				if err != nil {
					return err
				}
				named = append(named, rec)
			}
			recs = func(yield func(*index.Version, error) bool) {
				for _, rec := range named {
					if !yield(rec, nil) {
						return
					}
				}
			}
		}
		seen := map[blob.Digest]bool{} // manifests
		for rec, err := range recs {
			if err != nil {
				return err
			}
			if seen[rec.Manifest] {
				continue
			}
			seen[rec.Manifest] = true
			files, err := v.files(rec.ID)
			if err != nil {
				return err
			}
			add(rec.Manifest, refOf(rec)+"/"+ManifestUse)
			for _, f := range files {
				add(f.Digest, refOf(rec)+"/"+f.Path)
			}
		}
		return nil
	})
	if err != nil || len(refs) > 0 {
		return all, err
	}
	for _, names := range []iter.Seq2[blob.Digest, error]{r.store.All(ctx), r.store.Parities(ctx)} {
		for d, err := range names {
			if err != nil {
				return nil, named(err)
			}
			add(d, "")
		}
	}
	return all, nil
}
