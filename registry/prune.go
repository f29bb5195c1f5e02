package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// AllModels stands for every model where Prune and PlanPrune take names. It is
// no name that a model can have.
const AllModels = ":all"

// maxPruned is how many versions one record of the journal deletes. Everybody
// else waits meanwhile: a deletion takes 0.3 to 0.5 ms (10,000 versions of one
// model, two busy cores), so this is up to a second. The record stays below
// 2 MiB of its 16, at most 900 bytes a deletion.
const maxPruned = 2000

// Verdict is what Prune or PlanPrune decided about one version.
type Verdict struct {
	Model    *Model // as it was when that was decided
	Keep     bool
	Reasons  []Reason // why it is kept; empty otherwise
	ParentOf []string // if it is dropped: references of the children that stay, and keep its id as their parent
}

// Pruned is what Prune did, or PlanPrune would do.
type Pruned struct {
	// Versions are those of all models that were named, model by model, the
	// newest first by the order of their registration.
	Versions []Verdict
}

// Kept returns those of the versions that stay.
func (p Pruned) Kept() []Verdict {
	return slices.DeleteFunc(slices.Clone(p.Versions), func(v Verdict) bool { return !v.Keep })
}

// Dropped returns those of the versions that were, or would be, deleted.
func (p Pruned) Dropped() []Verdict {
	return slices.DeleteFunc(slices.Clone(p.Versions), func(v Verdict) bool { return v.Keep })
}

// Prune deletes the versions that a policy does not keep, each model for
// itself. A name is that of a model; "team/" stands for all models below team,
// and AllModels for every one. No name is an error that wraps ErrInvalid.
//
// As with Delete, only names go: the content stays until garbage collection,
// and what is stored as a difference to a version that was dropped stays whole.
// Unlike it, Prune deletes parents too, unless the policy says otherwise: their
// children keep the id.
//
// What is to be dropped is decided in the transaction that deletes it, so that
// a version that gets an alias or a status before, from any process, is judged
// with it. One transaction and record deletes 2,000 versions at most; if there
// are more, several follow, each deciding anew. All that Pruned tells is
// durable on return. With an error it holds only what had been deleted before:
// nothing, unless there were several records.
//
// It returns ErrNotFound if there is no such model, a *NameError, an error that
// wraps ErrInvalid if the policy fails its Check, and *index.JournalError if
// KeepEvery has to count registrations and the journal is damaged. Then nothing
// was deleted, whichever other names were given.
func (r *Registry) Prune(ctx context.Context, names []string, p Policy, n Note) (Pruned, error) {
	return r.prune(ctx, names, p, n, maxPruned)
}

// PlanPrune returns what Prune would do now, and changes nothing. Its errors
// are those of Prune.
func (r *Registry) PlanPrune(ctx context.Context, names []string, p Policy) (Pruned, error) {
	j, err := newPruning(names, p)
	if err != nil {
		return Pruned{}, err
	}
	var all []*candidate
	err = j.counted(ctx, r, func() error {
		return r.view(ctx, func(v *view) (err error) {
			all, err = j.judge(ctx, v)
			return err
		})
	})
	if err != nil {
		return Pruned{}, err
	}
	return j.pruned(all), nil
}

// prune is Prune with at most limit deletions a record.
func (r *Registry) prune(ctx context.Context, names []string, p Policy, n Note, limit int) (Pruned, error) {
	c, err := r.change("prune", n)
	if err != nil {
		return Pruned{}, err
	}
	j, err := newPruning(names, p)
	if err != nil {
		return Pruned{}, err
	}
	for more := true; more; {
		if more, err = j.next(ctx, r, c, limit); err != nil {
			return j.pruned(j.gone), err
		}
	}
	return j.pruned(append(j.gone, j.kept...)), nil
}

// pruning is one call of Prune or PlanPrune.
type pruning struct {
	policy  Policy
	targets []pruneTarget
	now     int64               // of its first transaction, so that time stands still for the others
	counts  map[uuid.UUID]int64 // what countRegistrations returned; nil: nobody needed it yet
	order   map[name.Name]int   // where a model is in the result
	gone    []*candidate        // what was deleted
	kept    []*candidate        // by the last transaction
}

