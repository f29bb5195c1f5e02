package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// repairFlags are the flags of repair.
type repairFlags struct {
	from   string
	dryRun bool
	lossy  bool
	json   bool
}

func newRepairCmd(a *app) *cobra.Command {
	var f repairFlags
	cmd := &cobra.Command{
		Use:   "repair [--from STORE]",
		Short: "Heal what is damaged in the store",
		Long: `Verify all of the store, which need not open, and heal what can be healed:
heft.json from the journal, missing folders, the index from journal and blobs,
damaged or missing blobs from the trash, the quarantine or their parity, and
what is left from another store: a backup, or any that has the same content.
The journal can be healed from a backup only. What is replaced goes to
quarantine/; nothing is deleted.

Where records of the journal are lost for good nothing is changed, unless
--accept-journal-loss is given: the journal then ends before them, and the
versions are looked for in the records behind them and in manifests. A version
that is found by its manifest alone is pending again and has no aliases; one
that was deleted in a lost record comes back.

The exit code is 4 when something is left.`,
		Example: `  heft repair --dry-run
  heft repair --from /mnt/backup/models`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return resumable(a.repair(cmd.Context(), f), "what was healed until now stays; run the command again")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the `STORE` or backup that has what is missing")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "only tell what is wrong, and what would be tried")
	flags.BoolVar(&f.lossy, "accept-journal-loss", false, "go on where records of the journal are lost for good")
	flags.BoolVar(&f.json, "json", false, "print the findings as JSON")
	return cmd
}

// repairedJSON is the output of repair with --json.
type repairedJSON struct {
	DryRun    bool          `json:"dry_run"`
	Healed    bool          `json:"healed"` // nothing is left
	Blobs     int           `json:"blobs"`  // that were verified
	Findings  []findingJSON `json:"findings"`
	Recovered []string      `json:"recovered"` // versions, after a journal was cut
	Changes   int           `json:"changes"`   // of later records that were made again
	Left      []string      `json:"left"`      // what of them could not be made again
}

type findingJSON struct {
	What   string   `json:"what"`
	Name   string   `json:"name,omitzero"`
	Uses   []string `json:"uses"`
	Error  string   `json:"error"`
	Done   string   `json:"done,omitzero"`
	Healed bool     `json:"healed"`
	Hint   string   `json:"hint,omitzero"`
}

func (a *app) repair(ctx context.Context, f repairFlags) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	var p *progress
	done, err := registry.Repair(ctx, dir, &registry.RepairOptions{
		From: f.from, DryRun: f.dryRun, AcceptJournalLoss: f.lossy, Actor: a.options().Actor,
		Begin: func(n int64) { p = a.progress("checking", n) }, Progress: func(n int64) { p.add(n) },
	})
	if p != nil {
		p.end()
	}
	if err != nil && len(done.Findings) > 0 && !f.json {
		err = errors.Join(err, a.printRepaired(done, f)) // what was done stays
	}
	if errors.Is(err, registry.ErrNotFound) {
		return withHint(exitWith(exitNotFound, "%s", plain(err)), "'heft restore' makes a store from a backup")
	}
	if err != nil {
		return err
	}
	if f.json {
		err = a.printJSON(toRepairedJSON(done, f))
	} else {
		err = a.printRepaired(done, f)
	}
	if left := done.Left(); err == nil && left > 0 {
		hint := "each finding tells what can be done"
		if f.dryRun {
			hint = "without --dry-run what can be healed is"
		}
		err = withHint(exitWith(exitCorrupt, "%s not healed", plural(left, "finding")), "%s", hint)
	}
	return err
}

func toRepairedJSON(done registry.Repaired, f repairFlags) repairedJSON {
	out := repairedJSON{
		DryRun: f.dryRun, Healed: done.Left() == 0, Blobs: done.Blobs, Findings: []findingJSON{},
		Recovered: list(done.Names.Versions), Changes: done.Names.Changes, Left: list(done.Names.Left),
	}
	for _, x := range done.Findings {
		out.Findings = append(out.Findings, findingJSON{x.What, x.Name, list(x.Uses), plain(x.Err), x.Done, x.Healed, x.Hint})
	}
	return out
}

// printRepaired tells each finding, and a summary.
func (a *app) printRepaired(done registry.Repaired, f repairFlags) error {
	var b strings.Builder
	healed := 0
	for _, x := range done.Findings {
		what := x.What
		switch x.What {
		case registry.FoundBlob:
			what = "b3:" + x.Name[:12] + "  " + usesText(x.Uses)
		case registry.FoundFolder:
			what += " " + x.Name
		}
		fmt.Fprintf(&b, "%s: %s\n", printable(what), printable(strings.ReplaceAll(plain(x.Err), "\n", "; ")))
		verb := "done"
		if f.dryRun {
			verb = "would be"
		}
		if x.Done != "" {
			fmt.Fprintf(&b, "  %s: %s\n", verb, printable(x.Done))
		}
		if x.Hint != "" {
			fmt.Fprintf(&b, "  left: %s\n", printable(x.Hint))
		}
		if x.Healed {
			healed++
		}
	}
	for _, ref := range done.Names.Versions {
		fmt.Fprintf(&b, "registered again: %s\n", printable(ref))
	}
	for _, s := range done.Names.Left {
		fmt.Fprintf(&b, "not made again: %s\n", printable(s))
	}
	switch {
	case len(done.Findings) == 0:
		fmt.Fprintf(&b, "%s verified: nothing to repair\n", plural(done.Blobs, "blob"))
	case f.dryRun:
		fmt.Fprintf(&b, "%s\n", plural(len(done.Findings), "finding"))
	default:
		fmt.Fprintf(&b, "%s, %d healed\n", plural(len(done.Findings), "finding"), healed)
	}
	_, err := a.stdout.Write([]byte(b.String()))
	return err
}
