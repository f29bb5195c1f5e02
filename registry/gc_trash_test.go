package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/blob"
)

// TestGCKeepsTheOnlyFile: what a version needs and only the trash has is brought
// back; while it can't be read there it stays.
func TestGCKeepsTheOnlyFile(t *testing.T) {
	base, _ := network(1, 0)
	next, _ := network(1, 1)
	for _, c := range []struct {
		name  string
		taken []byte
	}{{"a file of the version", next}, {"the base of one", base}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			addFiles(t, r, "m:1", map[string][]byte{"w": base})
			kept := addFiles(t, r, "m:2", map[string][]byte{"w": next})
			must(t, r.Delete(t.Context(), "m:1", Note{}))
			x, err := r.store.Collect(t.Context(), 5)
			must(t, err)
			done, err := x.Trash(t.Context(), blob.Sum(c.taken))
			must(t, err)
			must(t, x.Close())
			found, err := filepath.Glob(filepath.Join(r.Dir(), "trash", "*"))
			if must(t, err); !done || len(found) != 1 {
				t.Fatalf("the trash has %q", found)
			}
			whole, err := os.ReadFile(found[0])
			must(t, err)
			must(t, os.WriteFile(found[0], whole[:len(whole)-1], 0o600))
			if c := gc(t, r); c.Lost.Count != 1 || c.Waiting.Count != 1 {
				t.Errorf("while it can't be read: %+v", c)
			}
			must(t, os.WriteFile(found[0], whole, 0o600))
			if c := gc(t, r); c.Lost.Count != 0 {
				t.Errorf("when it can be read: %+v", c)
			}
			if !bytes.Equal(kept.content(t, "w"), next) {
				t.Error("another content")
			}
			sound(t, r)
		})
	}
}
