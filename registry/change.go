package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// Change says what a change of status did.
type Change struct {
	Model   *Model // as it is now
	From    Status // what it was before
	Demoted *Model // the version that left production for it, as it is now; or nil
}

// SetStatus gives a version a status. Production is Promote. It returns
// ErrNotFound; setting the status that it has already changes nothing.
func (r *Registry) SetStatus(ctx context.Context, ref string, to Status, n Note) (Change, error) {
	to, err := ParseStatus(string(to))
	if err != nil {
		return Change{}, err
	}
	if to == Production {
		return r.Promote(ctx, ref, n)
	}
	return r.setStatus(ctx, "status", n, to, func(v *view) (*index.Version, error) { return v.resolveRef(ref) })
}

// Promote puts a version into production. The version of the same model that
// was there becomes Staged, in the same transaction. It returns ErrNotFound.
func (r *Registry) Promote(ctx context.Context, ref string, n Note) (Change, error) {
	return r.setStatus(ctx, "promote", n, Production, func(v *view) (*index.Version, error) { return v.resolveRef(ref) })
}

func (v *view) resolveRef(ref string) (*index.Version, error) {
	p, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	return v.resolve(p)
}

func (r *Registry) setStatus(ctx context.Context, verb string, n Note, to Status, find func(*view) (*index.Version, error)) (ch Change, err error) {
	c, err := r.change(verb, n)
	if err != nil {
		return Change{}, err
	}
	err = r.update(ctx, c, func(v *view) error {
		ch = Change{}
		rec, err := find(v)
		if err != nil {
			return err
		}
		ch.From = Status(rec.Status)
		var demoted *index.Version
		if ch.From != to {
			if to == Production {
				if demoted, err = v.demote(rec.Name); err != nil {
					return err
				}
			}
			if err := v.tx.SetStatus(rec.ID, string(to)); err != nil {
				return err
			}
		}
		if ch.Model, err = v.again(rec); err != nil || demoted == nil {
			return err
		}
		ch.Demoted, err = v.again(demoted)
		return err
	})
	if err != nil {
		return Change{}, err
	}
	return ch, nil
}

// again returns the Model of a record as it is after a change.
func (v *view) again(rec *index.Version) (*Model, error) {
	now, err := v.tx.Version(rec.ID)
	if err != nil {
		return nil, err
	}
	return v.model(now)
}

// demote stages the version of n that is in production, and returns it.
func (v *view) demote(n name.Name) (*index.Version, error) {
	rec, err := v.production(n)
	if err != nil || rec == nil {
		return nil, err
	}
	return rec, v.tx.SetStatus(rec.ID, string(Staged))
}

// Rollback puts the version into production that was there before the one that
// is now, or before production was emptied, by the journal; a second Rollback
// goes one further back. The version that it replaces becomes Staged. It
// returns ErrNotFound when no earlier one is left.
func (r *Registry) Rollback(ctx context.Context, model string, n Note) (Change, error) {
	nm, err := parseName(model)
	if err != nil {
		return Change{}, err
	}
	for {
		past, current, err := r.pastProductions(ctx, nm)
		if err != nil {
			return Change{}, err
		}
		ch, err := r.setStatus(ctx, "rollback", n, Production, func(v *view) (*index.Version, error) {
			if _, err := v.latest(nm); err != nil {
				return nil, err
			}
			// Only this model has to stand as the journal was read: a busy
			// store must not keep a rollback waiting.
			now, err := v.production(nm)
			if err != nil {
				return nil, err
			}
			if (now == nil) != (current == uuid.Nil) || now != nil && now.ID != current {
				return nil, errMoved
			}
			if len(past) == 0 {
				return nil, fmt.Errorf("%w: no earlier version of %s was in production", ErrNotFound, nm)
			}
			rec, err := v.tx.Version(past[len(past)-1])
			if errors.Is(err, index.ErrNotFound) { // deleted since
				return nil, errMoved
			}
			return rec, err
		})
		if !errors.Is(err, errMoved) {
			return ch, err
		}
	}
}

// errMoved says that a version changed between two looks at it.
var errMoved = errors.New("registry: it was changed meanwhile")

