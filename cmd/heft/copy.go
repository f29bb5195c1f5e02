package main

import (
	"context"
	"os"

	"github.com/heftstore/heft/migrate"
	"github.com/spf13/cobra"
)

// copyFlags are the flags of copy besides those of every transfer.
type copyFlags struct {
	transferFlags
	selection
	from, to string
	with     migrate.CopyOptions
}

func newCopyCmd(a *app) *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy [REF...] [--from STORE] [--to STORE]",
		Short: "Copy versions from one store to another",
		Long: `Copy versions from one store to another, with their ids, times, status and
metadata. The store that is not named is the one of --store. That of --to is
made if there is none.

Only what is missing is read and written: a file that the other store has is
checked there, and of the others the parts that it has are shared as with put.

A version whose parent is not in the other store has none there, unless
--lineage takes its ancestors along.`,
		Example: `  heft copy bert:1.0.0 --to /mnt/share/models
  heft copy bert --all-versions --aliases --from /mnt/share/models`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.from == "" && f.to == "" {
				return usageError("copy needs --from or --to: the store on the other side")
			}
			return a.copy(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	f.transferFlags.add(flags)
	f.selection.add(flags)
	flags.StringVar(&f.from, "from", "", "the `STORE` to copy from")
	flags.StringVar(&f.to, "to", "", "the `STORE` to copy to")
	flags.BoolVar(&f.with.Lineage, "lineage", false, "copy the ancestors of the versions too")
	flags.BoolVar(&f.with.Aliases, "aliases", false, "copy the aliases of the versions too")
	return cmd
}

// sameFolder reports whether two paths lead to one folder. A copy of a store's
// folder has its id, so that does not tell.
func sameFolder(a, b string) (bool, error) {
	ai, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	bi, err := os.Stat(b)
	return os.SameFile(ai, bi), err
}

func (a *app) copy(ctx context.Context, refs []string, f copyFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	own := a.storeDir
	if f.from != "" {
		a.storeDir = f.from
	}
	from, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	models, err := a.pick(ctx, from, refs, f.selection)
	if err != nil {
		return err
	}
	src, err := migrate.NewCopy(ctx, from, models, &f.with)
	if err != nil {
		return err
	}
	defer src.Close()
	if a.storeDir = own; f.to != "" {
		a.storeDir = f.to
	}
	to, err := a.openTarget(ctx, f.transferFlags)
	if err != nil {
		return err
	}
	defer to.Close()
	same, err := sameFolder(from.Dir(), to.Dir())
	if err != nil {
		return err
	}
	if same {
		return usageError("both stores are %s: name two with --from and --to", to.Dir())
	}
	return a.transfer(ctx, to, src, o, f.transferFlags, "copy")
}
