package main

import (
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newRollbackCmd(a *app) *cobra.Command {
	return a.changeCmd((*registry.Registry).Rollback, &cobra.Command{
		Use:   "rollback NAME",
		Short: "Put the version before back into production",
		Long: `Put the version that was in production before the present one back there, as the
journal has it. A second rollback goes one further back. The version that leaves
production becomes staged in the same step.`,
		Example:           `  heft rollback team/resnet --reason "latency doubled"`,
		ValidArgsFunction: a.completeName,
	})
}
