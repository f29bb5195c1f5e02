package main

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newLineageCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lineage REF",
		Short: "Show what a version came from and what came from it",
		Long: `Show the versions that a version came from, above it, and those that came from
it, below. A version stands under its parent; only where a parent has several
children are they drawn as branches, so that a long run of checkpoints stays a
plain column. REF itself is marked with an asterisk.`,
		Example:           `  heft lineage team/resnet:2.1.0`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOneRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.lineage(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// lineageJSON is a version with its ancestors, nearest first, and descendants,
// each followed by its own.
type lineageJSON struct {
	Model       modelJSON        `json:"model"`
	Ancestors   []modelJSON      `json:"ancestors"`
	Descendants []descendantJSON `json:"descendants"`
}

type descendantJSON struct {
	Depth int `json:"depth"` // 1 for a child
	modelJSON
}

func (a *app) lineage(ctx context.Context, ref string, asJSON bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	m, err := r.Get(ctx, ref)
	if err != nil {
		return a.suggest(ctx, r, ref, err)
	}
	// By id from here on: an alias may move between two calls.
	ancestors, err := collect(r.Ancestors(ctx, m.ID.String()))
	if err != nil {
		return err
	}
	descendants, err := collect(r.Descendants(ctx, m.ID.String()))
	if err != nil {
		return err
	}

	if asJSON {
		j := lineageJSON{toJSON(m), make([]modelJSON, len(ancestors)), make([]descendantJSON, len(descendants))}
		for i, m := range ancestors {
			j.Ancestors[i] = toJSON(m)
		}
		for i, d := range descendants {
			j.Descendants[i] = descendantJSON{d.Depth, toJSON(d.Model)}
		}
		return a.printJSON(j)
	}

	t := a.table("MODEL", "STATUS", "REGISTERED", "")
	lines := lineOf(m, ancestors, descendants)
	depths := make([]int, len(lines))
	for i, l := range lines {
		depths[i] = l.depth
	}
	branches := tree(depths)
	for i, l := range lines {
		t.row(append([]string{branches[i] + l.cells[0]}, l.cells[1:]...)...)
	}
	return t.flush()
}

// line is a version in a drawn lineage.
type line struct {
	depth int
	cells []string
}

// lineOf returns the line of m: what it came from, oldest first, itself and
// what came from it.
func lineOf(m *registry.Model, ancestors []*registry.Model, descendants []registry.Descendant) []line {
	var all []line
	add := func(depth int, m *registry.Model, mark string) {
		all = append(all, line{depth, []string{m.Ref(), string(m.Status), formatTime(m.RegisteredAt), mark}})
	}
	oldest := m
	if n := len(ancestors); n > 0 {
		oldest = ancestors[n-1]
	}
	if oldest.Parent != uuid.Nil {
		all = append(all, line{0, []string{oldest.Parent.String(), "(deleted)"}})
	}
	for _, a := range slices.Backward(ancestors) {
		add(len(all), a, "")
	}
	depth := len(all)
	add(depth, m, "*")
	for _, d := range descendants {
		add(depth+d.Depth, d.Model, "")
	}
	return all
}

// tree returns what is drawn before each line of a tree, from their depths.
// A line follows its parent and all that came before in the parent's other
// branches. An only child stands right below its parent; several are branches.
func tree(depths []int) []string {
	// The parent of each, how many children each has, and who is the last.
	parent := make([]int, len(depths))
	children := make([]int, len(depths))
	var path []int // the lines above the present one, by depth
	for i, depth := range depths {
		path = path[:depth]
		parent[i] = -1
		if depth > 0 {
			parent[i] = path[depth-1]
			children[parent[i]]++
		}
		path = append(path, i)
	}
	before := make([]string, len(depths)) // what is drawn before each
	below := make([]string, len(depths))  // and before its children
	seen := make([]int, len(depths))
	for i, p := range parent {
		if p < 0 {
			continue
		}
		seen[p]++
		switch {
		case children[p] == 1:
			before[i], below[i] = below[p], below[p]
		case seen[p] == children[p]:
			before[i], below[i] = below[p]+"`- ", below[p]+"   "
		default:
			before[i], below[i] = below[p]+"|- ", below[p]+"|  "
		}
	}
	return before
}
