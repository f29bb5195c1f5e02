package registry

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// Stats describes a whole store.
type Stats struct {
	Models   int          `json:"models"`
	Versions int          `json:"versions"`
	Files    int          `json:"files"`
	Blobs    int          `json:"blobs"`   // files in blobs/, manifests among them
	Logical  int64        `json:"logical"` // bytes of all versions' files, as if nothing were shared
	Unique   int64        `json:"unique"`  // plain bytes of the distinct files among them
	Stored   int64        `json:"stored"`  // bytes in blobs/
	Parity   int64        `json:"parity"`  // bytes in parity/
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
			info, there, err := r.statFile(ctx, d)
			if err != nil {
				return Stats{}, named(err)
			}
			if !there {
				continue // removed meanwhile
			}
			size = info.Stored
		}
		s.Blobs++
		s.Stored += size
	}
	s.Parity, err = r.store.ParityStored(ctx)
	return s, named(err)
}

// statFile is Store.Stat for a blob that may be gone, which there tells, or damaged:
// then nothing is known of it.
func (r *Registry) statFile(ctx context.Context, d blob.Digest) (info blob.Info, there bool, err error) {
	info, err = r.store.Stat(ctx, d)
	if errors.Is(err, blob.ErrNotFound) {
		return info, false, nil
	}
	if _, damaged := errors.AsType[*blob.CorruptError](err); damaged {
		err = nil
	}
	return info, err == nil, err
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
