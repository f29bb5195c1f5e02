package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func aliases(t testing.TB, r *Registry, model string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, a := range all(t, r.Aliases(t.Context(), model)) {
		got[a.Name+":"+a.Alias] = a.Version
	}
	return got
}

func TestAliases(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	one, two := add(t, r, "m:1"), add(t, r, "m:2")
	add(t, r, "n:1")
	n := Note{Reason: "a reason"}
	for _, to := range []struct{ alias, ref string }{
		{"bare", "1"}, {"full", "m:1"}, {"id", one.ID.String()}, {"hash", "m@" + one.Manifest.String()[:12]},
		{"manifest", "b3:" + one.Manifest.String()}, {"alias", "bare"}, {"latest", "m"}, {"digits", one.Manifest.String()[:12]},
	} {
		must(t, r.SetAlias(ctx, "m", to.alias, to.ref, n))
	}
	must(t, r.SetAlias(ctx, "n", "bare", "1", n))
	same(t, "of m", aliases(t, r, "m"), map[string]string{
		"m:bare": "1", "m:full": "1", "m:id": "1", "m:hash": "1", "m:manifest": "1", "m:alias": "1", "m:latest": "2", "m:digits": "1",
	})
	if got := aliases(t, r, ""); len(got) != 9 || got["n:bare"] != "1" {
		t.Errorf("of all: %v", got)
	}
	if got := get(t, r, "m:1").Aliases; !slices.Equal(got, []string{"alias", "bare", "digits", "full", "hash", "id", "manifest"}) {
		t.Errorf("aliases of m:1: %v", got)
	}

	must(t, r.SetAlias(ctx, "m", "bare", "2", n))
	if got := get(t, r, "m:bare"); got.ID != two.ID {
		t.Errorf("moved to %s", got.Ref())
	}
	records := len(all(t, r.History(ctx, "")))
	must(t, r.SetAlias(ctx, "m", "bare", "2", n))
	if got := len(all(t, r.History(ctx, ""))); got != records {
		t.Error("moving it to where it is was recorded")
	}
	must(t, r.DeleteAlias(ctx, "m", "bare", n))
	for what, err := range map[string]error{
		"deleted":            failureOf(r.Get(ctx, "m:bare")),
		"deleted again":      r.DeleteAlias(ctx, "m", "bare", n),
		"to no version":      r.SetAlias(ctx, "m", "x", "3", n),
		"of no model":        r.SetAlias(ctx, "q", "x", "1", n),
		"listed of no model": failure(r.Aliases(ctx, "q")),
	} {
		wantErr(t, what, err, ErrNotFound)
	}
	wantErr(t, "to another model", r.SetAlias(ctx, "m", "x", "n:1", n), ErrInvalid)
	must(t, r.Delete(ctx, "m:1", Note{}))
	same(t, "after the version was deleted", aliases(t, r, "m"), map[string]string{"m:latest": "2"})
}

func TestMoveAlias(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	for _, ref := range []string{"m:1", "m:2", "n:1"} {
		add(t, r, ref)
	}
	for i, step := range []struct {
		from, to string
		want     error
		points   string // afterwards
	}{
		{"1", "2", ErrConflict, ""},
		{"", "1", nil, "1"},
		{"", "2", ErrConflict, "1"},
		{"2", "1", ErrConflict, "1"},
		{"2", "2", ErrConflict, "1"},
		{"2", "", ErrConflict, "1"},
		{"", "", ErrConflict, "1"},
		{"1", "1", nil, "1"},
		{"1", "9", ErrNotFound, "1"},
		{"9", "1", ErrConflict, "1"},
		{"1", "n:1", ErrInvalid, "1"},
		{"1", "2", nil, "2"},
		{"2", "", nil, ""},
		{"", "", nil, ""},
	} {
		what := fmt.Sprintf("step %d, from %q to %q", i, step.from, step.to)
		err := r.MoveAlias(ctx, "m", "live", step.from, step.to, Note{})
		if step.want == nil {
			must(t, err)
		}
		wantErr(t, what, err, step.want)
		if errors.Is(step.want, ErrConflict) {
			if moved, ok := errors.AsType[*AliasMovedError](err); !ok || moved.Have != step.points || moved.Want != step.from {
				t.Errorf("%s: %v is not the right *AliasMovedError", what, err)
			}
		}
		if got := aliases(t, r, "m")["m:live"]; got != step.points {
			t.Fatalf("%s: points at %q, want %q", what, got, step.points)
		}
	}
}

func TestMoveAliasRace(t *testing.T) {
	r := newRegistry(t)
	other := again(t, r)
	for _, ref := range []string{"m:1", "m:2", "m:3"} {
		add(t, r, ref)
	}
	must(t, r.SetAlias(t.Context(), "m", "live", "1", Note{}))
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, h := range []*Registry{r, other} {
		wg.Go(func() { errs[i] = h.MoveAlias(t.Context(), "m", "live", "1", fmt.Sprint(i+2), Note{}) })
	}
	wg.Wait()
	won := slices.Index(errs, nil)
	if won < 0 || !errors.Is(errs[1-won], ErrConflict) {
		t.Fatalf("one has to win and one to conflict: %v", errs)
	}
	if got := aliases(t, r, "m")["m:live"]; got != fmt.Sprint(won+2) {
		t.Errorf("points at %s", got)
	}
}

