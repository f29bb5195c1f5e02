package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
)

// manifest is what a version was when it was registered; docs/format.md, "The
// manifest".
type manifest struct {
	Description  string          `json:"description,omitzero"`
	Files        []manifestFile  `json:"files"`
	Format       int             `json:"format"`
	ID           uuid.UUID       `json:"id"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
	Name         name.Name       `json:"name"`
	Origin       json.RawMessage `json:"origin,omitempty"`
	Parent       uuid.UUID       `json:"parent,omitzero"`
	RegisteredAt int64           `json:"registered_at"`
	RegisteredBy string          `json:"registered_by,omitzero"`
	Version      name.Version    `json:"version"`
}

type manifestFile struct {
	Digest blob.Digest `json:"digest"`
	Path   name.Path   `json:"path"`
	Size   int64       `json:"size"`
}

const (
	manifestFormat = 1
	// maxManifest bounds what is read as a manifest: 100,000 files need some
	// 12 MB.
	maxManifest = canon.MaxBytes
)

// newManifest describes a record and its files, ascending by path.
func newManifest(v *index.Version, files []index.File) *manifest {
	m := &manifest{
		Description: v.Description, Files: make([]manifestFile, len(files)), Format: manifestFormat, ID: v.ID,
		Metadata: v.Metadata, Name: v.Name, Parent: v.Parent, RegisteredAt: v.RegisteredAt,
		RegisteredBy: v.RegisteredBy, Version: v.Version, Origin: v.Origin,
	}
	for i, f := range files {
		m.Files[i] = manifestFile{Digest: f.Digest, Path: f.Path, Size: f.Size}
	}
	return m
}

// readManifest reads and parses a stored manifest.
func (r *Registry) readManifest(ctx context.Context, d blob.Digest) (m *manifest, err error) {
	b, err := r.store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if b.Size() > maxManifest {
		return nil, fmt.Errorf("%d bytes are too many for a manifest", b.Size())
	}
	raw, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	m = new(manifest)
	if err := canon.Decode(raw, m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("manifest format %d is not known to this heft: upgrade heft", m.Format)
	}
	if again, err := canon.Marshal(m); err != nil || !bytes.Equal(again, raw) {
		return nil, errors.Join(errors.New("the manifest is not in canonical form"), err)
	}
	return m, nil
}

// AsRegistered returns the version with the metadata and description that it was
// registered with, whatever Edit made of them since. It reads the manifest, and
// returns a *CorruptError if that is damaged.
func (m *Model) AsRegistered(ctx context.Context) (*Model, error) {
	if m.reg == nil {
		return nil, errForeign
	}
	was, err := m.reg.readManifest(ctx, m.Manifest)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil && was.ID != m.id {
		err = fmt.Errorf("the manifest describes %s:%s, not this version", was.Name, was.Version)
	}
	if err != nil {
		return nil, &CorruptError{Ref: m.Ref(), Err: err}
	}
	c := *m
	c.Description = was.Description
	if c.Metadata, err = decodeMetadata(was.Metadata); err != nil {
		return nil, &CorruptError{Ref: m.Ref(), Err: err}
	}
	return &c, nil
}

// checkManifest reads a version's manifest and compares it with what the index
// says of the version and that a status, alias or edit can't change.
func (r *Registry) checkManifest(ctx context.Context, v *index.Version, files []File) error {
	m, err := r.readManifest(ctx, v.Manifest)
	if err != nil {
		return err
	}
	if m.ID != v.ID || m.Name != v.Name || m.Version != v.Version || m.Parent != v.Parent || m.RegisteredAt != v.RegisteredAt || !bytes.Equal(m.Origin, v.Origin) {
		return fmt.Errorf("the manifest describes %s:%s, registered at %d, not this version", m.Name, m.Version, m.RegisteredAt)
	}
	if len(m.Files) != len(files) {
		return fmt.Errorf("the manifest lists %d files, the index %d", len(m.Files), len(files))
	}
	for i, f := range m.Files {
		if got := (File{Path: f.Path.String(), Digest: f.Digest, Size: f.Size}); got != files[i] {
			return fmt.Errorf("the manifest lists %s with digest %s, the index %s with %s", got.Path, got.Digest, files[i].Path, files[i].Digest)
		}
	}
	return nil
}
