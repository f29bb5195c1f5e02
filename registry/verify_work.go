package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// check is a blob to be verified, with the versions whose manifest it is.
type check struct {
	Checked
	seq       uint64            // of the first record that registered a version which has it; 0 if none does
	first     func(error) error // names the first file in an error
	manifests []manifestCheck
	done      chan struct{} // closed when it was verified
}

type manifestCheck struct {
	rec   *index.Version
	files []File
}

// verifyWork lists what there is to verify: the manifests and files of the
// versions that refs name, or of all, and then also the blobs of none. Each blob
// comes once, by digest. next is above the number of every record that registered
// one of the versions.
func (r *Registry) verifyWork(ctx context.Context, refs []string) (work []*check, next uint64, err error) {
	at := map[blob.Digest]*check{}
	err = r.view(ctx, func(v *view) error {
		clear(at)
		next = 0
		recs, err := v.versionsOf(refs)
		if err != nil {
			return err
		}
		for rec, err := range recs {
			if err != nil {
				return err
			}
			next = max(next, rec.Seq+1)
			if err := v.addChecks(at, rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if len(refs) == 0 {
		if err := r.addOrphans(ctx, at); err != nil {
			return nil, 0, err
		}
	}
	work = make([]*check, 0, len(at))
	for _, c := range at {
		work = append(work, c)
	}
	slices.SortFunc(work, byDigest)
	return work, next, nil
}

func byDigest(a, b *check) int { return compareDigests(a.Digest, b.Digest) }

func compareDigests(a, b blob.Digest) int { return bytes.Compare(a[:], b[:]) }

// versionsOf lists the versions that refs name, each once, or all for none.
func (v *view) versionsOf(refs []string) (func(func(*index.Version, error) bool), error) {
	if len(refs) == 0 {
		return v.tx.All(), nil
	}
	var recs []*index.Version
	seen := map[uuid.UUID]bool{}
	for _, ref := range refs {
		rec, err := v.resolveRef(ref)
		if err != nil {
			return nil, err
		}
		if !seen[rec.ID] {
			seen[rec.ID] = true
			recs = append(recs, rec)
		}
	}
	return func(yield func(*index.Version, error) bool) {
		for _, rec := range recs {
			if !yield(rec, nil) {
				return
			}
		}
	}, nil
}

// addChecks adds the blobs of a version.
func (v *view) addChecks(at map[blob.Digest]*check, rec *index.Version) error {
	files, err := v.files(rec.ID)
	if err != nil {
		return err
	}
	add := func(d blob.Digest, size int64, path, use string) *check {
		c, ok := at[d]
		if !ok {
			c = &check{Checked: Checked{Digest: d, Size: size}, seq: rec.Seq, done: make(chan struct{})}
			ref := refOf(rec)
			c.first = func(err error) error { return fileError(err, ref, path) }
			at[d] = c
		}
		c.seq = min(c.seq, rec.Seq)
		c.Uses = append(c.Uses, refOf(rec)+"/"+use)
		return c
	}
	var size int64
	if b, err := v.tx.Blob(rec.Manifest); err == nil {
		size = b.Size
	} else if !errors.Is(err, index.ErrNotFound) {
		return err
	}
	c := add(rec.Manifest, size, "", ManifestUse)
	c.manifests = append(c.manifests, manifestCheck{rec, files})
	for _, f := range files {
		add(f.Digest, f.Size, f.Path, f.Path)
	}
	return nil
}

// addOrphans adds the blobs that belong to no version.
func (r *Registry) addOrphans(ctx context.Context, at map[blob.Digest]*check) error {
	for d, err := range r.store.All(ctx) {
		if err != nil {
			return named(err)
		}
		if at[d] != nil {
			continue
		}
		size := int64(0)
		if info, err := r.store.Stat(ctx, d); err == nil {
			size = info.Size
		}
		c := &check{Checked: Checked{Digest: d, Size: size}, done: make(chan struct{})}
		c.first = func(err error) error { return fmt.Errorf("registry: a blob that belongs to no version: %w", err) }
		at[d] = c
	}
	return nil
}

// sample chooses among work, which is in order: the manifests, and of the other
// blobs as many as make that share of their plain bytes.
func sample(work []*check, share float64, seed uint64) (chosen []*check) {
	var others []*check
	total := 0.0
	for _, c := range work {
		if len(c.manifests) > 0 {
			chosen = append(chosen, c)
			continue
		}
		others = append(others, c)
		total += float64(c.Size)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	have := 0.0
	for _, c := range others {
		if have >= share*total {
			break
		}
		have += float64(c.Size)
		chosen = append(chosen, c)
	}
	slices.SortFunc(chosen, byDigest)
	return chosen
}
