package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// Alias is a movable label for a version.
type Alias struct {
	Name    string    `json:"name"`
	Alias   string    `json:"alias"`
	Version string    `json:"version"`
	ID      uuid.UUID `json:"id"`
}

// Aliases yields the aliases of a model, or of all models for "", by name and
// alias.
func (r *Registry) Aliases(ctx context.Context, model string) iter.Seq2[Alias, error] {
	return collect(ctx, r, func(v *view) ([]Alias, error) {
		if model != "" {
			n, err := parseName(model)
			if err != nil {
				return nil, err
			}
			if _, err := v.latest(n); err != nil {
				return nil, err
			}
			return v.aliasesOf(nil, n)
		}
		var all []Alias
		for n, err := range v.tx.Names("") {
			if err == nil {
				all, err = v.aliasesOf(all, n)
			}
			if err != nil {
				return nil, err
			}
		}
		return all, nil
	})
}

func (v *view) aliasesOf(all []Alias, n name.Name) ([]Alias, error) {
	for a, err := range v.tx.Aliases(n) {
		if err != nil {
			return nil, err
		}
		rec, err := v.tx.Version(a.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, Alias{Name: n.String(), Alias: a.Alias.String(), Version: rec.Version.String(), ID: a.ID})
	}
	return all, nil
}

// SetAlias points an alias of a model at a version of it, wherever it pointed
// before. ref is any reference, or the bare version or alias of the model.
// It returns ErrNotFound, or a *NameError.
func (r *Registry) SetAlias(ctx context.Context, model, alias, ref string, n Note) error {
	return r.moveAlias(ctx, model, alias, n, func(v *view, nm name.Name, have uuid.UUID) (from, to uuid.UUID, err error) {
		to, err = v.inModel(nm, ref)
		return have, to, err
	})
}

// MoveAlias points an alias from one version of a model to another, only if it
// points where the caller thinks; "" stands for no version, so that from ""
// creates and to "" removes. Otherwise it returns an *AliasMovedError and
// changes nothing.
func (r *Registry) MoveAlias(ctx context.Context, model, alias, from, to string, n Note) error {
	return r.moveAlias(ctx, model, alias, n, func(v *view, nm name.Name, _ uuid.UUID) (f, t uuid.UUID, err error) {
		if from != "" {
			f, err = v.inModel(nm, from)
			if errors.Is(err, ErrNotFound) { // deleted, so the alias can't point there
				return f, t, v.aliasMoved(nm, alias, from)
			}
			if err != nil {
				return f, t, err
			}
		}
		if to != "" {
			t, err = v.inModel(nm, to)
		}
		return f, t, err
	})
}

// DeleteAlias removes an alias of a model. It returns ErrNotFound when there
// is none.
func (r *Registry) DeleteAlias(ctx context.Context, model, alias string, n Note) error {
	return r.moveAlias(ctx, model, alias, n, func(_ *view, nm name.Name, have uuid.UUID) (from, to uuid.UUID, err error) {
		if have == uuid.Nil {
			err = fmt.Errorf("%w: %s has no alias %s", ErrNotFound, nm, alias)
		}
		return have, uuid.Nil, err
	})
}

func (r *Registry) moveAlias(ctx context.Context, model, alias string, n Note, plan func(v *view, nm name.Name, have uuid.UUID) (from, to uuid.UUID, err error)) error {
	nm, err := parseName(model)
	if err != nil {
		return err
	}
	a, err := name.ParseAlias(alias)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	c, err := r.change("alias", n)
	if err != nil {
		return err
	}
	return r.update(ctx, c, func(v *view) error {
		have, err := v.tx.Alias(nm, a)
		if err != nil && !errors.Is(err, index.ErrNotFound) {
			return err
		}
		from, to, err := plan(v, nm, have)
		if err != nil {
			return err
		}
		if from != have {
			want := ""
			if rec, err := v.tx.Version(from); err == nil {
				want = rec.Version.String()
			}
			return v.aliasMoved(nm, alias, want)
		}
		if to == have {
			return nil
		}
		return v.tx.SetAlias(nm, a, from, to)
	})
}

// AliasMovedError says that an alias does not point where the caller thought.
// Nothing was changed.
type AliasMovedError struct {
	Name, Alias string
	Want, Have  string // versions; "" for none
}

func (e *AliasMovedError) Error() string {
	orNone := func(v string) string {
		if v == "" {
			return "no version"
		}
		return v
	}
	return fmt.Sprintf("registry: the alias %s of %s points at %s, not at %s as expected: look again, then move it from there", e.Alias, e.Name, orNone(e.Have), orNone(e.Want))
}

// Is reports that the error is an ErrConflict.
func (e *AliasMovedError) Is(target error) bool { return target == ErrConflict }

// aliasMoved returns the *AliasMovedError for an alias as it is.
func (v *view) aliasMoved(nm name.Name, alias, want string) error {
	e := &AliasMovedError{Name: nm.String(), Alias: alias, Want: want}
	for a, err := range v.tx.Aliases(nm) {
		if err != nil {
			return err
		}
		if a.Alias.String() != alias {
			continue
		}
		rec, err := v.tx.Version(a.ID)
		if err != nil {
			return err
		}
		e.Have = rec.Version.String()
	}
	return e
}

// inModel finds a version of nm by a reference, or by its bare version or
// alias.
func (v *view) inModel(nm name.Name, ref string) (uuid.UUID, error) {
	if !strings.ContainsAny(ref, ":@/") {
		rec, err := v.label(nm, ref)
		if err == nil {
			return rec.ID, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return uuid.Nil, err
		}
		// Any other reference has to mean a version of nm: a word that names
		// another model is a version that nm lacks.
		if rec, refErr := v.resolveRef(ref); refErr == nil && rec.Name == nm {
			return rec.ID, nil
		}
		return uuid.Nil, err
	}
	rec, err := v.resolveRef(ref)
	if err != nil {
		return uuid.Nil, err
	}
	if rec.Name != nm {
		return uuid.Nil, fmt.Errorf("%w: %s is not a version of %s, so its alias can't point there", ErrInvalid, refOf(rec), nm)
	}
	return rec.ID, nil
}
