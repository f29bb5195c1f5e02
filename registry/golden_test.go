package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/promise"
)

// golden is what the release that wrote a store said of it.
type golden struct {
	Versions []goldenVersion `json:"versions"`
	Events   []goldenEvent   `json:"events"`
}

type goldenVersion struct {
	Ref          string          `json:"ref"`
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	ID           uuid.UUID       `json:"id"`
	Status       Status          `json:"status"`
	Aliases      []string        `json:"aliases"`
	Children     []uuid.UUID     `json:"children"`
	Parent       uuid.UUID       `json:"parent"`
	Manifest     blob.Digest     `json:"manifest"`
	Metadata     json.RawMessage `json:"metadata"`
	Description  string          `json:"description"`
	RegisteredAt string          `json:"registered_at"`
	RegisteredBy string          `json:"registered_by"`
	UpdatedAt    string          `json:"updated_at"`
	WeightsHash  blob.Digest     `json:"weights_hash"`
	WeightsSize  int64           `json:"weights_size"`
	Origin       json.RawMessage `json:"origin"`
	Files        int             `json:"files"`
	Contents     []File          `json:"contents"`
}

type goldenEvent struct {
	Seq     uint64    `json:"seq"`
	Time    string    `json:"time"`
	Verb    string    `json:"verb"`
	Actor   string    `json:"actor"`
	Reason  string    `json:"reason"`
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Alias   string    `json:"alias"`
	From    string    `json:"from"`
	To      string    `json:"to"`
}

// goldenTime is a time as the command prints it.
func goldenTime(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z")
}

func compact(t testing.TB, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	var x any
	must(t, json.Unmarshal(b, &x)) // the order of the keys
	b, err = json.Marshal(x)
	must(t, err)
	if string(b) == "null" {
		return nil
	}
	return b
}

// goldenOf is what this release says of a store.
func goldenOf(t testing.TB, r *Registry) (g golden) {
	t.Helper()
	for _, m := range all(t, r.Find(t.Context(), Query{})) {
		slices.Sort(m.Aliases)
		v := goldenVersion{
			Ref: m.Ref(), Name: m.Name, Version: m.Version, ID: m.ID, Status: m.Status, Aliases: m.Aliases, Children: m.Children, Parent: m.Parent,
			Manifest: m.Manifest, Metadata: compact(t, m.Metadata), Description: m.Description,
			RegisteredAt: goldenTime(m.RegisteredAt), RegisteredBy: m.RegisteredBy, UpdatedAt: goldenTime(m.UpdatedAt),
			WeightsHash: m.WeightsHash, WeightsSize: m.WeightsSize, Origin: compact(t, m.Origin), Files: m.Files,
			Contents: all(t, m.List(t.Context())),
		}
		g.Versions = append(g.Versions, v)
	}
	slices.SortFunc(g.Versions, func(a, b goldenVersion) int { return strings.Compare(a.Ref, b.Ref) })
	for _, e := range all(t, r.History(t.Context(), "")) {
		g.Events = append(g.Events, goldenEvent{e.Seq, goldenTime(e.Time), e.Verb, e.Actor, e.Reason, e.ID, e.Name, e.Version, e.Alias, e.From, e.To})
	}
	return g
}

// unpackStore unpacks an archive of a store.
func unpackStore(t testing.TB, archive string) (dir string) {
	t.Helper()
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	dir = t.TempDir()
	for from := tar.NewReader(z); ; {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		must(t, err)
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			continue
		}
		b, err := io.ReadAll(from)
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
}

// TestPromiseGoldenStores opens stores that earlier releases have left, reads
// everything in them, and writes on.
func TestPromiseGoldenStores(t *testing.T) {
	archives, err := filepath.Glob("testdata/golden/*.tar.gz")
	if must(t, err); len(archives) < 3 {
		t.Fatalf("only %q", archives)
	}
	files := 0
	for _, archive := range archives {
		base := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		for _, how := range []string{"as it is", "without an index"} {
			t.Run(base+" "+how, func(t *testing.T) {
				told, _, _ := strings.Cut(base, "-")
				raw, err := os.ReadFile(filepath.Join("testdata/golden", told+".json"))
				must(t, err)
				var want golden
				must(t, json.Unmarshal(raw, &want))
				for i := range want.Versions {
					v := &want.Versions[i]
					v.Metadata, v.Origin = compact(t, v.Metadata), compact(t, v.Origin)
				}
				slices.SortFunc(want.Versions, func(a, b goldenVersion) int { return strings.Compare(a.Ref, b.Ref) })

				dir := unpackStore(t, archive)
				if how == "without an index" {
					must(t, os.Remove(filepath.Join(dir, "index.db")))
				}
				r, err := Open(t.Context(), dir, nil)
				must(t, err)
				defer func() { must(t, r.Close()) }()
				same(t, "what it holds", goldenOf(t, r), want)
				files += readGolden(t, r, want)
				sound(t, r)

				put := addGolden(t, r)
				gc(t, r)
				if n := readGolden(t, r, want); n == 0 {
					t.Error("nothing to read")
				}
				if got := get(t, r, put.Ref()); got.Parent != get(t, r, "net:1.2.0").ID {
					t.Errorf("the parent is %s", got.Parent)
				}
				must(t, r.ForceDelete(t.Context(), put.Ref(), Note{}))
				gc(t, r)
				sound(t, r)
				same(t, "what it holds at last", goldenOf(t, r).Versions, want.Versions)
			})
		}
	}
	promise.Kept(t, "%d stores of earlier releases, %d files byte for byte, listing and history the same, written on and collected", len(archives), files)
}

// readGolden reads every file of the versions.
func readGolden(t testing.TB, r *Registry, want golden) (files int) {
	t.Helper()
	for _, v := range want.Versions {
		m := get(t, r, v.Ref)
		for _, f := range v.Contents {
			b := m.content(t, f.Path)
			if blob.Sum(b) != f.Digest || int64(len(b)) != f.Size {
				t.Errorf("%s of %s: %d other bytes", f.Path, v.Ref, len(b))
			}
			sum, err := m.SHA256(t.Context(), f.Path)
			if must(t, err); sum != SHA256(sha256.Sum256(b)) {
				t.Errorf("%s of %s has the SHA-256 %s", f.Path, v.Ref, sum)
			}
			files++
		}
	}
	return files
}

// addGolden puts a later state of a network of the store.
func addGolden(t testing.TB, r *Registry) *Model {
	t.Helper()
	parent := get(t, r, "net:1.2.0")
	content := bytes.Clone(parent.content(t, "net2.safetensors"))
	content[len(content)-4] ^= 1
	m := ofRef("net:1.3.0")
	m.Parent = parent.ID
	d, err := r.Begin(t.Context(), m)
	must(t, err)
	defer d.Close()
	s, err := d.Put(t.Context(), "net2.safetensors", bytes.NewReader(content))
	must(t, err)
	if s.Known || s.Written >= s.Size {
		t.Errorf("%+v", s)
	}
	got, err := d.Commit(t.Context())
	must(t, err)
	if !bytes.Equal(got.content(t, "net2.safetensors"), content) {
		t.Error("other bytes came back")
	}
	return got
}
