package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/archive"
	"github.com/heftstore/heft/migrate/lattice"
	"github.com/heftstore/heft/migrate/oci"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// exportFlags are the flags of export.
type exportFlags struct {
	selection
	layout string
	force  bool
	json   bool
}

// The values of --layout.
const (
	layoutFiles   = "files"
	layoutTar     = "tar"
	layoutLattice = "lattice"
	layoutOCI     = "oci"
)

func newExportCmd(a *app) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export [REF...] DEST",
		Short: "Write versions out, as files, a tar, or another registry's layout",
		Long: `Write versions out for a tool that knows nothing of heft. --layout says how:

  files    the files of one version into the folder DEST, or of several versions
           into DEST/NAME/VERSION
  tar      one version as a tar file, or to standard output for -; the default
           when DEST is - or ends in .tar
  lattice  the layout that 'heft import lattice' reads: models.db and weights/,
           in a new or empty folder
  oci      an OCI image layout in the ModelPack format, one image a version, for
           registries and the tools that speak to them; versions are added to
           one that is there

All bytes are checked before they are written.`,
		Example: `  heft export bert:1.0.0 bert.tar
  heft export bert:1.0.0 - | ssh host tar x
  heft export --all --layout lattice /srv/registry
  heft export bert --all-versions --layout oci ./images`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			refs, _ := a.completeRef(cmd, args, word)
			return refs, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			last := len(args) - 1
			return resumable(a.export(cmd.Context(), args[:last], args[last], f), "run the command again")
		},
	}
	flags := cmd.Flags()
	f.selection.add(flags)
	flags.StringVar(&f.layout, "layout", "", "files, tar, lattice or oci: `HOW` to write (default files, or tar by the name of DEST)")
	flags.BoolVarP(&f.force, "force", "f", false, "files, tar: replace what has other content")
	flags.BoolVar(&f.json, "json", false, "print what was written as JSON")
	return cmd
}

// exportJSON is the output of export with --json.
type exportJSON struct {
	Layout   string         `json:"layout"`
	Dest     string         `json:"dest"`
	Versions []string       `json:"versions"` // that were written
	Files    int            `json:"files"`
	Size     int64          `json:"size"` // bytes of the versions' files
	Failed   []failedExport `json:"failed"`
	Reduced  []failedExport `json:"reduced"` // those written without something that is known of them
}

// failedExport is a version that the layout can't hold, or not all of it, or that
// can't be read.
type failedExport struct {
	Ref    string `json:"ref"`
	Reason string `json:"reason"`
}

func (a *app) export(ctx context.Context, refs []string, dest string, f exportFlags) error {
	layout, err := exportLayout(f.layout, dest)
	if err != nil {
		return err
	}
	if f.force && (layout == layoutLattice || layout == layoutOCI) {
		return usageError("--force goes with files and tar, not with %s", layout)
	}
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	models, err := a.pick(ctx, r, refs, f.selection)
	if err != nil {
		return err
	}
	if layout == layoutTar && len(models) != 1 {
		return withHint(usageError("a tar holds one version, not %d", len(models)), "--layout files or oci takes several")
	}
	total := int64(0)
	for _, m := range models {
		total += m.WeightsSize
		if layout == layoutOCI { // whose names are SHA-256s
			hashed, err := m.SHA256Size(ctx, nil)
			if err != nil {
				return err
			}
			total += hashed
		}
	}
	p := a.progress("exporting", total)
	defer p.end()
	e := exporter{a: a, r: r, models: models, dest: dest, force: f.force, several: len(refs) != 1 || f.allVersions, progress: p}
	left, err := e.write(ctx, layout)
	p.end()
	if err != nil {
		return err
	}
	return e.report(layout, left, f.json)
}

func exportLayout(layout, dest string) (string, error) {
	switch layout {
	case "":
		if dest == "-" || strings.HasSuffix(strings.ToLower(dest), ".tar") {
			return layoutTar, nil
		}
		return layoutFiles, nil
	case layoutFiles, layoutLattice, layoutOCI:
		if dest == "-" {
			return "", usageError("only --layout tar goes to standard output")
		}
		return layout, nil
	case layoutTar:
		return layout, nil
	}
	return "", withHint(usageError("unknown layout %q", layout), "it is one of files, tar, lattice, oci")
}

