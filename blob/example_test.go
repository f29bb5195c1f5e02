package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/blob"
)

func ExampleCreate() {
	dir, err := os.MkdirTemp("", "heft")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := blob.Create(filepath.Join(dir, "weights"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println(filepath.Base(s.Dir()))

	_, err = blob.Create(filepath.Join(dir, "weights"), nil)
	fmt.Println(errors.Is(err, blob.ErrExist))
	// Output:
	// weights
	// true
}

func ExampleStore_Put() {
	ctx := context.Background()
	s, err := blob.NewMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	info, err := s.Put(ctx, strings.NewReader("abc"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Digest, info.Size, info.Known)

	info, err = s.Put(ctx, strings.NewReader("abc"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Digest.Short(), info.Size, info.Known)
	// Output:
	// 6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85 3 false
	// 6437b3ac3846 3 true
}

func ExampleStore_Open() {
	ctx := context.Background()
	s, err := blob.NewMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	info, err := s.Put(ctx, strings.NewReader("header, then tensors"))
	if err != nil {
		log.Fatal(err)
	}

	r, err := s.Open(ctx, info.Digest)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	part := make([]byte, 7)
	if _, err := r.ReadAt(part, 13); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", part)
	if _, err := io.Copy(os.Stdout, r); err != nil {
		log.Fatal(err)
	}
	// Output:
	// tensors
	// header, then tensors
}

func ExampleStore_Batch() {
	ctx := context.Background()
	s, err := blob.NewMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	b := s.Batch()
	for _, content := range []string{"config.json", "model.safetensors"} {
		if _, err := b.Put(ctx, strings.NewReader(content)); err != nil {
			log.Fatal(err)
		}
	}
	if err := b.Sync(ctx); err != nil { // now both are durable
		log.Fatal(err)
	}
	for d, err := range s.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Short(), s.Verify(ctx, d))
	}
	// Output:
	// a1c532f337a5 <nil>
	// a29bd7dd5bf7 <nil>
}

func ExampleWriter_Commit() {
	ctx := context.Background()
	s, err := blob.NewMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	w := s.Writer(ctx)
	defer w.Close()
	if _, err := io.Copy(w, bytes.NewReader([]byte("cut short on the w"))); err != nil {
		log.Fatal(err)
	}
	_, err = w.Commit(blob.Sum([]byte("cut short on the way")))
	if me, ok := errors.AsType[*blob.MismatchError](err); ok {
		fmt.Println("got", me.Got.Short(), "instead of", me.Want.Short())
	}
	// Output:
	// got 2df284b9aa21 instead of 804beac0adc9
}
