package main

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newFindCmd(a *app) *cobra.Command {
	var (
		asJSON bool
		c      = versionColumns{refs: true}
	)
	cmd := &cobra.Command{
		Use:   "find FILTER...",
		Short: "Find versions by status, tag, accuracy and the like",
		Long: `Find the versions for which all filters hold:

  name=NAME or name=PREFIX*    status=STATUS,STATUS...    tag=TAG    parent=REF
  val_acc, test_acc, parameters, examples, size (in bytes), files, metric.NAME:
      compared with a number by = != < <= > >=
  registered, compared with a date (2026-01-31, UTC) or a time in RFC 3339
  sort=FIELD,-FIELD...    by any of these numbers, or name, version, status,
      registered, updated; largest or newest first with the minus
  limit=N

A value with spaces stands in double quotes. The shell takes < and > for itself,
so quote filters that have them.`,
		Example: `  heft find status=staged,production tag=nlp
  heft find 'val_acc>=0.9' sort=-val_acc limit=5
  heft find name='team/*' 'registered>=2026-01-01' --json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeFilter,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := registry.ParseQuery(strings.Join(args, " "))
			if err != nil {
				return queryUsage(err)
			}
			ctx := cmd.Context()
			r, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			models, err := collect(r.Find(ctx, q))
			if err != nil {
				return err
			}
			if len(models) == 0 {
				a.note("no version matches")
			}
			return a.printVersions(models, c, asJSON)
		},
	}
	cmd.Flags().BoolVarP(&c.long, "long", "l", false, "show manifest hashes and ids as well")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// completeFilter proposes the beginnings of filters, and statuses.
func completeFilter(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if key, value, ok := strings.Cut(word, "="); ok {
		if key != "status" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		before := value[:strings.LastIndexByte(value, ',')+1]
		var words []string
		for _, s := range registry.Statuses() {
			words = append(words, "status="+before+string(s))
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	words := []string{"name=", "status=", "tag=", "parent=", "registered", "metric.", "sort=", "limit="}
	return append(words, registry.Fields()...), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// queryUsage turns an error of ParseQuery into one that shows the place.
func queryUsage(err error) error {
	qe, ok := errors.AsType[*registry.QueryError](err)
	if !ok {
		return err
	}
	text := strings.ReplaceAll(qe.Text, "\n", " ")
	// The caret goes below the first character at fault: count characters.
	before := utf8.RuneCountInString(text[:min(max(qe.Offset, 0), len(text))])
	return usageError("%s\n  %s\n  %s^", qe.Reason, text, strings.Repeat(" ", before))
}
