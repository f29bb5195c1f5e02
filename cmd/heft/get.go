package main

import (
	"context"
	"fmt"
	"path"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newGetCmd(a *app) *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "get REF [DIR]",
		Short: "Write the files of a version into a folder",
		Long: `Write the files of a version into a folder, by default one with the last part
of the model's name. NAME/VERSION/PATH writes that file only.

A file that is there already with the right content is left alone, so the same
command goes on after an interrupt. One with other content is an error, found
before anything is written; --force replaces it.`,
		Example: `  heft get bert:stable
  heft get bert:1.0.0 /srv/models/bert --force
  heft get bert/1.0.0/tokenizer.json .`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := ""
			if len(args) == 2 {
				dir = args[1]
			}
			if dir == "-" {
				return withHint(usageError("get writes into a folder, not to standard output"), "'heft cat %s' does that", args[0])
			}
			opts := registry.ExtractOptions{Replace: force}
			m, done, err := a.get(cmd.Context(), args[0], &dir, opts)
			if err != nil {
				return resumable(err, "run the command again: it goes on with what is missing")
			}
			return a.printGet(m, dir, done, asJSON)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "replace files that have other content")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was done as JSON")
	return cmd
}

// get writes what ref names into *dir, which it sets when that is empty.
func (a *app) get(ctx context.Context, ref string, dir *string, opts registry.ExtractOptions) (m *registry.Model, done registry.Extracted, err error) {
	r, err := a.open(ctx)
	if err != nil {
		return nil, done, err
	}
	defer r.Close()
	m, file, err := r.Locate(ctx, ref)
	if err != nil {
		return nil, done, a.suggest(ctx, r, ref, err)
	}
	if *dir == "" {
		*dir = path.Base(m.Name)
	}
	total := m.WeightsSize
	if file != "" {
		opts.Only, total = []string{file}, 0
	}
	p := a.progress("writing", total)
	defer p.end()
	opts.Progress = p.add
	done, err = m.Extract(ctx, *dir, &opts)
	return m, done, err
}

// printGet tells what was written.
func (a *app) printGet(m *registry.Model, dir string, done registry.Extracted, asJSON bool) error {
	if asJSON {
		return a.printJSON(struct {
			Ref          string `json:"ref"`
			Dir          string `json:"dir"`
			Files        int    `json:"files"`
			Written      int    `json:"written"`
			Resumed      int    `json:"resumed"`
			Skipped      int    `json:"skipped"`
			BytesWritten int64  `json:"bytes_written"`
		}{m.Ref(), dir, done.Files, done.Written, done.Resumed, done.Skipped, done.Bytes})
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %s in %s: %d written, %d resumed, %d there already; %s written\n",
		m.Ref(), plural(done.Files, "file"), printable(dir), done.Written, done.Resumed, done.Skipped, formatSize(done.Bytes))
	return err
}
