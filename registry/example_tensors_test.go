package registry_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"

	"github.com/heftstore/heft/registry"
)

// checkpoint returns a safetensors file of two tensors: a weight of 2 x 2 and
// a bias of 2.
func checkpoint(weight [4]float32, bias [2]float32) *bytes.Reader {
	head := `{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}`
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	b = append(b, head...)
	b, err := binary.Append(b, binary.LittleEndian, bias)
	if err == nil {
		b, err = binary.Append(b, binary.LittleEndian, weight)
	}
	if err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(b)
}

func ExampleModel_Tensors() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	m, err := r.Register(ctx, registry.Model{Name: "bert"}, checkpoint([4]float32{1, 2, 3, 4}, [2]float32{5, 6}))
	if err != nil {
		log.Fatal(err)
	}

	for t, err := range m.Tensors(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		digest, err := m.TensorDigest(ctx, t)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.Name, t.DType, t.Shape, t.Size, digest.Short())
	}

	f, err := m.OpenTensor(ctx, "", "bias") // in whichever file it is
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	var bias [2]float32
	if err := binary.Read(f, binary.LittleEndian, &bias); err != nil {
		log.Fatal(err)
	}
	fmt.Println(bias)
	// Output:
	// bias F32 [2] 8 116b59bd48bf
	// weight F32 [2 2] 16 073774334669
	// [5 6]
}

func ExampleRegistry_Diff() {
	ctx := context.Background()
	r, err := registry.CreateTemp(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, weight := range [][4]float32{{1, 2, 3, 4}, {1, 2, 3, 4.25}} {
		if _, err := r.Register(ctx, registry.Model{Name: "bert"}, checkpoint(weight, [2]float32{5, 6})); err != nil {
			log.Fatal(err)
		}
	}

	for c, err := range r.Diff(ctx, "bert:1", "bert:2") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(c.Tensor().Name, " ", c.State)
		if c.State == registry.TensorChanged {
			fmt.Printf(": %.0f%% of %s, at most %g", 100*c.Share(), c.Unit, *c.Largest)
		}
		fmt.Println()
	}
	// Output:
	// bias same
	// weight changed: 25% of elements, at most 0.25
}
