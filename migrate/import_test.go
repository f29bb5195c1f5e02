package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
)

// fake is a Source in memory.
type fake struct {
	items []*Item
	end   error // what is yielded after the items
}

func (f *fake) Kind() string { return "fake" }
func (f *fake) Close() error { return nil }

func (f *fake) Items(context.Context) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		for _, it := range f.items {
			c := *it
			if !yield(&c, nil) {
				return
			}
		}
		if f.end != nil {
			yield(nil, f.end)
		}
	}
}

// id returns the UUID that stands for a text.
func id(s string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(s)) }

// item returns an Item whose id is that of its reference.
func item(ref string, contents ...string) *Item {
	name, version, _ := strings.Cut(ref, ":")
	it := &Item{From: "at " + ref, Model: registry.Model{
		ID: id(ref), Name: name, Version: version, RegisteredAt: 1_700_000_000_123_456, UpdatedAt: 1_700_000_001_000_001,
		RegisteredBy: "them", Origin: &registry.Origin{Source: "fake"},
	}}
	for i, c := range contents {
		it.Files = append(it.Files, file(fmt.Sprintf("f%d.bin", i), c))
	}
	return it
}

// source is a reader that can do what a file can.
type source struct{ *bytes.Reader }

func (source) Close() error { return nil }

func file(path, content string) File {
	return File{
		Path: path, Size: int64(len(content)), Modified: 1,
		Open: func(context.Context) (io.ReadCloser, error) { return source{bytes.NewReader([]byte(content))}, nil },
		Want: Hashes{SHA256: sha256.Sum256([]byte(content))},
	}
}

func store(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.CreateTemp(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// outcomes collects what Plan or Apply yields, as "state ref" or "state from".
func outcomes(t *testing.T, seq iter.Seq2[Outcome, error]) (lines []string, all []Outcome) {
	t.Helper()
	for o, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(o.State)+" "+o.Ref)
		all = append(all, o)
	}
	return lines, all
}

// apply checks that a plan foretells what Apply does.
func apply(t *testing.T, r *registry.Registry, src Source, o *Options) ([]string, []Outcome) {
	t.Helper()
	planned, _ := outcomes(t, Plan(t.Context(), r, src, o))
	lines, all := outcomes(t, Apply(t.Context(), r, src, o))
	if diff := cmp.Diff(planned, lines); diff != "" {
		t.Errorf("Apply did something else than Plan said (-plan +apply):\n%s", diff)
	}
	return lines, all
}

// contents returns every file of a registry by its full path.
func contents(t *testing.T, r *registry.Registry) map[string]string {
	t.Helper()
	all := map[string]string{}
	for e, err := range r.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Load(t.Context(), e.Path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		all[e.Path] = string(b)
	}
	return all
}

func TestApply(t *testing.T) {
	r := store(t)
	child := item("m:2", "two")
	child.Model.Parent = id("m:1")
	none := item("m:3")
	none.Model.Status = registry.Production
	none.Model.Metadata = registry.Metadata{Architecture: "mlp"}
	src := &fake{items: []*Item{item("m:1", "one", "more"), child, none, {From: "x", Skip: "no row"}, {From: "y", Err: errors.New("broken")}}}
	lines, all := apply(t, r, src, nil)
	want := []string{"imported m:1", "imported m:2", "imported m:3", "skipped ", "failed "}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	var report Report
	for _, o := range all {
		report.Add(o)
	}
	if want := (Report{Imported: 3, Skipped: 1, Failed: 1, Files: 3, Bytes: 10, Written: report.Written}); report != want || report.Written <= 0 {
		t.Errorf("report %+v, want %+v", report, want)
	}
	if diff := cmp.Diff(map[string]string{"m/1/f0.bin": "one", "m/1/f1.bin": "more", "m/2/f0.bin": "two"}, contents(t, r)); diff != "" {
		t.Error(diff)
	}
	m, err := r.Get(t.Context(), "m:2")
	if err != nil {
		t.Fatal(err)
	}
	if m.ID != id("m:2") || m.Parent != id("m:1") || m.RegisteredAt != 1_700_000_000_123_456 || m.UpdatedAt != 1_700_000_001_000_001 || m.RegisteredBy != "them" {
		t.Errorf("m:2 lost something: %+v", m)
	}
	if m.Origin == nil || m.Origin.Source != "fake" || m.Origin.Fingerprint.IsZero() {
		t.Errorf("m:2 has the origin %+v", m.Origin)
	}
	if m, err := r.Get(t.Context(), "m:3"); err != nil || m.Status != registry.Production || m.Metadata.Architecture != "mlp" || m.Files != 0 {
		t.Errorf("m:3 is %+v, %v", m, err)
	}

	before := history(t, r)
	lines, _ = apply(t, r, src, nil)
	if diff := cmp.Diff([]string{"present m:1", "present m:2", "present m:3", "skipped ", "failed "}, lines); diff != "" {
		t.Error("a second time:", diff)
	}
	if after := history(t, r); after != before {
		t.Errorf("a second import made %d events of %d", after, before)
	}
}

