package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// dropped returns the references that a result drops, and fails if a version is
// said to be both kept and dropped, or neither.
func dropped(t failer, p Pruned) []string {
	t.Helper()
	var s []string
	for _, v := range p.Versions {
		if v.Keep != (len(v.Reasons) > 0) || v.Keep && v.ParentOf != nil {
			t.Fatalf("%s: keep %v, because of %v, parentOf %v", v.Model.Ref(), v.Keep, v.Reasons, v.ParentOf)
		}
		if !v.Keep {
			s = append(s, v.Model.Ref())
		}
	}
	return s
}

// why returns the reasons for each version that is kept, as text.
func why(p Pruned) map[string]string {
	got := map[string]string{}
	for _, v := range p.Kept() {
		var s []string
		for _, r := range v.Reasons {
			s = append(s, r.String())
		}
		got[v.Model.Ref()] = strings.Join(s, "; ")
	}
	return got
}

func plan(t testing.TB, r *Registry, p Policy, names ...string) Pruned {
	t.Helper()
	got, err := r.PlanPrune(t.Context(), names, p)
	must(t, err)
	return got
}

// trainingRun registers 8 checkpoints of a training, with a bit of everything, a day apart. It
// returns the time of the last.
func trainingRun(t testing.TB, r *Registry) int64 {
	t.Helper()
	const day = int64(24 * time.Hour / time.Microsecond)
	first := r.now()
	at := func(i int64, m Model) Model {
		m.Name, m.Version, m.RegisteredAt = "m", fmt.Sprint(i), first+i*day
		return m
	}
	loss := func(v float64) Metadata { return Metadata{TrainingMetrics: map[string]float64{"loss": v}} }
	addModel(t, r, at(1, Model{Metadata: Metadata{Tags: []string{"a", "b"}}}), "1")
	addModel(t, r, at(2, Model{Metadata: loss(0.5)}), "2")
	addModel(t, r, at(3, Model{Metadata: loss(0.25)}), "3")
	addModel(t, r, at(4, Model{Status: Staged, Metadata: loss(0.125)}), "4")
	addModel(t, r, at(5, Model{Metadata: Metadata{Extra: json.RawMessage(`{"step":40,"loss":"0.1"}`)}}), "5")
	addModel(t, r, at(6, Model{Status: Production, Metadata: loss(2)}), "6")
	addModel(t, r, at(7, Model{Metadata: loss(0.25)}), "7")
	addModel(t, r, at(8, Model{}), "8")
	must(t, r.SetAlias(t.Context(), "m", "best", "2", Note{}))
	must(t, r.SetAlias(t.Context(), "m", "demo", "2", Note{}))
	return first + 8*day
}

