package migrate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

func register(t *testing.T, r *registry.Registry, m registry.Model, content string) *registry.Model {
	t.Helper()
	out, err := r.Register(t.Context(), m, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCopy(t *testing.T) {
	ctx := t.Context()
	from, to := store(t), store(t)
	one := register(t, from, registry.Model{Name: "m", Version: "1", Aliases: []string{"base"}, Metadata: registry.Metadata{Tags: []string{"x"}}}, "one")
	two := register(t, from, registry.Model{Name: "m", Version: "2", Parent: one.ID, Status: registry.Production}, "two")
	three := register(t, from, registry.Model{Name: "n", Version: "1", Parent: two.ID}, "three")
	if _, err := from.SetStatus(ctx, "m:1", registry.Archived, registry.Note{}); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Edit(ctx, "m:2", registry.Note{}, func(m *registry.Model) error {
		m.Description, m.Metadata.Tags = "edited", []string{"y"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all := []*registry.Model{}
	for _, ref := range []string{"n:1", "m:2", "m:1"} { // children first
		m, err := from.Get(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	copied := func(models []*registry.Model, o *CopyOptions) ([]string, []Outcome) {
		t.Helper()
		c, err := NewCopy(ctx, from, models, o)
		if err != nil {
			t.Fatal(err)
		}
		return apply(t, to, c, nil)
	}

	// Alone, it loses its parent.
	lines, outcomes := copied(all[:1], nil)
	if diff := cmp.Diff([]string{"imported n:1"}, lines); diff != "" || len(outcomes[0].Notes) != 1 {
		t.Errorf("%s, notes %q", diff, outcomes[0].Notes)
	}
	to = store(t)
	lines, _ = copied(all[:1], &CopyOptions{Lineage: true})
	if diff := cmp.Diff([]string{"imported m:1", "imported m:2", "imported n:1"}, lines); diff != "" {
		t.Error(diff)
	}
	lines, _ = copied(all, nil)
	if diff := cmp.Diff([]string{"present m:1", "present m:2", "present n:1"}, lines); diff != "" {
		t.Error("again:", diff)
	}
	lines, _ = copied(all, &CopyOptions{Aliases: true})
	if diff := cmp.Diff([]string{"present m:1", "present m:2", "present n:1"}, lines); diff != "" {
		t.Error("with aliases:", diff)
	}
	for _, m := range []*registry.Model{one, two, three} {
		want, err := from.Get(ctx, m.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := to.Get(ctx, m.Ref())
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID || got.Manifest != want.Manifest || got.Parent != want.Parent || got.Status != want.Status ||
			got.RegisteredAt != want.RegisteredAt || (m != one && got.UpdatedAt != want.UpdatedAt) || // an alias came later to that one
			!cmp.Equal(got.Metadata, want.Metadata) || got.Description != want.Description || !cmp.Equal(got.Aliases, want.Aliases) {
			t.Errorf("copied %+v, want %+v", got, want)
		}
	}
	if diff := cmp.Diff(contents(t, from), contents(t, to)); diff != "" {
		t.Error(diff)
	}
}

// TestCopyReads copies content that the other store has in part: only the rest
// is read.
func TestCopyReads(t *testing.T) {
	from, to := store(t), store(t)
	m := register(t, from, registry.Model{Name: "m", Version: "1"}, "shared")
	register(t, to, registry.Model{Name: "other", Version: "1"}, "shared")
	register(t, from, registry.Model{Name: "m", Version: "2"}, "missing")
	c, err := NewCopy(t.Context(), from, []*registry.Model{m}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for it, err := range c.Items(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		it.Files[0].Open = nil // it would panic
		if _, all := outcomes(t, Apply(t.Context(), to, &fake{items: []*Item{it}}, nil)); all[0].State != Imported || all[0].Written != 0 {
			t.Errorf("%+v", all[0])
		}
	}
}

func TestParentsFirst(t *testing.T) {
	model := func(name, parent string) *registry.Model {
		m := &registry.Model{Name: name, ID: id(name)}
		if parent != "" {
			m.Parent = id(parent)
		}
		return m
	}
	for name, tt := range map[string]struct{ in, want []*registry.Model }{
		"none":     {nil, nil},
		"in order": {[]*registry.Model{model("a", ""), model("b", "a")}, []*registry.Model{model("a", ""), model("b", "a")}},
		"reversed": {[]*registry.Model{model("c", "b"), model("b", "a"), model("a", "")}, []*registry.Model{model("a", ""), model("b", "a"), model("c", "b")}},
		"outside":  {[]*registry.Model{model("b", "x"), model("a", "")}, []*registry.Model{model("b", "x"), model("a", "")}},
		"cycle":    {[]*registry.Model{model("a", "b"), model("b", "a")}, []*registry.Model{model("b", "a"), model("a", "b")}},
	} {
		names := func(models []*registry.Model) (all []string) {
			for _, m := range models {
				all = append(all, m.Name)
			}
			return all
		}
		if diff := cmp.Diff(names(tt.want), names(parentsFirst(tt.in))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
