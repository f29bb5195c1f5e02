package huggingface

import (
	"crypto/sha256"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// xet is a hash as files among the shared blobs are called by; what of, the Hub
// alone knows.
var xet = "ab" + strings.Repeat("0123456789abcdef", 4)[2:]

// shared makes a file of a snapshot as the Hub's library does in a cache with
// shared blobs, where its content is called hash.
func (c *cache) shared(repo, commit, file, blob, hash, content string) {
	c.t.Helper()
	c.write(marker, layout)
	c.write("blobs/"+hash[:2]+"/"+hash, content)
	c.write("blobs/"+hash[:2]+"/"+hash+".refs", repo+"/blobs/"+blob+"\n")
	c.write("blobs/"+hash[:2]+"/"+hash+".lock", "")
	c.link(repo+"/blobs/"+blob, toShared+hash[:2]+"/"+hash)
	c.link(repo+"/snapshots/"+commit+"/"+file, strings.Repeat("../", 2+strings.Count(file, "/"))+"blobs/"+blob)
}

func TestShared(t *testing.T) {
	c := newCache(t)
	config := `{"model_type":"llama"}`
	c.shared(repo, c1, "deep/w", sha("weights"), xet, "weights")
	c.shared(repo, c1, "config.json", sha(config), strings.Repeat("0", 64), config)
	c.file(repo, c1, "plain", git("p"), "p")
	c.shared("models--org--n", c2, "w", sha("weights"), xet, "weights")
	old := time.Unix(1000, 5000)
	if err := os.Chtimes(filepath.Join(c.dir, "blobs", "ab", xet), old, old); err != nil {
		t.Fatal(err)
	}
	// The folder of a repository may be reached through a link, which its own
	// links know nothing of.
	c.link("../elsewhere/models--org--m", "../hub/"+repo)
	for _, at := range []string{"", "..", repo, "../elsewhere/models--org--m"} {
		all := c.items(at)
		want := []string{"org/m:" + c1 + " ", "org/n:" + c2 + " "}
		if path.Base(at) == repo {
			want = want[:1]
		}
		if diff := cmp.Diff(want, brief(all)); diff != "" {
			t.Fatalf("%q: (-want +got):\n%s", at, diff)
		}
		m := all[0].Model
		if m.Metadata.Architecture != "llama" || m.RegisteredAt <= old.UnixMicro() || len(all[0].Notes) > 0 {
			t.Errorf("%q: %+v, notes %q", at, m, all[0].Notes)
		}
		got := map[string]migrate.File{}
		for _, f := range all[0].Files {
			got[f.Path] = f
		}
		w := got["deep/w"]
		if len(got) != 3 || w.Size != 7 || w.Modified != old.UnixNano() || w.Want != (migrate.Hashes{SHA256: sha256.Sum256([]byte("weights"))}) {
			t.Errorf("%q: %+v", at, got)
		}
	}
}

// TestSharedContent imports blobs of which one is not what its name says.
func TestSharedContent(t *testing.T) {
	c := newCache(t)
	c.shared("models--org--bad", c1, "w", sha("weights"), strings.Repeat("f", 64), "WEIGHTS")
	c.shared("models--org--good", c1, "w", sha("weights"), xet, "weights")
	src, err := Open(t.Context(), c.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.CreateTemp(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), src.Close()); err != nil {
			t.Error(err)
		}
	})
	got := map[string]migrate.State{}
	for o, err := range migrate.Apply(t.Context(), r, src, nil) {
		if err != nil {
			t.Fatal(err)
		}
		got[o.Ref] = o.State
	}
	want := map[string]migrate.State{"org/bad:" + c1: migrate.Failed, "org/good:" + c1: migrate.Imported}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadShared(t *testing.T) {
	const unknown, isLink, notFollowed = "HF_HUB_DISABLE_SHARED_BLOBS=1", "is a link, and links are not followed", "no blob that the cache shares"
	upper := "AB" + xet[2:]
	tests := []struct {
		name string
		to   string // what the blob is a link to, with CACHE for the cache
		make func(c *cache)
		want string
	}{
		{"absolute", "CACHE/blobs/ab/" + xet, nil, notFollowed},
		{"absolute elsewhere", "/etc/passwd", nil, notFollowed},
		{"out of the cache", "../../../blobs/ab/" + xet, nil, notFollowed},
		{"far out of the cache", strings.Repeat("../", 30) + "etc/passwd", nil, notFollowed},
		{"out through the shared blobs", "../../blobs/ab/../../../outside", nil, notFollowed},
		{"out and in again", "../../../hub/blobs/ab/" + xet, nil, notFollowed},
		{"another repository", "../../models--org--n/blobs/x", nil, notFollowed},
		{"through another repository", "../../models--org--n/../blobs/ab/" + xet, nil, notFollowed},
		{"through its repository", "../../" + repo + "/../blobs/ab/" + xet, nil, notFollowed},
		{"a detour", "../../blobs/./ab/" + xet, nil, notFollowed},
		{"of its repository", "ab/" + xet, nil, notFollowed},
		{"below its repository", "../blobs/ab/" + xet, nil, notFollowed},
		{"itself", "etag", nil, notFollowed},
		{"the folder", "../../blobs", nil, notFollowed},
		{"the folder of a prefix", "../../blobs/ab", nil, notFollowed},
		{"the marker", "../../" + marker, nil, notFollowed},
		{"references", "../../blobs/ab/" + xet + ".refs", nil, notFollowed},
		{"a lock", "../../blobs/ab/" + xet + ".lock", nil, notFollowed},
		{"no prefix", "../../blobs/" + xet, nil, notFollowed},
		{"another prefix", "../../blobs/ac/" + xet, nil, notFollowed},
		{"a dotted prefix", "../../blobs/../" + xet, nil, notFollowed},
		{"capitals", "../../blobs/AB/" + upper, nil, notFollowed},
		{"no digits", "../../blobs/ab/" + xet[:63] + "g", nil, notFollowed},
		{"short", "../../blobs/ab/" + xet[:63], nil, notFollowed},
		{"long", "../../blobs/ab/" + xet + "0", nil, notFollowed},
		{"deeper", "../../blobs/ab/ab/" + xet, nil, notFollowed},
		{"backslashes", `..\..\blobs\ab\..\..\` + xet, nil, notFollowed},
		{"missing", "../../blobs/ac/ac" + xet[2:], nil, "leads nowhere"},
		{"a folder of the right name", "", func(c *cache) {
			c.remove("blobs/ab/" + xet)
			c.write("blobs/ab/"+xet+"/"+xet, "weights")
		}, "is a folder"},
		{"a chain", "", func(c *cache) {
			c.remove("blobs/ab/" + xet)
			c.write("blobs/ab/other", "weights")
			c.link("blobs/ab/"+xet, "other")
		}, isLink},
		{"a chain outside", "", func(c *cache) {
			c.remove("blobs/ab/" + xet)
			c.link("blobs/ab/"+xet, "../../../outside")
		}, isLink},
		{"the prefix is a link", "", func(c *cache) {
			c.remove("blobs/ab")
			c.link("blobs/ab", "../../blobs/ab")
		}, isLink},
		{"the folder is a link", "", func(c *cache) {
			c.remove("blobs")
			c.link("blobs", "../blobs")
		}, isLink},
		{"no marker", "", func(c *cache) { c.remove(marker) }, unknown},
		{"another layout", "", func(c *cache) { c.write(marker, "2\n") }, unknown},
		{"a longer marker", "", func(c *cache) { c.write(marker, layout+layout) }, unknown},
		{"the marker is a folder", "", func(c *cache) {
			c.remove(marker)
			c.write(marker+"/x", layout)
		}, unknown},
		{"the marker is a link", "", func(c *cache) {
			c.remove(marker)
			c.link(marker, "../../"+marker)
		}, isLink},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache(t)
			c.file(repo, c2, "w", sha("w"), "w")
			c.shared(repo, c1, "w", "etag", xet, "weights")
			c.write("models--org--n/blobs/x", "x")
			c.write(repo+"/blobs/ab/"+xet, "weights")
			for _, at := range []string{"blobs/" + xet, "blobs/ac/" + xet, "blobs/ab/ab/" + xet, "blobs/ab/" + xet[:63], "blobs/ab/" + xet[:63] + "g", "blobs/ab/" + xet + "0", "blobs/AB/" + upper, xet} {
				c.write(at, "weights")
			}
			// Beside the cache is what looks like one.
			c.write("../"+marker, layout)
			c.write("../blobs/ab/"+xet, "secret")
			c.write("../outside", "secret")
			if tt.to != "" {
				c.remove(repo + "/blobs/etag")
				c.link(repo+"/blobs/etag", strings.Replace(tt.to, "CACHE", filepath.ToSlash(c.dir), 1))
			}
			if tt.make != nil {
				tt.make(c)
			}
			for _, at := range []string{"", repo} {
				failed, good := 0, 0
				for _, item := range c.items(at) {
					switch {
					case item.Model.Name != "org/m":
					case item.Err == nil:
						good++
					case item.Model.Version != c1 || !strings.Contains(item.Err.Error(), tt.want) || !strings.Contains(item.Err.Error(), "snapshots/"+c1+"/w"):
						t.Errorf("%q: %s: %v; want %q and the path", at, item.From, item.Err, tt.want)
					default:
						failed++
					}
				}
				if failed != 1 || good != 1 {
					t.Errorf("%q: %d failed, %d good", at, failed, good)
				}
			}
		})
	}
}

// TestSharedClosed has a repository in a folder that can't be opened.
func TestSharedClosed(t *testing.T) {
	c := newCache(t)
	c.shared(repo, c1, "w", sha("weights"), xet, "weights")
	c.file(repo, c2, "w", sha("w"), "w")
	src, err := Open(t.Context(), filepath.Join(c.dir, repo), nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := errors.New("closed")
	if err := src.cache.Close(); err != nil {
		t.Fatal(err)
	}
	src.cache, src.closed = nil, closed
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	for item, err := range src.Items(t.Context()) {
		if err != nil || errors.Is(item.Err, closed) != (item.Model.Version == c1) {
			t.Errorf("%s: %v, %v", item.From, item.Err, err)
		}
	}
}

func FuzzShared(f *testing.F) {
	f.Add(toShared + "ab/" + xet)
	f.Add("/blobs/ab/" + xet)
	f.Fuzz(func(t *testing.T, text string) {
		at, ok := shared(text)
		if !ok {
			return
		}
		// What is accepted is what the text means, and nothing but a prefix
		// and a hash in the folder of the cache.
		if path.Join("repo/blobs", text) != at || len(at) != len("blobs/ab/")+xetDigits || at[:6] != "blobs/" || at[6:8] != at[9:11] || strings.Trim(at[9:], "0123456789abcdef") != "" {
			t.Errorf("%q leads to %q", text, at)
		}
	})
}