func TestPolicy(t *testing.T) {
	var now atomic.Int64
	now.Store(1_700_000_000_000_000)
	r, err := CreateTemp(t.Context(), &Options{Now: now.Load})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	now.Store(trainingRun(t, r))
	const day = 24 * time.Hour
	always := map[string]string{"m:2": "alias best,demo", "m:4": "staged", "m:6": "production", "m:8": "latest"}
	tests := []struct {
		name string
		p    Policy
		want map[string]string // besides always
	}{
		{"last of all", Policy{KeepLast: 1}, map[string]string{"m:8": "latest; last"}},
		{"last", Policy{KeepLast: 4}, map[string]string{"m:5": "last", "m:6": "production; last", "m:7": "last", "m:8": "latest; last"}},
		{"more than there are", Policy{KeepLast: 99}, map[string]string{"m:1": "last", "m:2": "alias best,demo; last", "m:3": "last", "m:4": "staged; last", "m:5": "last", "m:6": "production; last", "m:7": "last", "m:8": "latest; last"}},
		{"every", Policy{KeepEvery: 4}, map[string]string{"m:4": "staged; every number 4", "m:5": "every step 40", "m:8": "latest; every number 8"}},
		{"every third", Policy{KeepEvery: 3}, map[string]string{"m:3": "every number 3", "m:6": "production; every number 6"}},
		{"lowest", Policy{KeepBest: []Best{{"loss", 1, Lowest}}}, map[string]string{"m:4": "staged; best loss 0.125"}},
		{"of equal ones the newer", Policy{KeepBest: []Best{{"loss", 2, Lowest}}}, map[string]string{"m:4": "staged; best loss 0.125", "m:7": "best loss 0.25"}},
		{"highest", Policy{KeepBest: []Best{{"metric.loss", 3, Highest}}}, map[string]string{"m:2": "alias best,demo; best metric.loss 0.5", "m:6": "production; best metric.loss 2", "m:7": "best metric.loss 0.25"}},
		{"two metrics", Policy{KeepBest: []Best{{"loss", 1, Lowest}, {"step", 1, Highest}}}, map[string]string{"m:4": "staged; best loss 0.125", "m:5": "best step 40"}},
		{"a slip drops nothing", Policy{KeepLast: 1, KeepBest: []Best{{"los", 1, Lowest}}}, map[string]string{"m:1": "unmeasured los", "m:2": "alias best,demo; unmeasured los", "m:3": "unmeasured los", "m:4": "staged; unmeasured los", "m:5": "unmeasured los", "m:6": "production; unmeasured los", "m:7": "unmeasured los", "m:8": "latest; last; unmeasured los"}},
		{"tagged", Policy{KeepTagged: true}, map[string]string{"m:1": "tagged a,b"}},
		{"within", Policy{Within: day}, map[string]string{"m:7": "within", "m:8": "latest; within"}},
		{"within less", Policy{Within: day - time.Microsecond}, map[string]string{"m:8": "latest; within"}},
		{"within ever", Policy{Within: 1<<63 - 1}, map[string]string{"m:1": "within", "m:2": "alias best,demo; within", "m:3": "within", "m:4": "staged; within", "m:5": "within", "m:6": "production; within", "m:7": "within", "m:8": "latest; within"}},
		{"union", Policy{KeepLast: 2, KeepTagged: true}, map[string]string{"m:1": "tagged a,b", "m:7": "last", "m:8": "latest; last"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := map[string]string{}
			for _, from := range []map[string]string{always, tt.want} {
				maps.Copy(want, from)
			}
			got := plan(t, r, tt.p, "m")
			dropped(t, got)
			same(t, "kept", why(got), want)
			if len(got.Versions) != 8 || got.Versions[0].Model.Ref() != "m:8" || got.Versions[7].Model.Ref() != "m:1" {
				t.Errorf("the order is %v", got.Versions)
			}
		})
	}
	now.Add(-100 * int64(day/time.Microsecond)) // so that all come from the future
	if got := dropped(t, plan(t, r, Policy{Within: time.Hour}, "m")); got != nil {
		t.Errorf("of versions from the future %v are dropped", got)
	}
}

// Neither the clock nor the label says what is newest, but the journal.
func TestPruneOrder(t *testing.T) {
	r := newRegistry(t)
	for i, label := range []string{"3", "1", "2"} {
		addModel(t, r, Model{Name: "m", Version: label, RegisteredAt: int64(1000 - i)}, label)
	}
	got := plan(t, r, Policy{KeepLast: 1}, "m")
	same(t, "kept", why(got), map[string]string{"m:2": "last", "m:3": "latest"})

	// Of one record, the time and then the label does.
	b := r.Bulk()
	var drafts []*Draft
	for i, label := range []string{"b", "c", "a", "d"} {
		d, err := b.Begin(t.Context(), Model{Name: "bulk", Version: label, RegisteredAt: int64(1000 + 10*(i/3))})
		must(t, err)
		defer d.Close()
		_, err = d.Put(t.Context(), "f", strings.NewReader(label))
		must(t, err)
		drafts = append(drafts, d)
	}
	_, err := b.Commit(t.Context(), Note{}, drafts...)
	must(t, err)
	same(t, "dropped", dropped(t, plan(t, r, Policy{KeepLast: 2}, "bulk")), []string{"bulk:b", "bulk:a"})
}

