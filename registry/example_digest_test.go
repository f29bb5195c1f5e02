package registry_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/heftstore/heft/registry"
)

func ExampleModel_SHA256() {
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
	sum, err := m.SHA256(ctx, registry.WeightsFile) // reads the file, the first time
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)

	for h, err := range r.FindSHA256(ctx, sum) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h.Ref(), h.Path)
	}
	// Output:
	// f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5
	// team/resnet:1.0.0 weights.bin
}

func ExampleModel_SHA256s() {
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
	for f, err := range m.SHA256s(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s  %s\n", f.SHA256, f.Path) // what sha256sum -c reads
	}
	// Output:
	// f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5  weights.bin
}
