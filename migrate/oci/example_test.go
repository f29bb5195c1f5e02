package oci_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate/oci"
	"github.com/heftstore/heft/registry"
)

func ExampleExport() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"team/bert", "team/resnet"} {
		if _, err := r.Register(ctx, registry.Model{Name: name, Version: "1.0+a"}, strings.NewReader("the weights")); err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "layout-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	done, err := oci.Export(ctx, r, r.Find(ctx, registry.Query{}), filepath.Join(dir, "models"), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, i := range done.Images {
		fmt.Println(i.Name, i.Version, "has the tag", i.Tag)
	}
	fmt.Println(done.Written, "blobs written,", done.Reused, "there already")
	// Output:
	// team/bert 1.0+a has the tag 1.0_a
	// team/resnet 1.0+a has the tag team_resnet-1.0_a
	// 5 blobs written, 1 there already
}
