package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/folder"
	"github.com/heftstore/heft/migrate/huggingface"
	"github.com/heftstore/heft/migrate/lattice"
	"github.com/heftstore/heft/migrate/ollama"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// importFlags are the flags of import besides those of every transfer.
type importFlags struct {
	transferFlags
	orphans bool
	name    string
	status  string
}

// layout is a SOURCE of import.
type layout struct {
	name  string
	also  string   // another name, or ""
	flags []string // those that only some layouts have
	open  func(ctx context.Context, path string, f importFlags) (migrate.Source, error)
}

func layouts() []layout {
	return []layout{
		{"lattice", "", []string{"orphans"}, func(ctx context.Context, path string, f importFlags) (migrate.Source, error) {
			return lattice.Open(ctx, path, &lattice.Options{Orphans: f.orphans})
		}},
		{"huggingface", "hf", nil, func(ctx context.Context, path string, _ importFlags) (migrate.Source, error) {
			return source(huggingface.Open(ctx, path, nil))
		}},
		{"ollama", "", nil, func(ctx context.Context, path string, _ importFlags) (migrate.Source, error) {
			return source(ollama.Open(ctx, path, nil))
		}},
		{"dir", "folder", []string{"name", "status"}, func(ctx context.Context, path string, f importFlags) (migrate.Source, error) {
			o := &folder.Options{Name: f.name}
			if f.status != "" {
				var err error
				if o.Status, err = registry.ParseStatus(f.status); err != nil {
					return nil, err
				}
			}
			s, err := folder.Open(ctx, path, o)
			if errors.Is(err, folder.ErrPattern) {
				err = usageError("%s", plain(err))
			}
			return source(s, err)
		}},
	}
}

// source makes of a pointer that may be nil an interface that is.
func source[S migrate.Source](s S, err error) (migrate.Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func layoutNames() (names []string) {
	for _, l := range layouts() {
		names = append(names, l.name)
	}
	return names
}

func newImportCmd(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import SOURCE PATH",
		Short: "Bring the models of another registry or tool in",
		Long: `Bring everything that another registry, cache or folder holds into the store.
SOURCE says what PATH is:

  lattice      a registry's SQLite database, the folder it is in, or a tree of
               NAME/VERSION/weights.bin
  huggingface  a Hugging Face hub cache (hf for short): each snapshot a version
  ollama       Ollama's models folder: each manifest a version, tags as aliases
  dir          a pattern of checkpoints: 'runs/{name}/step-{version}/', in the
               natural order of their versions, each with the one before as its
               parent

Nothing is ever written to PATH. Ids, times, status and lineage come along, and
every hash that the source has is checked. --dry-run tells what would be done
and all that is wrong. What is imported is durable; an import that was
interrupted goes on where it was, and a second one changes nothing.

What could not be imported is reported with its reason, the others are; the exit
code is 1 then.`,
		Example: `  heft import lattice /srv/registry --dry-run
  heft import hf ~/.cache/huggingface/hub
  heft import dir 'runs/{name}/step-{version}/'`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return layoutNames(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := pickLayout(args[0])
			if err != nil {
				return err
			}
			for _, other := range layouts() {
				for _, name := range other.flags {
					if cmd.Flags().Changed(name) && !slices.Contains(l.flags, name) {
						return usageError("--%s goes with %s, not with %s", name, other.name, l.name)
					}
				}
			}
			return a.importFrom(cmd.Context(), l, args[1], f)
		},
	}
	flags := cmd.Flags()
	f.transferFlags.add(flags)
	flags.BoolVar(&f.orphans, "orphans", false, "lattice: import weights that no row of the database names, too")
	flags.StringVar(&f.name, "name", "", "dir: the `NAME` of all versions, for a pattern without {name}")
	flags.StringVar(&f.status, "status", "", "dir: the `STATUS` of all versions (default pending)")
	return cmd
}

func pickLayout(name string) (layout, error) {
	for _, l := range layouts() {
		if name == l.name || l.also != "" && name == l.also {
			return l, nil
		}
	}
	return layout{}, withHint(usageError("unknown source %q", name), "it is one of %s", strings.Join(layoutNames(), ", "))
}

func (a *app) importFrom(ctx context.Context, l layout, path string, f importFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	src, err := l.open(ctx, path, f)
	if err != nil {
		return err
	}
	defer src.Close()
	r, err := a.openTarget(ctx, f.transferFlags)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.transfer(ctx, r, src, o, f.transferFlags, "import")
}
