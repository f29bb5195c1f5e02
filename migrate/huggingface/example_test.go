package huggingface_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/huggingface"
	"github.com/heftstore/heft/registry"
)

func ExampleOpen() {
	ctx := context.Background()
	cache, err := os.MkdirTemp("", "hub-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(cache)

	// What a download of org/bert leaves there.
	const commit = "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567"
	model := filepath.Join(cache, "models--org--bert")
	snapshot := filepath.Join(model, "snapshots", commit)
	blob := fmt.Sprintf("%x", sha256.Sum256([]byte("the weights")))
	if err := errors.Join(
		os.MkdirAll(filepath.Join(model, "blobs"), 0o755),
		os.MkdirAll(filepath.Join(model, "refs"), 0o755),
		os.MkdirAll(snapshot, 0o755),
		os.WriteFile(filepath.Join(model, "blobs", blob), []byte("the weights"), 0o644),
		os.WriteFile(filepath.Join(model, "refs", "main"), []byte(commit), 0o644),
		os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, "model.safetensors")),
	); err != nil {
		log.Fatal(err)
	}

	src, err := huggingface.Open(ctx, cache, nil)
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

	m, err := r.Get(ctx, "org/bert:main")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Name, "has the aliases", m.Aliases)
	// Output:
	// imported org/bert:0f1e2d3c4b5a69788796a5b4c3d2e1f001234567
	// org/bert has the aliases [main]
}