// Without a number of their own versions are counted, with those that are gone:
// what was kept once is kept the next time.
func TestPruneEveryCounts(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	p := Policy{KeepEvery: 3, KeepLast: 1}
	var have []string
	for i := range 12 {
		add(t, r, fmt.Sprintf("m:run-%c", 'a'+i))
		add(t, r, fmt.Sprintf("other:run-%c", 'a'+i))
		_, err := r.Prune(ctx, []string{"m"}, p, Note{})
		must(t, err)
	}
	for _, m := range all(t, r.Versions(ctx, "m")) {
		have = append(have, m.Version)
	}
	same(t, "versions", have, []string{"run-l", "run-i", "run-f", "run-c"})
	if n := len(all(t, r.Versions(ctx, "other"))); n != 12 {
		t.Errorf("%d versions of another model are left", n)
	}
	same(t, "reasons", why(plan(t, r, p, "m"))["m:run-f"], "every registration 6")
	for _, label := range []string{"012", "000600"} {
		add(t, r, "m:"+label)
	}
	got := why(plan(t, r, p, "m"))
	same(t, "decimal", []string{got["m:012"], got["m:000600"]}, []string{"every number 12", "latest; last; every number 600"})
}

func TestPruneRecord(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	for i := range 5 {
		add(t, r, fmt.Sprintf("m:%d", i+1))
		add(t, r, fmt.Sprintf("n:%d", i+1))
	}
	before := all(t, r.History(ctx, ""))
	planned := plan(t, r, Policy{KeepLast: 2}, "n", "m", "n")
	got, err := r.Prune(ctx, []string{"n", "m", "n"}, Policy{KeepLast: 2}, Note{Actor: "ann", Reason: "old"})
	must(t, err)
	same(t, "what was done", got, planned)
	same(t, "dropped", dropped(t, got), []string{"n:3", "n:2", "n:1", "m:3", "m:2", "m:1"})
	if len(got.Kept()) != 4 || len(got.Dropped()) != 6 {
		t.Errorf("%d kept, %d dropped", len(got.Kept()), len(got.Dropped()))
	}
	events := all(t, r.History(ctx, ""))[len(before):]
	for _, e := range events {
		if e.Verb != "prune" || e.Actor != "ann" || e.Reason != "old" || e.Seq != events[0].Seq {
			t.Errorf("event %+v", e)
		}
	}
	if len(events) != 6 {
		t.Errorf("%d events", len(events))
	}
	same(t, "left", refs(all(t, r.Find(ctx, Query{}))), []string{"m:5", "m:4", "n:5", "n:4"})
	_, err = r.Get(ctx, "m:3")
	wantErr(t, "what was dropped", err, ErrNotFound)

	// Nothing left to do is no record.
	again, err := r.Prune(ctx, []string{"m", "n"}, Policy{KeepLast: 2}, Note{})
	must(t, err)
	if n := len(all(t, r.History(ctx, ""))); n != len(before)+6 || dropped(t, again) != nil {
		t.Errorf("%d events, dropped %v", n, dropped(t, again))
	}
}

