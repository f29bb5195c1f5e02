package ollama_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/ollama"
	"github.com/heftstore/heft/registry"
)

func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "models-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// What a model with weights and nothing else is there.
	weights := "GGUF and the rest"
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(weights)))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:%s","size":%d}]}`, digest, len(weights))
	tags := filepath.Join(dir, "manifests", "registry.ollama.ai", "library", "llama3")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "blobs"), 0o755),
		os.MkdirAll(tags, 0o755),
		os.WriteFile(filepath.Join(dir, "blobs", "sha256-"+digest), []byte(weights), 0o644),
		os.WriteFile(filepath.Join(tags, "8b"), []byte(manifest), 0o644),
		os.WriteFile(filepath.Join(tags, "latest"), []byte(manifest), 0o644),
	); err != nil {
		log.Fatal(err)
	}

	src, err := ollama.Open(ctx, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for o, err := range migrate.Apply(ctx, r, src, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(o.State, o.Ref)
	}

	m, err := r.Get(ctx, "llama3:8b")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Name, "has the aliases", m.Aliases)
	for f, err := range m.List(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(f.Path, f.Size)
	}
	// Output:
	// imported llama3:175e8203b110
	// llama3 has the aliases [8b latest]
	// manifest.json 174
	// model.gguf 17
}
