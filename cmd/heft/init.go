package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newInitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the store",
		Long: `Make an empty store in the folder that --store or HEFT_STORE names, or in the
user's data folder. 'heft put' does the same when there is none yet.`,
		Example: `  heft init
  heft --store /data/models init`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			r, err := registry.Create(cmd.Context(), dir, a.options())
			if errors.Is(err, fs.ErrExist) {
				return folderTaken(err)
			}
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = fmt.Fprintf(a.stdout, "created store %s\n", r.Dir())
			return err
		},
	}
}