func history(t *testing.T, r *registry.Registry) (n int) {
	t.Helper()
	for _, err := range r.History(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestApplyBroken has sources that say one thing and give another. None of it
// is registered, and what is right is.
func TestApplyBroken(t *testing.T) {
	lies := func(change func(*File)) *Item {
		it := item("m:1", "content")
		change(&it.Files[0])
		return it
	}
	child := item("m:2", "child")
	child.Model.Parent = id("m:1")
	for name, tt := range map[string]struct {
		item *Item
		why  string
	}{
		"sha256": {lies(func(f *File) { f.Want.SHA256[3]++ }), "SHA-256"},
		"git":    {lies(func(f *File) { f.Want = Hashes{GitSHA1: [20]byte{1}} }), "git hash"},
		"blake3": {lies(func(f *File) { f.Want = Hashes{BLAKE3: blob.Digest{1}} }), "BLAKE3"},
		"short":  {lies(func(f *File) { f.Size++; f.Want = Hashes{} }), "had 8 bytes and now has 7"},
		"long":   {lies(func(f *File) { f.Size--; f.Want = Hashes{} }), "had 6 bytes and now has 7"},
		"unopened": {lies(func(f *File) {
			f.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("gone away") }
		}), "gone away"},
		"unread": {lies(func(f *File) { f.Open = failing }), "disk on fire"},
		"unread at": {lies(func(f *File) {
			f.Open = func(context.Context) (io.ReadCloser, error) { return brokenAt{bytes.NewReader([]byte("content"))}, nil }
		}), "bad sector"},
		"bad path":        {lies(func(f *File) { f.Path = "../x" }), "path"},
		"bad name":        {renamed(item("m:1/2", "content"), "m:1"), "version"},
		"two paths":       {&Item{Model: item("m:1").Model, Files: []File{file("a", "1"), file("a", "2")}}, "two of its files"},
		"file and folder": {&Item{Model: item("m:1").Model, Files: []File{file("a", "1"), file("a/b", "2")}}, "folder"},
	} {
		t.Run(name, func(t *testing.T) {
			r := store(t)
			src := &fake{items: []*Item{tt.item, child, item("n:1", "fine")}}
			for range 2 { // the child waits for its parent to be mended
				_, all := outcomes(t, Apply(t.Context(), r, src, nil))
				if all[1].State != Failed || !strings.Contains(all[1].Why.Error(), "its parent") {
					t.Errorf("its child is %s, because of %v", all[1].State, all[1].Why)
				}
				if diff := cmp.Diff(map[string]string{"n/1/f0.bin": "fine"}, contents(t, r)); diff != "" {
					t.Error(diff)
				}
			}
			_, all := outcomes(t, Apply(t.Context(), r, src, &Options{DropParents: true}))
			if all[0].State != Failed || all[0].Why == nil || !strings.Contains(all[0].Why.Error(), tt.why) {
				t.Errorf("it is %s, because of %v; want it to fail for %q", all[0].State, all[0].Why, tt.why)
			}
			if all[1].State != Imported || len(all[1].Notes) != 1 || !strings.Contains(all[1].Notes[0], "without a parent") {
				t.Errorf("its child is %s with the notes %q", all[1].State, all[1].Notes)
			}
			want := map[string]string{"m/2/f0.bin": "child", "n/1/f0.bin": "fine"}
			if diff := cmp.Diff(want, contents(t, r)); diff != "" {
				t.Error(diff)
			}
			m, err := r.Get(t.Context(), "m:2")
			if err != nil || m.Parent != uuid.Nil || !strings.Contains(string(m.Origin.Details), id("m:1").String()) {
				t.Errorf("the child is %+v, %v", m, err)
			}
		})
	}
}

// failing opens a file whose second read fails.
func failing(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("con"), readerFunc(func([]byte) (int, error) { return 0, errors.New("disk on fire") }))), nil
}

