package archive

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/registry"
)

// names lists a folder.
func names(t testing.TB, fsys durable.FS) (all []string) {
	t.Helper()
	entries, err := fsys.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func openDir(t testing.TB, path string) *durable.Dir {
	t.Helper()
	d, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestCreate(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content"})
	var want bytes.Buffer
	if _, err := Write(t.Context(), &want, m, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 251)+".tar") // as long as a name can be
	if _, err := Create(t.Context(), path, m, nil); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if read() != want.String() {
		t.Error("the file is not what Write writes")
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), path, m, nil); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("a file that exists: got error %v", err)
	}
	if read() != "precious" {
		t.Error("the file was touched")
	}
	if _, err := Create(t.Context(), path, m, &Options{Replace: true}); err != nil {
		t.Error(err)
	}
	if read() != want.String() {
		t.Error("the file was not replaced")
	}
	if _, err := Create(t.Context(), dir, m, &Options{Replace: true}); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("a folder: got error %v", err)
	}
	if _, err := Create(t.Context(), filepath.Join(dir, "no", "x.tar"), m, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got error %v", err)
	}
	if got := names(t, openDir(t, dir)); len(got) != 1 {
		t.Errorf("the folder has %q", got)
	}
}

// A link is replaced: the file that it leads to is not written to.
func TestCreateLink(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content"})
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "x.tar")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err)
	}
	if _, err := Create(t.Context(), path, m, nil); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("got error %v", err)
	}
	if _, err := Create(t.Context(), path, m, &Options{Replace: true}); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
		t.Errorf("the target is %q, %v", b, err)
	}
}

func TestCreateDamaged(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, "m:1", map[string]string{"a": "content", "b": "more"})
	damage(t, r, m, "b")
	dir := t.TempDir()
	_, err := Create(t.Context(), filepath.Join(dir, "x.tar"), m, nil)
	if _, ok := errors.AsType[*registry.CorruptError](err); !ok {
		t.Errorf("got error %v", err)
	}
	if got := names(t, openDir(t, dir)); len(got) != 0 {
		t.Errorf("the folder has %q", got)
	}
}

func TestCreateInterrupted(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content", "b": "more"})
	dir := t.TempDir()
	path := filepath.Join(dir, "x.tar")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Create(ctx, path, m, &Options{Replace: true, Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if got := names(t, openDir(t, dir)); len(got) != 1 {
		t.Errorf("the folder has %q", got)
	}
}

// A file that comes to be while the tar is written is not replaced.
func TestCreateRace(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": "content"})
	path := filepath.Join(t.TempDir(), "x.tar")
	_, err := Create(t.Context(), path, m, &Options{Progress: func(int64) {
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, registry.ErrConflict) {
		t.Errorf("got error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// Whichever operation of the disk fails, the file is as it was, or whole where
// only syncing its name failed, and nothing is beside it.
func TestCreateDiskErrors(t *testing.T) {
	m := add(t, newRegistry(t), "m:1", map[string]string{"a": strings.Repeat("x", 600<<10)})
	for failing := 1; ; failing++ {
		mem := durable.NewMem()
		f, err := mem.Create("x.tar")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("old")); err != nil {
			t.Fatal(err)
		}
		var failed durable.Op
		mem.Fail(func(op durable.Op) error {
			if op.N == failing {
				failed = op
				return errDisk
			}
			return nil
		})
		c := creation{fsys: mem, name: "x.tar", path: "x.tar", exists: mem.Stat}
		_, err = c.run(t.Context(), m, &Options{Replace: true})
		mem.Fail(nil)
		if failed.Kind == "" {
			if err != nil || failing < 7 {
				t.Fatalf("%d operations: %v", failing, err)
			}
			return
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("%s failed: got error %v", failed, err)
		}
		content, err := durable.ReadFile(mem, "x.tar", 1<<20)
		if old := failed.Kind != durable.OpSyncDir; err != nil || old != (string(content) == "old") {
			t.Errorf("%s failed: %v, the file has %d bytes", failed, err, len(content))
		}
		if got := names(t, mem); !slices.Equal(got, []string{"x.tar"}) {
			t.Errorf("%s failed: the folder has %q", failed, got)
		}
	}
}
