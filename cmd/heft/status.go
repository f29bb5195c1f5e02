package main

import (
	"fmt"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newStatusCmd(a *app) *cobra.Command {
	var (
		reason string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status REF [STATUS]",
		Short: "Show or set the status of a version",
		Long: `With one argument, print the version and its status. With two, set the status:
pending, validated, staged, production, archived or deprecated, in any letter
case. Setting production does what 'heft promote' does: a model has at most one
version in production, and the one before becomes staged.`,
		Example: `  heft status team/resnet:2.1.0
  heft status team/resnet:2.1.0 validated --reason "eval run 318"`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeStatus,
		RunE: func(cmd *cobra.Command, args []string) error {
			var to registry.Status
			if len(args) == 1 && reason != "" {
				return usageError("status --reason needs a status to set")
			}
			if len(args) == 2 {
				var err error
				if to, err = registry.ParseStatus(args[1]); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			r, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if to == "" {
				m, err := r.Get(ctx, args[0])
				if err != nil {
					return a.suggest(ctx, r, args[0], err)
				}
				if asJSON {
					return a.printJSON(toJSON(m))
				}
				_, err = fmt.Fprintf(a.stdout, "%s  %s\n", m.Ref(), m.Status)
				return err
			}
			c, err := r.SetStatus(ctx, args[0], to, registry.Note{Reason: reason})
			if err != nil {
				return a.suggest(ctx, r, args[0], err)
			}
			return a.printChange(c, asJSON)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log, as `TEXT`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the version, or what changed, as JSON")
	return cmd
}

// completeStatus proposes a reference, then a status.
func (a *app) completeStatus(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	var words []string
	if len(args) == 1 {
		for _, s := range registry.Statuses() {
			words = append(words, string(s))
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
	return a.completeOneRef(cmd, args, word)
}

// changeJSON is what a change of status did.
type changeJSON struct {
	Model   modelJSON  `json:"model"`
	From    string     `json:"from"`
	To      string     `json:"to"`
	Demoted *modelJSON `json:"demoted,omitzero"`
}

// printChange says what a change of status did: a line for the version, and
// one for the version that left production for it.
func (a *app) printChange(c registry.Change, asJSON bool) error {
	if asJSON {
		j := changeJSON{Model: toJSON(c.Model), From: string(c.From), To: string(c.Model.Status)}
		if c.Demoted != nil {
			j.Demoted = new(toJSON(c.Demoted))
		}
		return a.printJSON(j)
	}
	text := fmt.Sprintf("%s  %s -> %s\n", c.Model.Ref(), c.From, c.Model.Status)
	if c.From == c.Model.Status {
		text = fmt.Sprintf("%s  %s already\n", c.Model.Ref(), c.Model.Status)
	}
	if c.Demoted != nil {
		text += fmt.Sprintf("%s  %s -> %s\n", c.Demoted.Ref(), registry.Production, c.Demoted.Status)
	}
	_, err := fmt.Fprint(a.stdout, text)
	return err
}
