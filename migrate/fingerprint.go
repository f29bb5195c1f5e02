package migrate

import (
	"encoding/json"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/registry"
)

// stamped is an Item as its fingerprint has it.
type stamped struct {
	Model registry.Model `json:"model"`
	Files []stampedFile  `json:"files"`
}

type stampedFile struct {
	Path     string          `json:"path"`
	Size     int64           `json:"size"`
	Modified int64           `json:"modified"`
	BLAKE3   blob.Digest     `json:"blake3"`
	SHA256   registry.SHA256 `json:"sha256"`
	Git      []byte          `json:"git"`
}

// fingerprint returns a digest of all that a source says of an item, or zero if
// a file could change without changing it.
func fingerprint(it *Item) blob.Digest {
	s := stamped{Model: it.Model}
	s.Model.Aliases = nil // they move without a change of the version
	for _, f := range it.Files {
		if f.Modified == 0 && f.Want == (Hashes{}) {
			return blob.Digest{}
		}
		s.Files = append(s.Files, stampedFile{f.Path, f.Size, f.Modified, f.Want.BLAKE3, f.Want.SHA256, f.Want.GitSHA1[:]})
	}
	raw, err := json.Marshal(s)
	if err == nil {
		raw, err = canon.Compact(raw)
	}
	if err != nil {
		return blob.Digest{} // it will be refused anyway
	}
	return blob.Sum(raw)
}
