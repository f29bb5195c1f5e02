package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newGCCmd(a *app) *cobra.Command {
	var asJSON, dryRun bool
	grace := registry.DefaultGrace
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Free the space of what no version needs",
		Long: `Free the space of what no version needs: the files of deleted versions, as far as
no other version shares them, and what puts that were given up have left.

What is collected stays in the store's trash for a day, from where heft repair
brings it back, and is removed for good by the first gc after that. --grace says
how long instead; with --grace 0 the space is free at once. Frames of deleted
files that others borrow or are differences to stay as long as they are needed;
where it saves space those others are written anew, to stand alone.

Others may use the store meanwhile. gc may be interrupted, and works on a full
disk.`,
		Example: `  heft gc --dry-run
  heft gc
  heft gc --grace 0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace < 0 {
				return usageError("--grace %s is below 0", grace)
			}
			c, err := a.gc(cmd.Context(), grace, dryRun)
			if err != nil {
				return resumable(err, "what was collected so far stays so; run 'heft gc' again for the rest")
			}
			if asJSON {
				return a.printJSON(c)
			}
			return a.printGC(c, grace)
		},
	}
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "tell what would be done, and change nothing")
	cmd.Flags().DurationVar(&grace, "grace", grace, "how long what is collected stays in the trash, as `DURATION`, such as 90m or 0")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// collected is the result of gc.
type collected struct {
	DryRun bool `json:"dry_run"`
	registry.Collected
}

func (a *app) gc(ctx context.Context, grace time.Duration, dryRun bool) (collected, error) {
	c := collected{DryRun: dryRun}
	r, err := a.open(ctx)
	if err != nil {
		return c, err
	}
	defer r.Close()
	if grace == 0 {
		grace = -1
	}
	run := r.GC
	if dryRun {
		run = r.PlanGC
	}
	c.Collected, err = run(ctx, &registry.GCOptions{Grace: grace})
	return c, err
}

// printGC tells what was done, and then why the rest stays: a line each, none for
// what is not there.
func (a *app) printGC(c collected, grace time.Duration) error {
	var b strings.Builder
	line := func(n registry.Amount, what string, args ...any) {
		if n.Count > 0 {
			fmt.Fprintf(&b, "%-24s %s\n", fmt.Sprintf("%s, %s", plural(n.Count, "blob"), formatSize(n.Bytes)), fmt.Sprintf(what, args...))
		}
	}
	done := "freed"
	if c.DryRun {
		done = "would be freed"
	}
	line(c.Purged, "left the trash")
	switch {
	case grace > 0:
		line(c.Trashed, "moved to the trash for %s", formatDuration(grace))
	case c.DryRun:
		line(c.Trashed, "no longer needed") // they would be purged, too
	}
	line(c.Thinned, "of deleted blobs that others need frames of")
	line(c.Detached, "more for blobs that stand alone now")
	freed := c.Freed
	if c.DryRun && grace == 0 {
		freed += c.Trashed.Bytes
	}
	fmt.Fprintf(&b, "%s %s\n", formatSize(freed), done)
	stays := b.Len()
	line(c.Waiting, "in the trash until %s have passed", formatDuration(grace))
	line(c.Held, "in the trash until processes end that may need them")
	line(c.Partly, "deleted, but others need frames of them")
	line(c.Pinned, "of drafts and backups that are under way")
	line(c.Named, "needed by versions")
	text := b.String()
	if len(text) > stays {
		text = text[:stays] + "what stays:\n" + text[stays:]
	}
	if _, err := a.stdout.Write([]byte(text)); err != nil {
		return err
	}
	if c.Lost.Count > 0 {
		a.note("%s that versions name can't be read: 'heft verify' lists what that touches", plural(c.Lost.Count, "blob"))
	}
	return nil
}

// formatDuration returns what time.Duration's String does without zeros at its end:
// 24h, 1h30m.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
