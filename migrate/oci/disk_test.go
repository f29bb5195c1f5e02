package oci

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/registry"
)

// inMem runs an export on a file system in memory.
func inMem(t testing.TB, mem *durable.Mem, r *registry.Registry, models ...*registry.Model) error {
	t.Helper()
	e := export{reg: r, opts: &Options{}}
	_, err := e.run(t.Context(), mem, these(nil, models...))
	return err
}

// memTree is tree of a file system in memory.
func memTree(t testing.TB, mem *durable.Mem) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := mem.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			p := strings.TrimPrefix(dir+"/"+e.Name(), "./")
			if e.IsDir() {
				all[p+"/"] = ""
				walk(p)
				continue
			}
			b, err := durable.ReadFile(mem, p, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			all[p] = string(b)
		}
	}
	walk(".")
	return all
}

// Whichever operation of the disk fails, the layout is as it was, or whole with
// the new version where only syncing the name of its index failed.
func TestExportDiskErrors(t *testing.T) {
	r := newRegistry(t)
	first := add(t, r, named("first", "1"), map[string]string{"a": "first"})
	m := add(t, r, named("m", "1"), map[string]string{"a": "content", "b": strings.Repeat("x", 2<<20)})
	for _, fresh := range []bool{true, false} {
		for failing := 1; ; failing++ {
			mem := durable.NewMem()
			if !fresh {
				if err := inMem(t, mem, r, first); err != nil {
					t.Fatal(err)
				}
			}
			before := memTree(t, mem)
			var failed durable.Op
			mem.Fail(func(op durable.Op) error {
				if op.N == failing {
					failed = op
					return errDisk
				}
				return nil
			})
			err := inMem(t, mem, r, m)
			mem.Fail(nil)
			after := memTree(t, mem)
			if failed.Kind == "" {
				if err != nil || failing < 40 {
					t.Fatalf("%d operations: %v", failing, err)
				}
				break
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("operation %d, %s, failed: got error %v", failing, failed, err)
			}
			if after[indexFile] != before[indexFile] && failed.Kind == durable.OpSyncDir {
				if images := open(t, after); len(images) < 1 {
					t.Errorf("%s failed: the images are %v", failed, images)
				}
				continue
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("operation %d, %s, failed: %s", failing, failed, d)
			}
		}
	}
}

// After a power cut at any moment the index is the old or the new one, all of
// its blobs are there, and an export that follows gives the same as ever.
func TestExportCrash(t *testing.T) {
	r := newRegistry(t)
	first := add(t, r, named("first", "1"), map[string]string{"a": "first"})
	m := add(t, r, named("m", "1"), map[string]string{"a": "content", "b": strings.Repeat("x", 100<<10)})
	rng := rand.New(rand.NewPCG(1, 2))
	for _, fresh := range []bool{true, false} {
		mem := durable.NewMem()
		if !fresh {
			if err := inMem(t, mem, r, first); err != nil {
				t.Fatal(err)
			}
		}
		old := memTree(t, mem)[indexFile]
		mem.Record()
		if err := inMem(t, mem, r, m); err != nil {
			t.Fatal(err)
		}
		want := memTree(t, mem)
		for n := range mem.Ops() + 1 {
			for range 16 {
				crashed := mem.Crash(n, rng)
				got := memTree(t, crashed)
				delete(got, partFile)
				switch got[indexFile] {
				case want[indexFile]:
					open(t, got)
				case old:
					if n == mem.Ops() {
						t.Error("the new index was lost after Export had returned")
					}
				default:
					t.Errorf("after %d operations the index is %q", n, got[indexFile])
				}
				if err := inMem(t, crashed, r, m); err != nil {
					t.Fatalf("after %d operations: %v", n, err)
				}
				if d := cmp.Diff(want, memTree(t, crashed)); d != "" {
					t.Fatalf("after %d operations: %s", n, d)
				}
			}
		}
	}
}

// A recorded SHA-256 that is not the content's is never the name of a blob.
func TestPutWrongContent(t *testing.T) {
	mem := durable.NewMem()
	l, err := openLayout(mem)
	if err != nil {
		t.Fatal(err)
	}
	before := memTree(t, mem)
	for _, b := range []blob{
		{registry.SHA256{1}, 7, bytesBlob([]byte("content")).fill},
		{bytesBlob([]byte("content")).sum, 8, bytesBlob([]byte("content")).fill},
	} {
		if _, err := l.put(t.Context(), b); err == nil || !strings.Contains(err.Error(), "verify the store") {
			t.Errorf("got error %v", err)
		}
	}
	if d := cmp.Diff(before, memTree(t, mem)); d != "" {
		t.Error(d)
	}
	if err := l.undo(); err != nil {
		t.Fatal(err)
	}
	if got := memTree(t, mem); len(got) != 0 {
		t.Errorf("undo left %v", got)
	}
}
