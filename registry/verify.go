package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// VerifyOptions changes how Verify works. A nil *VerifyOptions, like its zero
// value, is the default throughout.
type VerifyOptions struct {
	// Progress hears how many plain bytes were verified since it was called
	// last; nil hears nothing.
	Progress func(bytes int64)
}

// ManifestUse is the path under which Checked lists a version's manifest.
const ManifestUse = "manifest"

// Checked is the outcome for one blob.
type Checked struct {
	Digest blob.Digest
	Size   int64    // plain bytes, as registered
	Uses   []string // name:version/path of every file that it is, in the versions that were verified
	Err    error    // nil when it is sound; a *CorruptError, or an error of reading
}

// Verify reads every byte of a version's files and of its manifest and checks
// it, or for "" of the whole store: all versions, the blobs that belong to
// none, of which it checks the stored bytes alone, and then the journal's chain.
// It yields each blob once, the damaged ones too; an error of its own ends it.
func (r *Registry) Verify(ctx context.Context, ref string, o *VerifyOptions) iter.Seq2[Checked, error] {
	return func(yield func(Checked, error) bool) {
		work, err := r.verifyWork(ctx, ref)
		if err != nil {
			yield(Checked{}, err)
			return
		}
		progress := func(int64) {}
		if o != nil && o.Progress != nil {
			progress = o.Progress
		}
		for _, c := range work {
			if err := context.Cause(ctx); err != nil {
				yield(Checked{}, err)
				return
			}
			c.verify(ctx, r, progress)
			if err := context.Cause(ctx); err != nil && c.Err != nil {
				yield(Checked{}, err) // it was not found damaged, but not read
				return
			}
			if !yield(c.Checked, nil) {
				return
			}
		}
		if ref == "" {
			if _, err := r.index.CheckJournal(ctx); err != nil {
				yield(Checked{}, named(err))
			}
		}
	}
}

// VerifySize returns how many plain bytes Verify will read.
func (r *Registry) VerifySize(ctx context.Context, ref string) (total int64, err error) {
	work, err := r.verifyWork(ctx, ref)
	for _, c := range work {
		total += c.Size
	}
	return total, err
}

// check is a blob to be verified, with the versions whose manifest it is.
type check struct {
	Checked
	first     func(error) error // names the first file in an error
	manifests []manifestCheck
}

type manifestCheck struct {
	rec   *index.Version
	files []File
}

func (c *check) verify(ctx context.Context, r *Registry, progress func(int64)) {
	left := c.Size
	if len(c.Uses) > 0 {
		c.Err = r.readThrough(ctx, c.Digest, func(n int64) { left -= n; progress(n) })
	} else { // collections may have left some of its frames, and have taken its donors
		c.Err = r.store.Check(ctx, c.Digest)
	}
	progress(left) // of a blob that can't be read
	if c.Err != nil {
		c.Err = c.first(c.Err)
		return
	}
	for _, m := range c.manifests {
		if err := r.checkManifest(ctx, m.rec, m.files); err != nil {
			c.Err = &CorruptError{Ref: refOf(m.rec), Err: err}
			return
		}
	}
}