// brokenAt can be read in order only.
type brokenAt struct{ *bytes.Reader }

func (brokenAt) Close() error                      { return nil }
func (brokenAt) ReadAt([]byte, int64) (int, error) { return 0, errors.New("bad sector") }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestApplyConflict has versions that are there already, put by others.
func TestApplyConflict(t *testing.T) {
	for name, tt := range map[string]struct {
		there []*Item // imported before, from a source of another kind
		items []*Item
		how   OnConflict
		want  []string
		again []string
	}{
		"fail": {
			[]*Item{item("m:1", "old")}, []*Item{renamed(item("m:1", "new"), "other id")}, Fail,
			[]string{"failed m:1"}, []string{"failed m:1"},
		},
		"skip": {
			[]*Item{item("m:1", "old")}, []*Item{renamed(item("m:1", "new"), "other id")}, Skip,
			[]string{"skipped m:1"}, []string{"skipped m:1"},
		},
		"suffix": {
			[]*Item{item("m:1", "old"), item("m:1-2", "older")}, []*Item{renamed(item("m:1", "new"), "other id")}, Suffix,
			[]string{"imported m:1-3"}, []string{"present m:1-3"},
		},
		"id taken": {
			[]*Item{item("m:1", "old")}, []*Item{item("m:1", "new")}, Suffix,
			[]string{"imported m:1-2"}, []string{"present m:1-2"},
		},
		"same content": {
			[]*Item{item("m:1", "one", "two")}, []*Item{renamed(item("m:1", "one", "two"), "other id")}, Fail,
			[]string{"present m:1"}, []string{"present m:1"},
		},
		"twice in the source": {
			nil, []*Item{item("m:1", "one"), renamed(item("m:1", "two"), "other id"), renamed(item("m:1", "one"), "third")}, Fail,
			[]string{"imported m:1", "failed m:1", "failed m:1"}, []string{"present m:1", "failed m:1", "failed m:1"},
		},
		"twice, suffixed": {
			nil, []*Item{item("m:1", "one"), renamed(item("m:1", "two"), "other id"), renamed(item("m:1", "one"), "third")}, Suffix,
			[]string{"imported m:1", "imported m:1-2", "imported m:1-3"}, []string{"present m:1", "present m:1-2", "present m:1-3"},
		},
		"id twice in the source": {
			nil, []*Item{item("m:1", "one"), renamed(item("n:1", "two"), "m:1")}, Suffix,
			[]string{"imported m:1", "imported n:1-2"}, []string{"present m:1", "present n:1-2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := store(t)
			for _, it := range tt.there {
				it.Model.Origin = nil
			}
			outcomes(t, Apply(t.Context(), r, &fake{items: tt.there}, nil))
			src := &fake{items: tt.items}
			lines, _ := apply(t, r, src, &Options{OnConflict: tt.how})
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Error(diff)
			}
			lines, _ = apply(t, r, src, &Options{OnConflict: tt.how})
			if diff := cmp.Diff(tt.again, lines); diff != "" {
				t.Error("again:", diff)
			}
		})
	}
}

// renamed gives an item the id that stands for a text.
func renamed(it *Item, text string) *Item {
	it.Model.ID = id(text)
	return it
}

