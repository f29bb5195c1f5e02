package registry_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/registry"
)

func ExampleRegistry_Backup() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Register(ctx, registry.Model{Name: "team/resnet", Version: "1.0.0"}, strings.NewReader("the weights")); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "backup-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for range 2 { // the second time there is nothing new
		b, err := r.Backup(ctx, dir, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(b.Versions, "version,", b.Copied, "files copied,", len(b.Damaged), "damaged")
	}
	// Output:
	// 1 version, 2 files copied, 0 damaged
	// 1 version, 0 files copied, 0 damaged
}

func ExampleRestore() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Register(ctx, registry.Model{Name: "team/resnet", Version: "1.0.0"}, strings.NewReader("the weights")); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "backup-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := r.Backup(ctx, filepath.Join(dir, "backup"), nil); err != nil {
		log.Fatal(err)
	}

	b, err := registry.Restore(ctx, filepath.Join(dir, "backup"), filepath.Join(dir, "store"), &registry.BackupOptions{Verify: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Versions, "version restored,", b.ID == r.ID())
	// Output:
	// 1 version restored, true
}

func ExampleRepair() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Register(ctx, registry.Model{Name: "team/resnet", Version: "1.0.0"}, strings.NewReader("the weights")); err != nil {
		log.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.Dir(), "heft.json")); err != nil {
		log.Fatal(err)
	}

	done, err := registry.Repair(ctx, r.Dir(), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range done.Findings {
		fmt.Println(f.What, f.Err, f.Healed)
	}
	// Output:
	// heft.json it is missing true
}
