package oci

import (
	"context"
	"encoding/json"
	"path"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/registry"
)

// manifest is an image manifest.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
}

// modelConfig is the config of a ModelPack image.
type modelConfig struct {
	Descriptor modelDescriptor `json:"descriptor"`
	ModelFS    modelFS         `json:"modelfs"`
	Config     technical       `json:"config"`
}

type modelDescriptor struct {
	CreatedAt   string `json:"createdAt,omitzero"` // RFC 3339
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description,omitzero"`
}

type modelFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diffIds"`
}

type technical struct {
	Architecture string `json:"architecture,omitzero"`
	Format       string `json:"format,omitzero"`
	ParamSize    string `json:"paramSize,omitzero"`
	Precision    string `json:"precision,omitzero"`
}

// fileInfo is ModelPack's description of a file.
type fileInfo struct {
	Name     string `json:"name"`
	Mode     uint32 `json:"mode"`
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Size     int64  `json:"size"`
	ModTime  string `json:"mtime"` // RFC 3339
	Typeflag byte   `json:"typeflag"`
}

// rfc3339 writes a time, "" for one whose year has no four digits.
func rfc3339(micros int64) string {
	t := time.UnixMicro(micros).UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// layers returns the descriptors of a version's files. A version without files
// has the empty blob, which the format has for that.
func layers(m *registry.Model, files []registry.FileSHA256) (all []descriptor, err error) {
	for _, f := range files {
		d := descriptor{
			MediaType: mediaType(f.Path), Digest: "sha256:" + f.SHA256.String(), Size: f.Size,
			Annotations: map[string]string{
				keyFilePath: f.Path, keyTitle: f.Path, keyUntested: "true", keyBLAKE3: f.Digest.String(),
			},
		}
		if when := rfc3339(m.RegisteredAt); when != "" {
			info, err := canon.Marshal(fileInfo{Name: path.Base(f.Path), Mode: 0o644, Size: f.Size, ModTime: when, Typeflag: '0'})
			if err != nil {
				return nil, err
			}
			d.Annotations[keyFileInfo] = string(info)
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		all = []descriptor{describe(typeEmpty, []byte(emptyBlob))}
	}
	return all, nil
}

// emptyBlob is the content of the blob of typeEmpty.
const emptyBlob = "{}"

// config returns what an image's config says of a version.
func config(ctx context.Context, m *registry.Model, files []registry.FileSHA256, layers []descriptor) (modelConfig, error) {
	p, err := precision(ctx, m)
	if err != nil {
		return modelConfig{}, err
	}
	c := modelConfig{
		Descriptor: modelDescriptor{CreatedAt: rfc3339(m.RegisteredAt), Name: m.Name, Version: m.Version, Description: m.Description},
		ModelFS:    modelFS{Type: "layers"},
		Config: technical{
			Architecture: m.Metadata.Architecture, Format: format(files),
			ParamSize: paramSize(m.Metadata.ParameterCount), Precision: p,
		},
	}
	for _, l := range layers {
		c.ModelFS.DiffIDs = append(c.ModelFS.DiffIDs, l.Digest)
	}
	return c, nil
}

// precision names the types of the elements of a version's weights, those of
// the most bytes first. It is "" unless all of them have a name.
func precision(ctx context.Context, m *registry.Model) (string, error) {
	sizes := map[string]int64{}
	for t, err := range m.Tensors(ctx) {
		if err != nil {
			return "", err
		}
		if mediaType(t.Path) != typeWeight {
			continue
		}
		p := precisionOf(t.DType)
		if p == "" {
			return "", nil
		}
		sizes[p] += t.Size
	}
	return bySize(sizes, len(sizes)), nil
}

// annotations returns what heft knows of a version, store being the id of its
// registry.
func annotations(store uuid.UUID, m *registry.Model) (map[string]string, error) {
	all := map[string]string{
		keyVersion: m.Version, keyTitle: m.Name, keyName: m.Name, keyLabel: m.Version,
		keyID: m.ID.String(), keyStore: store.String(), keyManifest: m.Manifest.String(), keyStatus: string(m.Status),
		keyRegisteredAt: strconv.FormatInt(m.RegisteredAt, 10), keyUpdatedAt: strconv.FormatInt(m.UpdatedAt, 10),
	}
	if when := rfc3339(m.RegisteredAt); when != "" {
		all[keyCreated] = when
	}
	if m.RegisteredBy != "" {
		all[keyRegisteredBy] = m.RegisteredBy
	}
	if m.Parent != uuid.Nil {
		all[keyParent] = m.Parent.String()
	}
	if len(m.Aliases) > 0 {
		if err := annotate(all, keyAliases, m.Aliases); err != nil {
			return nil, err
		}
	}
	if m.Origin != nil {
		if err := annotate(all, keyOrigin, m.Origin); err != nil {
			return nil, err
		}
	}
	meta := m.Metadata
	if len(meta.Extra) > 0 {
		extra, err := canon.Compact(meta.Extra)
		if err != nil {
			return nil, err
		}
		meta.Extra = json.RawMessage(extra)
	}
	if err := annotate(all, keyMetadata, meta); err != nil {
		return nil, err
	}
	if all[keyMetadata] == "{}" {
		delete(all, keyMetadata)
	}
	return all, nil
}

// annotate adds an annotation whose value is JSON.
func annotate(all map[string]string, key string, v any) error {
	b, err := canon.Marshal(v)
	if err != nil {
		return err
	}
	all[key] = string(b)
	return nil
}
