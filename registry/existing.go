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

// Existing is what there is already of a version to be. What there is not is
// nil.
type Existing struct {
	ByID       *Model // the version with its id
	ByName     *Model // the version with its name and label
	Parent     *Model // the version that it names as its parent
	Production *Model // the version of its name that is in production, if that is what it wants to be
}

// Existing looks for each of the models, all of them at one moment. A name or
// label that breaks a rule is found nowhere.
func (r *Registry) Existing(ctx context.Context, models []*Model) ([]Existing, error) {
	var found []Existing
	err := r.view(ctx, func(v *view) error {
		found = make([]Existing, len(models))
		for i, m := range models {
			if err := v.existing(m, &found[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

func (v *view) existing(m *Model, found *Existing) (err error) {
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
	label, err := name.ParseVersion(m.Version)
	if err != nil {
		return nil
	}
	id, err := v.tx.Lookup(nm, label)
	if errors.Is(err, index.ErrNotFound) {
		return nil
	}
	if err == nil {
		found.ByName, err = v.byID(id)
	}
	return err
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
