package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/promise"
)

// TestPromiseGCMemory collects in a store with a large index.
func TestPromiseGCMemory(t *testing.T) {
	const most = 300 << 20
	want := int64(promise.Times(8<<20, 1<<30))
	r := newRegistry(t)
	db := filepath.Join(r.Dir(), "index.db")
	versions, deleted := 0, 0
	for {
		info, err := os.Stat(db)
		if must(t, err); info.Size() >= want {
			break
		}
		first := versions
		versions += bulkOf(t, r, versions, 250)
		for i := first; i < versions; i += 25 {
			must(t, r.Delete(t.Context(), fmt.Sprintf("m:%d", i), Note{}))
			deleted++
		}
	}
	b, err := child(t, "collect", 0, r).Output()
	must(t, err)
	var got struct {
		Peak      int64
		Collected Collected
	}
	must(t, json.Unmarshal(b, &got))
	if c := got.Collected; c.Trashed.Count < 4*deleted || c.Trashed != c.Purged || c.Lost.Count > 0 {
		t.Errorf("of %d versions %d were deleted: %+v", versions, deleted, c)
	}
	if got.Peak < 4<<20 || got.Peak >= most {
		t.Errorf("the collection took %d MB", got.Peak>>20)
	}
	info, err := os.Stat(db)
	must(t, err)
	promise.Kept(t, "an index of %d MB with %d versions and %d blobs: a collection takes %d MB at most", info.Size()>>20, versions, got.Collected.Named.Count+got.Collected.Trashed.Count, got.Peak>>20)
}

// bulkOf makes versions with long paths: four files of their own, and twelve that
// are one file.
func bulkOf(t *testing.T, r *Registry, from, n int) int {
	t.Helper()
	ctx := t.Context()
	b := r.Bulk()
	var drafts []*Draft
	for i := from; i < from+n; i++ {
		d, err := b.Begin(ctx, Model{Name: "m", Version: fmt.Sprint(i)})
		must(t, err)
		for f := range 16 {
			content := fmt.Sprintf("file %d of version %d", f, i)
			if f >= 4 {
				content = "the same in all"
			}
			path := strings.Repeat(fmt.Sprintf("%d-%d-%s/", i, f, strings.Repeat("long", 30)), 7) + "w"
			_, err := d.Put(ctx, path, strings.NewReader(content))
			must(t, err)
		}
		drafts = append(drafts, d)
	}
	_, err := b.Commit(ctx, Note{}, drafts...)
	must(t, err)
	return n
}

// collectAndMeasure is the process: it prints how much memory a collection took.
func collectAndMeasure(ctx context.Context, r *Registry, out io.Writer) error {
	c, err := r.GC(ctx, &GCOptions{Grace: -1})
	if err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(text, &kib); err != nil {
		return fmt.Errorf("no VmHWM: %w", err)
	}
	return json.NewEncoder(out).Encode(map[string]any{"Peak": kib << 10, "Collected": c})
}
