package main

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/pflag"
)

// selection says which versions a verb that takes several references means.
type selection struct {
	all         bool
	allVersions bool
}

func (s *selection) add(flags *pflag.FlagSet) {
	flags.BoolVar(&s.all, "all", false, "every version in the store")
	flags.BoolVar(&s.allVersions, "all-versions", false, "every version of the models that are named, not only the one")
}

// pick returns the versions that references mean, each once: those of a model
// from old to new.
func (a *app) pick(ctx context.Context, r *registry.Registry, refs []string, s selection) ([]*registry.Model, error) {
	if s.all == (len(refs) > 0) {
		return nil, withHint(usageError("it takes either references or --all"), "'heft ls' lists what there is")
	}
	if s.all {
		names, err := collect(r.Names(ctx, ""))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			refs = append(refs, n.Name)
		}
	}
	var picked []*registry.Model
	taken := map[uuid.UUID]bool{}
	for _, ref := range refs {
		m, err := r.Get(ctx, ref)
		if err != nil {
			return nil, a.suggest(ctx, r, ref, err)
		}
		models := []*registry.Model{m}
		if s.all || s.allVersions {
			if models, err = collect(r.Versions(ctx, m.Name)); err != nil {
				return nil, err
			}
			slices.Reverse(models)
		}
		for _, m := range models {
			if !taken[m.ID] {
				taken[m.ID] = true
				picked = append(picked, m)
			}
		}
	}
	return picked, nil
}