// TestApplyLateParent has a parent that fails, and is mended: the child comes
// with it.
func TestApplyLateParent(t *testing.T) {
	parent, child := item("m:1", "parent"), item("m:2", "child")
	child.Model.Parent = id("m:1")
	grandchild := item("m:3", "grandchild")
	grandchild.Model.Parent = id("m:2")
	bad := item("m:1", "parent")
	bad.Err = errors.New("its file is gone")
	for name, tt := range map[string]*Item{"when planned": bad, "when stored": func() *Item { it := item("m:1", "parent"); it.Files[0].Want.SHA256[0]++; return it }()} {
		t.Run(name, func(t *testing.T) {
			r := store(t)
			lines, _ := outcomes(t, Apply(t.Context(), r, &fake{items: []*Item{tt, child, grandchild}}, nil))
			if diff := cmp.Diff([]string{"failed m:1", "failed m:2", "failed m:3"}, lines); diff != "" {
				t.Error(diff)
			}
			lines, _ = apply(t, r, &fake{items: []*Item{parent, child, grandchild}}, nil)
			if diff := cmp.Diff([]string{"imported m:1", "imported m:2", "imported m:3"}, lines); diff != "" {
				t.Error(diff)
			}
			if m, err := r.Get(t.Context(), "m:3"); err != nil || m.Parent != id("m:2") {
				t.Errorf("m:3 is %+v, %v", m, err)
			}
		})
	}
}

// TestApplyPathConflict has files whose full paths are those of other versions:
// it says so, in the plan as far as they are there, and the others come in.
func TestApplyPathConflict(t *testing.T) {
	r := store(t)
	inner := item("a/b:c", "inner")
	inner.Files[0].Path = "w"
	outer := item("a:b", "outer")
	outer.Files[0].Path = "c/w"
	src := &fake{items: []*Item{inner, outer, item("n:1", "fine")}}
	lines, all := outcomes(t, Apply(t.Context(), r, src, nil))
	if diff := cmp.Diff([]string{"imported a/b:c", "failed a:b", "imported n:1"}, lines); diff != "" || !strings.Contains(all[1].Why.Error(), "a/b/c/w") {
		t.Errorf("%s, because of %v", diff, all[1].Why)
	}
	lines, _ = apply(t, r, src, nil)
	if diff := cmp.Diff([]string{"present a/b:c", "failed a:b", "present n:1"}, lines); diff != "" {
		t.Error("again:", diff)
	}
	lines, _ = apply(t, r, src, &Options{OnConflict: Suffix})
	if diff := cmp.Diff([]string{"present a/b:c", "imported a:b-2", "present n:1"}, lines); diff != "" {
		t.Error("suffix:", diff)
	}
}

// TestApplySuffixTouched imports a version in conflict again and again while
// only the times of its files change.
func TestApplySuffixTouched(t *testing.T) {
	r := store(t)
	there := item("m:1", "old")
	there.Model.Origin = nil
	outcomes(t, Apply(t.Context(), r, &fake{items: []*Item{there}}, nil))
	for i := range 3 {
		it := item("m:1", "new")
		it.Files[0].Modified = int64(i + 1)
		lines, _ := apply(t, r, &fake{items: []*Item{it}}, &Options{OnConflict: Suffix})
		want := "present m:1-2"
		if i == 0 {
			want = "imported m:1-2"
		}
		if lines[0] != want {
			t.Errorf("round %d: %s", i, lines[0])
		}
	}
}

// TestApplyConflictParent checks that the children of a version that got another
// id keep their parent.
func TestApplyConflictParent(t *testing.T) {
	child := item("m:2", "child")
	child.Model.Parent = id("m:1")
	for name, content := range map[string]string{"same": "one", "suffix": "other"} {
		t.Run(name, func(t *testing.T) {
			r := store(t)
			there, err := r.Register(t.Context(), registry.Model{Name: "m", Version: "1"}, strings.NewReader("one"))
			if err != nil {
				t.Fatal(err)
			}
			it := item("m:1", content)
			it.Files[0].Path = registry.WeightsFile
			for range 2 {
				outcomes(t, Apply(t.Context(), r, &fake{items: []*Item{it, child}}, &Options{OnConflict: Suffix}))
				m, err := r.Get(t.Context(), "m:2")
				if err != nil {
					t.Fatal(err)
				}
				parent, err := r.Get(t.Context(), m.Parent.String())
				if err != nil {
					t.Fatal(err)
				}
				if same := parent.ID == there.ID; same != (content == "one") {
					t.Errorf("the parent is %s, %s", parent.Ref(), parent.ID)
				}
			}
		})
	}
}