func TestPruneNames(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	if got, err := r.PlanPrune(ctx, []string{AllModels}, Policy{KeepLast: 1}); err != nil || len(got.Versions) != 0 {
		t.Errorf("all models of an empty store: %v, %v", got, err)
	}
	for _, n := range []string{"team/a", "team/b", "team/b/c", "teams", "z"} {
		add(t, r, n+":1")
		add(t, r, n+":2")
	}
	for _, tt := range []struct {
		names []string
		want  []string
	}{
		{[]string{"z", "team/b"}, []string{"z:1", "team/b:1"}},
		{[]string{"team/"}, []string{"team/a:1", "team/b:1", "team/b/c:1"}},
		{[]string{"team/b/c", "team/", "team/a"}, []string{"team/b/c:1", "team/a:1", "team/b:1"}},
		{[]string{AllModels}, []string{"team/a:1", "team/b:1", "team/b/c:1", "teams:1", "z:1"}},
	} {
		same(t, fmt.Sprint(tt.names), dropped(t, plan(t, r, Policy{KeepLast: 1}, tt.names...)), tt.want)
		same(t, fmt.Sprint(tt.names), dropped(t, plan(t, r, Policy{KeepEvery: 2}, tt.names...)), tt.want)
	}
	before := list(t, r)
	for _, tt := range []struct {
		names []string
		p     Policy
		want  error
	}{
		{nil, Policy{KeepLast: 1}, fs.ErrInvalid},
		{[]string{""}, Policy{KeepLast: 1}, fs.ErrInvalid},
		{[]string{"/"}, Policy{KeepLast: 1}, fs.ErrInvalid},
		{[]string{"team//"}, Policy{KeepLast: 1}, fs.ErrInvalid},
		{[]string{"z:1"}, Policy{KeepLast: 1}, fs.ErrInvalid},
		{[]string{"*"}, Policy{KeepLast: 1}, ErrNotFound},
		{[]string{"z", "none"}, Policy{KeepLast: 1}, ErrNotFound},
		{[]string{"z", "z/"}, Policy{KeepLast: 1}, ErrNotFound},
		{[]string{"z"}, Policy{}, fs.ErrInvalid},
	} {
		got, err := r.Prune(ctx, tt.names, tt.p, Note{})
		if !errors.Is(err, tt.want) || len(got.Versions) > 0 {
			t.Errorf("Prune %q: %v, %v; want %v", tt.names, got, err, tt.want)
		}
		if _, planErr := r.PlanPrune(ctx, tt.names, tt.p); planErr == nil || planErr.Error() != err.Error() {
			t.Errorf("PlanPrune %q: %v, Prune %v", tt.names, planErr, err)
		}
	}
	_, err := r.Prune(ctx, []string{"z"}, Policy{KeepLast: 1}, Note{Reason: "a\x00"})
	wantErr(t, "a bad reason", err, ErrInvalid)
	same(t, "after errors", list(t, r), before)
}

func TestPruneParents(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	parent := uuid.Nil
	for i := range 6 {
		parent = addModel(t, r, Model{Name: "m", Version: fmt.Sprint(i + 1), Parent: parent}, fmt.Sprint("content ", i)).ID
	}
	addModel(t, r, Model{Name: "side", Version: "1", Parent: get(t, r, "m:2").ID}, "side")
	addModel(t, r, Model{Name: "side", Version: "2", Parent: get(t, r, "m:2").ID}, "side 2")
	add(t, r, "m:7")

	got := plan(t, r, Policy{KeepLast: 2}, "m")
	parentOf := map[string][]string{}
	for _, v := range got.Dropped() {
		if v.ParentOf != nil {
			parentOf[v.Model.Ref()] = v.ParentOf
		}
	}
	same(t, "parentOf", parentOf, map[string][]string{"m:5": {"m:6"}, "m:2": {"side:1", "side:2"}})
	// With the models of the children, only those that stay count.
	got = plan(t, r, Policy{KeepLast: 1}, "m", "side")
	for _, v := range got.Dropped() {
		if want := map[string][]string{"m:2": {"side:2"}}[v.Model.Ref()]; !slices.Equal(v.ParentOf, want) {
			t.Errorf("%s: parentOf %v, want %v", v.Model.Ref(), v.ParentOf, want)
		}
	}

	p := Policy{KeepLast: 1, KeepParents: true}
	same(t, "parents", why(plan(t, r, p, "m")), map[string]string{"m:7": "latest; last", "m:2": "parent side:1", "m:1": "parent m:2"})
	same(t, "parents", why(plan(t, r, p, "side", "m")), map[string]string{"m:7": "latest; last", "side:2": "latest; last", "m:2": "parent side:2", "m:1": "parent m:2"})
	must(t, r.SetAlias(ctx, "m", "best", "4", Note{}))
	same(t, "parents", dropped(t, plan(t, r, p, "m")), []string{"m:6", "m:5"})

	// Weights outlive their donors' names.
	want := read(t, get(t, r, "m:7"), WeightsFile)
	wantSide := read(t, get(t, r, "side:1"), WeightsFile)
	id := get(t, r, "m:2").ID
	_, err := r.Prune(ctx, []string{"m"}, Policy{KeepLast: 1}, Note{})
	must(t, err)
	if side := get(t, r, "side:1"); side.Parent != id || string(read(t, side, WeightsFile)) != string(wantSide) || string(read(t, get(t, r, "m:7"), WeightsFile)) != string(want) {
		t.Error("what was kept has changed")
	}
	same(t, "ancestors", refs(all(t, r.Ancestors(ctx, "side:1"))), []string(nil))
}

