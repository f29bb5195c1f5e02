package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T) (tree *Tree, outside string) {
	t.Helper()
	outside = t.TempDir()
	dir := filepath.Join(outside, "in")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700),
		os.WriteFile(filepath.Join(dir, "a", "b", "file"), []byte("content"), 0o600),
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree, outside
}

func TestFile(t *testing.T) {
	tree, _ := open(t)
	f, err := tree.File("a/b/file", "as")
	if err != nil || f.Path != "as" || f.Size != 7 || f.Modified == 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	r, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := tree.ReadFile("a/b/file", 7); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := tree.ReadFile("a/b/file", 6); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a file over the limit: %v", err)
	}
	for _, dir := range []string{".", "a", "a/b"} {
		if _, err := tree.Open(dir); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("opening the folder %s: %v", dir, err)
		}
	}
}

func TestHostilePaths(t *testing.T) {
	tree, _ := open(t)
	for _, p := range []string{"", "..", "../secret", "a/../../secret", "/etc/passwd", "a//b", "a/./b/file", "a/", "./a", strings.Repeat("a/", 3000) + "a", "a\x00b"} {
		if _, err := tree.Stat(p); err == nil {
			t.Errorf("Stat(%.40q) found something", p)
		}
		if _, err := tree.Open(p); err == nil {
			t.Errorf("Open(%.40q) opened something", p)
		}
		if _, err := tree.File(p, "x"); err == nil {
			t.Errorf("File(%.40q) found something", p)
		}
	}
}

func TestLinks(t *testing.T) {
	tree, outside := open(t)
	dir := tree.Dir()
	for link, to := range map[string]string{
		"out": filepath.Join(outside, "secret"), "rel": "../secret", "inside": "a/b/file", "folder": "a", "a/up": "..", "dangling": "nothing", "self": "self",
	} {
		if err := os.Symlink(to, filepath.Join(dir, filepath.FromSlash(link))); err != nil {
			t.Skip("this system or user can't make links:", err)
		}
	}
	for _, p := range []string{"out", "rel", "inside", "folder", "folder/b/file", "folder/b", "a/up", "a/up/a/b/file", "dangling", "self", "self/x"} {
		for what, err := range map[string]error{
			"Stat": func() error { _, err := tree.Stat(p); return err }(),
			"Open": func() error { _, err := tree.Open(p); return err }(),
			"File": func() error { _, err := tree.File(p, "x"); return err }(),
		} {
			if link, ok := errors.AsType[*LinkError](err); !ok || !strings.HasPrefix(p, link.Path) {
				t.Errorf("%s(%q): %v", what, p, err)
			}
		}
	}
}

// TestReplaced opens a file that becomes a link between the look and the open.
func TestReplaced(t *testing.T) {
	tree, _ := open(t)
	f, err := tree.File("a/b/file", "x")
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(tree.Dir(), "a", "b", "file")
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
	if err := os.Symlink("../../../secret", at); err != nil {
		t.Skip("this system or user can't make links:", err)
	}
	if _, err := f.Open(t.Context()); err == nil {
		t.Error("the link was followed")
	}
}
