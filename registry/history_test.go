package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
)

func TestHistory(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	n := Note{Actor: "ann", Reason: "why not"}
	one, two := add(t, r, "m:1"), add(t, r, "m:2")
	add(t, r, "other:1")
	_, err := r.Promote(ctx, "m:1", n)
	must(t, err)
	_, err = r.Promote(ctx, "m:2", n)
	must(t, err)
	must(t, r.SetAlias(ctx, "m", "live", "1", n))
	must(t, r.SetAlias(ctx, "m", "live", "2", n))
	_, err = r.Edit(ctx, "m:1", n, func(m *Model) error { m.Description = "d"; return nil })
	must(t, err)
	must(t, r.DeleteAlias(ctx, "m", "live", n))
	must(t, r.Delete(ctx, "m:1", n))

	by := func(e Event) Event { e.Actor, e.Reason, e.Name = "ann", "why not", "m"; return e }
	var (
		registered1 = Event{Seq: 1, Verb: "register", Actor: "tester", Name: "m", ID: one.ID, Version: "1", To: "pending"}
		registered2 = Event{Seq: 2, Verb: "register", Actor: "tester", Name: "m", ID: two.ID, Version: "2", To: "pending"}
		promoted1   = by(Event{Seq: 4, Verb: "promote", ID: one.ID, Version: "1", From: "pending", To: "production"})
		demoted1    = by(Event{Seq: 5, Verb: "promote", ID: one.ID, Version: "1", From: "production", To: "staged"})
		promoted2   = by(Event{Seq: 5, Verb: "promote", ID: two.ID, Version: "2", From: "pending", To: "production"})
		alias1      = by(Event{Seq: 6, Verb: "alias", ID: one.ID, Version: "1", Alias: "live", To: "1"})
		alias2      = by(Event{Seq: 7, Verb: "alias", ID: two.ID, Version: "2", Alias: "live", From: "1", To: "2"})
		edited1     = by(Event{Seq: 8, Verb: "metadata", ID: one.ID, Version: "1"})
		noAlias     = by(Event{Seq: 9, Verb: "alias", Alias: "live", From: "2"})
		deleted1    = by(Event{Seq: 10, Verb: "delete", ID: one.ID, Version: "1"})
	)
	of1 := []Event{registered1, promoted1, demoted1, alias1, edited1, deleted1}
	tests := []struct {
		ref  string
		want []Event
	}{
		{"m", []Event{registered1, registered2, promoted1, demoted1, promoted2, alias1, alias2, edited1, noAlias, deleted1}},
		{"m:2", []Event{registered2, promoted2, alias2, noAlias}},
		{two.ID.String(), []Event{registered2, promoted2, alias2, noAlias}},
		{"b3:" + two.Manifest.String()[:20], []Event{registered2, promoted2, alias2, noAlias}},
		{two.Manifest.String()[:20], []Event{registered2, promoted2, alias2, noAlias}},
		{"m:1", of1}, // deleted
		{one.ID.String(), of1},
	}
	for _, tt := range tests {
		t.Run(tt.ref, func(t *testing.T) {
			got := all(t, r.History(ctx, tt.ref))
			last := int64(0)
			for i := range got {
				if got[i].Time < last || got[i].Time == 0 {
					t.Errorf("event %d is of %d, the one before of %d", i, got[i].Time, last)
				}
				last, got[i].Time = got[i].Time, 0
			}
			same(t, "events", got, tt.want)
		})
	}
	if got := all(t, r.History(ctx, "")); len(got) != 11 || got[2].Name != "other" {
		t.Errorf("everything: %+v", got)
	}
	for _, ref := range []string{"q", "m:3", uuid.NewString(), "b3:0000"} {
		wantErr(t, ref, failure(r.History(ctx, ref)), ErrNotFound)
	}
	if _, ok := errors.AsType[*NameError](failure(r.History(ctx, "a//b"))); !ok {
		t.Error("a bad name was taken")
	}
}

func TestHistoryLoopMayChange(t *testing.T) {
	r := newRegistry(t)
	for i := range 3 {
		add(t, r, fmt.Sprintf("m:%d", i))
	}
	seen := 0
	for e, err := range r.History(t.Context(), "m") {
		must(t, err)
		seen++
		_, err := r.SetStatus(t.Context(), "m:"+e.Version, Archived, Note{})
		must(t, err)
	}
	if seen != 3 {
		t.Errorf("%d events, want those from before the loop", seen)
	}
}

func TestHistoryDamagedJournal(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	add(t, r, "m:2")
	file := filepath.Join(r.Dir(), "journal")
	b, err := os.ReadFile(file)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(file, b, 0o600))
	for what, err := range map[string]error{
		"History": failure(r.History(t.Context(), "")), "Verify": failure(r.Verify(t.Context(), "", nil)),
		"Rollback": failureOf(r.Rollback(t.Context(), "m", Note{})),
	} {
		if _, ok := errors.AsType[*index.JournalError](err); !ok {
			t.Errorf("%s: got %v, want a *JournalError", what, err)
		}
	}
	if got := read(t, get(t, r, "m:1"), WeightsFile); string(got) != "weights of m:1" {
		t.Errorf("weights can't be read any more: %q", got)
	}
}

