package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// aliasFlags are the flags of alias.
type aliasFlags struct {
	expect       string
	reason       string
	remove, json bool
}

func newAliasCmd(a *app) *cobra.Command {
	var f aliasFlags
	cmd := &cobra.Command{
		Use:   "alias [NAME [ALIAS [REF]]]",
		Short: "List, set or delete aliases",
		Long: `An alias is a movable label: NAME:ALIAS refers to the version that it points at.

Without arguments, list all aliases; with a name, those of that model; with a
name and an alias, that one. With REF (a reference, or just a version of NAME)
create or move the alias; with --delete, remove it.

With --expect VERSION nothing changes unless the alias still points at VERSION;
--expect none wants that there is no such alias yet. If it moved meanwhile, the
exit code is 5. So of several jobs that move one alias, none undoes another's
move unseen.`,
		Example: `  heft alias team/resnet
  heft alias team/resnet candidate 2.1.0
  heft alias team/resnet candidate 2.2.0 --expect 2.1.0
  heft alias team/resnet candidate --delete`,
		Args:              cobra.MaximumNArgs(3),
		ValidArgsFunction: a.completeAlias,
		RunE: func(cmd *cobra.Command, args []string) error {
			expects := cmd.Flags().Changed("expect")
			switch {
			case f.remove && len(args) != 2:
				return usageError("alias --delete takes a name and an alias")
			case expects && f.expect == "":
				return usageError(`alias --expect needs a version, or "none"`)
			case f.remove && f.expect == "none":
				return usageError("alias --delete --expect none would delete what must not be there")
			case expects && len(args) < 3 && !f.remove:
				return usageError("alias --expect needs a change to make: give a version or --delete")
			case f.reason != "" && len(args) < 3 && !f.remove:
				return usageError("alias --reason needs a change to make: give a version or --delete")
			case len(args) == 3 || f.remove:
				return a.changeAlias(cmd.Context(), args, f)
			}
			return a.listAliases(cmd.Context(), args, f.json)
		},
	}
	cmd.Flags().StringVar(&f.expect, "expect", "", "change it only if it points at this `VERSION` (\"none\": only if there is none)")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for the log, as `TEXT`")
	cmd.Flags().BoolVarP(&f.remove, "delete", "d", false, "remove the alias")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array of aliases")
	return cmd
}

// completeAlias proposes a name, then one of its aliases, then one of its
// versions.
func (a *app) completeAlias(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeName(cmd, args, word)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	if len(args) > 2 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := a.open(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	var words []string
	for m, err := range r.Versions(ctx, args[0]) {
		if err != nil || len(words) >= maxCompletions {
			break
		}
		if len(args) == 1 {
			words = append(words, m.Aliases...)
		} else {
			words = append(words, m.Version)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// changeAlias sets, moves or removes the alias args[1] of the name args[0].
func (a *app) changeAlias(ctx context.Context, args []string, f aliasFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()

	name, alias, to := args[0], args[1], ""
	if len(args) == 3 {
		to = args[2]
	}
	note := registry.Note{Reason: f.reason}
	switch {
	case f.expect != "":
		from := f.expect
		if from == "none" {
			from = ""
		}
		err = r.MoveAlias(ctx, name, alias, from, to, note)
	case f.remove:
		err = r.DeleteAlias(ctx, name, alias, note)
	default:
		err = r.SetAlias(ctx, name, alias, to, note)
	}
	if err != nil {
		return a.suggest(ctx, r, name, err)
	}
	if f.remove {
		if f.json {
			return a.printJSON([]registry.Alias{})
		}
		_, err = fmt.Fprintf(a.stdout, "%s:%s deleted\n", name, alias)
		return err
	}
	now, err := findAlias(ctx, r, name, alias)
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON([]registry.Alias{now})
	}
	_, err = fmt.Fprintf(a.stdout, "%s:%s -> %s\n", name, alias, now.Version)
	return err
}

// findAlias returns an alias of a model. Get would not do: a version of the
// same text wins there.
func findAlias(ctx context.Context, r *registry.Registry, name, alias string) (registry.Alias, error) {
	for al, err := range r.Aliases(ctx, name) {
		if err != nil {
			return registry.Alias{}, err
		}
		if al.Alias == alias {
			return al, nil
		}
	}
	return registry.Alias{}, withHint(exitWith(exitNotFound, "%s has no alias %s", name, alias), "'heft alias %s' lists those it has", name)
}

// listAliases lists all aliases, those of one name, or one.
func (a *app) listAliases(ctx context.Context, args []string, asJSON bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()

	var aliases []registry.Alias
	if len(args) == 2 {
		var one registry.Alias
		one, err = findAlias(ctx, r, args[0], args[1])
		aliases = []registry.Alias{one}
	} else {
		aliases, err = collect(r.Aliases(ctx, strings.Join(args, "")))
	}
	if err != nil {
		return a.suggest(ctx, r, strings.Join(args[:min(len(args), 1)], ""), err)
	}
	if asJSON {
		return a.printJSON(list(aliases))
	}
	if len(aliases) == 0 {
		a.note("no aliases")
	}
	t := a.table("NAME", "ALIAS", "VERSION")
	for _, al := range aliases {
		t.row(al.Name, al.Alias, al.Version)
	}
	return t.flush()
}
