package huggingface

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
)

var _ migrate.Source = (*Source)(nil)

const (
	repo = "models--org--m"
	c1   = "1111111111111111111111111111111111111111"
	c2   = "2222222222222222222222222222222222222222"
)

func TestItem(t *testing.T) {
	c := newCache(t)
	c.file(repo, c2, "model.safetensors", sha("weights"), "weights")
	c.file(repo, c2, "config.json", git(`{"architectures":["LlamaForCausalLM"],"model_type":"llama"}`), `{"architectures":["LlamaForCausalLM"],"model_type":"llama"}`)
	c.file(repo, c2, "onnx/deep/x", "an-etag", "x")
	c.write(repo+"/snapshots/"+c2+"/plain", "p")
	c.write(repo+"/snapshots/"+c2+"/.DS_Store", "")
	c.write(repo+"/refs/main", c2+"\n")
	c.write(repo+"/refs/refs/pr/1", c2)
	c.file(repo, c1, "model.safetensors", sha("weights"), "weights")
	c.write(repo+"/blobs/"+sha("half")+".incomplete", "ha")
	c.write(repo+"/.no_exist/"+c1+"/x", "")
	old := time.UnixMicro(1_600_000_000_123_456)
	plain := filepath.Join(c.dir, repo, "snapshots", c2, "plain")
	if err := os.Chtimes(plain, old, old); err != nil {
		t.Fatal(err)
	}
	all := c.items("")
	if len(all) != 2 || all[0].Err != nil || all[1].Err != nil {
		t.Fatalf("%v", brief(all))
	}
	item := all[0]
	if item.Model.Version != c2 { // written first
		item = all[1]
	}
	info, err := os.Lstat(filepath.Join(c.dir, repo, "snapshots", c2, "onnx", "deep", "x"))
	if err != nil {
		t.Fatal(err)
	}
	m := item.Model
	if m.Name != "org/m" || m.RegisteredAt != info.ModTime().UnixMicro() || m.Status != "pending" || m.Parent != uuid.Nil || m.Metadata.Architecture != "LlamaForCausalLM" {
		t.Errorf("%+v", m)
	}
	if id := uuid.NewSHA1(uuid.MustParse(namespace), []byte("huggingface\x00org/m\x00"+c2)); m.ID != id {
		t.Errorf("id %v, want %v", m.ID, id)
	}
	if got := string(m.Origin.Details); got != `{"refs":["main","refs/pr/1"],"repo":"org/m","revision":"`+c2+`"}` {
		t.Errorf("details %s", got)
	}
	if diff := cmp.Diff([]string{"main", "refs-pr-1"}, m.Aliases); diff != "" {
		t.Error(diff)
	}
	if len(item.Notes) != 3 || !strings.Contains(item.Notes[0], `"refs-pr-1"`) || !strings.Contains(item.Notes[1], "plain") || !strings.Contains(item.Notes[2], "onnx/deep/x") {
		t.Errorf("notes %q", item.Notes)
	}
	want := map[string]migrate.Hashes{"plain": {}, "onnx/deep/x": {}, "model.safetensors": {SHA256: sha256.Sum256([]byte("weights"))}, "config.json": hashes(git(`{"architectures":["LlamaForCausalLM"],"model_type":"llama"}`))}
	for _, f := range item.Files {
		if w, ok := want[f.Path]; !ok || w != f.Want {
			t.Errorf("%s: %+v, want %+v", f.Path, f.Want, w)
		}
		delete(want, f.Path)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	// The folder of the model alone gives the same.
	if diff := cmp.Diff(brief(all), brief(c.items(repo))); diff != "" {
		t.Error(diff)
	}
}

func TestCache(t *testing.T) {
	c := newCache(t)
	c.file("models--gpt2", c1, "w", sha("w"), "w")
	c.file("models--a--b--c", c1, "w", sha("w"), "w")
	c.file("models--org--con", c1, "w", sha("w"), "w")
	c.file("models--org--v", "a:b", "w", sha("w"), "w")
	c.file("models--org--f", c1, "a\nb", sha("w"), "w")
	c.file("datasets--org--d", c1, "w", sha("w"), "w")
	c.file("spaces--org--s", c1, "w", sha("w"), "w")
	c.write("models--org--none/blobs/x.incomplete", "w")
	c.write("models--org--gone/snapshots/.DS_Store", "")
	c.write("models--org--odd/snapshots/file", "")
	c.link("models--org--odd/snapshots/link", c1)
	c.file("models--org--odd", c1, "w", sha("w"), "w")
	if err := os.MkdirAll(filepath.Join(c.dir, "models--org--odd", "snapshots", c2, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.link("models--org--linked", "models--gpt2")
	c.write("models--org--plain", "")
	c.write("version.txt", "1")
	c.write(".locks/models--gpt2/x.lock", "")
	c.write("tmp/x", "")
	want := []string{
		"datasets--org--d skipped", "a/b/c:" + c1 + " ", "gpt2:" + c1 + " ", "org/con/" + c1 + " failed", "org/f/" + c1 + " failed", "org/gone skipped", "org/linked failed",
		"org/none skipped", "models--org--odd/snapshots/file skipped", "models--org--odd/snapshots/link failed", "org/odd:" + c1 + " ", "org/odd/" + c2 + " skipped",
		"org/plain failed", "org/v/a:b failed", "spaces--org--s skipped",
	}
	got := c.items("")
	if diff := cmp.Diff(want, brief(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	c := newCache(t)
	commits := []string{"c", "a", "b"}
	for i, commit := range commits {
		at := repo + "/snapshots/" + commit + "/w"
		c.write(at, "w")
		when := time.Unix(int64(1000+i/2), 0) // a is as old as c
		if err := os.Chtimes(filepath.Join(c.dir, filepath.FromSlash(at)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"org/m:a ", "org/m:c ", "org/m:b "}
	if diff := cmp.Diff(want, brief(c.items(""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefs(t *testing.T) {
	c := newCache(t)
	c.file(repo, c1, "w", sha("w"), "w")
	c.write(repo+"/refs/pr/1", c1)
	c.write(repo+"/refs/pr-1", c1)
	c.write(repo+"/refs/v@1", c1)
	c.write(repo+"/refs/con", c1)
	c.write(repo+"/refs/"+c1, c1)
	c.write(repo+"/refs/dangling", c2)
	c.write(repo+"/refs/empty", "")
	c.write(repo+"/refs/hostile", "../../../etc")
	c.write(repo+"/refs/long", strings.Repeat("1", 2000))
	c.link(repo+"/refs/link", "pr-1")
	c.link(repo+"/refs/dir", "pr")
	c.write(repo+"/refs/"+strings.Repeat("d/", 20)+"x", c1)
	got := c.items("")
	var lines []string
	for _, line := range brief(got) {
		lines = append(lines, strings.TrimPrefix(line, repo+"/refs/"))
	}
	deep := strings.TrimSuffix(strings.Repeat("d/", 16), "/")
	want := []string{deep + " failed", "dir failed", "link failed", "long failed", "dangling skipped", "empty skipped", "hostile skipped", "org/m:" + c1 + " pr-1,v-1"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	notes := strings.Join(got[len(got)-1].Notes, "\n")
	for _, want := range []string{`"pr/1" is left out: "pr-1" is taken`, `"con" is left out`, `"v@1" becomes the alias "v-1"`, c1 + `" is left out`} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note with %q in:\n%s", want, notes)
		}
	}
}

func TestBadLinks(t *testing.T) {
	tests := []struct{ name, to, want string }{
		{"absolute", "/etc/passwd", "no blob of its repository"},
		{"outside", "../../../../outside", "no blob of its repository"},
		{"another repository", "../../../models--org--n/blobs/x", "no blob of its repository"},
		{"out and in again", "../../../" + repo + "/blobs/x", "no blob of its repository"},
		{"refs", "../../refs/main", "no blob of its repository"},
		{"beside", "w", "no blob of its repository"},
		{"the blobs", "../../blobs", "no blob of its repository"},
		{"below a blob", "../../blobs/folder/x", "no blob of its repository"},
		{"nowhere", "../../blobs/missing", "leads nowhere"},
		{"incomplete", "../../blobs/x.incomplete", "never ended"},
		{"a folder", "../../blobs/folder", "is a folder"},
		{"a chain", "../../blobs/chain", "no blob that the cache shares"},
		{"a chain outside", "../../blobs/escape", "no blob that the cache shares"},
		{"through a link", "../../blobs/dir/x", "no blob of its repository"},
		{"itself", "bad", "no blob of its repository"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache(t)
			c.file(repo, c1, "w", sha("w"), "w")
			c.file(repo, c2, "w", sha("w"), "w")
			c.write("models--org--n/blobs/x", "x")
			c.write("../outside", "secret")
			c.write(repo+"/blobs/x", "x")
			c.write(repo+"/blobs/x.incomplete", "x")
			c.write(repo+"/blobs/folder/x", "x")
			c.write(repo+"/refs/main", c1)
			c.link(repo+"/blobs/chain", "x")
			c.link(repo+"/blobs/escape", "../../../outside")
			c.link(repo+"/blobs/dir", "folder")
			c.link(repo+"/snapshots/"+c1+"/bad", tt.to)
			failed, good := 0, 0
			for _, item := range c.items(repo) {
				switch {
				case item.Err == nil:
					good++
				case item.Model.Version != c1 || !strings.Contains(item.Err.Error(), tt.want) || !strings.Contains(item.Err.Error(), "snapshots/"+c1+"/bad"):
					t.Errorf("%s: %v; want %q and the path", item.From, item.Err, tt.want)
				default:
					failed++
				}
			}
			if failed != 1 || good != 1 {
				t.Errorf("%d failed, %d good", failed, good)
			}
		})
	}
	t.Run("blobs is a link", func(t *testing.T) {
		c := newCache(t)
		c.write("elsewhere/"+sha("w"), "w")
		c.link(repo+"/blobs", "../elsewhere")
		c.link(repo+"/snapshots/"+c1+"/w", "../../blobs/"+sha("w"))
		if all := c.items(""); len(all) != 1 || all[0].Err == nil {
			t.Errorf("%v", brief(all))
		}
	})
}

func TestArchitecture(t *testing.T) {
	tests := []struct{ config, want string }{
		{`{"model_type":"bert"}`, "bert"},
		{`{"architectures":[],"model_type":"bert"}`, "bert"},
		{`{"architectures":"A","model_type":"bert"}`, "bert"},
		{`{"architectures":["a\u0007b"],"model_type":"bert"}`, "bert"},
		{`{"architectures":["` + strings.Repeat("x", 300) + `"]}`, ""},
		{`{"architectures":[7],"model_type":{}}`, ""},
		{`[]`, ""},
		{`{`, ""},
		{`{"model_type":"bert"}` + strings.Repeat(" ", maxConfig), ""},
	}
	for _, tt := range tests {
		c := newCache(t)
		c.file(repo, c1, "config.json", git(tt.config), tt.config)
		if item := c.items("")[0]; item.Err != nil || item.Model.Metadata.Architecture != tt.want {
			t.Errorf("%.60s: %q, %v; want %q", tt.config, item.Model.Metadata.Architecture, item.Err, tt.want)
		}
	}
}

func TestOpen(t *testing.T) {
	c := newCache(t)
	c.file(repo, c1, "w", sha("w"), "w")
	if got := c.items(".."); len(got) != 1 || got[0].Err != nil { // the home, which has hub
		t.Errorf("%v", brief(got))
	}
	for _, at := range []string{repo + "/blobs", "nowhere"} {
		if src, err := Open(t.Context(), filepath.Join(c.dir, at), nil); src != nil || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s) = %v, %v", at, src, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	src, err := Open(ctx, c.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	cancel()
	for item, err := range src.Items(ctx) {
		if item != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v, %v", item, err)
		}
	}
}

func TestHashes(t *testing.T) {
	for _, blob := range []string{"", "x", sha("")[:62], strings.ToUpper(sha("")), sha("") + "00", git("")[:39] + "g"} {
		if got := hashes(blob); got != (migrate.Hashes{}) {
			t.Errorf("hashes(%q) = %+v", blob, got)
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("snapshots/c/w", "../../blobs/x")
	f.Add("snapshots/c/a/w", "../../../blobs/x")
	f.Add("snapshots/c/w", "/etc/passwd")
	f.Fuzz(func(t *testing.T, at, text string) {
		blob, err := target(at, text)
		if err == nil && (path.Join(path.Dir(at), text) != "blobs/"+blob || strings.ContainsAny(blob, "/\\\x00") || !fs.ValidPath(blob) || !filepath.IsLocal(filepath.FromSlash("blobs/"+blob))) {
			t.Errorf("%q at %q leads to the blob %q", text, at, blob)
		}
	})
}

func FuzzAlias(f *testing.F) {
	f.Add("refs/pr/1")
	f.Fuzz(func(t *testing.T, ref string) {
		if got := aliasOf(ref); strings.ContainsAny(got, `/:@\`) || len(got) != len(ref) {
			t.Errorf("aliasOf(%q) = %q", ref, got)
		}
	})
}
