package main

import (
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newRollbackCmd(a *app) *cobra.Command {
	var (
		reason string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Put the version before back into production",
		Long: `Put the version that was in production before the present one back there, as the
journal has it. A second rollback goes one further back. The version that leaves
production becomes staged in the same step.`,
		Example:           `  heft rollback team/resnet --reason "latency doubled"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			c, err := r.Rollback(ctx, args[0], registry.Note{Reason: reason})
			if err != nil {
				return a.suggest(ctx, r, args[0], err)
			}
			return a.printChange(c, asJSON)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log, as `TEXT`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what changed as JSON")
	return cmd
}
