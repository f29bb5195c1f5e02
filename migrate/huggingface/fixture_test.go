package huggingface

import (
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/sourcetest"
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

// items reads the folder at, below the cache, and checks that the cache and what
// is beside it stay as they were.
func (c *cache) items(at string) []*migrate.Item {
	c.t.Helper()
	defer sourcetest.Untouched(c.t, filepath.Dir(c.dir))()
	src, err := Open(c.t.Context(), filepath.Join(c.dir, filepath.FromSlash(at)), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return sourcetest.Items(c.t, src)
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
