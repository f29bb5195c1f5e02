package ollama

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
)

// store is a store of Ollama's that a test makes.
type store struct {
	t   *testing.T
	dir string
}

func newStore(t *testing.T) *store {
	s := &store{t, filepath.Join(t.TempDir(), "models")}
	for _, dir := range []string{"manifests", "blobs"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *store) write(at, content string) {
	s.t.Helper()
	full := filepath.Join(s.dir, filepath.FromSlash(at))
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) link(at, to string) {
	s.t.Helper()
	full := filepath.Join(s.dir, filepath.FromSlash(at))
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.Symlink(filepath.FromSlash(to), full)); err != nil {
		s.t.Fatal(err)
	}
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// layer returns a layer of the content, which is stored as a blob.
func (s *store) layer(mediaType, name, content string) layer {
	s.t.Helper()
	s.write("blobs/sha256-"+digest(content), content)
	return layer{MediaType: mediaType, Name: name, Digest: "sha256:" + digest(content), Size: int64(len(content))}
}

const (
	image  = "application/vnd.ollama.image."
	config = "application/vnd.docker.container.image.v1+json"
	docker = "application/vnd.docker.distribution.manifest.v2+json"
)

func (s *store) manifest(layers ...layer) string {
	s.t.Helper()
	b, err := json.Marshal(manifest{2, docker, s.layer(config, "", `{"model_format":"gguf","model_family":"llama","model_type":"8.0B","file_type":"Q4_0","os":"linux"}`), layers})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// listing says all there is to say of dir: names, kinds, sizes, times, hashes.
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
			line += " " + digest(string(b))
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// items reads the store, and checks what is true of every item and that the
// store, and what is beside it, stays as it was.
func (s *store) items() []*migrate.Item {
	t := s.t
	t.Helper()
	before := listingOf(t, filepath.Dir(s.dir))
	src, err := Open(t.Context(), s.dir, nil)
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
		if other, ok := ids[m.ID]; ok || m.ID == uuid.Nil || m.RegisteredAt <= 0 || m.UpdatedAt <= 0 || m.Origin.Source != "ollama" {
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
			if err := errors.Join(err, r.Close()); err != nil || int64(len(b)) != f.Size || f.Want.SHA256 != sha256.Sum256(b) {
				t.Errorf("%s of %s: %d bytes, want %d and %x: %v", f.Path, item.From, len(b), f.Size, f.Want.SHA256, err)
			}
		}
		all = append(all, item)
	}
	if diff := cmp.Diff(before, listingOf(t, filepath.Dir(s.dir))); diff != "" {
		t.Errorf("the source changed:\n%s", diff)
	}
	return all
}

func files(item *migrate.Item) []string {
	var all []string
	for _, f := range item.Files {
		all = append(all, f.Path)
	}
	return all
}
