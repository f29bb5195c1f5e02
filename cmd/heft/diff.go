package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// diffFlags are the flags of diff.
type diffFlags struct {
	all, exitCode, json bool
}

func newDiffCmd(a *app) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two versions tensor by tensor",
		Long: `Compare two versions tensor by tensor: which are the same, changed and by how
much, reshaped (another dtype or shape), renamed, removed or added. Tensors
belong together by file and name, then by name alone; files without tensors are
compared as a whole. What the store knows to be equal is not read.

The exit code is 0 whether they differ or not, unless --exit-code is given.`,
		Example: `  heft diff bert:1.0.0 bert:1.1.0
  heft diff bert:stable bert --exit-code --quiet > /dev/null || echo differ`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeTwoRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diff(cmd.Context(), args[0], args[1], f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "list those that are the same as well")
	cmd.Flags().BoolVar(&f.exitCode, "exit-code", false, "exit with 1 if they differ")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON object")
	return cmd
}

// diffJSON is the result of diff.
type diffJSON struct {
	A       string                       `json:"a"` // name:version
	B       string                       `json:"b"`
	Equal   bool                         `json:"equal"`
	Counts  map[registry.TensorState]int `json:"counts"`
	Changes []tensorChangeJSON           `json:"changes"`
}

// tensorChangeJSON is one tensor, or file without tensors, of diff.
type tensorChangeJSON struct {
	State     registry.TensorState `json:"state"`
	A         *tensorJSON          `json:"a,omitempty"`
	B         *tensorJSON          `json:"b,omitempty"`
	Unit      registry.Unit        `json:"unit,omitzero"`
	Compared  int64                `json:"compared,omitzero"`
	Different int64                `json:"different,omitzero"`
	NonFinite int64                `json:"non_finite,omitzero"`
	Largest   *float64             `json:"largest_change,omitempty"`

	change registry.TensorChange
}

// diff compares the versions refA and refB.
func (a *app) diff(ctx context.Context, refA, refB string, f diffFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	d := diffJSON{Counts: map[registry.TensorState]int{}, Changes: []tensorChangeJSON{}}
	var total int64
	var ids [2]string
	for i, ref := range []string{refA, refB} {
		m, err := r.Get(ctx, ref)
		if err != nil {
			return a.suggest(ctx, r, ref, err)
		}
		total = max(total, m.WeightsSize)
		ids[i] = m.ID.String() // an alias may move meanwhile
		d.A, d.B = d.B, m.Ref()
	}
	for _, s := range registry.TensorStates() {
		d.Counts[s] = 0
	}
	p := a.progress("comparing", total)
	defer p.end()
	for c, err := range r.Diff(ctx, ids[0], ids[1]) {
		if err != nil {
			return resumable(err, "nothing was printed")
		}
		p.add(c.Tensor().Size)
		d.Counts[c.State]++
		if c.State != registry.TensorSame || f.all {
			d.Changes = append(d.Changes, toTensorChangeJSON(c))
		}
	}
	p.end()
	d.Equal = true
	for s, n := range d.Counts {
		d.Equal = d.Equal && (s == registry.TensorSame || n == 0)
	}
	if f.json {
		err = a.printJSON(d)
	} else {
		err = a.printDiff(&d)
	}
	if err == nil && f.exitCode && !d.Equal {
		return exitWith(exitError, "") // there is nothing more to say
	}
	return err
}

func toTensorChangeJSON(c registry.TensorChange) tensorChangeJSON {
	j := tensorChangeJSON{State: c.State, Unit: c.Unit, Compared: c.Compared, Different: c.Different, NonFinite: c.NonFinite, Largest: c.Largest, change: c}
	if c.A != nil {
		j.A = new(toTensorJSON(c.A))
	}
	if c.B != nil {
		j.B = new(toTensorJSON(c.B))
	}
	return j
}

// printDiff prints a line for each change, and a summary.
func (a *app) printDiff(d *diffJSON) error {
	files := map[string]bool{} // with tensors
	for _, c := range d.Changes {
		for _, t := range []*registry.Tensor{c.change.A, c.change.B} {
			if t != nil && t.Name != "" {
				files[t.Path] = true
			}
		}
	}
	label := func(t *registry.Tensor) string {
		switch {
		case t.Name == "":
			return t.Path
		case len(files) > 1:
			return t.Path + " " + t.Name
		}
		return t.Name
	}
	t := a.table("STATE", "TENSOR", "DETAILS")
	for _, c := range d.Changes {
		t.row(string(c.State), label(c.change.Tensor()), details(&c.change, label))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, summary(d.Counts))
	return err
}

// summary counts the states: "3 same, 1 changed".
func summary(counts map[registry.TensorState]int) string {
	var parts []string
	for _, s := range registry.TensorStates() {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		return "nothing to compare: neither version has a file"
	}
	return strings.Join(parts, ", ")
}

// details tells what the state doesn't.
func details(c *registry.TensorChange, label func(*registry.Tensor) string) string {
	switch c.State {
	case registry.TensorAdded:
		return kindOf(c.B)
	case registry.TensorRemoved:
		return kindOf(c.A)
	case registry.TensorReshaped:
		return kindOf(c.A) + " -> " + kindOf(c.B)
	case registry.TensorRenamed:
		return "was " + label(c.A)
	case registry.TensorSame:
		if c.A.Path != c.B.Path {
			return "was in " + c.A.Path
		}
		return ""
	}
	if c.Compared == 0 { // a file
		if c.A.Size == c.B.Size {
			return "other bytes, " + formatSize(c.B.Size)
		}
		return formatSize(c.A.Size) + " -> " + formatSize(c.B.Size)
	}
	text := fmt.Sprintf("%s of %s", formatShare(c.Share()), c.Unit)
	if c.Largest != nil {
		text += ", at most " + strconv.FormatFloat(*c.Largest, 'g', 3, 64)
	}
	if c.NonFinite > 0 {
		text += fmt.Sprintf(", %d from or to NaN or infinity", c.NonFinite)
	}
	if c.A.Path != c.B.Path {
		text += "; was in " + c.A.Path
	}
	return text
}

// kindOf returns the dtype and shape of a tensor, or the size of a file.
func kindOf(t *registry.Tensor) string {
	if t.DType == "" || t.Shape == nil {
		return formatSize(t.Size)
	}
	return t.DType + " " + formatShape(t.Shape)
}

// formatShare returns a part as a percentage of two digits at least, and not
// as 0% or 100% unless it is that.
func formatShare(part float64) string {
	switch {
	case part == 1:
		return "100%"
	case part > 0.999:
		return ">99.9%"
	case part > 0 && part < 0.0001:
		return "<0.01%"
	case part < 0.01:
		return strconv.FormatFloat(part*100, 'f', 2, 64) + "%"
	}
	return strconv.FormatFloat(part*100, 'f', 1, 64) + "%"
}