// TestApplyChanged imports a version whose source has changed since.
func TestApplyChanged(t *testing.T) {
	r := store(t)
	outcomes(t, Apply(t.Context(), r, &fake{items: []*Item{item("m:1", "one")}}, nil))
	touched := item("m:1", "one")
	touched.Files[0].Modified++
	lines, all := apply(t, r, &fake{items: []*Item{touched}}, nil)
	if lines[0] != "present m:1" || len(all[0].Notes) != 1 {
		t.Errorf("one with another time is %s with the notes %q", lines[0], all[0].Notes)
	}
	lines, all = apply(t, r, &fake{items: []*Item{item("m:1", "two")}}, nil)
	if conflict, ok := errors.AsType[*ConflictError](all[0].Why); lines[0] != "failed m:1" || !ok || !conflict.ByID {
		t.Errorf("one with other content is %s because of %v", lines[0], all[0].Why)
	}
	if diff := cmp.Diff(map[string]string{"m/1/f0.bin": "one"}, contents(t, r)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyProduction(t *testing.T) {
	r := store(t)
	if _, err := r.Register(t.Context(), registry.Model{Name: "m", Version: "0", Status: registry.Production}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	first, second, other := item("m:1", "1"), item("n:1", "2"), item("n:2", "3")
	for _, it := range []*Item{first, second, other} {
		it.Model.Status = registry.Production
	}
	_, all := apply(t, r, &fake{items: []*Item{first, second, other}}, nil)
	for i, want := range []registry.Status{registry.Staged, registry.Production, registry.Staged} {
		m, err := r.Get(t.Context(), all[i].Ref)
		if err != nil {
			t.Fatal(err)
		}
		if m.Status != want || (len(all[i].Notes) == 0) != (want == registry.Production) {
			t.Errorf("%s is %s with the notes %q, want %s", m.Ref(), m.Status, all[i].Notes, want)
		}
	}
	if m, err := r.Production(t.Context(), "m"); err != nil || m.Version != "0" {
		t.Errorf("in production is %v, %v", m, err)
	}
}

func TestApplyAliases(t *testing.T) {
	r := store(t)
	alias := func(want string) {
		t.Helper()
		got := ""
		for a, err := range r.Aliases(t.Context(), "m") {
			if err != nil {
				t.Fatal(err)
			}
			got += a.Alias + "=" + a.Version + " "
		}
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("aliases %q, want %q", got, want)
		}
	}
	one, two := item("m:1", "1"), item("m:2", "2")
	one.Model.Aliases = []string{"main", "not/one"}
	_, all := apply(t, r, &fake{items: []*Item{one}}, nil)
	if len(all[0].Notes) != 1 || !strings.Contains(all[0].Notes[0], "not/one") {
		t.Errorf("notes %q", all[0].Notes)
	}
	alias("main=1")

	// The source moves it to a new version.
	one.Model.Aliases, two.Model.Aliases = nil, []string{"main", "new"}
	apply(t, r, &fake{items: []*Item{one, two}}, nil)
	alias("main=2 new=2")
	if m, err := r.Get(t.Context(), "m:2"); err != nil || m.UpdatedAt != two.Model.UpdatedAt {
		t.Errorf("an alias that came along changed the time: %+v, %v", m, err)
	}

	// Somebody moves it, and takes one away: an import only brings that back.
	note := registry.Note{}
	if err := errors.Join(r.SetAlias(t.Context(), "m", "main", "1", note), r.DeleteAlias(t.Context(), "m", "new", note)); err != nil {
		t.Fatal(err)
	}
	apply(t, r, &fake{items: []*Item{one, two}}, nil)
	alias("main=1 new=2")

	// A version that no import made keeps its alias.
	if _, err := r.Register(t.Context(), registry.Model{Name: "m", Version: "own", Aliases: []string{"mine"}}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	three := item("m:3", "3")
	three.Model.Aliases = []string{"mine"}
	apply(t, r, &fake{items: []*Item{one, two, three}}, nil)
	alias("main=1 mine=own new=2")
}

// TestApplyMany has more than a batch holds, among them chains, and something
// that fails in the middle.
func TestApplyMany(t *testing.T) {
	const n = batchVersions + 3*chunkItems + 7
	var items []*Item
	for i := range n {
		it := item(fmt.Sprintf("m%d:%d", i%10, i), fmt.Sprintf("content %d", i%700))
		if i >= 10 && i%3 == 0 {
			it.Model.Parent = items[i-10].Model.ID
		}
		if i%500 == 99 {
			it.Files[0].Want.SHA256[0]++
		}
		items = append(items, it)
	}
	r := store(t)
	var mu sync.Mutex
	done, total := int64(0), int64(0)
	for _, it := range items {
		total += sizeOf(it)
	}
	o := &Options{Progress: func(n int64) { mu.Lock(); defer mu.Unlock(); done += n }}
	lines, _ := outcomes(t, Apply(t.Context(), r, &fake{items: items}, o))
	if done != total {
		t.Errorf("progress was told of %d bytes of %d", done, total)
	}
	failed := map[int]bool{}
	for i, line := range lines {
		child := i >= 10 && i%3 == 0
		failed[i] = i%500 == 99 || child && failed[i-10]
		want := "imported "
		if failed[i] {
			want = "failed "
		}
		if want += items[i].Model.Ref(); line != want {
			t.Fatalf("item %d: %s, want %s", i, line, want)
		}
		if !failed[i] && child && i%97 == 0 {
			m, err := r.Get(t.Context(), items[i].Model.Ref())
			if err != nil || m.Parent != items[i-10].Model.ID {
				t.Errorf("%s has the parent %v, %v", items[i].Model.Ref(), m, err)
			}
		}
	}
	want := 0
	for i := range items {
		if !failed[i] {
			want++
		}
	}
	if events := history(t, r); events != want {
		t.Errorf("%d events, want %d", events, want)
	}
}

// TestApplySourceEnds has a source that fails: what came before is imported.
func TestApplySourceEnds(t *testing.T) {
	r := store(t)
	end := errors.New("the database went away")
	var last error
	n := 0
	for o, err := range Apply(t.Context(), r, &fake{items: []*Item{item("m:1", "1"), item("m:2", "2")}, end: end}, nil) {
		if last = err; err == nil && o.State == Imported {
			n++
		}
	}
	if n != 2 || !errors.Is(last, end) {
		t.Errorf("%d imported, then %v", n, last)
	}
}

// TestApplyInterrupted is interrupted at a random byte; the next one makes the
// registry the same as one that was not.
func TestApplyInterrupted(t *testing.T) {
	var items []*Item
	for i := range 60 {
		it := item(fmt.Sprintf("m:%d", i), strings.Repeat(fmt.Sprintf("content %d ", i), 2000))
		if i > 0 {
			it.Model.Parent = items[i-1].Model.ID
		}
		items = append(items, it)
	}
	whole := store(t)
	outcomes(t, Apply(t.Context(), whole, &fake{items: items}, nil))
	want := contents(t, whole)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		r := store(t)
		ctx, cancel := context.WithCancel(t.Context())
		left := rng.Int64N(60 * 20000)
		var mu sync.Mutex
		o := &Options{Progress: func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			if left -= n; left < 0 {
				cancel()
			}
		}}
		var last error
		for _, err := range Apply(ctx, r, &fake{items: items}, o) {
			last = err
		}
		cancel()
		if !errors.Is(last, context.Canceled) {
			t.Errorf("interrupted, Apply ended with %v", last)
		}
		outcomes(t, Apply(t.Context(), r, &fake{items: items}, nil))
		if diff := cmp.Diff(want, contents(t, r)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestApplyStops checks that breaking off the loop leaves nothing running.
func TestApplyStops(t *testing.T) {
	r := store(t)
	for _, err := range Apply(t.Context(), r, &fake{items: []*Item{item("m:1", "1"), item("m:2", "2")}}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := history(t, r); n != 2 {
		t.Errorf("%d events; the batch that was yielded was committed", n)
	}
}
