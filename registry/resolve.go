package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// Get returns the version that a reference means: "name:version",
// "name:alias", "name:production" (by its status), "name" (the latest), "name@" and the beginning of its
// manifest's hash, an id, or a manifest's hash or its beginning, after "b3:"
// or, if no model has that name, bare. A version wins over an alias of the
// same text. It returns ErrNotFound, a *NameError, or a *AmbiguousError.
func (r *Registry) Get(ctx context.Context, ref string) (*Model, error) {
	p, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	return r.one(ctx, func(v *view) (*index.Version, error) { return v.resolve(p) })
}

// one returns the version that find finds.
func (r *Registry) one(ctx context.Context, find func(*view) (*index.Version, error)) (m *Model, err error) {
	err = r.view(ctx, func(v *view) error {
		rec, err := find(v)
		if err != nil {
			return err
		}
		m, err = v.model(rec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// AmbiguousError says that the beginning of a hash fits several versions.
type AmbiguousError struct {
	Ref   string
	First [2]string // two versions that it fits
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("registry: %s is not unique: it fits %s and %s; give more digits", e.Ref, e.First[0], e.First[1])
}

// Is reports that the error is an ErrInvalid.
func (e *AmbiguousError) Is(target error) bool { return target == ErrInvalid }

func parseRef(s string) (name.Ref, error) {
	p, err := name.ParseRef(s)
	if err != nil {
		return name.Ref{}, fmt.Errorf("registry: %w", err)
	}
	return p, nil
}

func parseName(s string) (name.Name, error) {
	n, err := name.ParseName(s)
	if err != nil {
		return name.Name{}, fmt.Errorf("registry: %w", err)
	}
	return n, nil
}

// resolve finds the version that a reference means.
func (v *view) resolve(p name.Ref) (*index.Version, error) {
	switch p.Kind {
	case name.KindLabel:
		return v.label(p.Name, p.Label)
	case name.KindLatest:
		rec, err := v.latest(p.Name)
		if errors.Is(err, ErrNotFound) && isHexPrefix(p.Name.String()) {
			if rec, hexErr := v.manifest(p.String(), p.Name.String(), name.Name{}); !errors.Is(hexErr, ErrNotFound) {
				return rec, hexErr
			}
		}
		return rec, err
	case name.KindHash:
		return v.manifest(p.String(), p.Hex, p.Name)
	case name.KindManifest:
		return v.manifest(p.String(), p.Hex, name.Name{})
	}
	return v.id(p.ID)
}

// isHexPrefix reports whether s may be the beginning of a hash.
func isHexPrefix(s string) bool {
	return len(s) >= name.MinHex && len(s) <= name.MaxHex && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

func (v *view) id(id uuid.UUID) (*index.Version, error) {
	rec, err := v.tx.Version(id)
	return rec, gone("version with the id "+id.String(), err)
}

// label finds a version of n by its version or, failing that, an alias or,
// for "production", its status.
func (v *view) label(n name.Name, label string) (*index.Version, error) {
	if ver, err := name.ParseVersion(label); err == nil {
		id, err := v.tx.Lookup(n, ver)
		if err == nil {
			return v.id(id)
		}
		if !errors.Is(err, index.ErrNotFound) {
			return nil, err
		}
	}
	if a, err := name.ParseAlias(label); err == nil {
		id, err := v.tx.Alias(n, a)
		if err == nil {
			return v.id(id)
		}
		if !errors.Is(err, index.ErrNotFound) {
			return nil, err
		}
	}
	if label == string(Production) {
		rec, err := v.production(n)
		if err != nil || rec != nil {
			return rec, err
		}
	}
	for _, err := range v.tx.Versions(n) {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s has no version or alias %s", ErrNotFound, n, label)
	}
	return nil, fmt.Errorf("%w: there is no model %s", ErrNotFound, n)
}

// manifest finds the version whose manifest's hash begins with the hex digits,
// of the model n unless that is zero.
func (v *view) manifest(ref, digits string, n name.Name) (*index.Version, error) {
	var found []*index.Version
	for rec, err := range v.tx.ByManifest(strings.ToLower(digits)) {
		if err != nil {
			return nil, err
		}
		if !n.IsZero() && rec.Name != n {
			continue
		}
		if found = append(found, rec); len(found) == 2 {
			return nil, &AmbiguousError{Ref: ref, First: [2]string{refOf(found[0]), refOf(found[1])}}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no version has a manifest whose hash begins with %s", ErrNotFound, digits)
	}
	return found[0], nil
}

// byAge orders versions from old to new: semantic versions by precedence,
// above all others; the others in the order of their registration times, then
// of their registrations.
func byAge(a, b *index.Version) int {
	as, bs := a.Version.IsSemver(), b.Version.IsSemver()
	switch {
	case as && bs:
		return name.Compare(a.Version, b.Version)
	case as != bs:
		if as {
			return 1
		}
		return -1
	case a.RegisteredAt != b.RegisteredAt:
		if a.RegisteredAt < b.RegisteredAt {
			return -1
		}
		return 1
	case a.Seq < b.Seq:
		return -1
	case a.Seq > b.Seq:
		return 1
	}
	return strings.Compare(a.Version.String(), b.Version.String()) // one import may register many
}

// latest finds the newest version of n.
func (v *view) latest(n name.Name) (*index.Version, error) {
	var newest *index.Version
	for rec, err := range v.tx.Versions(n) {
		if err != nil {
			return nil, err
		}
		if newest == nil || byAge(rec, newest) > 0 {
			newest = rec
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: there is no model %s", ErrNotFound, n)
	}
	return newest, nil
}

// production finds the version of n that is in production, nil if none is.
func (v *view) production(n name.Name) (*index.Version, error) {
	for rec, err := range v.tx.InStatus(n, string(Production)) {
		return rec, err
	}
	return nil, nil
}

// Production returns the version of a model that is in production. It returns
// ErrNotFound when there is no such model or none of its versions is.
func (r *Registry) Production(ctx context.Context, model string) (*Model, error) {
	n, err := parseName(model)
	if err != nil {
		return nil, err
	}
	return r.one(ctx, func(v *view) (*index.Version, error) {
		if _, err := v.latest(n); err != nil {
			return nil, err
		}
		rec, err := v.production(n)
		if err == nil && rec == nil {
			err = fmt.Errorf("%w: no version of %s is in production", ErrNotFound, n)
		}
		return rec, err
	})
}

// Versions yields the versions of a model, newest first: semantic versions by
// precedence, then the others by time. It yields ErrNotFound when there is no
// such model.
func (r *Registry) Versions(ctx context.Context, model string) iter.Seq2[*Model, error] {
	return collect(ctx, r, func(v *view) ([]*Model, error) {
		n, err := parseName(model)
		if err != nil {
			return nil, err
		}
		recs, err := v.versions(n)
		if err == nil && len(recs) == 0 {
			err = fmt.Errorf("%w: there is no model %s", ErrNotFound, n)
		}
		if err != nil {
			return nil, err
		}
		return v.models(func(yield func(*index.Version, error) bool) {
			for _, rec := range recs {
				if !yield(rec, nil) {
					return
				}
			}
		})
	})
}

// versions returns the versions of n, newest first.
func (v *view) versions(n name.Name) ([]*index.Version, error) {
	var recs []*index.Version
	for rec, err := range v.tx.Versions(n) {
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	slices.SortFunc(recs, func(a, b *index.Version) int { return byAge(b, a) })
	return recs, nil
}

// Summary describes a model: all versions of one name.
type Summary struct {
	Name       string `json:"name"`
	Versions   int    `json:"versions"`
	Latest     *Model `json:"latest"`
	Production *Model `json:"production,omitempty"` // nil when none is
	Bytes      int64  `json:"bytes"`                // of all versions' files, as if nothing were shared
	UpdatedAt  int64  `json:"updated_at"`           // of any version, in microseconds since the Unix epoch
}

// Names yields the models whose name begins with prefix, "" for all, by name.
func (r *Registry) Names(ctx context.Context, prefix string) iter.Seq2[Summary, error] {
	return collect(ctx, r, func(v *view) ([]Summary, error) {
		var all []Summary
		for n, err := range v.tx.Names(prefix) {
			if err != nil {
				return nil, err
			}
			s, err := v.summary(n)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		return all, nil
	})
}

func (v *view) summary(n name.Name) (s Summary, err error) {
	s.Name = n.String()
	var newest, prod *index.Version
	for rec, err := range v.tx.Versions(n) {
		if err != nil {
			return s, err
		}
		s.Versions++
		s.Bytes += rec.Size
		s.UpdatedAt = max(s.UpdatedAt, rec.UpdatedAt)
		if newest == nil || byAge(rec, newest) > 0 {
			newest = rec
		}
		if Status(rec.Status) == Production {
			prod = rec
		}
	}
	if newest != nil {
		if s.Latest, err = v.model(newest); err != nil {
			return s, err
		}
	}
	if prod != nil {
		s.Production, err = v.model(prod)
	}
	return s, err
}

// Locate finds a version, or a file of one: what Get takes, or
// "name:version/path" or "name/version/path". file is "" for a version. It
// returns ErrNotFound or a *NameError.
func (r *Registry) Locate(ctx context.Context, ref string) (m *Model, file string, err error) {
	m, file, err = r.locate(ctx, ref)
	_, bad := errors.AsType[*NameError](err)
	if !bad && !errors.Is(err, ErrNotFound) || !strings.Contains(ref, "/") {
		return m, file, err
	}
	// A full path may hold what a reference can't: ":", "@", "con".
	e, pathErr := r.entry(ctx, ref)
	if errors.Is(pathErr, ErrNotFound) {
		return nil, "", err
	}
	if pathErr != nil {
		return nil, "", pathErr
	}
	m, err = r.one(ctx, func(v *view) (*index.Version, error) { return v.id(e.Version) })
	if err != nil {
		return nil, "", err
	}
	return m, e.File.Path.String(), nil
}

// locate finds what is not a full path.
func (r *Registry) locate(ctx context.Context, ref string) (m *Model, file string, err error) {
	model, rest, _ := strings.Cut(ref, ":")
	label, file, ok := strings.Cut(rest, "/")
	if !ok {
		m, err = r.Get(ctx, ref)
		return m, "", err
	}
	if m, err = r.Get(ctx, model+":"+label); err == nil {
		_, _, err = m.file(ctx, file)
	}
	if err != nil {
		return nil, "", err
	}
	return m, file, nil
}