func addChild(t testing.TB, r *Registry, ref string, parent *Model) *Model {
	t.Helper()
	m := ofRef(ref)
	m.Parent = parent.ID
	return addModel(t, r, m, ref)
}

func TestLineage(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	root := add(t, r, "m:1.0.0")
	ten := addChild(t, r, "m:1.10.0", root)
	nine := addChild(t, r, "m:1.9.0", root)
	fork := addChild(t, r, "a/fork:1.0.0", root)
	leaf := addChild(t, r, "m:1.9.1", nine)
	addChild(t, r, "m:2.0.0", leaf)
	addChild(t, r, "z:1.0.0", ten)

	type below struct {
		Ref   string
		Depth int
	}
	descendants := func(ref string) (got []below) {
		for _, d := range all(t, r.Descendants(ctx, ref)) {
			got = append(got, below{d.Ref(), d.Depth})
		}
		return got
	}
	same(t, "descendants", descendants("m:1.0.0"), []below{
		{"a/fork:1.0.0", 1}, {"m:1.9.0", 1}, {"m:1.9.1", 2}, {"m:2.0.0", 3}, {"m:1.10.0", 1}, {"z:1.0.0", 2},
	})
	same(t, "of a leaf", descendants("z"), []below(nil))
	same(t, "ancestors", refs(all(t, r.Ancestors(ctx, "m:2.0.0"))), []string{"m:1.9.1", "m:1.9.0", "m:1.0.0"})
	same(t, "of the root", refs(all(t, r.Ancestors(ctx, "m:1.0.0"))), []string(nil))
	if got := get(t, r, "m:1.0.0").Children; len(got) != 3 {
		t.Errorf("children %v", got)
	}
	must(t, r.ForceDelete(ctx, "m:1.9.0", Note{}))
	same(t, "ancestors up to a deleted one", refs(all(t, r.Ancestors(ctx, "m:2.0.0"))), []string{"m:1.9.1"})
	same(t, "descendants down to a deleted one", descendants("m:1.0.0"), []below{{"a/fork:1.0.0", 1}, {"m:1.10.0", 1}, {"z:1.0.0", 2}})
	wantErr(t, "ancestors of nothing", failure(r.Ancestors(ctx, "q")), ErrNotFound)
	wantErr(t, "descendants of nothing", failure(r.Descendants(ctx, "q")), ErrNotFound)
	must(t, r.ForceDelete(ctx, fork.Ref(), Note{}))
}

func TestLineageDeep(t *testing.T) {
	const depth = 2000
	r := newRegistry(t)
	ctx := t.Context()
	root := add(t, r, "m:1")
	// One change for all of them, and one manifest: what is looked at is the
	// lineage.
	err := r.update(ctx, index.Change{Verb: "register"}, func(v *view) error {
		parent, err := v.tx.Version(root.ID)
		if err != nil {
			return err
		}
		for i := 2; i <= depth; i++ {
			child := index.Version{ID: uuid.New(), Name: parent.Name, Status: string(Pending), Manifest: parent.Manifest, Parent: parent.ID}
			if err := child.Version.UnmarshalText(fmt.Append(nil, i)); err != nil {
				return err
			}
			if err := v.tx.Register(&child, nil); err != nil {
				return err
			}
			parent = &child
		}
		return nil
	})
	must(t, err)
	up := all(t, r.Ancestors(ctx, "m"))
	if len(up) != depth-1 || up[0].Version != fmt.Sprint(depth-1) || up[depth-2].ID != root.ID {
		t.Errorf("%d ancestors", len(up))
	}
	down := all(t, r.Descendants(ctx, "m:1"))
	if len(down) != depth-1 {
		t.Fatalf("%d descendants", len(down))
	}
	for i, d := range down {
		if d.Depth != i+1 || d.Version != fmt.Sprint(i+2) {
			t.Fatalf("descendant %d is %s at depth %d", i, d.Ref(), d.Depth)
		}
	}
}

// TestNoVersionIsItsOwnAncestor registers a deleted version's id again, below
// one of its children.
func TestNoVersionIsItsOwnAncestor(t *testing.T) {
	r, ctx := newRegistry(t), t.Context()
	top, err := r.Register(ctx, Model{Name: "m", Version: "1"}, strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	parent := top.ID
	for _, v := range []string{"2", "3"} {
		m, err := r.Register(ctx, Model{Name: "m", Version: v, Parent: parent}, strings.NewReader(v))
		if err != nil {
			t.Fatal(err)
		}
		parent = m.ID
	}
	if err := r.ForceDelete(ctx, "m:1", Note{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(ctx, Model{ID: top.ID, Name: "m", Version: "4", Parent: parent}, strings.NewReader("4")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a cycle: %v", err)
	}
	if _, err := r.Register(ctx, Model{ID: top.ID, Name: "m", Version: "1"}, strings.NewReader("1")); err != nil {
		t.Errorf("the id again, without a parent: %v", err)
	}
	var found []string
	for d, err := range r.Descendants(ctx, "m:1") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, d.Version)
	}
	if !slices.Equal(found, []string{"2", "3"}) {
		t.Errorf("its descendants are %v", found)
	}
}