// next deletes what is to be dropped, at most limit versions in one record. It
// reports whether there may be more.
func (j *pruning) next(ctx context.Context, r *Registry, c index.Change, limit int) (more bool, err error) {
	var kept, dropped []*candidate
	err = j.counted(ctx, r, func() error {
		return r.update(ctx, c, func(v *view) error {
			all, err := j.judge(ctx, v)
			if err != nil {
				return err
			}
			kept, dropped = nil, nil
			for _, c := range all {
				if len(c.reasons) > 0 {
					kept = append(kept, c)
				} else {
					dropped = append(dropped, c)
				}
			}
			// The oldest first: what an error leaves is the newest.
			slices.SortFunc(dropped, func(a, b *candidate) int { return newerFirst(b, a) })
			if more = len(dropped) > limit; more {
				dropped = dropped[:limit]
			}
			for _, c := range dropped {
				if err := v.tx.Delete(c.rec.ID); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return false, err
	}
	j.kept, j.gone = kept, append(j.gone, dropped...)
	return more, nil
}

// pruneTarget is what one name stands for.
type pruneTarget struct {
	given string
	model name.Name // zero: all models whose names begin so
	below string
}

func newPruning(names []string, p Policy) (*pruning, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no model is named: nothing is pruned unless it is asked for", ErrInvalid)
	}
	j := &pruning{policy: p, order: map[name.Name]int{}}
	for _, given := range names {
		if given == AllModels {
			j.targets = append(j.targets, pruneTarget{given: given})
			continue
		}
		folder, below := strings.CutSuffix(given, "/")
		n, err := parseName(folder)
		if err != nil {
			return nil, err
		}
		t := pruneTarget{given: given, model: n}
		if below {
			t.model, t.below = name.Name{}, given
		}
		j.targets = append(j.targets, t)
	}
	return j, nil
}

// counted runs fn, and once more if it needs the registrations to be counted.
// That reads the whole journal, which can't be done within a transaction.
func (j *pruning) counted(ctx context.Context, r *Registry, fn func() error) error {
	err := fn()
	if !errors.Is(err, errUncounted) {
		return err
	}
	if j.counts, err = j.countRegistrations(ctx, r); err != nil {
		return err
	}
	return fn()
}

// countRegistrations returns, by the id of each version that the targets may
// mean, how many of its model were registered until then: 1 for the first.
func (j *pruning) countRegistrations(ctx context.Context, r *Registry) (map[uuid.UUID]int64, error) {
	of, counts := map[name.Name]int64{}, map[uuid.UUID]int64{}
	for rec, err := range r.index.Records(ctx, 0) {
		if err != nil {
			return nil, named(err)
		}
		for _, op := range rec.Ops {
			if op.Register == nil || !slices.ContainsFunc(j.targets, func(t pruneTarget) bool { return t.means(op.Register.Version.Name) }) {
				continue
			}
			n := op.Register.Version.Name
			of[n]++
			counts[op.Register.Version.ID] = of[n]
		}
	}
	return counts, nil
}

func (t pruneTarget) means(n name.Name) bool {
	if t.model.IsZero() {
		return strings.HasPrefix(n.String(), t.below)
	}
	return n == t.model
}

// models returns the models that a target means now.
func (j *pruning) models(v *view, t pruneTarget) ([]name.Name, error) {
	if !t.model.IsZero() {
		return []name.Name{t.model}, nil
	}
	var all []name.Name
	for n, err := range v.tx.Names(t.below) {
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	if len(all) == 0 && t.given != AllModels && len(j.gone) == 0 {
		return nil, fmt.Errorf("%w: there is no model below %s", ErrNotFound, t.given)
	}
	return all, nil
}

// judge judges all versions of all models that are meant, once each.
func (j *pruning) judge(ctx context.Context, v *view) ([]*candidate, error) {
	if j.now == 0 {
		j.now = v.tx.Now()
	}
	var all []*candidate
	seen := map[name.Name]bool{}
	for _, t := range j.targets {
		models, err := j.models(v, t)
		if err != nil {
			return nil, err
		}
		for _, n := range models {
			if seen[n] {
				continue
			}
			seen[n] = true
			of, err := v.candidatesOf(ctx, n)
			if err == nil && len(of) == 0 && len(j.gone) == 0 {
				err = fmt.Errorf("%w: there is no model %s", ErrNotFound, n)
			}
			if err == nil {
				err = j.policy.judge(of, j.now, j.counts)
			}
			if err != nil {
				return nil, err
			}
			if _, ok := j.order[n]; !ok {
				j.order[n] = len(j.order)
			}
			all = append(all, of...)
		}
	}
	return all, j.lineage(v, all)
}

// candidatesOf returns all versions of a model, the newest first.
func (v *view) candidatesOf(ctx context.Context, n name.Name) ([]*candidate, error) {
	var all []*candidate
	for rec, err := range v.tx.Versions(n) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		m, err := v.model(rec)
		if err != nil {
			return nil, err
		}
		all = append(all, &candidate{rec: rec, m: m})
	}
	slices.SortFunc(all, newerFirst)
	return all, nil
}

// lineage keeps the parents of what is kept, if the policy says so, and notes
// which children of the others stay.
func (j *pruning) lineage(v *view, all []*candidate) error {
	byID := map[uuid.UUID]*candidate{}
	for _, c := range all {
		byID[c.rec.ID] = c
	}
	// stays returns the children of c that are not dropped, as references.
	stays := func(c *candidate) (refs []string, err error) {
		for _, id := range c.m.Children {
			if child := byID[id]; child != nil {
				if len(child.reasons) > 0 {
					refs = append(refs, refOf(child.rec))
				}
				continue
			}
			rec, err := v.tx.Version(id)
			if err != nil {
				return nil, err
			}
			refs = append(refs, refOf(rec))
		}
		slices.Sort(refs)
		return refs, nil
	}
	// A stack of those whose parents are still to be looked at, not recursion: a
	// lineage may be as long as a training run.
	todo := slices.Clone(all)
	for j.policy.KeepParents && len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(c.reasons) > 0 {
			continue
		}
		refs, err := stays(c)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			continue
		}
		c.keep(RuleParent, refs[0])
		if parent := byID[c.rec.Parent]; parent != nil {
			todo = append(todo, parent)
		}
	}
	for _, c := range all {
		if len(c.reasons) > 0 {
			continue
		}
		var err error
		if c.parentOf, err = stays(c); err != nil {
			return err
		}
	}
	return nil
}

// pruned makes candidates the result.
func (j *pruning) pruned(all []*candidate) Pruned {
	slices.SortFunc(all, func(a, b *candidate) int {
		if c := j.order[a.rec.Name] - j.order[b.rec.Name]; c != 0 {
			return c
		}
		return newerFirst(a, b)
	})
	var p Pruned
	for _, c := range all {
		p.Versions = append(p.Versions, Verdict{Model: c.m, Keep: len(c.reasons) > 0, Reasons: c.reasons, ParentOf: c.parentOf})
	}
	return p
}
