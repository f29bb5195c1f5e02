package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/internal/promise"
)

// TestPromiseGCMemory collects in a store with a large index.
func TestPromiseGCMemory(t *testing.T) {
	const most = 300 << 20
	want := int64(promise.Times(16<<20, 1<<30))
	r := newRegistry(t)
	versions, deleted := 0, 0
	for allocated(t, filepath.Join(r.Dir(), "index.db")) < want {
		wideVersion(t, r, versions)
		versions++
		if versions%5 == 2 {
			must(t, r.Delete(t.Context(), fmt.Sprintf("m:%d", versions-2), Note{}))
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
	if c := got.Collected; deleted == 0 || c.Trashed.Count != (ownBlobs+1)*deleted || c.Trashed != c.Purged || c.Lost.Count > 0 {
		t.Errorf("of %d versions %d were deleted: %+v", versions, deleted, c)
	}
	if got.Peak < 4<<20 || got.Peak >= most {
		t.Errorf("the collection took %d MB", got.Peak>>20)
	}
	promise.Kept(t, "an index of %d MB with %d versions of %d files and %d blobs: a collection takes %d MB at most",
		allocated(t, filepath.Join(r.Dir(), "index.db"))>>20, versions-deleted, widePaths, got.Collected.Named.Count+got.Collected.Trashed.Count, got.Peak>>20)
}

// allocated returns how much of the disk a file takes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// A version of the test takes some 1.2 MB of the index.
const (
	widePaths = 1000
	ownBlobs  = 20
)

// wideVersion registers a version with many long paths. It goes below the front
// door: putting each file would take hours.
func wideVersion(t *testing.T, r *Registry, number int) {
	t.Helper()
	ctx := t.Context()
	batch := r.store.Batch()
	defer func() { must(t, batch.Release()) }()
	d, err := r.newDraft(&Model{Name: "m", Version: fmt.Sprint(number)}, batch)
	must(t, err)
	put := func(text string) blob.Info {
		info, err := batch.Put(ctx, strings.NewReader(text))
		must(t, err)
		return info
	}
	var own []blob.Info
	for i := range ownBlobs {
		own = append(own, put(fmt.Sprintf("blob %d of version %d", i, number)))
	}
	rec := d.rec
	rec.Manifest = put(fmt.Sprintf("manifest of %d", number)).Digest
	rec.Hash, rec.RegisteredAt, rec.Files = rec.Manifest, r.now(), widePaths
	var files []index.File
	for i := range widePaths {
		p, err := name.ParsePath(strings.Repeat(fmt.Sprintf("%d-%s/", i, strings.Repeat("long", 30)), 7) + "w")
		must(t, err)
		info := own[i%ownBlobs]
		files = append(files, index.File{Path: p, Digest: info.Digest, Size: info.Size})
		rec.Size += info.Size
	}
	must(t, batch.Sync(ctx))
	must(t, r.index.Update(ctx, index.Change{Verb: "register"}, func(tx *index.Tx) error {
		v := rec
		return tx.Register(&v, files)
	}))
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