// pastProductions returns the versions of n that were in production before
// the one that is now, oldest first, without deleted ones; and the one that is
// now, or zero.
func (r *Registry) pastProductions(ctx context.Context, n name.Name) (past []uuid.UUID, current uuid.UUID, err error) {
	mine := map[uuid.UUID]bool{}
	push := func(id uuid.UUID) {
		past = append(past, id)
		current = id
	}
	for rec, err := range r.index.Records(ctx, 0) {
		if err != nil {
			return nil, uuid.Nil, named(err)
		}
		for _, op := range rec.Ops {
			switch {
			case op.Register != nil && op.Register.Version.Name == n:
				mine[op.Register.Version.ID] = true
				if Status(op.Register.Version.Status) == Production {
					push(op.Register.Version.ID)
				}
			case op.Status != nil && mine[op.Status.ID] && Status(op.Status.To) == Production:
				if i := lastIndex(past, op.Status.ID); rec.Verb == "rollback" && i >= 0 {
					// What came after it has been rolled back.
					past, current = past[:i+1], op.Status.ID
				} else {
					push(op.Status.ID)
				}
			case op.Status != nil && op.Status.ID == current:
				current = uuid.Nil
			case op.Delete != nil && mine[op.Delete.ID]:
				delete(mine, op.Delete.ID)
				past = slices.DeleteFunc(past, func(id uuid.UUID) bool { return id == op.Delete.ID })
				if op.Delete.ID == current {
					current = uuid.Nil
				}
			}
		}
	}
	for len(past) > 0 && past[len(past)-1] == current {
		past = past[:len(past)-1]
	}
	return past, current, nil
}

func lastIndex(ids []uuid.UUID, id uuid.UUID) int {
	for i := len(ids) - 1; i >= 0; i-- {
		if ids[i] == id {
			return i
		}
	}
	return -1
}

// Edit changes the metadata and description of a version: edit gets a Model
// and changes these two fields of it; other changes are ignored. It may be
// called again when another change got in between. What edit returns as an
// error ends it, and nothing is changed. The manifest, and so the version's
// hash, stay as they were at registration.
func (r *Registry) Edit(ctx context.Context, ref string, n Note, edit func(*Model) error) (*Model, error) {
	c, err := r.change("metadata", n)
	if err != nil {
		return nil, err
	}
	for {
		var before *index.Version
		var m, after *Model
		err := r.view(ctx, func(v *view) (err error) {
			if before, err = v.resolveRef(ref); err == nil {
				m, err = v.model(before)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		id := m.id
		if err := edit(m); err != nil {
			return nil, err
		}
		meta, err := m.Metadata.encode()
		if err == nil {
			err = checkText("description", m.Description, maxDescription)
		}
		if err != nil {
			return nil, err
		}
		err = r.update(ctx, c, func(v *view) error {
			now, err := v.tx.Version(id)
			if err != nil {
				return gone(ref, err)
			}
			if !bytes.Equal(now.Metadata, before.Metadata) || now.Description != before.Description {
				return errMoved
			}
			if !bytes.Equal(meta, now.Metadata) || m.Description != now.Description {
				if err := v.tx.SetMetadata(id, meta, m.Description); err != nil {
					return err
				}
			}
			after, err = v.again(now)
			return err
		})
		switch {
		case err == nil:
			return after, nil
		case !errors.Is(err, errMoved):
			return nil, err
		}
	}
}

// Delete removes a version's name, aliases and record. Its content stays until
// GC. A version that is in production, or the parent of
// another, is an *InUseError. It returns ErrNotFound when there is none.
func (r *Registry) Delete(ctx context.Context, ref string, n Note) error {
	return r.remove(ctx, ref, n, (*view).inUse)
}

// ForceDelete is Delete for versions in use too. Children keep the id of the
// parent that is gone.
func (r *Registry) ForceDelete(ctx context.Context, ref string, n Note) error {
	return r.remove(ctx, ref, n, func(*view, *index.Version) error { return nil })
}

func (r *Registry) remove(ctx context.Context, ref string, n Note, check func(*view, *index.Version) error) error {
	c, err := r.change("delete", n)
	if err != nil {
		return err
	}
	return r.update(ctx, c, func(v *view) error {
		rec, err := v.resolveRef(ref)
		if err == nil {
			err = check(v, rec)
		}
		if err != nil {
			return err
		}
		return v.tx.Delete(rec.ID)
	})
}

// inUse returns an *InUseError for a version that is in use.
func (v *view) inUse(rec *index.Version) error {
	e := &InUseError{Ref: refOf(rec), Production: Status(rec.Status) == Production}
	for id, err := range v.tx.Children(rec.ID) {
		if err != nil {
			return err
		}
		child, err := v.tx.Version(id)
		if err != nil {
			return err
		}
		e.Children = append(e.Children, refOf(child))
	}
	if e.Production || len(e.Children) > 0 {
		return e
	}
	return nil
}
