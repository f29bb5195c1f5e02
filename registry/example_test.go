package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/registry"
)

func Example() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil) // or Create, or Open
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	m, err := r.Register(ctx, registry.Model{
		Name:     "team/resnet",
		Version:  "1.0.0",
		Metadata: registry.Metadata{Architecture: "resnet50", ValidationAccuracy: new(0.91)},
	}, strings.NewReader("the weights"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Ref(), m.Status, m.WeightsSize, m.WeightsHash.Short())

	latest, err := r.Get(ctx, "team/resnet")
	if err != nil {
		log.Fatal(err)
	}
	f, err := latest.Open(ctx, registry.WeightsFile)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	weights, err := io.ReadAll(f)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", weights)
	// Output:
	// team/resnet:1.0.0 pending 11 f0d33d7b5454
	// the weights
}

func ExampleRegistry_Begin() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	d, err := r.Begin(ctx, registry.Model{Name: "bert"}) // the next number
	if err != nil {
		log.Fatal(err)
	}
	// Close discards what was not committed.
	defer d.Close()
	for _, p := range []string{"config.json", "shards/1.bin", "shards/2.bin"} {
		if _, err := d.Put(ctx, p, strings.NewReader("content of "+p)); err != nil {
			log.Fatal(err)
		}
	}
	m, err := d.Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Ref())
	for f, err := range m.List(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(f.Path, f.Size)
	}
	// Output:
	// bert:1
	// config.json 22
	// shards/1.bin 23
	// shards/2.bin 23
}

func ExampleRegistry_Rollback() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		m, err := r.Register(ctx, registry.Model{Name: "bert"}, strings.NewReader("weights"))
		if err != nil {
			log.Fatal(err)
		}
		if _, err := r.Promote(ctx, m.Ref(), registry.Note{Reason: "release"}); err != nil {
			log.Fatal(err)
		}
	}

	c, err := r.Rollback(ctx, "bert", registry.Note{Actor: "ann", Reason: "too slow"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Model.Ref(), "is in production again,", c.Demoted.Ref(), "is", c.Demoted.Status)
	// Output:
	// bert:1 is in production again, bert:2 is staged
}

func ExampleRegistry_Find() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for i, accuracy := range []float64{0.88, 0.93, 0.91} {
		_, err := r.Register(ctx, registry.Model{
			Name:     fmt.Sprintf("model-%d", i),
			Metadata: registry.Metadata{ValidationAccuracy: &accuracy, Tags: []string{"nlp"}},
		}, strings.NewReader("weights"))
		if err != nil {
			log.Fatal(err)
		}
	}

	q, err := registry.ParseQuery("tag=nlp val_acc>=0.9 sort=-val_acc")
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range r.Find(ctx, q) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Ref(), *m.Metadata.ValidationAccuracy)
	}
	// Output:
	// model-1:1 0.93
	// model-2:1 0.91
}

func ExampleModel_FS() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	d, err := r.Begin(ctx, registry.Model{Name: "bert"})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Put(ctx, "config.json", strings.NewReader(`{"layers": 12}`)); err != nil {
		log.Fatal(err)
	}
	m, err := d.Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}

	raw, err := fs.ReadFile(m.FS(), "config.json")
	if err != nil {
		log.Fatal(err)
	}
	var config struct{ Layers int }
	if err := json.Unmarshal(raw, &config); err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.Layers)
	// Output:
	// 12
}

func ExampleModel_Extract() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	m, err := r.Register(ctx, registry.Model{Name: "bert"}, strings.NewReader("weights"))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bert-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for range 2 { // the second time everything is there
		done, err := m.Extract(ctx, dir, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(done.Written, "written,", done.Skipped, "skipped")
	}
	weights, err := os.ReadFile(filepath.Join(dir, registry.WeightsFile))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", weights)
	// Output:
	// 1 written, 0 skipped
	// 0 written, 1 skipped
	// weights
}

func ExampleRegistry_SetAlias() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if _, err := r.Register(ctx, registry.Model{Name: "bert"}, strings.NewReader("weights")); err != nil {
			log.Fatal(err)
		}
	}

	if err := r.SetAlias(ctx, "bert", "stable", "1", registry.Note{}); err != nil {
		log.Fatal(err)
	}
	m, err := r.Get(ctx, "bert:stable")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Ref(), m.Aliases)

	// Only if it still points at 1:
	if err := r.MoveAlias(ctx, "bert", "stable", "1", "2", registry.Note{}); err != nil {
		log.Fatal(err)
	}
	err = r.MoveAlias(ctx, "bert", "stable", "1", "2", registry.Note{})
	fmt.Println(err)
	// Output:
	// bert:1 [stable]
	// registry: the alias stable of bert points at 2, not at 1 as expected: look again, then move it from there
}

func ExampleRegistry_History() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, &registry.Options{Actor: "trainer"})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Register(ctx, registry.Model{Name: "bert"}, strings.NewReader("weights")); err != nil {
		log.Fatal(err)
	}
	if _, err := r.SetStatus(ctx, "bert:1", registry.Validated, registry.Note{Actor: "ann", Reason: "passed"}); err != nil {
		log.Fatal(err)
	}
	if err := r.Delete(ctx, "bert:1", registry.Note{Actor: "bob", Reason: "superseded"}); err != nil {
		log.Fatal(err)
	}

	for e, err := range r.History(ctx, "bert") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s:%s %s by %s: %q -> %q (%s)\n", e.Seq, e.Name, e.Version, e.Verb, e.Actor, e.From, e.To, e.Reason)
	}
	// Output:
	// 1 bert:1 register by trainer: "" -> "pending" ()
	// 2 bert:1 status by ann: "pending" -> "validated" (passed)
	// 3 bert:1 delete by bob: "" -> "" (superseded)
}
