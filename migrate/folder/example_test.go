package folder_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/folder"
	"github.com/heftstore/heft/registry"
)

func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "runs-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, step := range []string{"step-1000", "step-200"} {
		at := filepath.Join(dir, "bert", step)
		if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, "weights.bin"), []byte(step), 0o644)); err != nil {
			log.Fatal(err)
		}
	}

	src, err := folder.Open(ctx, filepath.ToSlash(dir)+"/{name}/step-{version}/", nil)
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

	last, err := r.Get(ctx, "bert:1000")
	if err != nil {
		log.Fatal(err)
	}
	first, err := r.Get(ctx, "bert:200")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(last.Parent == first.ID)
	// Output:
	// imported bert:200
	// imported bert:1000
	// true
}