// What happens between the plan and the run counts, from another process too.
func TestPruneAfterPlan(t *testing.T) {
	r := newRegistry(t)
	other := again(t, r)
	ctx := t.Context()
	for i := range 6 {
		add(t, r, fmt.Sprintf("m:%d", i+1))
	}
	p := Policy{KeepLast: 1, KeepTagged: true}
	same(t, "planned", dropped(t, plan(t, r, p, "m")), []string{"m:5", "m:4", "m:3", "m:2", "m:1"})
	must(t, other.SetAlias(ctx, "m", "best", "1", Note{}))
	_, err := other.SetStatus(ctx, "m:2", Staged, Note{})
	must(t, err)
	_, err = other.Edit(ctx, "m:3", Note{}, func(m *Model) error { m.Metadata.Tags = []string{"release"}; return nil })
	must(t, err)
	must(t, other.Delete(ctx, "m:4", Note{}))
	got, err := r.Prune(ctx, []string{"m"}, p, Note{})
	must(t, err)
	same(t, "dropped", dropped(t, got), []string{"m:5"})
}

// Somebody who was told that an alias is set, or a version promoted, finds it.
func TestPruneRace(t *testing.T) {
	r := newRegistry(t)
	other := again(t, r)
	ctx := t.Context()
	for round := range 15 {
		n := fmt.Sprintf("m%d", round)
		for i := range 4 {
			add(t, r, fmt.Sprintf("%s:%d", n, i+1))
		}
		var wg sync.WaitGroup
		var aliasErr, promoteErr, pruneErr error
		wg.Go(func() { aliasErr = other.SetAlias(ctx, n, "best", "1", Note{}) })
		wg.Go(func() { _, promoteErr = other.Promote(ctx, n+":2", Note{}) })
		wg.Go(func() { _, pruneErr = r.Prune(ctx, []string{n}, Policy{KeepLast: 1}, Note{}) })
		wg.Wait()
		must(t, pruneErr)
		for ref, err := range map[string]error{n + ":1": aliasErr, n + ":2": promoteErr} {
			_, getErr := r.Get(ctx, ref)
			if (err == nil) != (getErr == nil) || err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatalf("%s: the change gave %v, and then it is %v", ref, err, getErr)
			}
		}
		if _, err := r.Get(ctx, n+":3"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%s:3 is still there: %v", n, err)
		}
	}
}

func TestPruneSeveralRecords(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	for i := range 9 {
		add(t, r, fmt.Sprintf("m:%c", 'a'+i))
		add(t, r, fmt.Sprintf("n:%d", i+1))
	}
	p := Policy{KeepEvery: 4, Within: 1}
	planned := plan(t, r, p, "m", "n")
	got, err := r.prune(ctx, []string{"m", "n"}, p, Note{}, 1)
	must(t, err)
	same(t, "what was done", got, planned)
	records := map[uint64]int{}
	var order []string
	for _, e := range all(t, r.History(ctx, "")) {
		if e.Verb == "prune" {
			records[e.Seq]++
			order = append(order, e.Name+":"+e.Version)
		}
	}
	for seq, n := range records {
		if n != 1 {
			t.Errorf("record %d has %d deletions", seq, n)
		}
	}
	if len(records) != 12 || len(order) != 12 || order[0] != "m:a" || order[1] != "n:1" || order[11] != "n:7" {
		t.Errorf("records %v, in the order %v", records, order)
	}
}

