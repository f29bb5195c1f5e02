package registry_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/heftstore/heft/registry"
)

// A training that saves every 500 steps and keeps the last two checkpoints, every
// 2,000th step and the best one.
func ExampleRegistry_Prune() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	policy := registry.Policy{
		KeepLast:  2,
		KeepEvery: 2000,
		KeepBest:  []registry.Best{{Metric: "loss", N: 1, By: registry.Lowest}},
	}
	for i, loss := range []float64{2.5, 1.9, 1.2, 1.5, 1.6, 1.7, 1.8} {
		step := 500 * (i + 1)
		_, err := r.Register(ctx, registry.Model{
			Name:     "team/run",
			Version:  fmt.Sprint(step),
			Metadata: registry.Metadata{TrainingMetrics: map[string]float64{"loss": loss}},
		}, strings.NewReader("the weights"))
		if err != nil {
			log.Fatal(err)
		}
		pruned, err := r.Prune(ctx, []string{"team/run"}, policy, registry.Note{Reason: "training"})
		if err != nil {
			log.Fatal(err)
		}
		for _, v := range pruned.Dropped() {
			fmt.Println("dropped", v.Model.Ref())
		}
	}
	for m, err := range r.Versions(ctx, "team/run") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("kept", m.Ref(), m.Metadata.TrainingMetrics["loss"])
	}
	// Output:
	// dropped team/run:500
	// dropped team/run:1000
	// dropped team/run:2500
	// kept team/run:3500 1.8
	// kept team/run:3000 1.7
	// kept team/run:2000 1.5
	// kept team/run:1500 1.2
}