// readThrough reads and checks a whole blob.
func (r *Registry) readThrough(ctx context.Context, d blob.Digest, progress func(int64)) (err error) {
	b, err := r.store.Open(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	_, err = b.WriteTo(countWriter{ctx, progress})
	return err
}

// countWriter discards what it counts, until its context ends.
type countWriter struct {
	ctx   context.Context
	count func(int64)
}

func (w countWriter) Write(p []byte) (int, error) {
	w.count(int64(len(p)))
	return len(p), context.Cause(w.ctx)
}

// verifyWork lists what there is to verify: the manifests and files of the
// versions in the order of the listing, each blob once.
func (r *Registry) verifyWork(ctx context.Context, ref string) (work []*check, err error) {
	at := map[blob.Digest]*check{}
	add := func(d blob.Digest, size int64, ref, path, use string) *check {
		c, ok := at[d]
		if !ok {
			c = &check{Checked: Checked{Digest: d, Size: size}}
			c.first = func(err error) error { return fileError(err, ref, path) }
			at[d] = c
			work = append(work, c)
		}
		if use != "" {
			c.Uses = append(c.Uses, ref+"/"+use)
		}
		return c
	}
	err = r.view(ctx, func(v *view) error {
		clear(at)
		work = nil
		recs := v.tx.All()
		if ref != "" {
			rec, err := v.resolveRef(ref)
			if err != nil {
				return err
			}
			recs = func(yield func(*index.Version, error) bool) { yield(rec, nil) }
		}
		for rec, err := range recs {
			if err != nil {
				return err
			}
			files, err := v.files(rec.ID)
			if err != nil {
				return err
			}
			var size int64
			if b, err := v.tx.Blob(rec.Manifest); err == nil {
				size = b.Size
			} else if !errors.Is(err, index.ErrNotFound) {
				return err
			}
			c := add(rec.Manifest, size, refOf(rec), "", ManifestUse)
			c.manifests = append(c.manifests, manifestCheck{rec, files})
			for _, f := range files {
				add(f.Digest, f.Size, refOf(rec), f.Path, f.Path)
			}
		}
		return nil
	})
	if err != nil || ref != "" {
		return work, err
	}
	for d, err := range r.store.All(ctx) {
		if err != nil {
			return nil, named(err)
		}
		if at[d] != nil {
			continue
		}
		size := int64(0)
		if info, err := r.store.Stat(ctx, d); err == nil {
			size = info.Size
		}
		c := add(d, size, "", "", "")
		c.first = func(err error) error { return fmt.Errorf("registry: a blob that belongs to no version: %w", err) }
	}
	return work, nil
}

// Stats describes a whole store.
type Stats struct {
	Models   int          `json:"models"`
	Versions int          `json:"versions"`
	Files    int          `json:"files"`
	Blobs    int          `json:"blobs"`   // files in blobs/, manifests among them
	Logical  int64        `json:"logical"` // bytes of all versions' files, as if nothing were shared
	Unique   int64        `json:"unique"`  // plain bytes of the distinct files among them
	Stored   int64        `json:"stored"`  // bytes in blobs/
	Parts    blob.Parts   `json:"parts"`   // how the versions' distinct files are stored
	PerModel []ModelStats `json:"per_model"`
}

// ModelStats describes one model. What models share counts in each.
type ModelStats struct {
	Name     string `json:"name"`
	Versions int    `json:"versions"`
	Files    int    `json:"files"`
	Logical  int64  `json:"logical"`
	Unique   int64  `json:"unique"`
	Stored   int64  `json:"stored"`

	Parts blob.Parts `json:"parts"` // of the distinct files
}

// Stats counts models, versions, files and bytes, from the index and the names
// in blobs/. It reads no content.
func (r *Registry) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	var stored map[blob.Digest]index.BlobInfo
	err := r.view(ctx, func(v *view) (err error) {
		s, stored, err = v.stats()
		return err
	})
	if err != nil {
		return Stats{}, err
	}
	for d, err := range r.store.All(ctx) {
		if err != nil {
			return Stats{}, named(err)
		}
		known, ok := stored[d]
		size := known.Stored
		if !ok { // of a draft, as long as the index was not built anew
			info, err := r.store.Stat(ctx, d)
			_, damaged := errors.AsType[*blob.CorruptError](err)
			if errors.Is(err, blob.ErrNotFound) {
				continue // removed meanwhile
			}
			if err != nil && !damaged {
				return Stats{}, named(err)
			}
			size = info.Stored
		}
		s.Blobs++
		s.Stored += size
	}
	return s, nil
}

// stats counts all but the blobs; stored is what the index says of those.
func (v *view) stats() (s Stats, stored map[blob.Digest]index.BlobInfo, err error) {
	s.PerModel = []ModelStats{} // not null in JSON
	stored = map[blob.Digest]index.BlobInfo{}
	for b, err := range v.tx.Blobs() {
		if err != nil {
			return s, nil, err
		}
		b.Donors = nil // not needed
		stored[b.Digest] = b
	}
	all := map[blob.Digest]bool{}
	seen := map[blob.Digest]bool{} // by the model at hand
	for rec, err := range v.tx.All() {
		if err != nil {
			return s, nil, err
		}
		if n := len(s.PerModel); n == 0 || s.PerModel[n-1].Name != rec.Name.String() {
			s.PerModel = append(s.PerModel, ModelStats{Name: rec.Name.String()})
			clear(seen)
		}
		m := &s.PerModel[len(s.PerModel)-1]
		m.Versions++
		if err := v.countFiles(rec.ID, &s, m, seen, all, stored); err != nil {
			return s, nil, err
		}
	}
	s.Models = len(s.PerModel)
	for _, m := range s.PerModel {
		s.Versions += m.Versions
		s.Files += m.Files
		s.Logical += m.Logical
	}
	return s, stored, nil
}

func (v *view) countFiles(id uuid.UUID, s *Stats, m *ModelStats, seen, all map[blob.Digest]bool, stored map[blob.Digest]index.BlobInfo) error {
	files, err := v.files(id)
	if err != nil {
		return err
	}
	for _, f := range files {
		m.Files++
		m.Logical += f.Size
		if !seen[f.Digest] {
			seen[f.Digest] = true
			m.Unique += f.Size
			m.Stored += stored[f.Digest].Stored
			m.Parts.Add(stored[f.Digest].Parts)
		}
		if !all[f.Digest] {
			all[f.Digest] = true
			s.Unique += f.Size
			s.Parts.Add(stored[f.Digest].Parts)
		}
	}
	return nil
}

// Storage says how a version's distinct files are stored. What it shares with
// other versions, in either direction, counts in each.
type Storage struct {
	Stored int64      `json:"stored"` // bytes of their blobs, frame tables included
	Parts  blob.Parts `json:"parts"`
}

// Storage returns how the version's files are stored, from the index.
func (m *Model) Storage(ctx context.Context) (s Storage, err error) {
	if m.reg == nil {
		return s, errForeign
	}
	err = m.reg.view(ctx, func(v *view) error {
		s = Storage{}
		files, err := v.files(m.id)
		if err != nil {
			return gone(m.Ref(), err)
		}
		seen := map[blob.Digest]bool{}
		for _, f := range files {
			if seen[f.Digest] {
				continue
			}
			seen[f.Digest] = true
			b, err := v.tx.Blob(f.Digest)
			if err != nil {
				return named(err)
			}
			s.Stored += b.Stored
			s.Parts.Add(b.Parts)
		}
		return nil
	})
	return s, err
}
