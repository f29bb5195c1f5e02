package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newFindCmd(a *app) *cobra.Command {
	var (
		asJSON  bool
		content string
		c       = versionColumns{refs: true}
	)
	cmd := &cobra.Command{
		Use:   "find FILTER... | --sha256 HEX [FILTER...]",
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
so quote filters that have them.

With --sha256, only versions that hold a file with that SHA-256, as far as it is
known: what was put with --digest sha256, or what digest was asked for.`,
		Example: `  heft find status=staged,production tag=nlp
  heft find 'val_acc>=0.9' sort=-val_acc limit=5
  heft find name='team/*' 'registered>=2026-01-01' --json
  heft find --sha256 "$(sha256sum < model.gguf | cut -c 1-64)"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("sha256") {
				return errors.New("there is no filter")
			}
			return nil
		},
		ValidArgsFunction: completeFilter,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := registry.ParseQuery(strings.Join(args, " "))
			if err != nil {
				return queryUsage(err)
			}
			var sum *registry.SHA256
			if cmd.Flags().Changed("sha256") {
				h, err := registry.ParseSHA256(content)
				if err != nil {
					return err
				}
				sum = &h
			}
			models, err := a.find(cmd.Context(), q, sum)
			if err != nil {
				return err
			}
			if len(models) == 0 {
				a.note("no version matches")
			}
			return a.printVersions(models, c, asJSON)
		},
	}
	cmd.Flags().StringVar(&content, "sha256", "", "only versions that hold a file with the SHA-256 `HEX`")
	cmd.Flags().BoolVarP(&c.long, "long", "l", false, "show manifest hashes and ids as well")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// find returns the versions for which q holds, and of them, if sum is not nil,
// those that hold content with that SHA-256.
func (a *app) find(ctx context.Context, q registry.Query, sum *registry.SHA256) ([]*registry.Model, error) {
	r, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if sum == nil {
		return collect(r.Find(ctx, q))
	}
	holds := map[uuid.UUID]bool{}
	for h, err := range r.FindSHA256(ctx, *sum) {
		if errors.Is(err, registry.ErrNotFound) {
			return nil, withHint(err, "only what was put with --digest sha256, or shown by 'heft digest REF', can be found")
		}
		if err != nil {
			return nil, err
		}
		holds[h.ID] = true
	}
	limit := q.Limit
	q.Limit = 0
	models, err := collect(r.Find(ctx, q))
	if err != nil {
		return nil, err
	}
	models = slices.DeleteFunc(models, func(m *registry.Model) bool { return !holds[m.ID] })
	if limit > 0 && len(models) > limit {
		models = models[:limit]
	}
	return models, nil
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
