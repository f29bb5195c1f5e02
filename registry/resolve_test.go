package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

func TestGetForms(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	one, two := add(t, r, "org/bert:1.0.0"), add(t, r, "org/bert:1.1.0")
	other := add(t, r, "gpt:main")
	must(t, r.SetAlias(ctx, "org/bert", "stable", "1.0.0", Note{}))
	must(t, r.SetAlias(ctx, "org/bert", "1.1.0", "1.0.0", Note{})) // a version wins over it
	hex := one.Manifest.String()
	tests := []struct {
		ref  string
		want *Model // nil: ErrNotFound
	}{
		{"org/bert:1.0.0", one},
		{"org/bert:stable", one},
		{"org/bert:1.1.0", two},
		{"org/bert", two},
		{"gpt", other},
		{"org/bert@" + hex[:8], one},
		{"org/bert@" + strings.ToUpper(hex), one},
		{"gpt@" + hex[:12], nil},
		{one.ID.String(), one},
		{strings.ToUpper(two.ID.String()), two},
		{"b3:" + hex, one},
		{"b3:" + hex[:9], one},
		{hex[:7], one},
		{hex, one},
		{"org/bert:2.0.0", nil},
		{"org", nil},
		{"bert", nil},
		{"gpt:stable", nil},
		{uuid.NewString(), nil},
		{"b3:" + strings.Repeat("0", 64), nil},
		{"00000000", nil},
	}
	for _, tt := range tests {
		got, err := r.Get(ctx, tt.ref)
		switch {
		case tt.want == nil && !errors.Is(err, ErrNotFound):
			t.Errorf("Get(%q) = %v, %v, want ErrNotFound", tt.ref, got, err)
		case tt.want != nil && (err != nil || got.ID != tt.want.ID):
			t.Errorf("Get(%q) = %v, %v, want %s", tt.ref, got, err, tt.want.Ref())
		}
	}
	t.Run("a model whose name looks like a hash", func(t *testing.T) {
		named := add(t, r, hex[:7]+":1")
		if got := get(t, r, hex[:7]); got.ID != named.ID {
			t.Errorf("the name lost to the hash of %s", got.Ref())
		}
	})
	t.Run("an alias of a version that is deleted", func(t *testing.T) {
		must(t, r.Delete(ctx, "org/bert:1.1.0", Note{}))
		if got := get(t, r, "org/bert:1.1.0"); got.ID != one.ID {
			t.Errorf("got %s, want what the alias means", got.Ref())
		}
		must(t, r.Delete(ctx, "org/bert:stable", Note{}))
		for _, ref := range []string{"org/bert:stable", "org/bert:1.1.0", "org/bert", "b3:" + hex, one.ID.String()} {
			_, err := r.Get(ctx, ref)
			wantErr(t, ref, err, ErrNotFound)
		}
		wantErr(t, "Open of a Model that was deleted", failureOf(one.Open(ctx, WeightsFile)), ErrNotFound)
		wantErr(t, "List of a Model that was deleted", failure(one.List(ctx)), ErrNotFound)
	})
}

func TestGetAmbiguous(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	seen := map[string]*Model{}
	var short string
	var pair [2]*Model
	for i := 0; short == ""; i++ {
		m := add(t, r, fmt.Sprintf("m:%d", i))
		// Four digits would need some 300 versions until two begin alike; the
		// index takes any length.
		p := m.Manifest.String()[:1]
		if seen[p] != nil {
			short, pair = p, [2]*Model{seen[p], m}
		}
		seen[p] = m
	}
	_, err := r.one(ctx, func(v *view) (*index.Version, error) { return v.manifest("b3:"+short, short, name.Name{}) })
	bad, ok := errors.AsType[*AmbiguousError](err)
	if !ok {
		t.Fatalf("got %v, want an *AmbiguousError", err)
	}
	wantErr(t, "ambiguous", err, ErrInvalid)
	want := []string{pair[0].Ref(), pair[1].Ref()}
	slices.Sort(want)
	got := bad.First[:]
	slices.Sort(got)
	same(t, "the two", got, want)
	for _, m := range seen {
		if got := get(t, r, "b3:"+m.Manifest.String()); got.ID != m.ID {
			t.Errorf("the whole hash of %s means %s", m.Ref(), got.Ref())
		}
	}
}

