package ollama

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/sourcetest"
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

// items reads the store, and checks that the store, and what is beside it, stays
// as it was.
func (s *store) items() []*migrate.Item {
	s.t.Helper()
	defer sourcetest.Untouched(s.t, filepath.Dir(s.dir))()
	src, err := Open(s.t.Context(), s.dir, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return sourcetest.Items(s.t, src)
}

func files(item *migrate.Item) []string {
	var all []string
	for _, f := range item.Files {
		all = append(all, f.Path)
	}
	return all
}
