package huggingface

import (
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
)

// cache is a cache of the Hub that a test makes.
type cache struct {
	t   *testing.T
	dir string
}

func newCache(t *testing.T) *cache { return &cache{t, filepath.Join(t.TempDir(), "hub")} }

func (c *cache) write(at, content string) {
	c.t.Helper()
	full := filepath.Join(c.dir, filepath.FromSlash(at))
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cache) link(at, to string) {
	c.t.Helper()
	full := filepath.Join(c.dir, filepath.FromSlash(at))
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.Symlink(filepath.FromSlash(to), full)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cache) remove(at string) {
	c.t.Helper()
	if err := os.RemoveAll(filepath.Join(c.dir, filepath.FromSlash(at))); err != nil {
		c.t.Fatal(err)
	}
}

// sha is what the Hub calls a large file, git a small one.
func sha(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }
func git(content string) string {
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)))
}

// file makes a file of a snapshot as the Hub's library does.
func (c *cache) file(repo, commit, file, blob, content string) {
	c.t.Helper()
	c.write(repo+"/blobs/"+blob, content)
	c.link(repo+"/snapshots/"+commit+"/"+file, strings.Repeat("../", 2+strings.Count(file, "/"))+"blobs/"+blob)
}

// listingOf says all there is to say of dir: names, kinds, sizes, times, hashes.
func listingOf(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %d %v", p, info.Mode(), info.Size(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + sha(string(b))
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// items reads the folder at, below the cache, checks what is true of every
// item, and that the cache and what is beside it stay as they were.
func (c *cache) items(at string) []*migrate.Item {
	t := c.t
	t.Helper()
	before := listingOf(t, filepath.Dir(c.dir))
	src, err := Open(t.Context(), filepath.Join(c.dir, filepath.FromSlash(at)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	var all []*migrate.Item
	ids := map[uuid.UUID]string{}
	for item, err := range src.Items(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		m := item.Model
		if other, ok := ids[m.ID]; ok || m.ID == uuid.Nil || m.RegisteredAt <= 0 || m.UpdatedAt <= 0 || m.Origin.Source != "huggingface" {
			t.Errorf("%s: %+v; the id is that of %q", item.From, m, other)
		}
		ids[m.ID] = item.From
		if item.Err != nil && len(item.Files) > 0 {
			t.Errorf("%s failed and has files", item.From)
		}
		for _, f := range item.Files {
			r, err := f.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || int64(len(b)) != f.Size {
				t.Errorf("%s of %s: %d bytes, want %d: %v", f.Path, item.From, len(b), f.Size, err)
			}
		}
		all = append(all, item)
	}
	if diff := cmp.Diff(before, listingOf(t, filepath.Dir(c.dir))); diff != "" {
		t.Errorf("the source changed:\n%s", diff)
	}
	return all
}

// brief tells items on one line each.
func brief(all []*migrate.Item) []string {
	var lines []string
	for _, item := range all {
		line := item.Model.Name + ":" + item.Model.Version + " " + strings.Join(item.Model.Aliases, ",")
		switch {
		case item.Err != nil:
			line = item.From + " failed"
		case item.Skip != "":
			line = item.From + " skipped"
		}
		lines = append(lines, line)
	}
	return lines
}
