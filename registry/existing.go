package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// Check returns what Begin would say of the Model without a look at the store:
// nil, a *NameError, or an error that wraps ErrInvalid.
func (m *Model) Check() error {
	d, err := (&Registry{actor: "?"}).newDraft(m, nil)
	if err == nil && m.ID != uuid.Nil && d.rec.Parent == m.ID {
		err = fmt.Errorf("%w: %s can't be its own parent", ErrInvalid, m.Ref())
	}
	return err
}

// Wanted is a version to be: what Begin will be given, and the paths of its
// files.
type Wanted struct {
	Model *Model
	Paths []string
}

// Existing is what there is already of a version to be. What there is not is
// nil.
type Existing struct {
	ByID       *Model            // the version with its id
	ByName     *Model            // the version with its name and label
	Parent     *Model            // the version that it names as its parent
	Production *Model            // the version of its name that is in production, if that is what it wants to be
	Aliases    map[string]*Model // the versions that have the aliases that it wants

	// InTheWay says that the full path of a file is taken by a version of another
	// name and label: a *index.PathConflictError.
	InTheWay error
}

// Existing looks for each of the versions, all of them at one moment. What breaks
// a rule, a name, label, alias or path, is found nowhere.
func (r *Registry) Existing(ctx context.Context, wanted []Wanted) ([]Existing, error) {
	var found []Existing
	err := r.view(ctx, func(v *view) error {
		found = make([]Existing, len(wanted))
		for i, w := range wanted {
			if err := v.existing(w, &found[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

func (v *view) existing(w Wanted, found *Existing) (err error) {
	m := w.Model
	if found.ByID, err = v.byID(m.ID); err != nil {
		return err
	}
	if found.Parent, err = v.byID(m.Parent); err != nil {
		return err
	}
	nm, err := name.ParseName(m.Name)
	if err != nil {
		return nil
	}
	if m.Status == Production {
		rec, err := v.production(nm)
		if err == nil && rec != nil {
			found.Production, err = v.model(rec)
		}
		if err != nil {
			return err
		}
	}
	for _, text := range m.Aliases {
		if err := v.existingAlias(nm, text, found); err != nil {
			return err
		}
	}
	label, err := name.ParseVersion(m.Version)
	if err != nil {
		return nil
	}
	id, err := v.tx.Lookup(nm, label)
	if err == nil {
		found.ByName, err = v.byID(id)
		return err
	}
	if !errors.Is(err, index.ErrNotFound) {
		return err
	}
	var paths []name.Path
	for _, text := range w.Paths {
		if p, err := name.ParsePath(text); err == nil {
			paths = append(paths, p)
		}
	}
	err = v.tx.CheckPaths(nm, label, paths)
	if _, taken := errors.AsType[*index.PathConflictError](err); taken {
		found.InTheWay = err
		return nil
	}
	return err
}

func (v *view) existingAlias(nm name.Name, text string, found *Existing) error {
	a, err := name.ParseAlias(text)
	if err != nil {
		return nil
	}
	id, err := v.tx.Alias(nm, a)
	if errors.Is(err, index.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := v.byID(id)
	if err != nil || m == nil {
		return err
	}
	if found.Aliases == nil {
		found.Aliases = map[string]*Model{}
	}
	found.Aliases[text] = m
	return nil
}

// byID returns nil if there is no such version.
func (v *view) byID(id uuid.UUID) (*Model, error) {
	if id == uuid.Nil {
		return nil, nil
	}
	rec, err := v.tx.Version(id)
	if errors.Is(err, index.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return v.model(rec)
}
