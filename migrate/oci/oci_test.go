package oci

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
)

func TestExport(t *testing.T) {
	r := newRegistry(t)
	parent := add(t, r, named("team/resnet", "0.9"), map[string]string{"model.safetensors": safetensors()})
	files := map[string]string{
		"model.safetensors": safetensors(), "config.json": "{}", "README.md": "# hello", "src/train.py": "pass", "src/copy.py": "pass",
		"größe.bin": "", "eval.csv": "a,b",
	}
	meta := registry.Metadata{Architecture: "resnet50", ParameterCount: 25_557_032, ValidationAccuracy: new(0.5), Extra: json.RawMessage(`{ "b": 1.0, "a": "<&>" }`)}
	m := add(t, r, registry.Model{
		Name: "team/resnet", Version: "1.0.0+a", Status: registry.Staged, Parent: parent.ID, RegisteredBy: "ann",
		Description: "line 1\nline 2", Metadata: meta,
	}, files)

	dir := filepath.Join(t.TempDir(), "new", "layout")
	var heard, hashed int64
	done := mustExport(t, r, dir, &Options{Progress: func(n int64) { heard += n }, Hashed: func(n int64) { hashed += n }}, parent, m)
	layout := tree(t, dir)
	images := open(t, layout)

	got, ok := images["1.0.0_a"]
	if !ok || len(images) != 2 {
		t.Fatalf("the tags are %q", slices.Sorted(maps.Keys(images)))
	}
	if d := cmp.Diff(files, got.Files); d != "" {
		t.Error(d)
	}
	if want := m.WeightsSize + parent.WeightsSize; heard != want || hashed == 0 || hashed > want {
		t.Errorf("heard of %d bytes and %d hashed, of %d", heard, hashed, want)
	}
	// Five distinct files, and a config and a manifest a version.
	distinct := map[string]bool{}
	for _, c := range files {
		distinct[c] = true
	}
	var bytes int64
	for p, c := range layout {
		if strings.HasPrefix(p, "blobs/") {
			bytes += int64(len(c))
		}
	}
	want := Report{
		Images: []Image{
			{Name: "team/resnet", Version: "0.9", Tag: "0.9", Digest: images["0.9"].Entry.Digest},
			{Name: "team/resnet", Version: "1.0.0+a", Tag: "1.0.0_a", Digest: got.Entry.Digest},
		},
		Written: len(distinct) + 4, Reused: 2, Bytes: bytes,
	}
	// The parent's only file is the same as one of the other's.
	if d := cmp.Diff(want, done); d != "" {
		t.Error(d)
	}

	if got.Manifest.SchemaVersion != 2 || got.Manifest.MediaType != typeManifest || got.Manifest.ArtifactType != typeModel ||
		got.Manifest.Config.MediaType != typeModelConfig || got.Entry.MediaType != typeManifest || got.Entry.ArtifactType != typeModel {
		t.Errorf("types of %+v %+v", got.Entry, got.Manifest)
	}
	var types []string
	for i, l := range got.Manifest.Layers {
		types = append(types, l.MediaType)
		if got.Config.ModelFS.DiffIDs[i] != l.Digest {
			t.Errorf("diff id %d is not that of the layer", i)
		}
	}
	// In the order of paths: README.md config.json eval.csv größe.bin model… src/copy.py src/train.py
	if d := cmp.Diff([]string{typeDoc, typeWeightConfig, typeDataset, typeWeight, typeWeight, typeCode, typeCode}, types); d != "" {
		t.Error(d)
	}
	wantConfig := modelConfig{
		Descriptor: modelDescriptor{CreatedAt: "2023-11-14T22:13:20.123456Z", Name: "team/resnet", Version: "1.0.0+a", Description: "line 1\nline 2"},
		ModelFS:    modelFS{Type: "layers", DiffIDs: got.Config.ModelFS.DiffIDs},
		Config:     technical{Architecture: "resnet50", Format: "safetensors", ParamSize: "25.6M", Precision: "bfloat16,float32"},
	}
	if d := cmp.Diff(wantConfig, got.Config); d != "" {
		t.Error(d)
	}
	wantNotes := map[string]string{
		"org.opencontainers.image.created": "2023-11-14T22:13:20.123456Z", "org.opencontainers.image.title": "team/resnet",
		"org.opencontainers.image.version": "1.0.0+a",
		own + "name":                       "team/resnet", own + "version": "1.0.0+a", own + "id": m.ID.String(), own + "store": r.ID().String(),
		own + "manifest": m.Manifest.String(), own + "status": "staged", own + "parent": parent.ID.String(), own + "registered-by": "ann",
		own + "registered-at": "1700000000123456", own + "updated-at": fmt.Sprint(m.UpdatedAt),
		own + "metadata": `{"architecture":"resnet50","extra":{"a":"<&>","b":1.0},"parameter_count":25557032,"validation_accuracy":0.5}`,
	}
	if d := cmp.Diff(wantNotes, got.Manifest.Annotations); d != "" {
		t.Error(d)
	}
	for f, err := range m.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path != "src/train.py" {
			continue
		}
		want := map[string]string{
			"org.cncf.model.filepath": f.Path, "org.opencontainers.image.title": f.Path, "org.cncf.model.file.mediatype.untested": "true",
			own + "blake3":                      f.Digest.String(),
			"org.cncf.model.file.metadata+json": `{"gid":0,"mode":420,"mtime":"2023-11-14T22:13:20.123456Z","name":"train.py","size":4,"typeflag":48,"uid":0}`,
		}
		if d := cmp.Diff(want, got.Manifest.Layers[6].Annotations); d != "" {
			t.Error(d)
		}
	}

	// The same again changes nothing, and elsewhere gives the same bytes.
	again := mustExport(t, r, dir, nil, parent, m)
	for i := range want.Images {
		want.Images[i].Replaced = true
	}
	want.Reused, want.Written, want.Bytes = want.Reused+want.Written, 0, 0
	if d := cmp.Diff(want, again); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(layout, tree(t, dir)); d != "" {
		t.Error(d)
	}
	other := t.TempDir()
	mustExport(t, r, other, nil, parent, m)
	if d := cmp.Diff(layout, tree(t, other)); d != "" {
		t.Error(d)
	}
}

