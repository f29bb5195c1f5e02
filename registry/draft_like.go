package registry

import (
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// plainFiles returns the files that were stored so far.
func (d *Draft) plainFiles() (files []File) {
	for _, s := range d.Files() {
		files = append(files, s.File)
	}
	return files
}

// base returns the files that those of rec may be a later state of: its
// parent's, or without one those of the latest version of the same name.
func (v *view) base(rec *index.Version) ([]File, error) {
	id := rec.Parent
	if id == uuid.Nil {
		last, err := v.latest(rec.Name)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		id = last.ID
	}
	return v.files(id)
}

// maxLike bounds how many files of the base are looked through for the tensors
// of one, when they may have moved from one file to another.
const maxLike = 64

// like returns the files that the one at the path at may be like, that of the
// same path first.
func (d *Draft) like(at name.Path) (like []blob.Digest) {
	for _, f := range d.base {
		switch {
		case f.Path == at.String():
			like = slices.Insert(like, 0, f.Digest)
		case f.Size > 0 && len(like) < maxLike:
			like = append(like, f.Digest)
		}
	}
	return like
}
