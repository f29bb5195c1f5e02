package syncsite

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

func TestFind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pkg")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.go": "package p\n\nfunc f() {\n\tx.Sync()\n\tif err := y.z.SyncDir(d); err != nil {\n\t}\n}\n",
		"b.go": "package p\n\nfunc g() { b.Sync(ctx); syncDir(d); o.Do(x.Sync()) }\n",
		// Of these there are none.
		"a_test.go": "package p\n\nfunc h() { x.Sync() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Find(dir)
	if want := []string{"pkg/a.go:4", "pkg/a.go:5", "pkg/b.go:3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, not %v", got, err, want)
	}
	if got, err := Find(t.TempDir()); err == nil {
		t.Errorf("%v in a folder without any", got)
	}
}

func TestSkip(t *testing.T) {
	sites, err := Find("../durable")
	if err != nil {
		t.Fatal(err)
	}
	write := func(skip string) (trace, seen []string) {
		m := durable.NewMem()
		m.Record()
		f := Skip(m, skip)
		if err := durable.WriteFile(f, "tmp", "name", []byte("x")); err != nil {
			t.Fatal(err)
		}
		return m.Trace(), f.Seen()
	}
	all := []string{"create tmp", "write tmp 0+1", "sync tmp", "rename tmp name", "syncdir ."}
	trace, seen := write("")
	if !slices.Equal(trace, all) || len(seen) != 2 {
		t.Fatalf("%v, seen %v", trace, seen)
	}
	var left []string
	for _, s := range seen {
		if !slices.Contains(sites, s) {
			t.Errorf("%s was called, but is not among %v", s, sites)
		}
		trace, _ := write(s)
		for _, op := range all {
			if !slices.Contains(trace, op) {
				left = append(left, op)
			}
		}
	}
	if slices.Sort(left); !slices.Equal(left, []string{"sync tmp", "syncdir ."}) {
		t.Errorf("left out: %v", left)
	}
}
