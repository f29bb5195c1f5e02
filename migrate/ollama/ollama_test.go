package ollama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
)

var _ migrate.Source = (*Source)(nil)

func TestItem(t *testing.T) {
	s := newStore(t)
	raw := s.manifest(
		s.layer(image+"model", "", "GGUF and weights"), s.layer(image+"template", "", "{{ .Prompt }}"), s.layer(image+"system", "", "Be nice."),
		s.layer(image+"params", "", `{"stop":[]}`), s.layer(image+"license", "", "MIT"), s.layer(image+"license", "", "GPL"),
		s.layer(image+"messages", "", `[]`), s.layer(image+"projector", "", "GGUF too"), s.layer(image+"adapter", "", "not that"),
		s.layer("text/x-odd thing", "", "?"), s.layer("", "", "nothing"), s.layer(image+"license", "", "MIT"),
	)
	const at = "manifests/registry.ollama.ai/library/llama3/"
	s.write(at+"8b", raw)
	s.write(at+"latest", raw)
	older, newer := time.UnixMicro(1_600_000_000_123_456), time.UnixMicro(1_700_000_000_000_000)
	if err := errors.Join(os.Chtimes(filepath.Join(s.dir, filepath.FromSlash(at+"latest")), older, older), os.Chtimes(filepath.Join(s.dir, filepath.FromSlash(at+"8b")), newer, newer)); err != nil {
		t.Fatal(err)
	}
	all := s.items()
	if len(all) != 1 || all[0].Err != nil || all[0].Skip != "" || len(all[0].Notes) > 0 {
		t.Fatalf("%+v", all)
	}
	m := all[0].Model
	if m.Name != "llama3" || m.Version != digest(raw)[:12] || m.RegisteredAt != older.UnixMicro() || m.Parent != uuid.Nil || m.Status != "pending" {
		t.Errorf("%+v", m)
	}
	if diff := cmp.Diff([]string{"8b", "latest"}, m.Aliases); diff != "" {
		t.Errorf("aliases: %s", diff)
	}
	if id := uuid.NewSHA1(uuid.MustParse(namespace), []byte("ollama\x00registry.ollama.ai\x00library\x00llama3\x00"+digest(raw))); m.ID != id {
		t.Errorf("id %v, want %v", m.ID, id)
	}
	if m.Metadata.Architecture != "llama" || string(m.Metadata.Extra) != `{"file_type":"Q4_0","model_format":"gguf","model_type":"8.0B"}` {
		t.Errorf("%+v", m.Metadata)
	}
	want := []string{"manifest.json", "config.json", "model.gguf", "template", "system", "params.json", "license", "license-2", "messages.json",
		"projector.gguf", "adapter", "x-odd-thing", "layer", "license-3"}
	if diff := cmp.Diff(want, files(all[0])); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var d details
	if err := json.Unmarshal(m.Origin.Details, &d); err != nil {
		t.Fatal(err)
	}
	if d.Host != "registry.ollama.ai" || d.MediaTypes["license-2"] != image+"license" || d.MediaTypes["config.json"] != config || d.MediaTypes["manifest.json"] != docker || len(d.MediaTypes) != len(want) {
		t.Errorf("%+v", d)
	}
}

func TestNamedLayers(t *testing.T) {
	s := newStore(t)
	s.write("manifests/registry.ollama.ai/library/m/latest", s.manifest(
		s.layer(image+"json", "config.json", `{"architectures":[]}`), s.layer(image+"tensor", "text_encoder/model.embed.weight", "1"),
		s.layer(image+"tensor; name=lm_head.weight; dtype=BF16; shape=[1,2]", "", "2"), s.layer(image+"tensor", "../../escape", "3"),
		s.layer(image+"tensor", "/abs", "4"), s.layer(image+"tensor", "a\x00b", "5"), s.layer(image+"tensor", strings.Repeat("n", 250), "6"),
		s.layer(image+"tensor", "text_encoder", "7"), s.layer(image+"tensor", "lm_head.weight/x", "8"), s.layer(image+"tensor", "Manifest.JSON", "9"),
	))
	item := s.items()[0]
	want := []string{"manifest.json", "config-2.json", "config.json", "text_encoder/model.embed.weight", "lm_head.weight", "tensor", "tensor-2", "tensor-3", "tensor-4",
		"text_encoder-2", "tensor-5", "Manifest-2.JSON"}
	if diff := cmp.Diff(want, files(item)); item.Err != nil || diff != "" {
		t.Errorf("%v, files (-want +got):\n%s", item.Err, diff)
	}
	if len(item.Notes) != 1 || !strings.Contains(item.Notes[0], "5 layers") || !strings.Contains(item.Notes[0], "../../escape") {
		t.Errorf("notes %q", item.Notes)
	}
}

