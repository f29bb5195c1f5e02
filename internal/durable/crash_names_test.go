package durable

import (
	"maps"
	"path"
	"slices"
	"testing"
)

func TestCrashRename(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("a"))
	must(t, m.Mkdir("b"))
	put(t, m, "a/x", "data")
	m.Record()
	must(t, m.Rename("a/x", "b/x"))
	states := func() map[string]bool {
		seen := make(map[string]bool)
		for seed := range 500 {
			tree := dump(t, m.Crash(m.Ops(), random(seed)))
			seen[tree["a/x"]+"|"+tree["b/x"]] = true
		}
		return seen
	}
	want := map[string]bool{"data|": true, "|data": true, "data|data": true, "|": true}
	if seen := states(); !maps.Equal(seen, want) {
		t.Errorf("not synced: %v", seen)
	}
	must(t, m.SyncDir("b"))
	want = map[string]bool{"|data": true, "data|data": true}
	if seen := states(); !maps.Equal(seen, want) {
		t.Errorf("new directory synced: %v", seen)
	}
	must(t, m.SyncDir("a"))
	if seen := states(); !maps.Equal(seen, map[string]bool{"|data": true}) {
		t.Errorf("both synced: %v", seen)
	}
}

// TestCrashDirectories moves directories into each other, so that a subset of
// the changes would make a loop.
func TestCrashDirectories(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("a"))
	must(t, m.Mkdir("a/b"))
	put(t, m, "a/b/x", "data")
	m.Record()
	must(t, m.Rename("a/b", "b"))
	must(t, m.Rename("a", "b/a"))
	for seed := range 500 {
		tree := dump(t, m.Crash(m.Ops(), random(seed))) // must end
		var names []string
		for name := range tree {
			names = append(names, path.Base(name))
		}
		slices.Sort(names)
		if len(slices.Compact(names)) != len(tree) {
			t.Fatalf("seed %d: a directory has two names: %q", seed, tree)
		}
	}
}

func TestCrashUnsyncedParent(t *testing.T) {
	m := NewMem()
	m.Record()
	must(t, m.Mkdir("d"))
	must(t, WriteFile(m, "d/tmp", "d/x", []byte("data")))
	seen := make(map[bool]bool)
	for seed := range 100 {
		got, ok := dump(t, m.Crash(m.Ops(), random(seed)))["d/x"]
		seen[ok] = true
		if ok && got != "data" {
			t.Fatalf("seed %d: content is %q", seed, got)
		}
	}
	if !seen[true] || !seen[false] {
		t.Errorf("a directory whose name is not synced was always there, or never: %v", seen)
	}
}