func TestExportNoFiles(t *testing.T) {
	r := newRegistry(t)
	dir := t.TempDir()
	mustExport(t, r, dir, nil, add(t, r, named("m", "1"), nil))
	got := open(t, tree(t, dir))["1"]
	if len(got.Manifest.Layers) != 1 || got.Manifest.Layers[0].MediaType != typeEmpty || len(got.Config.ModelFS.DiffIDs) != 1 || len(got.Files) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestExportNothing(t *testing.T) {
	dir := t.TempDir()
	done := mustExport(t, newRegistry(t), dir, nil)
	if got := open(t, tree(t, dir)); len(got) != 0 || done.Images == nil {
		t.Error(got, done)
	}
}

// A version that changed takes the place of its entry, and keeps its tag.
func TestExportReplaces(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	a := add(t, r, named("a", "1"), map[string]string{"weights.bin": "a"})
	b := add(t, r, named("b", "1"), map[string]string{"weights.bin": "b"})
	dir := t.TempDir()
	mustExport(t, r, dir, nil, a, b)
	before := open(t, tree(t, dir))
	if _, err := r.SetStatus(ctx, "b:1", registry.Archived, registry.Note{}); err != nil {
		t.Fatal(err)
	}
	b, err := r.Get(ctx, "b:1")
	if err != nil {
		t.Fatal(err)
	}
	done := mustExport(t, r, dir, nil, b)
	if len(done.Images) != 1 || !done.Images[0].Replaced || done.Images[0].Tag != "b-1" {
		t.Errorf("got %+v", done)
	}
	after := open(t, tree(t, dir))
	if d := cmp.Diff(before["1"], after["1"]); d != "" || len(after) != 2 {
		t.Error(d, len(after))
	}
	if got := after["b-1"].Manifest.Annotations[keyStatus]; got != "archived" {
		t.Errorf("its status is %q", got)
	}
}

// What an image says can be anything; where its files are written can't.
func TestExportHostile(t *testing.T) {
	r := newRegistry(t)
	files := map[string]string{"..x": "1", "a/...": "2", "C:": "3", "NUL": "4", "a b": "5", "-rf": "6", "index.json": "7", "oci-layout": "8", "blobs/sha256/x": "9"}
	m := add(t, r, named("m", "1"), files)
	outer := t.TempDir()
	dir := filepath.Join(outer, "layout")
	for _, bad := range []registry.Model{named("../../x", "../../y"), named("/abs", "/etc/passwd"), named("a", ""), named("", ""), named("m", "a\x00b"), named("m", strings.Repeat("../", 99))} {
		c := *m
		c.Name, c.Version, c.ID = bad.Name, bad.Version, uuid.Nil
		done := mustExport(t, r, dir, nil, &c)
		if tag := done.Images[0].Tag; !validTag.MatchString(tag) {
			t.Errorf("%q has the tag %q", bad.Name, tag)
		}
	}
	for tag, i := range open(t, tree(t, dir)) {
		if d := cmp.Diff(files, i.Files); d != "" {
			t.Error(tag, d)
		}
	}
	if got := slices.Sorted(maps.Keys(tree(t, outer))); len(got) == 0 || slices.ContainsFunc(got, func(p string) bool { return !strings.HasPrefix(p, "layout/") }) {
		t.Errorf("the folder around has %q", got)
	}
	c := *m
	c.Version = "\xff"
	if _, err := Export(t.Context(), r, these(nil, &c), dir, nil); err == nil {
		t.Error("a version that is not UTF-8 was exported")
	}
}

func TestExportVerify(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, named("m", "1"), map[string]string{"a": "content", "b": "more"})
	dir := t.TempDir()
	mustExport(t, r, dir, nil, m)
	want := tree(t, dir)
	file := filepath.Join(dir, "blobs", "sha256", fmt.Sprintf("%x", sha256.Sum256([]byte("content"))))
	for _, c := range []struct {
		content string
		verify  bool
		written int
	}{{"kontent", false, 0}, {"kontent", true, 1}, {"content", true, 0}, {"short", false, 1}, {"too long", true, 1}} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		done := mustExport(t, r, dir, &Options{Verify: c.verify}, m)
		if done.Written != c.written {
			t.Errorf("%+v: %d blobs were written", c, done.Written)
		}
		if c.written > 0 {
			if d := cmp.Diff(want, tree(t, dir)); d != "" {
				t.Errorf("%+v: %s", c, d)
			}
		}
	}
}

// The modes of what is written are the umask's to decide: it is for others.
func TestExportModes(t *testing.T) {
	r := newRegistry(t)
	dir := filepath.Join(t.TempDir(), "layout")
	mustExport(t, r, dir, nil, add(t, r, named("m", "1"), map[string]string{"a": "content"}))
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{markFile, indexFile} {
		got, err := os.Stat(filepath.Join(dir, name))
		if err != nil || got.Mode() != want.Mode() {
			t.Errorf("%s has the mode %v, not %v (%v)", name, got.Mode(), want.Mode(), err)
		}
	}
}
