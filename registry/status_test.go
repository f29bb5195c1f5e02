package registry

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"pgregory.net/rapid"
)

// promote fails the test if it can't.
func promote(t testing.TB, r *Registry, ref string) Change {
	t.Helper()
	c, err := r.Promote(t.Context(), ref, Note{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inProduction returns the references of a model's versions in production.
func inProduction(t testing.TB, r *Registry, model string) []string {
	t.Helper()
	return refs(all(t, r.Find(t.Context(), Query{Name: model, Status: []Status{Production}})))
}

func TestSetStatus(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	m := add(t, r, "m:1")
	c, err := r.SetStatus(ctx, "m:1", "VALIDATED", Note{Actor: "ann", Reason: "looks right"})
	must(t, err)
	if c.From != Pending || c.Model.Status != Validated || c.Demoted != nil {
		t.Errorf("change %+v", c)
	}
	if c.Model.UpdatedAt <= m.UpdatedAt || c.Model.Manifest != m.Manifest {
		t.Errorf("updated at %d after %d, manifest %s after %s", c.Model.UpdatedAt, m.UpdatedAt, c.Model.Manifest, m.Manifest)
	}
	records := len(all(t, r.History(ctx, "")))
	c, err = r.SetStatus(ctx, "m:1", Validated, Note{})
	must(t, err)
	if c.From != Validated || len(all(t, r.History(ctx, ""))) != records {
		t.Errorf("the same status again was a change: %+v", c)
	}
	_, err = r.SetStatus(ctx, "m:2", Staged, Note{})
	wantErr(t, "unknown version", err, ErrNotFound)
	_, err = r.SetStatus(ctx, "m:1", "", Note{})
	wantErr(t, "no status", err, ErrInvalid)
}

func TestPromoteDemotesInOneRecord(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	add(t, r, "m:2")
	add(t, r, "other:1")
	if c := promote(t, r, "m:1"); c.From != Pending || c.Demoted != nil || c.Model.Status != Production {
		t.Errorf("first: %+v", c)
	}
	promote(t, r, "other:1")
	c, err := r.SetStatus(t.Context(), "m:2", Production, Note{Actor: "ann", Reason: "better"})
	must(t, err)
	if c.Demoted == nil || c.Demoted.Ref() != "m:1" || c.Demoted.Status != Staged {
		t.Fatalf("demoted %+v", c.Demoted)
	}
	events := all(t, r.History(t.Context(), "m"))
	last := events[len(events)-2:]
	if last[0].Seq != last[1].Seq {
		t.Errorf("promotion and demotion are two records: %+v", last)
	}
	for i, want := range []Event{{Version: "1", From: "production", To: "staged"}, {Version: "2", From: "pending", To: "production"}} {
		e := last[i]
		if e.Version != want.Version || e.From != want.From || e.To != want.To || e.Verb != "promote" || e.Actor != "ann" || e.Reason != "better" {
			t.Errorf("event %+v, want %+v", e, want)
		}
	}
	same(t, "m", inProduction(t, r, "m"), []string{"m:2"})
	same(t, "other", inProduction(t, r, "other"), []string{"other:1"})
}

func TestRegisterIntoProduction(t *testing.T) {
	r := newRegistry(t)
	for _, v := range []string{"1", "2"} {
		addModel(t, r, Model{Name: "m", Version: v, Status: Production}, v)
	}
	same(t, "production", inProduction(t, r, "m"), []string{"m:2"})
	if m := get(t, r, "m:1"); m.Status != Staged {
		t.Errorf("m:1 is %s", m.Status)
	}
	c, err := r.Rollback(t.Context(), "m", Note{})
	must(t, err)
	if c.Model.Ref() != "m:1" || c.Demoted.Ref() != "m:2" {
		t.Errorf("rolled back to %s from %s", c.Model.Ref(), c.Demoted.Ref())
	}
}

func TestRollback(t *testing.T) {
	type step = string // "1": promote; "<2": roll back to 2; "<": none left; "!1": force its deletion; "_2": archive; "+2": register again
	tests := []struct {
		name  string
		steps []step
	}{
		{"never promoted", []step{"<"}},
		{"only one", []step{"1", "<"}},
		{"several times", []step{"1", "2", "3", "<2", "<1", "<"}},
		{"then promoted again", []step{"1", "2", "<1", "3", "<1", "<"}},
		{"one that was there twice", []step{"1", "2", "1", "3", "<1", "<2", "<1", "<"}},
		{"there and back", []step{"1", "2", "1", "<2", "<1", "<"}},
		{"rolled back and promoted again", []step{"1", "2", "<1", "2", "<1", "<"}},
		{"a past one was deleted", []step{"1", "2", "3", "!2", "<1", "<"}},
		{"the current one was deleted", []step{"1", "2", "!2", "<1", "<"}},
		{"both sides of a deleted one are the same", []step{"1", "2", "1", "!2", "<"}},
		{"production was emptied", []step{"1", "2", "_2", "<2", "<1", "<"}},
		{"emptied twice", []step{"1", "_1", "2", "_2", "<2", "<1", "<"}},
		{"emptied and promoted again", []step{"1", "2", "_2", "2", "<1", "<"}},
		{"a deleted one came back under its name", []step{"1", "2", "!1", "+1", "<", "1", "<2"}},
		{"promoting what is there already", []step{"1", "2", "2", "<1", "<"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			ctx := t.Context()
			for _, v := range []string{"1", "2", "3"} {
				add(t, r, "m:"+v)
			}
			for i, s := range tt.steps {
				what := fmt.Sprintf("step %d, %s", i, s)
				switch ref := "m:" + s[1:]; s[0] {
				case '<':
					c, err := r.Rollback(ctx, "m", Note{Reason: "worse"})
					if s == "<" {
						wantErr(t, what, err, ErrNotFound)
						continue
					}
					if err != nil || c.Model.Ref() != ref {
						t.Fatalf("%s: %+v, %v", what, c.Model, err)
					}
					same(t, what, inProduction(t, r, "m"), []string{ref})
				case '!':
					must(t, r.ForceDelete(ctx, ref, Note{}))
				case '_':
					_, err := r.SetStatus(ctx, ref, Archived, Note{})
					must(t, err)
				case '+':
					add(t, r, ref)
				default:
					promote(t, r, "m:"+s)
				}
			}
		})
	}
	_, err := newRegistry(t).Rollback(t.Context(), "nobody", Note{})
	wantErr(t, "no model", err, ErrNotFound)
}

// productions is what Rollback should do: the versions that were in production
// one after the other, without what was rolled back.
type productions struct {
	stack   []string
	current string
}

func (p *productions) promote(v string) {
	if p.current != v {
		p.stack, p.current = append(p.stack, v), v
	}
}

func (p *productions) empty(v string) {
	if p.current == v {
		p.current = ""
	}
}

func (p *productions) remove(v string) {
	p.stack = slices.DeleteFunc(p.stack, func(o string) bool { return o == v })
	p.empty(v)
}

func (p *productions) rollback() bool {
	for len(p.stack) > 0 && p.stack[len(p.stack)-1] == p.current {
		p.stack = p.stack[:len(p.stack)-1]
	}
	if len(p.stack) == 0 {
		if p.current != "" {
			p.stack = []string{p.current}
		}
		return false
	}
	p.current = p.stack[len(p.stack)-1]
	return true
}

func TestRollbackModel(t *testing.T) {
	r, err := CreateTemp(t.Context(), &Options{Exclusive: true, Now: clock()})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	ctx := t.Context()
	first := add(t, r, "first:1")
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		model := fmt.Sprintf("m%d", run)
		live := []string{"1", "2", "3", "4"}
		// One change for all of them, and one manifest, to save time.
		err := r.update(ctx, index.Change{Verb: "register"}, func(v *view) error {
			for _, label := range live {
				rec := index.Version{ID: uuid.New(), Status: string(Pending), Manifest: first.Manifest}
				if err := errors.Join(rec.Name.UnmarshalText([]byte(model)), rec.Version.UnmarshalText([]byte(label))); err != nil {
					return err
				}
				if err := v.tx.Register(&rec, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		var want productions
		for range rapid.IntRange(1, 14).Draw(rt, "steps") {
			v := rapid.SampledFrom(live).Draw(rt, "version")
			var err error
			switch rapid.SampledFrom([]string{"promote", "promote", "rollback", "rollback", "status", "delete"}).Draw(rt, "step") {
			case "promote":
				_, err = r.Promote(ctx, model+":"+v, Note{})
				want.promote(v)
			case "rollback":
				possible := want.rollback()
				if _, err = r.Rollback(ctx, model, Note{}); !possible && errors.Is(err, ErrNotFound) {
					err = nil
				} else if !possible {
					rt.Fatalf("rolled back where nothing is left: %v", err)
				}
			case "status":
				_, err = r.SetStatus(ctx, model+":"+v, Archived, Note{})
				want.empty(v)
			case "delete":
				if len(live) > 1 {
					err = r.ForceDelete(ctx, model+":"+v, Note{})
					live = slices.DeleteFunc(slices.Clone(live), func(o string) bool { return o == v })
					want.remove(v)
				}
			}
			if err != nil {
				rt.Fatal(err)
			}
			var wanted []string
			if want.current != "" {
				wanted = []string{model + ":" + want.current}
			}
			if got := inProduction(t, r, model); !slices.Equal(got, wanted) {
				rt.Fatalf("in production: %v, want %v", got, wanted)
			}
		}
	})
}

func TestPromoteConcurrent(t *testing.T) {
	r := newRegistry(t)
	handles := []*Registry{r, again(t, r)}
	for i := range 4 {
		add(t, r, fmt.Sprintf("m:%d", i))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for round := range 3 {
				if _, err := handles[i%2].Promote(t.Context(), fmt.Sprintf("m:%d", (i+round)%4), Note{}); err != nil {
					t.Error(err)
				}
				if got := inProduction(t, handles[i%2], "m"); len(got) != 1 {
					t.Errorf("in production: %v", got)
				}
				// None may be left after an emptied past, which is no fault here.
				if _, err := handles[i%2].Rollback(t.Context(), "m", Note{}); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := inProduction(t, r, "m"); len(got) != 1 {
		t.Errorf("in production: %v", got)
	}
}

// TestRollbackBeside changes another model between Rollback's look at the
// journal and its change, each time: that is no reason to look again.
func TestRollbackBeside(t *testing.T) {
	r := newRegistry(t)
	for _, v := range []string{"m:1", "m:2", "other:1", "other:2"} {
		add(t, r, v)
	}
	for _, v := range []string{"m:1", "m:2"} {
		if _, err := r.Promote(t.Context(), v, Note{}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := parseName("m")
	must(t, err)
	past, current, err := r.pastProductions(t.Context(), n)
	must(t, err)
	if len(past) != 1 || past[0] != get(t, r, "m:1").ID || current != get(t, r, "m:2").ID {
		t.Fatalf("past %v, now %v", past, current)
	}
	// Another process is busy all the while.
	o, ctx := again(t, r), t.Context()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = o.SetAlias(ctx, "other", "x", []string{"1", "2"}[i%2], Note{})
			}
		}
	}()
	ch, err := r.Rollback(ctx, "m", Note{})
	close(stop)
	<-done
	must(t, err)
	if ch.Model.Version != "1" {
		t.Errorf("rolled back to %s", ch.Model.Version)
	}
}

// TestProductionAsLabel refers to the version in production by its status; a
// version or alias of that name comes first.
func TestProductionAsLabel(t *testing.T) {
	r, ctx := newRegistry(t), t.Context()
	add(t, r, "m:1")
	add(t, r, "m:2")
	_, err := r.Get(ctx, "m:production")
	wantErr(t, "none in production", err, ErrNotFound)
	_, err = r.Promote(ctx, "m:1", Note{})
	must(t, err)
	same(t, "in production", get(t, r, "m:production").Ref(), "m:1")
	must(t, r.SetAlias(ctx, "m", "production", "2", Note{}))
	same(t, "an alias", get(t, r, "m:production").Ref(), "m:2")
}