// Between two records others may change what is left: it is judged as it is.
func TestPruneBetweenRecords(t *testing.T) {
	ctx := t.Context()
	r := newRegistry(t)
	other := again(t, r)
	for i := range 8 {
		add(t, r, fmt.Sprintf("m:%d", i+1))
	}
	add(t, r, "n:1")
	add(t, r, "n:2")
	j, err := newPruning([]string{"m", "n"}, Policy{KeepLast: 1})
	must(t, err)
	c, err := r.change("prune", Note{})
	must(t, err)
	more, err := j.next(ctx, r, c, 2)
	must(t, err)
	same(t, "left", refs(all(t, r.Versions(ctx, "m")))[5], "m:3")
	must(t, other.SetAlias(ctx, "m", "best", "3", Note{}))
	_, err = other.Promote(ctx, "m:5", Note{})
	must(t, err)
	must(t, other.Delete(ctx, "m:4", Note{}))
	must(t, other.Delete(ctx, "m:8", Note{}))
	must(t, other.ForceDelete(ctx, "n:1", Note{}))
	must(t, other.ForceDelete(ctx, "n:2", Note{})) // a model that is gone is no error any more
	for more {
		more, err = j.next(ctx, r, c, 2)
		must(t, err)
	}
	got := j.pruned(append(j.gone, j.kept...))
	same(t, "dropped", dropped(t, got), []string{"m:6", "m:2", "m:1"})
	same(t, "left", refs(all(t, r.Versions(ctx, "m"))), []string{"m:7", "m:5", "m:3"})
}

// An error tells what had been deleted until then.
func TestPruneStopped(t *testing.T) {
	r := newRegistry(t)
	for i := range 6 {
		add(t, r, fmt.Sprintf("m:%d", i+1))
	}
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	now := r.now
	o, err := Open(t.Context(), r.Dir(), &Options{Now: func() int64 {
		if calls.Add(1) > 2 { // its first transaction is that of Open, the second the first record
			cancel()
		}
		return now()
	}})
	must(t, err)
	t.Cleanup(func() { must(t, o.Close()) })
	got, err := o.prune(ctx, []string{"m"}, Policy{KeepLast: 1}, Note{}, 2)
	wantErr(t, "cancelled", err, context.Canceled)
	same(t, "dropped", dropped(t, got), []string{"m:2", "m:1"})
	same(t, "left", refs(all(t, r.Versions(t.Context(), "m"))), []string{"m:6", "m:5", "m:4", "m:3"})
	got, err = o.Prune(ctx, []string{"m"}, Policy{KeepLast: 1}, Note{})
	wantErr(t, "cancelled before", err, context.Canceled)
	same(t, "dropped", dropped(t, got), []string(nil))
}

// More versions than fit into many pages of the index.
func TestPruneMany(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	content, err := r.store.Put(ctx, strings.NewReader("the manifest, too"))
	must(t, err)
	c, err := r.change("register", Note{})
	must(t, err)
	must(t, r.update(ctx, c, func(v *view) error {
		for i := range 500 {
			m := Model{ID: uuid.New(), Name: "m", Version: fmt.Sprint(i + 1), Status: Pending}
			if err := v.registerBare(m, content); err != nil {
				return err
			}
		}
		return nil
	}))
	got, err := r.prune(ctx, []string{"m"}, Policy{KeepEvery: 250}, Note{}, 300)
	must(t, err)
	if n := len(got.Dropped()); n != 498 {
		t.Errorf("%d versions were dropped, want 498", n)
	}
	same(t, "left", refs(all(t, r.Versions(ctx, "m"))), []string{"m:500", "m:250"})
	same(t, "left, to another process", refs(all(t, again(t, r).Versions(ctx, "m"))), []string{"m:500", "m:250"})
}
