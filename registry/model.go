package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
)

// NameError says which rule a name, version, alias, path or reference breaks.
// It wraps fs.ErrInvalid.
type NameError = name.Error

// Status is where a version stands. It is one of the constants.
type Status string

// The statuses, in the order that a version usually takes.
const (
	Pending    Status = "pending"
	Validated  Status = "validated"
	Staged     Status = "staged"
	Production Status = "production"
	Archived   Status = "archived"
	Deprecated Status = "deprecated"
)

// Statuses returns every status in the usual order.
func Statuses() []Status {
	return []Status{Pending, Validated, Staged, Production, Archived, Deprecated}
}

// ParseStatus reads a status in any letter case. Other text is an error that
// wraps ErrInvalid and lists the statuses.
func ParseStatus(s string) (Status, error) {
	var all []string
	for _, known := range Statuses() {
		if strings.EqualFold(s, string(known)) {
			return known, nil
		}
		all = append(all, string(known))
	}
	return "", fmt.Errorf("%w: unknown status %q: it is one of %s", ErrInvalid, s, strings.Join(all, ", "))
}

// Metadata is what is known about a version's network and training. All of it
// may be left out.
type Metadata struct {
	Architecture       string             `json:"architecture,omitzero"`
	InputDimensions    []int64            `json:"input_dimensions,omitempty"`
	OutputDimensions   []int64            `json:"output_dimensions,omitempty"`
	ParameterCount     int64              `json:"parameter_count,omitzero"`
	ConfigHash         string             `json:"config_hash,omitzero"`
	DatasetID          string             `json:"dataset_id,omitzero"`
	TrainingExamples   int64              `json:"training_examples,omitzero"`
	TrainingMetrics    map[string]float64 `json:"training_metrics,omitempty"` // finite
	ValidationAccuracy *float64           `json:"validation_accuracy,omitempty"`
	TestAccuracy       *float64           `json:"test_accuracy,omitempty"`
	Tags               []string           `json:"tags,omitempty"`
	Extra              json.RawMessage    `json:"extra,omitempty"` // any JSON
}

// Limits on free text, in bytes of UTF-8. They keep a journal record far below
// its 16 MiB and a listing readable.
const (
	maxActor       = 256
	maxReason      = 4 << 10
	maxDescription = 64 << 10
	maxTag         = 256
	maxMetadata    = 1 << 20 // as canonical JSON
)