func TestVersionsOrder(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	// Registered in this order.
	for _, v := range []string{"night-2", "1.0.0", "2.0.0-rc.10", "10", "night-1", "2.0.0-rc.9", "v9.9.9", "1.10.0", "2.0.0", "1.9.0", "2.0.0-alpha", "3.0.0-dev", "today"} {
		add(t, r, "m:"+v)
	}
	want := []string{"m:10", "m:v9.9.9", "m:3.0.0-dev", "m:2.0.0", "m:2.0.0-rc.10", "m:2.0.0-rc.9", "m:2.0.0-alpha", "m:1.10.0", "m:1.9.0", "m:1.0.0", "m:today", "m:night-1", "m:night-2"}
	same(t, "Versions", refs(all(t, r.Versions(ctx, "m"))), want)
	for _, ref := range want {
		if latest := get(t, r, "m"); latest.Ref() != ref {
			t.Fatalf("latest is %s, want %s", latest.Ref(), ref)
		}
		must(t, r.Delete(ctx, ref, Note{}))
	}
	wantErr(t, "Versions of a model without any", failure(r.Versions(ctx, "m")), ErrNotFound)
}

func TestVersionsOrderByGivenTime(t *testing.T) {
	r := newRegistry(t)
	for i, v := range []string{"b", "c", "a", "d"} {
		at := []int64{300, 100, 200, 100}[i]
		addModel(t, r, Model{Name: "m", Version: v, RegisteredAt: at}, "x")
	}
	// c and d have the same time, and d was registered later.
	same(t, "Versions", refs(all(t, r.Versions(t.Context(), "m"))), []string{"m:b", "m:a", "m:d", "m:c"})
}

func TestNames(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	for _, ref := range []string{"org/b:1", "org/a:2.0.0", "org/a:1.0.0", "organ:1", "z:1"} {
		add(t, r, ref)
	}
	_, err := r.Promote(ctx, "org/a:1.0.0", Note{})
	must(t, err)
	got := all(t, r.Names(ctx, "org"))
	if len(got) != 3 || got[0].Name != "org/a" || got[1].Name != "org/b" || got[2].Name != "organ" {
		t.Fatalf("Names: %+v", got)
	}
	a := got[0]
	if a.Versions != 2 || a.Latest.Ref() != "org/a:2.0.0" || a.Production.Ref() != "org/a:1.0.0" || a.Bytes != int64(2*len("weights of org/a:1.0.0")) {
		t.Errorf("org/a: %+v", a)
	}
	if got[1].Production != nil {
		t.Errorf("org/b is in production: %+v", got[1].Production)
	}
	if n := len(all(t, r.Names(ctx, "org/"))); n != 2 {
		t.Errorf("%d names begin with org/, want 2", n)
	}
	if n := len(all(t, r.Names(ctx, "q"))); n != 0 {
		t.Errorf("%d names begin with q", n)
	}
	for _, err := range r.Names(ctx, "") {
		must(t, err)
		break // a loop may end early
	}
}

func TestProduction(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	add(t, r, "m:1")
	_, err := r.Production(ctx, "m")
	wantErr(t, "none yet", err, ErrNotFound)
	_, err = r.Production(ctx, "n")
	wantErr(t, "no model", err, ErrNotFound)
	_, err = r.Promote(ctx, "m:1", Note{})
	must(t, err)
	m, err := r.Production(ctx, "m")
	must(t, err)
	if m.Ref() != "m:1" || m.Status != Production {
		t.Errorf("in production: %s, %s", m.Ref(), m.Status)
	}
}

func TestLocate(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	odd := []string{"vocab/merges.txt", "con.txt", "a:b/c", "mail@home/x.bin", "dot./ spaces /x", strings.Repeat("d/", 140) + "f"}
	files := map[string][]byte{}
	for _, p := range odd {
		files[p] = []byte(p)
	}
	m := addFiles(t, r, "org/bert:1.0", files)
	must(t, r.SetAlias(ctx, "org/bert", "stable", "1.0", Note{}))
	type found struct{ ref, file string }
	tests := []found{{"org/bert", ""}, {"org/bert:stable", ""}, {m.ID.String(), ""}}
	for _, p := range odd {
		tests = append(tests, found{"org/bert/1.0/" + p, p}, found{"org/bert:1.0/" + p, p}, found{"org/bert:stable/" + p, p})
	}
	for _, tt := range tests {
		got, file, err := r.Locate(ctx, tt.ref)
		if err != nil || got.ID != m.ID || file != tt.file {
			t.Errorf("Locate(%q) = %v, %q, %v, want %q", tt.ref, got, file, err, tt.file)
		}
	}
	for _, ref := range []string{"org/bert/1.0/none", "org/bert:2/vocab/merges.txt", "org/bert/stable/vocab/merges.txt", "org/bert/1.0", "org/none", "org/bert:1.0/none"} {
		if got, file, err := r.Locate(ctx, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("Locate(%q) = %v, %q, %v, want ErrNotFound", ref, got, file, err)
		}
	}
	if _, _, err := r.Locate(ctx, "org/../x"); err == nil {
		t.Error("a bad reference was located")
	} else if _, ok := errors.AsType[*NameError](err); !ok {
		t.Errorf("a bad reference: got %v, want a *NameError", err)
	}
}
