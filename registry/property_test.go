package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// fake is a registry in memory: what the real one has to answer.
type fake struct {
	prefix   string // of the names of this run
	versions []*fakeVersion
	aliases  map[string]map[string]*fakeVersion // by name, alias
	past     map[string]*productions            // by name; of ids
	events   map[string]int                     // by name
	seq      int
}

type fakeVersion struct {
	id, parent    uuid.UUID
	name, version string
	status        Status
	content, desc string
	seq           int
}

func newFake(prefix string) *fake {
	return &fake{prefix: prefix, aliases: map[string]map[string]*fakeVersion{}, past: map[string]*productions{}, events: map[string]int{}}
}

func (v *fakeVersion) ref() string { return v.name + ":" + v.version }

// of returns the versions of a name, newest first.
func (f *fake) of(name string) []*fakeVersion {
	all := slices.DeleteFunc(slices.Clone(f.versions), func(v *fakeVersion) bool { return v.name != name })
	slices.SortFunc(all, func(a, b *fakeVersion) int {
		x, y := b.rank(), a.rank()
		return slices.Compare(x[:], y[:])
	})
	return all
}

// labels are the versions that are registered by label; those that are no
// semantic versions come first.
var labels = []string{"nightly", "alpha", "0.1.0-rc.1", "0.1.0", "0.10.0", "7"}

func (v *fakeVersion) rank() [2]int {
	if n, err := strconv.Atoi(v.version); err == nil {
		return [2]int{2, n}
	}
	if i := slices.Index(labels, v.version); i >= 2 {
		return [2]int{1, i}
	}
	return [2]int{0, v.seq}
}

func (f *fake) find(name, label string) *fakeVersion {
	for _, v := range f.versions {
		if v.name == name && v.version == label {
			return v
		}
	}
	return f.aliases[name][label]
}

func (f *fake) next(name string) string {
	highest := 0
	for _, v := range f.of(name) {
		if n, err := strconv.Atoi(v.version); err == nil {
			highest = max(highest, n)
		}
	}
	return strconv.Itoa(highest + 1)
}

func (f *fake) productions(name string) *productions {
	if f.past[name] == nil {
		f.past[name] = &productions{}
	}
	return f.past[name]
}

// place gives a version a status.
func (f *fake) place(v *fakeVersion, s Status) {
	if v.status == s {
		return
	}
	if s == Production {
		for _, o := range f.of(v.name) {
			if o.status == Production {
				o.status = Staged
				f.events[v.name]++
			}
		}
	} else if v.status == Production {
		f.productions(v.name).empty(v.id.String())
	}
	v.status = s
	f.events[v.name]++
}

func (f *fake) remove(v *fakeVersion) {
	f.versions = slices.DeleteFunc(f.versions, func(o *fakeVersion) bool { return o == v })
	maps.DeleteFunc(f.aliases[v.name], func(_ string, o *fakeVersion) bool { return o == v })
	f.productions(v.name).remove(v.id.String())
	f.events[v.name]++
}

func (f *fake) used(v *fakeVersion) bool {
	return v.status == Production || slices.ContainsFunc(f.versions, func(o *fakeVersion) bool { return o.parent == v.id })
}

// step does something at random, to both, and compares the outcome.
func (f *fake) step(ctx context.Context, t *rapid.T, r *Registry) {
	name := f.prefix + rapid.SampledFrom([]string{"a", "a/b", "c"}).Draw(t, "name")
	label := rapid.SampledFrom(labels).Draw(t, "label")
	alias := rapid.SampledFrom([]string{"live", "best", "0.1.0"}).Draw(t, "alias")
	ref := name + ":" + label
	v := f.find(name, label)
	var err, want error
	if v == nil {
		want = ErrNotFound
	}
	switch what := rapid.SampledFrom([]string{"register", "register", "register", "next", "status", "promote", "rollback", "alias", "unalias", "edit", "delete", "force"}).Draw(t, "step"); what {
	case "register", "next":
		f.seq++
		nv := &fakeVersion{id: uuid.New(), name: name, version: label, seq: f.seq, status: rapid.SampledFrom([]Status{Pending, Production}).Draw(t, "status")}
		nv.content = fmt.Sprint("content ", f.seq%3)
		m := Model{ID: nv.id, Name: name, Version: label, Status: nv.status}
		want = nil
		if what == "next" {
			m.Version, nv.version = "", f.next(name)
		} else if slices.ContainsFunc(f.of(name), func(o *fakeVersion) bool { return o.version == label }) {
			want = ErrDuplicate
		}
		if len(f.versions) > 0 && rapid.Bool().Draw(t, "has a parent") {
			nv.parent = rapid.SampledFrom(f.versions).Draw(t, "parent").id
			m.Parent = nv.parent
		}
		_, err = r.Register(ctx, m, strings.NewReader(nv.content))
		if want == nil {
			status := nv.status
			nv.status = ""
			f.place(nv, status)
			if status == Production {
				f.productions(name).promote(nv.id.String())
			}
			f.versions = append(f.versions, nv)
		}
	case "status":
		s := rapid.SampledFrom([]Status{Validated, Archived}).Draw(t, "status")
		if _, err = r.SetStatus(ctx, ref, s, Note{}); want == nil {
			f.place(v, s)
		}
	case "promote":
		if _, err = r.Promote(ctx, ref, Note{}); want == nil {
			f.place(v, Production)
			f.productions(name).promote(v.id.String())
		}
	case "rollback":
		want = ErrNotFound
		if f.productions(name).rollback() {
			want = nil
			i := slices.IndexFunc(f.versions, func(o *fakeVersion) bool { return o.id.String() == f.productions(name).current })
			f.place(f.versions[i], Production)
		}
		_, err = r.Rollback(ctx, name, Note{})
	case "alias":
		err = r.SetAlias(ctx, name, alias, label, Note{})
		if want == nil && f.aliases[name][alias] != v {
			if f.aliases[name] == nil {
				f.aliases[name] = map[string]*fakeVersion{}
			}
			f.aliases[name][alias] = v
			f.events[name]++
		}
	case "unalias":
		want = ErrNotFound
		if f.aliases[name][alias] != nil {
			want = nil
			delete(f.aliases[name], alias)
			f.events[name]++
		}
		err = r.DeleteAlias(ctx, name, alias, Note{})
	case "edit":
		text := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "description")
		_, err = r.Edit(ctx, ref, Note{}, func(m *Model) error { m.Description = text; return nil })
		if want == nil && v.desc != text {
			v.desc = text
			f.events[name]++
		}
	case "delete":
		if v != nil && f.used(v) {
			want = ErrConflict
		}
		if err = r.Delete(ctx, ref, Note{}); want == nil {
			f.remove(v)
		}
	case "force":
		if err = r.ForceDelete(ctx, ref, Note{}); want == nil {
			f.remove(v)
		}
	}
	if !errors.Is(err, want) {
		t.Fatalf("%s %s, alias %s: got %v, want %v", ref, label, alias, err, want)
	}
}

