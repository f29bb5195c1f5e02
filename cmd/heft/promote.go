package main

import (
	"context"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newPromoteCmd(a *app) *cobra.Command {
	return a.changeCmd((*registry.Registry).Promote, &cobra.Command{
		Use:   "promote REF",
		Short: "Put a version into production",
		Long: `Put a version into production. The version of the same model that was there
becomes staged in the same step: at no time are two in production, or none.
'heft rollback' undoes it.`,
		Example: `  heft promote team/resnet:2.1.0 --reason "eval run 318"
  heft promote team/resnet:candidate`,
		ValidArgsFunction: a.completeOneRef,
	})
}

// changeCmd completes a command that changes what is in production: one
// argument, a reason, and what changed as its result.
func (a *app) changeCmd(change func(*registry.Registry, context.Context, string, registry.Note) (registry.Change, error), cmd *cobra.Command) *cobra.Command {
	var (
		reason string
		asJSON bool
	)
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		r, err := a.open(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		c, err := change(r, ctx, args[0], registry.Note{Reason: reason})
		if err != nil {
			return a.suggest(ctx, r, args[0], err)
		}
		return a.printChange(c, asJSON)
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log, as `TEXT`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what changed as JSON")
	return cmd
}