// exporter writes versions to dest.
type exporter struct {
	a        *app
	r        *registry.Registry
	models   []*registry.Model
	dest     string
	force    bool
	several  bool // there may be more than one: each has a folder of its own
	progress *progress
}

// leftOut is what the layout could not hold.
type leftOut struct {
	versions []lattice.ExportFailure // all of them
	parts    []lattice.ExportFailure // some of what is known of them
}

// write writes the versions and returns what it had to leave out.
func (e *exporter) write(ctx context.Context, layout string) (left leftOut, err error) {
	switch layout {
	case layoutTar:
		return left, e.tar(ctx)
	case layoutLattice:
		report, err := lattice.Export(ctx, e.r, e.seq(), e.dest, &lattice.ExportOptions{Progress: e.progress.add})
		return leftOut{report.Failed, report.Reduced}, err
	case layoutOCI:
		_, err := oci.Export(ctx, e.r, e.seq(), e.dest, &oci.Options{Hashed: e.progress.add, Progress: e.progress.add})
		return left, err
	}
	return left, e.files(ctx)
}

// report prints what was written, and returns an error if a version was not.
func (e *exporter) report(layout string, left leftOut, asJSON bool) error {
	done := exportJSON{Layout: layout, Dest: e.dest, Versions: []string{}, Failed: []failedExport{}, Reduced: []failedExport{}}
	out := map[string]bool{}
	var reasons []error
	for _, f := range left.parts {
		done.Reduced = append(done.Reduced, failedExport{f.Ref, plain(f.Err)})
	}
	for _, f := range left.versions {
		out[f.Ref] = true
		reasons = append(reasons, f.Err)
		done.Failed = append(done.Failed, failedExport{f.Ref, plain(f.Err)})
	}
	for _, m := range e.models {
		if !out[m.Ref()] {
			done.Versions = append(done.Versions, m.Ref())
			done.Files += m.Files
			done.Size += m.WeightsSize
		}
	}
	if err := e.print(done, asJSON); err != nil || len(left.versions) == 0 {
		return err
	}
	code := exitError
	if corrupt(errors.Join(reasons...)) {
		code = exitCorrupt
	}
	return exitWith(code, "%s could not be exported", plural(len(left.versions), "version"))
}

func (e *exporter) print(done exportJSON, asJSON bool) error {
	if asJSON {
		if done.Dest == "-" {
			return nil // standard output is full of tar
		}
		return e.a.printJSON(done)
	}
	what := fmt.Sprintf("%s to %s: %s in %s", plural(len(done.Versions), "version"), printable(done.Dest), formatSize(done.Size), plural(done.Files, "file"))
	if done.Dest == "-" {
		e.a.note("%s", what)
		return nil
	}
	for _, f := range done.Failed {
		if _, err := fmt.Fprintf(e.a.stdout, "%-12s  %s\n  %s\n", migrate.Failed, printable(f.Ref), printable(f.Reason)); err != nil {
			return err
		}
	}
	for _, f := range done.Reduced {
		if _, err := fmt.Fprintf(e.a.stdout, "%-12s  %s\n  note: %s\n", "reduced", printable(f.Ref), printable(f.Reason)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(e.a.stdout, what)
	return err
}

func (e *exporter) seq() iter.Seq2[*registry.Model, error] {
	return func(yield func(*registry.Model, error) bool) {
		for _, m := range e.models {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (e *exporter) files(ctx context.Context) error {
	for _, m := range e.models {
		dir := e.dest
		if e.several {
			dir = filepath.Join(e.dest, filepath.FromSlash(m.Name), m.Version)
		}
		if _, err := m.Extract(ctx, dir, &registry.ExtractOptions{Replace: e.force, Progress: e.progress.add}); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) tar(ctx context.Context) error {
	o := &archive.Options{Replace: e.force, Progress: e.progress.add}
	if e.dest != "-" {
		_, err := archive.Create(ctx, e.dest, e.models[0], o)
		if errors.Is(err, registry.ErrConflict) && !e.force {
			err = withHint(err, "--force replaces it")
		}
		return err
	}
	if f, ok := e.a.stdout.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		return withHint(usageError("a tar is not written to a terminal"), "name a file, or send it to another program")
	}
	_, err := archive.Write(ctx, e.a.stdout, e.models[0], o)
	return err
}
