package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// lsFlags are the flags of ls.
type lsFlags struct {
	all, long, json bool
}

func newLsCmd(a *app) *cobra.Command {
	var f lsFlags
	cmd := &cobra.Command{
		Use:   "ls [NAME | PREFIX/]",
		Short: "List models, or the versions of one",
		Long: `Without an argument, list the names in the store, each with its latest version,
its version in production and the size of all its versions.

With a name, list the versions of that model, newest first. With a prefix that
ends in "/", or a word that is no name but has names below it, list those names.`,
		Example: `  heft ls
  heft ls team/resnet
  heft ls team/
  heft ls --all --long`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ls(cmd.Context(), strings.Join(args, ""), f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "list all versions of all names")
	cmd.Flags().BoolVarP(&f.long, "long", "l", false, "show manifest hashes and ids as well")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array")
	return cmd
}

// ls lists names or versions; where is a name, a prefix or "".
func (a *app) ls(ctx context.Context, where string, f lsFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()

	prefix := where
	if where != "" && !strings.HasSuffix(where, "/") {
		models, err := collect(r.Versions(ctx, where))
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			if strings.ContainsAny(where, ":@") {
				err = withHint(err, "'heft show %s' shows one version", where)
			}
			return err
		}
		if len(models) > 0 {
			return a.printVersions(models, versionColumns{long: f.long, refs: f.all}, f.json)
		}
		prefix += "/"
	}
	names, err := collect(r.Names(ctx, prefix))
	if err != nil {
		return err
	}
	if len(names) == 0 && where != "" {
		if name, ok := strings.CutSuffix(where, "/"); ok {
			if models, err := collect(r.Versions(ctx, name)); err == nil && len(models) > 0 {
				return withHint(exitWith(exitNotFound, "there is no model below %s", where), "'heft ls %s' lists the versions of %s itself", name, name)
			}
		}
		return a.suggest(ctx, r, where, exitWith(exitNotFound, "there is no model %s, and none below %s", strings.TrimSuffix(where, "/"), prefix))
	}
	if len(names) == 0 {
		a.note("the store %s is empty; 'heft put' fills it", r.Dir())
	}
	if !f.all {
		return a.printNames(names, f)
	}
	var models []*registry.Model
	for _, n := range names {
		some, err := collect(r.Versions(ctx, n.Name))
		if err != nil && !errors.Is(err, registry.ErrNotFound) { // the last version may be gone by now
			return err
		}
		models = append(models, some...)
	}
	return a.printVersions(models, versionColumns{long: f.long, refs: true}, f.json)
}

// nameJSON is one name of a listing.
type nameJSON struct {
	Name       string `json:"name"`
	Versions   int    `json:"versions"`
	Latest     string `json:"latest"`
	Production string `json:"production,omitzero"`
	Size       int64  `json:"size"`
	UpdatedAt  string `json:"updated_at"`
}

func (a *app) printNames(names []registry.Summary, f lsFlags) error {
	if f.json {
		shown := make([]nameJSON, len(names))
		for i, n := range names {
			shown[i] = nameJSON{
				Name:       n.Name,
				Versions:   n.Versions,
				Latest:     n.Latest.Version,
				Production: versionOf(n.Production),
				Size:       n.Bytes,
				UpdatedAt:  jsonTime(n.UpdatedAt),
			}
		}
		return a.printJSON(shown)
	}
	header := []string{"NAME", "VERSIONS", "LATEST", "PRODUCTION", "SIZE", "UPDATED"}
	if f.long {
		header = append(header, "LATEST MANIFEST", "LATEST ID")
	}
	t := a.table(header...)
	for _, n := range names {
		cells := []string{
			n.Name,
			strconv.Itoa(n.Versions),
			n.Latest.Version,
			orDash(versionOf(n.Production)),
			formatSize(n.Bytes),
			formatTime(n.UpdatedAt),
		}
		if f.long {
			cells = append(cells, n.Latest.Manifest.Short(), n.Latest.ID.String())
		}
		t.row(cells...)
	}
	return t.flush()
}

// versionColumns says which columns a listing of versions has.
type versionColumns struct {
	refs bool // "name:version" instead of the version alone
	long bool // manifest hash and id as well
}

// printVersions prints versions as JSON or as a table.
func (a *app) printVersions(models []*registry.Model, c versionColumns, asJSON bool) error {
	if asJSON {
		shown := make([]modelJSON, len(models))
		for i, m := range models {
			shown[i] = toJSON(m)
		}
		return a.printJSON(shown)
	}
	header := []string{"VERSION", "STATUS", "SIZE", "FILES", "REGISTERED", "ALIASES"}
	if c.refs {
		header[0] = "MODEL"
	}
	if c.long {
		header = append(header, "MANIFEST", "ID")
	}
	t := a.table(append(header, "DESCRIPTION")...)
	for _, m := range models {
		cells := []string{
			m.Version,
			string(m.Status),
			formatSize(m.WeightsSize),
			strconv.Itoa(m.Files),
			formatTime(m.RegisteredAt),
			orDash(strings.Join(m.Aliases, ",")),
		}
		if c.refs {
			cells[0] = m.Ref()
		}
		if c.long {
			cells = append(cells, m.Manifest.Short(), m.ID.String())
		}
		t.row(append(cells, cut(m.Description, maxDescription))...)
	}
	return t.flush()
}

// maxDescription is how many characters of a description a listing shows: the
// other columns take about 80, and most terminals have 120.
const maxDescription = 40

// cut returns s on one line, at most limit characters long, of which the last
// three are dots if some are missing.
func cut(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return strings.TrimRight(string(runes[:limit-3]), " ") + "..."
}

func versionOf(m *registry.Model) string {
	if m == nil {
		return ""
	}
	return m.Version
}

// orDash stands for an empty cell in the middle of a row, so that the words of
// a line can be counted.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