// checkText refuses text that is too long, not UTF-8 or holds control
// characters other than tab and line feed.
func checkText(what, s string, limit int) error {
	switch {
	case len(s) > limit:
		return fmt.Errorf("%w: the %s is %d bytes long, over the limit of %d", ErrInvalid, what, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: the %s is not UTF-8", ErrInvalid, what)
	}
	for i, c := range s {
		if unicode.IsControl(c) && c != '\t' && c != '\n' {
			return fmt.Errorf("%w: the %s holds the control character %q at byte %d", ErrInvalid, what, c, i)
		}
	}
	return nil
}

// encode checks the metadata and returns it as canonical JSON, nil when it
// says nothing.
func (m *Metadata) encode() (json.RawMessage, error) {
	for what, s := range map[string]string{"architecture": m.Architecture, "config hash": m.ConfigHash, "dataset id": m.DatasetID} {
		if err := checkText(what, s, maxReason); err != nil {
			return nil, err
		}
	}
	for _, t := range m.Tags {
		if err := checkText("tag", t, maxTag); err != nil {
			return nil, err
		}
		if strings.TrimSpace(t) == "" {
			return nil, fmt.Errorf("%w: a tag is empty", ErrInvalid)
		}
	}
	for k := range m.TrainingMetrics {
		if err := checkText("name of a metric", k, maxTag); err != nil {
			return nil, err
		}
	}
	if len(m.Extra) > 0 {
		extra, err := canon.Compact(m.Extra)
		if err != nil {
			return nil, fmt.Errorf("%w: the extra metadata is not valid JSON: %w", ErrInvalid, err)
		}
		c := *m
		c.Extra = extra
		m = &c
	}
	b, err := canon.Marshal(m)
	if err != nil {
		if _, ok := errors.AsType[*json.UnsupportedValueError](err); ok {
			return nil, fmt.Errorf("%w: the metadata has a number that is not finite: %w", ErrInvalid, err)
		}
		return nil, fmt.Errorf("%w: the metadata: %w", ErrInvalid, err)
	}
	if len(b) > maxMetadata {
		return nil, fmt.Errorf("%w: the metadata is %d bytes as JSON, over the limit of %d: store it as a file of the version", ErrInvalid, len(b), maxMetadata)
	}
	if string(b) == "{}" {
		return nil, nil
	}
	return b, nil
}

func decodeMetadata(raw json.RawMessage) (m Metadata, err error) {
	if len(raw) == 0 {
		return m, nil
	}
	return m, canon.Decode(raw, &m)
}

// Model describes one version of a model. As an argument of Begin only the
// fields above the line in its declaration count; the registry fills in the
// rest. A Model is a copy: what the registry stores, and reads, is decided by
// its own record.
type Model struct {
	ID           uuid.UUID `json:"id"`      // zero: a random one
	Name         string    `json:"name"`    // may contain "/"
	Version      string    `json:"version"` // "": the next number
	Status       Status    `json:"status"`  // "": Pending
	Metadata     Metadata  `json:"metadata,omitzero"`
	RegisteredAt int64     `json:"registered_at"`          // microseconds since the Unix epoch; 0: now
	RegisteredBy string    `json:"registered_by,omitzero"` // "": Options.Actor, or with an Origin nobody knows who
	Description  string    `json:"description,omitzero"`
	Parent       uuid.UUID `json:"parent,omitzero"`
	UpdatedAt    int64     `json:"updated_at"`        // microseconds since the Unix epoch; 0: now
	Aliases      []string  `json:"aliases,omitempty"` // taken from the versions that have them
	Origin       *Origin   `json:"origin,omitempty"`  // nil unless it was imported

	// ---

	WeightsSize int64       `json:"weights_size"`          // of all files, in bytes
	WeightsHash blob.Digest `json:"weights_hash,omitzero"` // of the only file; of the manifest when there are several
	Files       int         `json:"files"`
	Manifest    blob.Digest `json:"manifest"` // identifies the version
	Children    []uuid.UUID `json:"children,omitempty"`

	reg *Registry
	id  uuid.UUID // as the registry knows it, whatever ID says
}

// Ref returns the reference name:version.
func (m *Model) Ref() string { return m.Name + ":" + m.Version }

// File is a file of a version.
type File struct {
	Path   string      `json:"path"` // slash-separated, relative
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"` // bytes
}

// errForeign is returned by methods of a Model that no registry returned.
var errForeign = fmt.Errorf("%w: this Model was not returned by a registry", ErrInvalid)

// List yields the files of the version, ascending by path. It yields
// ErrNotFound when the version was deleted.
func (m *Model) List(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if m.reg == nil {
			yield(File{}, errForeign)
			return
		}
		collect(ctx, m.reg, func(v *view) ([]File, error) {
			files, err := v.files(m.id)
			return files, gone(m.Ref(), err)
		})(yield)
	}
}

// Open opens a file of the version. It returns ErrNotFound when the version
// has no such file.
func (m *Model) Open(ctx context.Context, path string) (*Reader, error) {
	ref, f, err := m.file(ctx, path)
	if err != nil {
		return nil, err
	}
	return m.reg.open(ctx, ref, f)
}

// file finds a file of the version, and the version's reference.
func (m *Model) file(ctx context.Context, path string) (ref string, f File, err error) {
	if m.reg == nil {
		return "", File{}, errForeign
	}
	p, err := name.ParsePath(path)
	if err != nil {
		return "", File{}, fmt.Errorf("registry: %w", err)
	}
	err = m.reg.view(ctx, func(v *view) error {
		rec, err := v.tx.Version(m.id)
		if err != nil {
			return gone(m.Ref(), err)
		}
		ref = refOf(rec)
		f, err = v.file(rec, p)
		return err
	})
	return ref, f, err
}

