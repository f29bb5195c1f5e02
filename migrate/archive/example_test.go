package archive_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate/archive"
	"github.com/heftstore/heft/registry"
)

func ExampleWrite() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	m, err := r.Register(ctx, registry.Model{Name: "team/resnet", Version: "1.0.0"}, strings.NewReader("the weights"))
	if err != nil {
		log.Fatal(err)
	}

	done, err := archive.Write(ctx, io.Discard, m, nil) // or a pipe to tar -x
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done.Files, "file of", done.Bytes, "bytes in", done.Folder)
	// Output:
	// 1 file of 11 bytes in resnet-1.0.0
}

func ExampleCreate() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	m, err := r.Register(ctx, registry.Model{Name: "resnet"}, strings.NewReader("the weights"))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "resnet-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "resnet.tar")
	if _, err := archive.Create(ctx, file, m, nil); err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Size(), "bytes: header, weights, end")
	// Output:
	// 2048 bytes: header, weights, end
}
