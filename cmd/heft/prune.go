package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// pruneFlags are the flags of prune.
type pruneFlags struct {
	policy            registry.Policy
	best              []string // --keep-best
	within            string   // --within
	all, dryRun, json bool
	reason            string
}

func newPruneCmd(a *app) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune NAME... | --all",
		Short: "Delete the versions that no rule keeps",
		Long: `Delete versions of models, each model for itself: all that no rule keeps. At
least one rule has to be given, and a version stays if any of them keeps it.
NAME/ stands for all models below NAME.

Always kept are the latest version, which NAME means, versions in production or
staged, and those with an alias. Parents of other versions are not, unless
--keep-parents is given; their children keep the parent's id.

--keep-every goes by the number "step" of the metadata, else by the version if
that is a number, else by how many versions of the model were registered until
then, deleted ones too: what it keeps once it keeps always.

--keep-best needs to know which are the best: loss:3:min keeps the three lowest,
f1:3:max the three highest. Only for a METRIC that ends in acc or accuracy is
max understood. METRIC is a field of 'heft find' (val_acc, metric.NAME), or a
key of the metadata, with dots for objects within objects (eval.loss). If no
version of a model has it, none of that model is deleted.

The bytes stay until 'heft gc' finds that no other version needs them.`,
		Example: `  heft prune team/resnet --keep-last 5 --keep-every 1000 --dry-run
  heft prune team/resnet --keep-last 5 --keep-best eval.loss:3:min
  heft prune --all --within 30d --keep-tagged --reason "monthly"`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch changed := cmd.Flags().Changed; {
			case changed("keep-last") && f.policy.KeepLast < 1:
				return usageError("prune --keep-last must be at least 1")
			case changed("keep-every") && f.policy.KeepEvery < 1:
				return usageError("prune --keep-every must be at least 1")
			}
			if f.all == (len(args) > 0) {
				return withHint(usageError("prune takes either names or --all"), "'heft ls' lists what there is")
			}
			for _, text := range f.best {
				b, err := registry.ParseBest(text)
				if err != nil {
					return usageError("prune --keep-best %s", plain(err))
				}
				f.policy.KeepBest = append(f.policy.KeepBest, b)
			}
			if cmd.Flags().Changed("within") {
				var err error
				if f.policy.Within, err = registry.ParseAge(f.within); err != nil {
					return usageError("prune --within %s", plain(err))
				}
			}
			if err := f.policy.Check(); err != nil {
				return withHint(err, "such as --keep-last 5; --dry-run only tells what would be deleted")
			}
			return a.prune(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.policy.KeepLast, "keep-last", 0, "keep the `N` versions that were registered last")
	flags.Int64Var(&f.policy.KeepEvery, "keep-every", 0, "keep versions whose number or step is a multiple of `K`")
	flags.StringArrayVar(&f.best, "keep-best", nil, "keep the N best by a number, as `METRIC:N:max` or METRIC:N:min; may be given again")
	flags.BoolVar(&f.policy.KeepTagged, "keep-tagged", false, "keep versions with a tag")
	flags.StringVar(&f.within, "within", "", "keep versions registered within an `AGE` such as 12h, 30d, 8w or 1y")
	flags.BoolVar(&f.policy.KeepParents, "keep-parents", false, "keep the ancestors of what is kept")
	flags.BoolVar(&f.all, "all", false, "prune every model in the store")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "only tell what would be deleted, and why the others are kept")
	flags.StringVar(&f.reason, "reason", "", "why, for the log, as `TEXT`")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	return cmd
}

// completeNames proposes names of models.
func (a *app) completeNames(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	return a.completeName(cmd, nil, word)
}

func (a *app) prune(ctx context.Context, names []string, f pruneFlags) error {
	if slices.Contains(names, registry.AllModels) {
		return usageError("%s is no name; --all prunes every model", registry.AllModels)
	}
	if f.all {
		names = []string{registry.AllModels}
	}
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	var p registry.Pruned
	if f.dryRun {
		p, err = r.PlanPrune(ctx, names, f.policy)
	} else {
		p, err = r.Prune(ctx, names, f.policy, registry.Note{Reason: f.reason})
	}
	if err != nil && len(p.Versions) == 0 {
		return a.suggestName(ctx, r, names, err)
	}
	err = resumable(err, "versions that are listed were deleted; the same command deletes the others")
	return errors.Join(a.printPruned(p, f, err == nil), err)
}

