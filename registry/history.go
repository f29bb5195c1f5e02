package registry

import (
	"cmp"
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

// Event is one change to one version, as the journal keeps it. A transaction
// that changes several, such as a promotion that demotes, gives several events
// with the same Seq.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    int64     `json:"time"`             // microseconds since the Unix epoch
	Verb    string    `json:"verb"`             // what was asked: register, status, promote, rollback, alias, metadata, delete, prune
	Actor   string    `json:"actor,omitzero"`   // who
	Reason  string    `json:"reason,omitzero"`  // why
	ID      uuid.UUID `json:"id,omitzero"`      // the version; zero for an alias that was removed
	Name    string    `json:"name"`             // of the model
	Version string    `json:"version,omitzero"` // "" if ID is zero
	Alias   string    `json:"alias,omitzero"`   // of an alias that was moved
	From    string    `json:"from,omitzero"`    // status before, or the version that the alias pointed at
	To      string    `json:"to,omitzero"`      // status after, or the version that the alias points at
}

// History yields the events of a version, of all versions of a name, or of
// everything for "", oldest first. Versions that were deleted since are part
// of it: a name finds theirs, and so do name:version and id. It yields
// ErrNotFound when the reference never meant anything, and
// *index.JournalError when the journal is damaged.
func (r *Registry) History(ctx context.Context, ref string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		match, err := r.eventFilter(ctx, ref)
		if err != nil {
			yield(Event{}, err)
			return
		}
		h := history{known: map[uuid.UUID]*index.Version{}}
		found := ref == ""
		for rec, err := range r.index.Records(ctx, 0) {
			if err != nil {
				yield(Event{}, named(err))
				return
			}
			for _, op := range rec.Ops {
				if op.SHA256 != nil { // about content, whichever versions hold it
					continue
				}
				e := h.event(&rec, &op)
				if !match(&e) {
					continue
				}
				found = true
				if !yield(e, nil) {
					return
				}
			}
		}
		if !found {
			yield(Event{}, fmt.Errorf("%w: nothing was ever called %s", ErrNotFound, ref))
		}
	}
}

// eventFilter decides which events belong to a reference.
func (r *Registry) eventFilter(ctx context.Context, ref string) (func(*Event) bool, error) {
	if ref == "" {
		return func(*Event) bool { return true }, nil
	}
	p, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	m, err := r.Get(ctx, ref)
	switch {
	case p.Kind == name.KindLatest && (errors.Is(err, ErrNotFound) || err == nil && m.Name == p.Name.String()):
		n := p.Name.String()
		return func(e *Event) bool { return e.Name == n }, nil
	case err == nil:
		return func(e *Event) bool { return e.ID == m.ID || e.Alias != "" && e.Name == m.Name && e.From == m.Version }, nil
	case !errors.Is(err, ErrNotFound):
		return nil, err
	case p.Kind == name.KindLabel:
		n := p.Name.String()
		return func(e *Event) bool { return e.Name == n && e.Version == p.Label }, nil
	case p.Kind == name.KindID:
		return func(e *Event) bool { return e.ID == p.ID }, nil
	}
	return nil, err
}

// history follows the journal and remembers what each id was called.
type history struct {
	known map[uuid.UUID]*index.Version
}

func (h *history) event(rec *index.Record, op *index.Op) Event {
	e := Event{Seq: rec.Seq, Time: rec.Time, Verb: rec.Verb, Actor: rec.Actor, Reason: rec.Reason}
	switch {
	case op.Register != nil:
		v := op.Register.Version
		h.known[v.ID] = &v
		e.ID, e.To = v.ID, v.Status
	case op.Status != nil:
		e.ID, e.From, e.To = op.Status.ID, op.Status.From, op.Status.To
	case op.Metadata != nil:
		e.ID = op.Metadata.ID
	case op.Delete != nil:
		e.ID = op.Delete.ID
	case op.Alias != nil:
		e.ID, e.Name, e.Alias = op.Alias.To, op.Alias.Name.String(), op.Alias.Alias.String()
		e.From, e.To = h.version(op.Alias.From), h.version(op.Alias.To)
	}
	if v := h.known[e.ID]; v != nil {
		e.Name, e.Version = v.Name.String(), v.Version.String()
	}
	return e
}

func (h *history) version(id uuid.UUID) string {
	if v := h.known[id]; v != nil {
		return v.Version.String()
	}
	return ""
}

// Ancestors yields the parent of a version, its parent, and so on. It ends
// where there is none, or where the parent was deleted.
func (r *Registry) Ancestors(ctx context.Context, ref string) iter.Seq2[*Model, error] {
	return collect(ctx, r, func(v *view) ([]*Model, error) {
		rec, err := v.resolveRef(ref)
		if err != nil {
			return nil, err
		}
		var all []*Model
		seen := map[uuid.UUID]bool{} // Commit makes no cycle; a strange journal might
		for rec.Parent != uuid.Nil && !seen[rec.ID] {
			seen[rec.ID] = true
			rec, err = v.tx.Version(rec.Parent)
			if errors.Is(err, index.ErrNotFound) {
				break
			}
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
	})
}

// Descendant is a version below another: Depth 1 for a child.
type Descendant struct {
	*Model
	Depth int `json:"depth"`
}

// Descendants yields the children of a version, each followed by its own, old
// before new.
func (r *Registry) Descendants(ctx context.Context, ref string) iter.Seq2[Descendant, error] {
	return collect(ctx, r, func(v *view) ([]Descendant, error) {
		rec, err := v.resolveRef(ref)
		if err != nil {
			return nil, err
		}
		var all []Descendant
		// A stack of what is still to come, not recursion: a lineage may be
		// as long as a training run.
		todo, err := v.children(rec, 1)
		seen := map[uuid.UUID]bool{rec.ID: true} // as in Ancestors
		for err == nil && len(todo) > 0 {
			next := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if seen[next.rec.ID] {
				continue
			}
			seen[next.rec.ID] = true
			var m *Model
			if m, err = v.model(next.rec); err != nil {
				break
			}
			all = append(all, Descendant{Model: m, Depth: next.depth})
			var more []generation
			more, err = v.children(next.rec, next.depth+1)
			todo = append(todo, more...)
		}
		return all, err
	})
}

type generation struct {
	rec   *index.Version
	depth int
}

// children returns the children of rec, the newest first.
func (v *view) children(rec *index.Version, depth int) (all []generation, err error) {
	for id, err := range v.tx.Children(rec.ID) {
		if err != nil {
			return nil, err
		}
		child, err := v.tx.Version(id)
		if err != nil {
			return nil, err
		}
		all = append(all, generation{child, depth})
	}
	slices.SortFunc(all, func(a, b generation) int {
		return cmp.Or(strings.Compare(b.rec.Name.String(), a.rec.Name.String()), byAge(b.rec, a.rec))
	})
	return all, nil
}