// compare asks the registry all that the fake knows.
func (f *fake) compare(ctx context.Context, t *rapid.T, r *Registry) {
	names := map[string]bool{}
	paths := []string{}
	for _, v := range f.versions {
		names[v.name] = true
		paths = append(paths, v.name+"/"+v.version+"/"+WeightsFile)
	}
	slices.Sort(paths)
	var gotPaths []string
	for e, err := range r.List(ctx, f.prefix) {
		must(t, err)
		gotPaths = append(gotPaths, e.Path)
	}
	same(t, "paths", gotPaths, paths)
	var gotNames []string
	for s, err := range r.Names(ctx, f.prefix) {
		must(t, err)
		gotNames = append(gotNames, s.Name)
		want := f.of(s.Name)
		if s.Versions != len(want) || s.Latest.Ref() != want[0].ref() {
			t.Fatalf("%s has %d versions, the latest %s; want %d, %s", s.Name, s.Versions, s.Latest.Ref(), len(want), want[0].ref())
		}
		i := slices.IndexFunc(want, func(v *fakeVersion) bool { return v.status == Production })
		if (s.Production == nil) != (i < 0) || i >= 0 && s.Production.ID != want[i].id {
			t.Fatalf("%s: in production is %+v", s.Name, s.Production)
		}
		f.compareVersions(ctx, t, r, s.Name, want)
	}
	same(t, "names", gotNames, slices.Sorted(maps.Keys(names)))
	for name, want := range f.events {
		n := 0
		for _, err := range r.History(ctx, name) {
			must(t, err)
			n++
		}
		if n != want {
			t.Fatalf("%s has %d events, want %d", name, n, want)
		}
	}
}

func (f *fake) compareVersions(ctx context.Context, t *rapid.T, r *Registry, name string, want []*fakeVersion) {
	i := 0
	for m, err := range r.Versions(ctx, name) {
		must(t, err)
		if i == len(want) {
			t.Fatalf("%s: there is no %s", name, m.Ref())
		}
		v := want[i]
		i++
		var aliases []string
		for a, o := range f.aliases[name] {
			if o == v {
				aliases = append(aliases, a)
			}
		}
		slices.Sort(aliases)
		got := fakeVersion{id: m.ID, parent: m.Parent, name: m.Name, version: m.Version, status: m.Status, desc: m.Description, seq: v.seq}
		b, err := m.Open(ctx, WeightsFile)
		must(t, err)
		text := make([]byte, m.WeightsSize)
		_, err = b.ReadAt(text, 0)
		must(t, errors.Join(err, b.Close()))
		if got.content = string(text); got != *v || !slices.Equal(m.Aliases, aliases) {
			t.Fatalf("got  %+v, aliases %v\nwant %+v, aliases %v", got, m.Aliases, *v, aliases)
		}
		for _, a := range aliases {
			if o, err := r.Get(ctx, name+":"+a); err != nil || o.ID != f.find(name, a).id {
				t.Fatalf("%s:%s is %v, %v", name, a, o, err)
			}
		}
	}
	if i != len(want) {
		t.Fatalf("%s has %d versions, want %d", name, i, len(want))
	}
}

func TestRegistryModel(t *testing.T) {
	ctx := t.Context()
	dir := newRegistry(t).Dir()
	opts := &Options{Exclusive: true, Now: clock()}
	r, err := Open(ctx, dir, opts)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		f := newFake(fmt.Sprintf("run%d/", run))
		for i := range rapid.IntRange(1, 20).Draw(t, "steps") {
			f.step(ctx, t, r)
			if i%5 == 4 {
				f.compare(ctx, t, r)
			}
		}
		must(t, r.Close())
		var err error
		r, err = Open(ctx, dir, opts)
		must(t, err)
		f.compare(ctx, t, r)
	})
}
