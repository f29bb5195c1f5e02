package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newRmCmd(a *app) *cobra.Command {
	var force bool
	var reason string
	cmd := &cobra.Command{
		Use:   "rm REF...",
		Short: "Delete versions",
		Long: `Delete versions: their names, aliases and metadata. The history keeps that they
were there. The space is freed by heft gc.

A version in production, or that others were made from, is kept unless --force
is given. NAME alone is refused, since it means whichever is the latest.`,
		Example: `  heft rm bert:0.9.0 --reason "wrong tokenizer"
  heft rm --force bert:1.0.0`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rm(cmd.Context(), args, registry.Note{Reason: reason}, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also versions in production or with children")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log, as `TEXT`")
	return cmd
}

// rm deletes the versions in the order given. All references are looked up
// first, so that a slip in one deletes nothing.
func (a *app) rm(ctx context.Context, refs []string, n registry.Note, force bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	var models []*registry.Model
	seen := map[uuid.UUID]bool{}
	for _, ref := range refs {
		m, err := r.Get(ctx, ref)
		if err != nil {
			return a.suggest(ctx, r, ref, err)
		}
		if ref == m.Name {
			return withHint(usageError("%s names no version", ref), "its latest is %s", m.Ref())
		}
		if !seen[m.ID] {
			seen[m.ID] = true
			models = append(models, m)
		}
	}
	// By id: an alias may move between the look and the deletion.
	remove := r.Delete
	if force {
		remove = r.ForceDelete
	}
	for _, m := range models {
		if err := remove(ctx, m.ID.String(), n); err != nil {
			return resumable(err, "versions that were reported as deleted are")
		}
		if _, err := fmt.Fprintf(a.stdout, "deleted %s\n", m.Ref()); err != nil {
			return err
		}
	}
	a.note("the space is free after 'heft gc'")
	return nil
}
