package lattice

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestHugeValues has values that would fill the memory if they were read.
func TestHugeValues(t *testing.T) {
	const huge = 200 << 20
	dir := filepath.Join(t.TempDir(), "registry")
	mkdir(t, dir)
	path := filepath.Join(dir, "models.db")
	db := openSQL(t, path, "journal_mode(off)", "synchronous(off)")
	exec(t, db, strings.Replace(schemaLoose, "parent_id", "parent_id, more", 1))
	insert(t, db, "metadata", row{}, row{}, row{"id": "third"}, row{"parent_id": "third"})
	exec(t, db, "UPDATE models SET metadata = zeroblob(?) WHERE rowid = 2", huge)
	exec(t, db, "UPDATE models SET more = zeroblob(?) WHERE rowid = 3", maxUnknown+1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	src, err := Open(t.Context(), path, &Options{TempDir: tmp})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	all := items(t, src)
	runtime.ReadMemStats(&after)
	if len(all) != 4 || all[0].Err != nil || all[3].Err != nil || all[3].Model.Parent != all[2].Model.ID {
		t.Fatalf("%+v", all)
	}
	if !failed(all[1], "its metadata has 209715200 bytes") || !failed(all[2], "does not know") {
		t.Errorf("%v; %v", all[1].Err, all[2].Err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 50<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
}

// TestManyRows reads 200,000 rows, a chain of parents from the last to the first,
// all in production: with LATTICE_ROWS another number of them.
func TestManyRows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	count, bound := 200_000, uint64(100<<20)
	if s := os.Getenv("LATTICE_ROWS"); s != "" {
		if _, err := fmt.Sscan(s, &count); err != nil {
			t.Fatal(err)
		}
		bound = 300 << 20
	}
	dir := filepath.Join(t.TempDir(), "registry")
	mkdir(t, dir)
	path := filepath.Join(dir, "models.db")
	db := openSQL(t, path, "journal_mode(off)", "synchronous(off)")
	exec(t, db, schemaLoose)
	exec(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO models (id, name, version, status, metadata, registered_at, updated_at, parent_id)
		SELECT printf('%08x-0000-4000-8000-000000000000', i), 'team/model-' || i, '1', 'production', '{"architecture":"mlp","parameter_count":' || i || '}',
			1700000000000000 + i, 1700000000000000 + i, printf('%08x-0000-4000-8000-000000000000', i + 1) FROM n`, count)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	src, err := Open(t.Context(), path, &Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak, n := uint64(0), 0
	last := uuid.Nil
	for it, err := range src.Items(t.Context()) {
		if err != nil || it.Err != nil {
			t.Fatal(err, it.Err)
		}
		if it.Model.Parent != last {
			t.Fatalf("%s has the parent %s, want %s", it.From, it.Model.Parent, last)
		}
		last = it.Model.ID
		if n++; n%10_000 == 1 {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapSys-now.HeapReleased)
		}
	}
	if n != count {
		t.Fatalf("%d of %d rows", n, count)
	}
	t.Logf("%d rows: %d MiB of heap at most, %d MiB before", n, peak>>20, before.HeapSys>>20)
	if peak > bound {
		t.Errorf("%d MiB of heap, over %d", peak>>20, bound>>20)
	}
}
