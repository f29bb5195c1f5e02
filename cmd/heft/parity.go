package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// parityFlags are the flags of parity.
type parityFlags struct {
	all    bool
	set    string
	remove bool
	dryRun bool
	json   bool
}

func newParityCmd(a *app) *cobra.Command {
	var f parityFlags
	cmd := &cobra.Command{
		Use:   "parity [REF...]",
		Short: "Add, remove or list what repairs damaged blobs",
		Long: `List how the blobs of versions are protected by parity, or of the whole store;
with --set give them parity, with --remove take it away.

Parity of 5% takes about 5.8% of a blob's file, of very small ones more than
all of it. It rebuilds any damage, to the last byte, of up to that share of the
file in one run, and of some less where it is scattered.

The blobs of a version are its files, its manifest and what these borrow from.
They may belong to other versions too. 'heft put --parity' makes parity at once.

STATE is good, none, stale (of a file that was written anew since) or damaged
(which may still repair); or what was done.`,
		Example: `  heft parity bert:1.0.0 --set 5%
  heft parity --all --set 10% --dry-run
  heft parity`,
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.parityOf(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "every blob in the store")
	flags.StringVar(&f.set, "set", "", "make parity that repairs damage of up to this `SHARE`, as 5%")
	flags.BoolVar(&f.remove, "remove", false, "remove the parity")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "with --set or --remove: only tell what would be done")
	flags.BoolVar(&f.json, "json", false, "print the blobs and the totals as JSON")
	return cmd
}

// parsePercent reads the value of a flag, such as 5%, or 0 for none.
func parsePercent(flag, s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil || n < blob.MinParity || n > blob.MaxParity || strings.HasPrefix(s, "+") {
		return 0, usageError("%s %s: it is a whole percentage, from %d%% to %d%%", flag, s, blob.MinParity, blob.MaxParity)
	}
	return n, nil
}

// protectedBlob is a line of the listing.
type protectedBlob struct {
	Digest  blob.Digest `json:"digest"`
	Stored  int64       `json:"stored"`
	State   string      `json:"state"`
	Percent int         `json:"percent"` // 0 for none
	Parity  int64       `json:"parity"`  // bytes of the parity file
	Uses    []string    `json:"uses"`
	Error   string      `json:"error,omitzero"`
}

// protection is the output of parity.
type protection struct {
	DryRun    bool            `json:"dry_run"`
	Blobs     []protectedBlob `json:"blobs"`
	Stored    int64           `json:"stored"`
	Parity    int64           `json:"parity"`
	Protected int             `json:"protected"` // blobs with parity that fits
	Changed   int             `json:"changed"`
	Failed    int             `json:"failed"`
}

func (a *app) parityOf(ctx context.Context, refs []string, f parityFlags) error {
	percent, err := parsePercent("--set", f.set)
	if err != nil {
		return err
	}
	change := percent > 0 || f.remove
	switch {
	case percent > 0 && f.remove:
		return usageError("--set and --remove don't go together")
	case f.all && len(refs) > 0, change && !f.all && len(refs) == 0:
		return withHint(usageError("it takes either references or --all"), "'heft ls' lists what there is")
	case f.dryRun && !change:
		return usageError("--dry-run goes with --set or --remove")
	}
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, ref := range refs {
		if _, err := r.Get(ctx, ref); err != nil {
			return a.suggest(ctx, r, ref, err)
		}
	}
	out := &protection{DryRun: f.dryRun, Blobs: []protectedBlob{}}
	seq := r.Parity(ctx, refs...)
	switch {
	case f.dryRun:
	case percent > 0:
		seq = r.SetParity(ctx, percent, refs...)
	case f.remove:
		seq = r.RemoveParity(ctx, refs...)
	}
	corrupted, err := out.collect(seq, func(p registry.Protection) string { return parityState(&p, percent, f) })
	if err != nil {
		return resumable(err, "what was done until now stays; run the command again: it goes on from there")
	}
	if f.json {
		err = a.printJSON(out)
	} else {
		err = a.printProtection(out)
	}
	if err == nil && out.Failed > 0 {
		code, what := exitError, "could not be read"
		if change && !f.dryRun {
			what = "could not be done"
		}
		if corrupted {
			code = exitCorrupt
		}
		err = withHint(exitWith(code, "%d of %s %s", out.Failed, plural(len(out.Blobs), "blob"), what),
			"'heft verify' tells what is damaged; putting the same content again heals it")
	}
	return err
}

// parityState is what to say of a blob. In a dry run it changes what p says to
// what would be.
func parityState(p *registry.Protection, percent int, f parityFlags) string {
	good := p.Parity.Percent > 0 && !p.Parity.Stale && !p.Parity.Damaged
	switch {
	case p.Err != nil:
		return "failed"
	case f.dryRun && f.remove && p.Parity.Percent > 0:
		return "would remove"
	case f.dryRun && percent > 0 && !(good && p.Parity.Percent == percent):
		return "would make"
	case p.Changed && f.remove:
		return "removed"
	case p.Changed:
		return "made"
	case p.Parity.Percent == 0:
		return "none"
	case p.Parity.Stale:
		return "stale"
	case p.Parity.Damaged:
		return "damaged"
	}
	return "good"
}

// collect takes the blobs as they come, and reports whether one is corrupt.
func (out *protection) collect(seq iter.Seq2[registry.Protection, error], state func(registry.Protection) string) (corrupted bool, err error) {
	for p, err := range seq {
		if err != nil {
			return false, err
		}
		b := protectedBlob{p.Digest, p.Stored, state(p), p.Parity.Percent, p.Parity.Stored, list(p.Uses), ""}
		switch b.State {
		case "failed":
			b.Error = plain(p.Err)
			out.Failed++
			corrupted = corrupted || corrupt(p.Err)
		case "good", "damaged":
			out.Protected++
		case "made":
			out.Protected++
			out.Changed++
		case "removed", "would remove", "would make":
			out.Changed++
		}
		out.Stored += p.Stored
		out.Parity += p.Parity.Stored
		out.Blobs = append(out.Blobs, b)
	}
	return corrupted, nil
}

// printProtection prints a line a blob, and a summary.
func (a *app) printProtection(out *protection) error {
	t := a.table("BLOB", "STORED", "BUDGET", "PARITY", "STATE", "USED BY")
	for _, b := range out.Blobs {
		budget, size := "-", "-"
		if b.Percent > 0 {
			budget, size = strconv.Itoa(b.Percent)+"%", formatSize(b.Parity)
		}
		uses := strings.Join(b.Uses, ", ")
		if uses == "" {
			uses = "-"
		}
		if b.Error != "" {
			uses += ": " + b.Error
		}
		t.row("b3:"+b.Digest.Short(), formatSize(b.Stored), budget, size, b.State, uses)
	}
	if err := t.flush(); err != nil {
		return err
	}
	changed := ""
	if out.DryRun {
		changed = fmt.Sprintf(", %d would change", out.Changed)
	} else if out.Changed > 0 {
		changed = fmt.Sprintf(", %d changed", out.Changed)
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %s; %d with parity, %s%s\n",
		plural(len(out.Blobs), "blob"), formatSize(out.Stored), out.Protected, formatSize(out.Parity), changed)
	return err
}
