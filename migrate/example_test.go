package migrate_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/folder"
	"github.com/heftstore/heft/registry"
)

// Example imports a folder of checkpoints: a plan first, then the import, and
// then the import again, which finds everything there.
func Example() {
	ctx := context.Background()
	runs, err := os.MkdirTemp("", "runs-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(runs)
	for _, step := range []string{"2", "10"} {
		dir := filepath.Join(runs, "gpt", "step-"+step)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "model.bin"), []byte("weights at "+step), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	r, err := registry.CreateTemp(ctx, nil) // or Open
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	src, err := folder.Open(ctx, filepath.ToSlash(runs)+"/{name}/step-{version}/", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	for o, err := range migrate.Plan(ctx, r, src, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(o.State, o.Ref, o.Size, "bytes")
	}
	o := &migrate.Options{OnConflict: migrate.Skip, Note: registry.Note{Reason: "moving in"}}
	for range 2 {
		var report migrate.Report
		for outcome, err := range migrate.Apply(ctx, r, src, o) {
			if err != nil {
				log.Fatal(err) // what was imported until now stays
			}
			if outcome.State == migrate.Failed {
				fmt.Println(outcome.From, outcome.Why)
			}
			report.Add(outcome)
		}
		fmt.Println(report.Imported, "imported,", report.Present, "there already,", report.Failed, "failed")
	}
	// Output:
	// imported gpt:2 12 bytes
	// imported gpt:10 13 bytes
	// 2 imported, 0 there already, 0 failed
	// 0 imported, 2 there already, 0 failed
}

func ExampleNewCopy() {
	ctx := context.Background()
	from, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer from.Close()
	to, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer to.Close()
	first, err := from.Register(ctx, registry.Model{Name: "net", Version: "1"}, strings.NewReader("the weights"))
	if err != nil {
		log.Fatal(err)
	}
	second, err := from.Register(ctx, registry.Model{Name: "net", Version: "2", Parent: first.ID}, strings.NewReader("better weights"))
	if err != nil {
		log.Fatal(err)
	}

	src, err := migrate.NewCopy(ctx, from, []*registry.Model{second}, &migrate.CopyOptions{Lineage: true})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	for o, err := range migrate.Apply(ctx, to, src, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(o.State, o.Ref, o.Size, "bytes")
	}
	copied, err := to.Get(ctx, "net:2")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(copied.ID == second.ID, copied.Manifest == second.Manifest)
	// Output:
	// imported net:1 11 bytes
	// imported net:2 14 bytes
	// true true
}