func TestEdit(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	before := addModel(t, r, everything(), "x")
	m, err := r.Edit(ctx, before.Ref(), Note{Actor: "ann", Reason: "measured"}, func(m *Model) error {
		m.Metadata.TestAccuracy = nil
		m.Metadata.Tags = append(m.Metadata.Tags[:0], "new")
		m.Metadata.TrainingMetrics["loss"] = 0.5
		m.Description = ""
		// All of this is ignored.
		m.ID, m.Name, m.Version, m.Status, m.Parent, m.RegisteredBy, m.Files = uuid.New(), "x", "y", Production, uuid.New(), "z", 9
		return nil
	})
	must(t, err)
	want := *before
	want.Metadata = everything().Metadata
	want.Metadata.TestAccuracy, want.Metadata.Tags, want.Description, want.UpdatedAt = nil, []string{"new"}, "", m.UpdatedAt
	want.Metadata.TrainingMetrics["loss"] = 0.5
	same(t, "the result", *m, want)
	same(t, "what is stored", get(t, r, before.Ref()), m)
	if m.UpdatedAt <= before.UpdatedAt {
		t.Errorf("updated at %d, before at %d", m.UpdatedAt, before.UpdatedAt)
	}
	for _, c := range all(t, r.Verify(ctx, m.Ref(), nil)) {
		must(t, c.Err)
	}

	records := len(all(t, r.History(ctx, "")))
	stop := errors.New("no")
	_, err = r.Edit(ctx, m.Ref(), Note{}, func(m *Model) error { m.Description = "x"; return stop })
	wantErr(t, "the function's error", err, stop)
	_, err = r.Edit(ctx, m.Ref(), Note{}, func(*Model) error { return nil })
	must(t, err)
	_, err = r.Edit(ctx, "team/none", Note{}, func(*Model) error { return nil })
	wantErr(t, "no model", err, ErrNotFound)
	_, err = r.Edit(ctx, m.Ref(), Note{}, func(m *Model) error { return r.Delete(ctx, m.Ref(), Note{}) })
	wantErr(t, "deleted meanwhile", err, ErrNotFound)
	if got := len(all(t, r.History(ctx, ""))); got != records+1 {
		t.Errorf("%d records, want one more than %d, for the deletion", got, records)
	}
}

func TestEditConcurrent(t *testing.T) {
	r := newRegistry(t)
	handles := []*Registry{r, again(t, r)}
	add(t, r, "m:1")
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := handles[w%2].Edit(t.Context(), "m:1", Note{}, func(m *Model) error {
					m.Metadata.Tags = append(m.Metadata.Tags, fmt.Sprintf("%d-%d", w, i))
					m.Description += "."
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m := get(t, r, "m:1")
	slices.Sort(m.Metadata.Tags)
	if n := len(slices.Compact(m.Metadata.Tags)); n != writers*each || m.Description != strings.Repeat(".", writers*each) {
		t.Errorf("%d tags and description %q: edits were lost", n, m.Description)
	}
}

func TestDelete(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	parent := add(t, r, "m:1")
	for _, ref := range []string{"m:2", "n:1"} {
		m := ofRef(ref)
		m.Parent = parent.ID
		addModel(t, r, m, ref)
	}
	before := list(t, r)
	err := r.Delete(ctx, "m:1", Note{})
	used, ok := errors.AsType[*InUseError](err)
	if !ok {
		t.Fatalf("got %v, want an *InUseError", err)
	}
	wantErr(t, "a parent", err, ErrConflict)
	slices.Sort(used.Children)
	same(t, "InUseError", *used, InUseError{Ref: "m:1", Children: []string{"m:2", "n:1"}})
	promote(t, r, "m:2")
	err = r.Delete(ctx, "m:2", Note{})
	if used, ok := errors.AsType[*InUseError](err); !ok || !used.Production || len(used.Children) != 0 {
		t.Errorf("in production: %v", err)
	}
	wantErr(t, "unknown", r.Delete(ctx, "m:9", Note{}), ErrNotFound)
	same(t, "names", len(list(t, r).Names), len(before.Names))

	must(t, r.ForceDelete(ctx, "m:1", Note{Reason: "a mistake"}))
	must(t, r.ForceDelete(ctx, "m:2", Note{}))
	_, err = r.Get(ctx, "m")
	wantErr(t, "the model is gone", err, ErrNotFound)
	orphan := get(t, r, "n:1")
	if orphan.Parent != parent.ID {
		t.Errorf("parent %s, want that of the deleted one", orphan.Parent)
	}
	if got := read(t, orphan, WeightsFile); string(got) != "n:1" {
		t.Errorf("read %q", got)
	}
	must(t, r.Delete(ctx, "n:1", Note{}))
	if names, paths := all(t, r.Names(ctx, "")), all(t, r.List(ctx, "")); len(names)+len(paths) != 0 {
		t.Errorf("left: %v, %v", names, paths)
	}
	if m := add(t, r, "m:1"); m.ID == parent.ID || len(m.Children) != 0 {
		t.Errorf("registered again: %+v", m)
	}
}