// suggestName gives an error about one of several names a next step.
func (a *app) suggestName(ctx context.Context, r *registry.Registry, names []string, err error) error {
	if _, ok := errors.AsType[*registry.NameError](err); ok && slices.ContainsFunc(names, func(n string) bool { return strings.ContainsAny(n, ":@") }) {
		return withHint(err, "prune takes names of models; 'heft rm' deletes single versions")
	}
	if errors.Is(err, registry.ErrNotFound) {
		for _, n := range names {
			if _, nameErr := collect(r.Versions(ctx, strings.TrimSuffix(n, "/"))); errors.Is(nameErr, registry.ErrNotFound) {
				return a.suggest(ctx, r, n, err)
			}
		}
	}
	return err
}

// prunedJSON is what prune did, or would do.
type prunedJSON struct {
	DryRun   bool          `json:"dry_run"`
	Complete bool          `json:"complete"`
	Kept     int           `json:"kept"`
	Dropped  int           `json:"dropped"`
	Versions []verdictJSON `json:"versions"`
}

// verdictJSON is what prune decided about one version.
type verdictJSON struct {
	Model    modelJSON         `json:"model"`
	Keep     bool              `json:"keep"`
	Reasons  []registry.Reason `json:"reasons"`
	ParentOf []string          `json:"parent_of"`
}

func (a *app) printPruned(p registry.Pruned, f pruneFlags, complete bool) error {
	kept, dropped := len(p.Kept()), len(p.Dropped())
	left := 0
	for _, v := range p.Versions {
		left += len(v.ParentOf)
	}
	if f.json {
		j := prunedJSON{DryRun: f.dryRun, Complete: complete, Kept: kept, Dropped: dropped, Versions: make([]verdictJSON, len(p.Versions))}
		for i, v := range p.Versions {
			j.Versions[i] = verdictJSON{toJSON(v.Model), v.Keep, list(v.Reasons), list(v.ParentOf)}
		}
		return a.printJSON(j)
	}
	t := a.table("MODEL", "REGISTERED", "VERDICT", "WHY")
	for _, v := range p.Versions {
		switch {
		case v.Keep && f.dryRun:
			t.row(v.Model.Ref(), formatTime(v.Model.RegisteredAt), "keep", reasonsText(v.Reasons))
		case !v.Keep:
			t.row(v.Model.Ref(), formatTime(v.Model.RegisteredAt), "drop", childrenText(v.ParentOf))
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	done := "dropped"
	if f.dryRun {
		done = "would drop"
	}
	count := fmt.Sprintf("%s %d of %s", done, dropped, plural(kept+dropped, "version"))
	if !complete {
		count = fmt.Sprintf("%s %s, not all", done, plural(dropped, "version"))
	}
	if _, err := fmt.Fprintln(a.stdout, count); err != nil {
		return err
	}
	for _, metric := range unmeasured(p) {
		a.note("a model without any version that has the number %s is kept whole", metric)
	}
	if left > 0 {
		a.note("%s whose parent is dropped; --keep-parents keeps it", pluralStay(left))
	}
	if dropped > 0 {
		a.note("the bytes stay until 'heft gc'")
	}
	return nil
}

// pluralStay counts the children that stay.
func pluralStay(n int) string {
	if n == 1 {
		return "1 version stays"
	}
	return plural(n, "version") + " stay"
}

// reasonsText says in a cell why a version is kept.
func reasonsText(reasons []registry.Reason) string {
	var all []string
	for _, r := range reasons {
		all = append(all, r.String())
	}
	return cut(strings.Join(all, "; "), maxReasons)
}

// maxReasons is how many characters of the reasons a listing shows: the other
// columns take about 40, and most terminals have 120.
const maxReasons = 80

// childrenText says in a cell whose parent a version was.
func childrenText(refs []string) string {
	switch len(refs) {
	case 0:
		return ""
	case 1:
		return "parent of " + refs[0]
	}
	return fmt.Sprintf("parent of %s and %d more", refs[0], len(refs)-1)
}

// unmeasured returns the metrics that no version of some model has.
func unmeasured(p registry.Pruned) (metrics []string) {
	for _, v := range p.Versions {
		for _, r := range v.Reasons {
			if r.Rule == registry.RuleUnmeasured && !slices.Contains(metrics, r.Detail) {
				metrics = append(metrics, r.Detail)
			}
		}
	}
	return metrics
}