func TestNames(t *testing.T) {
	s := newStore(t)
	raw := s.manifest(s.layer(image+"model", "", "w"))
	other := s.manifest(s.layer(image+"model", "", "v"))
	s.write("manifests/registry.ollama.ai/library/m/a", raw)
	s.write("manifests/registry.ollama.ai/library/m/b", other)
	s.write("manifests/registry.ollama.ai/library/m/con", other)
	s.write("manifests/registry.ollama.ai/library/m/x-y", other)
	s.write("manifests/registry.ollama.ai/user/m/a", raw)
	s.write("manifests/hf.co/org/m-GGUF/Q4_K_M", raw)
	s.write("manifests/localhost:5000/library/m/x@y", raw)
	s.write("manifests/registry.ollama.ai/library/m/x@y", raw)
	s.write("manifests/registry.ollama.ai/library/m/p:q", raw)
	s.write("manifests/registry.ollama.ai/library/con/a", raw)
	s.write("manifests/registry.ollama.ai/library/.DS_Store", "")
	s.write("manifests/registry.ollama.ai/notes.txt", "")
	s.write("manifests/registry.ollama.ai/library/m/deep/er", raw)
	var got []string
	for _, item := range s.items() {
		line := strings.TrimSpace(item.Model.Name + " " + strings.Join(item.Model.Aliases, ","))
		switch {
		case item.Err != nil:
			line += " failed"
		case item.Skip != "":
			line = item.From + " skipped"
		}
		got = append(got, fmt.Sprint(line, " ", len(item.Notes)))
	}
	slices.Sort(got)
	want := []string{"con a failed 0", "hf.co/org/m-GGUF Q4_K_M 0", "localhost_5000/library/m x-y 2", "m a,p-q 2", "m b,x-y 1",
		"manifests/registry.ollama.ai/library/m/deep skipped 0", "manifests/registry.ollama.ai/notes.txt skipped 0", "user/m a 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewLayout(t *testing.T) {
	s := newStore(t)
	raw := s.manifest(s.layer(image+"model", "", "w"))
	s.write("blobs/sha256-"+digest(raw), raw)
	bad := s.manifest(s.layer(image+"model", "", "v"))
	s.write("blobs/sha256-"+digest("other"), bad)
	const at = "manifests-v2/ollama.com/library/m/"
	s.link(at+"good", "../../../../blobs/sha256-"+digest(raw))
	s.link(at+"damaged", "../../../../blobs/sha256-"+digest("other"))
	s.link(at+"missing", "../../../../blobs/sha256-"+digest("missing"))
	s.link(at+"outside", "../../../../../blobs/sha256-"+digest(raw))
	s.link(at+"elsewhere", "../../../../manifests/x")
	s.link(at+"absolute", filepath.ToSlash(s.dir)+"/blobs/sha256-"+digest(raw))
	s.link(at+"chain", "good")
	s.link("manifests-v2/ollama.com/library/linked", "m")
	s.write("manifests/registry.ollama.ai/library/m/good", s.manifest(s.layer(image+"model", "", "old")))
	s.write("manifests/registry.ollama.ai/library/m/copy", raw)
	var got []string
	for _, item := range s.items() {
		line := path.Base(item.From)
		switch {
		case item.Err != nil:
			line += " failed"
		case item.Skip != "":
			line += " skipped"
		default:
			line = item.Model.Name + ":" + strings.Join(item.Model.Aliases, ",")
		}
		got = append(got, line)
	}
	slices.Sort(got)
	want := []string{"absolute failed", "blobs skipped", "chain failed", "damaged failed", "elsewhere failed", "good skipped", "linked failed", "m:good,copy", "missing failed", "outside failed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadManifests(t *testing.T) {
	s := newStore(t)
	good := s.layer(image+"model", "", "w")
	with := func(l layer) string { return s.manifest(good, l) }
	change := func(f func(*layer)) layer { l := good; f(&l); return l }
	gone := layer{MediaType: image + "model", Digest: "sha256:" + digest("gone"), Size: 4}
	s.link("blobs/sha256-"+digest("linked"), "sha256-"+digest("w"))
	s.write("blobs/sha256-"+digest("folder")+"/x", "")
	tests := map[string]struct{ raw, want string }{
		"empty":       {"", "damaged"},
		"no-json":     {"{", "damaged"},
		"an-array":    {"[]", "damaged"},
		"two":         {s.manifest(good) + "{}", "damaged"},
		"huge-size":   {strings.Replace(s.manifest(good), `"size":1`, `"size":1e99`, 1), "damaged"},
		"version":     {strings.Replace(s.manifest(good), `"schemaVersion":2`, `"schemaVersion":1`, 1), "schema version 1"},
		"no-layers":   {s.manifest(), "no layers"},
		"list":        {`{"schemaVersion":2,"mediaType":"` + mediaTypeList + `","manifests":[]}`, "list of manifests"},
		"too-long":    {s.manifest(good) + strings.Repeat(" ", maxManifest), "more than"},
		"md5":         {with(change(func(l *layer) { l.Digest = "md5:" + digest("w") })), "not sha256:"},
		"dash":        {with(change(func(l *layer) { l.Digest = "sha256-" + digest("w") })), "not sha256:"},
		"short":       {with(change(func(l *layer) { l.Digest = l.Digest[:70] })), "not sha256:"},
		"hostile":     {with(change(func(l *layer) { l.Digest = "sha256:" + strings.Repeat("../", 21) + "x" })), "invalid byte"},
		"negative":    {with(change(func(l *layer) { l.Size = -1 })), "size of -1"},
		"wrong-size":  {with(change(func(l *layer) { l.Size = 7 })), "has 1 bytes, and the manifest says 7"},
		"missing":     {with(gone), `the layer "application/vnd.ollama.image.model": there is no file blobs/sha256-` + digest("gone")},
		"link":        {with(layer{MediaType: image + "model", Digest: "sha256:" + digest("linked"), Size: 1}), "is a link"},
		"folder":      {with(layer{MediaType: image + "model", Digest: "sha256:" + digest("folder"), Size: 1}), "is a folder"},
		"all-missing": {s.manifest(slices.Repeat([]layer{gone}, 100)...), "and 92 more layers"},
	}
	for tag, tt := range tests {
		s.write("manifests/registry.ollama.ai/library/m/"+tag, tt.raw)
	}
	s.link("manifests/registry.ollama.ai/library/link", "m")
	seen := map[string]bool{}
	for _, item := range s.items() {
		tag := path.Base(item.From)
		seen[tag] = true
		if tt, ok := tests[tag]; ok && (item.Err == nil || !strings.Contains(item.Err.Error(), tt.want)) {
			t.Errorf("%s: %v; want %q", tag, item.Err, tt.want)
		}
	}
	for tag := range tests {
		if !seen[tag] {
			t.Errorf("%s was not reported", tag)
		}
	}
}

func TestBlobs(t *testing.T) {
	s := newStore(t)
	l := s.layer(image+"model", "", "GGUF")
	upper := l
	upper.Digest = "sha256:" + strings.ToUpper(digest("GGUF"))
	raw := s.manifest(l, upper)
	s.write("manifests/registry.ollama.ai/library/a/latest", raw)
	s.write("manifests/registry.ollama.ai/library/b/latest", raw)
	from, to := "blobs/sha256-"+digest("GGUF"), "blobs/sha256:"+digest("GGUF")
	if err := os.Rename(filepath.Join(s.dir, from), filepath.Join(s.dir, to)); err != nil {
		t.Skip("this system has no file names with a colon")
	}
	s.write("blobs/sha256-"+digest("orphan"), "orphan")
	s.write("blobs/sha256-"+digest("more"), "more!")
	s.write("blobs/sha256-"+digest("half")+"-partial", "ha")
	s.write("blobs/sha256-"+digest("half")+"-partial-0", "{}")
	s.write("blobs/sha256-123456", "temporary")
	all := s.items()
	if len(all) != 3 || all[0].Err != nil || all[1].Err != nil {
		t.Fatalf("%+v", all)
	}
	if !slices.Equal(files(all[0]), []string{"manifest.json", "config.json", "model.gguf", "model-2.gguf"}) || all[0].Model.Version != all[1].Model.Version {
		t.Errorf("%v and %v", files(all[0]), all[1].Model)
	}
	if want := "no manifest names 2 of the blobs, of 11 bytes in all"; all[2].Skip != want {
		t.Errorf("skipped because %q, want %q", all[2].Skip, want)
	}
}

func TestDescribe(t *testing.T) {
	tests := []struct{ config, architecture, extra string }{
		{`{"model_family":"q","model_format":7}`, "q", ""},
		{`{"model_family":["q"],"file_type":"F16"}`, "", `{"file_type":"F16"}`},
		{`{"model_family":"a\u0000b","model_type":"\u001b[0m"}`, "", ""},
		{`{"model_family":"` + strings.Repeat("x", 300) + `"}`, "", ""},
		{`nonsense`, "", ""},
		{`[]`, "", ""},
		{`{"model_family":"q"}` + strings.Repeat(" ", maxConfig), "", ""},
	}
	for _, tt := range tests {
		s := newStore(t)
		b, err := json.Marshal(manifest{2, docker, s.layer(config, "", tt.config), []layer{s.layer(image+"model", "", "w")}})
		if err != nil {
			t.Fatal(err)
		}
		s.write("manifests/registry.ollama.ai/library/m/latest", string(b))
		item := s.items()[0]
		if got := item.Model.Metadata; item.Err != nil || got.Architecture != tt.architecture || string(got.Extra) != tt.extra {
			t.Errorf("%.60s: %+v, %v", tt.config, got, item.Err)
		}
	}
}

func TestManyLayers(t *testing.T) {
	s := newStore(t)
	s.write("manifests/registry.ollama.ai/library/m/latest", s.manifest(slices.Repeat([]layer{s.layer(image+"license", "", "MIT")}, 10_000)...))
	item := s.items()[0]
	if item.Err != nil || len(item.Files) != 10_002 || item.Files[10_001].Path != "license-10000" || len(item.Notes) != 1 {
		t.Errorf("%d files, notes %q, %v", len(item.Files), item.Notes, item.Err)
	}
	if n := len(item.Model.Origin.Details); n > entry.MaxDetails {
		t.Errorf("%d bytes of details", n)
	}
}

func TestOpen(t *testing.T) {
	s := newStore(t)
	home, err := Open(t.Context(), filepath.Dir(s.dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	if home.Kind() != "ollama" {
		t.Error(home.Kind())
	}
	if err := home.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{filepath.Join(s.dir, "blobs"), filepath.Join(s.dir, "nowhere")} {
		if src, err := Open(t.Context(), dir, nil); src != nil || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s) = %v, %v", dir, src, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if src, err := Open(ctx, s.dir, nil); src != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", src, err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":""},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:` + digest("w") + `","size":1,"name":"a/b"}]}`))
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"digest":"sha256:.."}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseManifest(raw)
		if err != nil {
			return
		}
		p := newPaths()
		seen := map[string]bool{}
		for _, l := range m.Layers {
			if digits, ok := blobDigits("sha256-" + l.hex()); !ok || !strings.EqualFold(l.Digest, "sha256:"+digits) || l.Size < 0 {
				t.Errorf("%+v has passed", l)
			}
			want := l.path()
			if want == "" || !p.fits(want) {
				want = l.file([]byte("GGUF"))
			}
			got := p.take(want)
			if !fs.ValidPath(got) || strings.ContainsAny(got, "\x00\\") || seen[strings.ToLower(got)] {
				t.Errorf("%+v becomes the file %q", l, got)
			}
			seen[strings.ToLower(got)] = true
		}
	})
}

func FuzzManifestLink(f *testing.F) {
	f.Add("../../../../blobs/sha256-" + digest("w"))
	f.Add("/blobs/sha256-" + digest("w"))
	f.Fuzz(func(t *testing.T, text string) {
		blob, digits, err := manifestBlob("manifests-v2/h/n/m/t", text)
		if err == nil && blob != "blobs/sha256-"+digits && !strings.EqualFold(blob, "blobs/sha256-"+digits) && !strings.EqualFold(blob, "blobs/sha256:"+digits) {
			t.Errorf("%q leads to %q", text, blob)
		}
	})
}