// file finds a file of a version.
func (v *view) file(rec *index.Version, p name.Path) (File, error) {
	e, err := v.tx.Path(ref2path(rec) + "/" + p.String())
	if errors.Is(err, index.ErrNotFound) || err == nil && e.Version != rec.ID {
		err = fmt.Errorf("%w: %s has no file %s", ErrNotFound, refOf(rec), p)
	}
	if err != nil {
		return File{}, err
	}
	return File{Path: p.String(), Digest: e.File.Digest, Size: e.File.Size}, nil
}

func refOf(v *index.Version) string    { return v.Name.String() + ":" + v.Version.String() }
func ref2path(v *index.Version) string { return v.Name.String() + "/" + v.Version.String() }

// gone names the version in an index error.
func gone(ref string, err error) error {
	if errors.Is(err, index.ErrNotFound) {
		return fmt.Errorf("%w: there is no %s", ErrNotFound, ref)
	}
	return err
}

// view is a consistent look at the index, with what listings need again and
// again.
type view struct {
	r       *Registry
	tx      *index.Tx
	aliases map[name.Name]map[uuid.UUID][]string
}

func (r *Registry) view(ctx context.Context, fn func(*view) error) error {
	err := r.index.View(ctx, func(tx *index.Tx) error { return fn(r.newView(tx)) })
	return named(err)
}

func (r *Registry) update(ctx context.Context, c index.Change, fn func(*view) error) error {
	err := r.index.Update(ctx, c, func(tx *index.Tx) error { return fn(r.newView(tx)) })
	return named(err)
}

func (r *Registry) newView(tx *index.Tx) *view {
	return &view{r: r, tx: tx, aliases: map[name.Name]map[uuid.UUID][]string{}}
}

// named gives an error of a lower package this one's prefix.
func named(err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "registry: ") {
		return err
	}
	return fmt.Errorf("registry: %w", err)
}

// model makes a record a Model.
func (v *view) model(rec *index.Version) (*Model, error) {
	meta, err := decodeMetadata(rec.Metadata)
	if err != nil {
		return nil, fmt.Errorf("the metadata of %s: %w", refOf(rec), err)
	}
	origin, err := decodeOrigin(rec.Origin)
	if err != nil {
		return nil, fmt.Errorf("the origin of %s: %w", refOf(rec), err)
	}
	m := &Model{
		ID: rec.ID, Name: rec.Name.String(), Version: rec.Version.String(), Status: Status(rec.Status), Metadata: meta,
		RegisteredAt: rec.RegisteredAt, UpdatedAt: rec.UpdatedAt, RegisteredBy: rec.RegisteredBy, Description: rec.Description,
		WeightsSize: rec.Size, WeightsHash: rec.Hash, Files: rec.Files, Manifest: rec.Manifest, Parent: rec.Parent, Origin: origin,
		reg: v.r, id: rec.ID,
	}
	for c, err := range v.tx.Children(rec.ID) {
		if err != nil {
			return nil, err
		}
		m.Children = append(m.Children, c)
	}
	byID, ok := v.aliases[rec.Name]
	if !ok {
		byID = map[uuid.UUID][]string{}
		for a, err := range v.tx.Aliases(rec.Name) {
			if err != nil {
				return nil, err
			}
			byID[a.ID] = append(byID[a.ID], a.Alias.String())
		}
		v.aliases[rec.Name] = byID
	}
	m.Aliases = byID[rec.ID]
	return m, nil
}

func (v *view) models(recs iter.Seq2[*index.Version, error]) ([]*Model, error) {
	var all []*Model
	for rec, err := range recs {
		if err != nil {
			return nil, err
		}
		m, err := v.model(rec)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func (v *view) files(id uuid.UUID) ([]File, error) {
	var all []File
	for f, err := range v.tx.Files(id) {
		if err != nil {
			return nil, err
		}
		all = append(all, File{Path: f.Path.String(), Digest: f.Digest, Size: f.Size})
	}
	return all, nil
}
