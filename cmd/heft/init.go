package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newInitCmd(a *app) *cobra.Command {
	var shared bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the store",
		Long: `Make an empty store in the folder that --store or HEFT_STORE names, or in the
user's data folder. 'heft put' does the same when there is none yet.

A store is for the user who makes it. With --shared it is for the group of its
folder as well: every file and folder in it gets that group's access, whatever
the umask of who writes. Make the folder first and give it to the group, or its
folder above with the setgid bit.`,
		Example: `  heft init
  heft --store /data/models init --shared`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			if shared {
				a.access = blob.Shared
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
	cmd.Flags().BoolVar(&shared, "shared", false, "let the folder's group use it too (not on Windows)")
	return cmd
}
