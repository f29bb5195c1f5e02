// Package chunk finds where to cut a file: at its tensors, or where its content says.
//
// What it finds is a hint. A file that lies about its structure or is damaged is
// cut by its content; nothing here can make a file unreadable, and no parser
// allocates more than the bytes that it was given justify.
package chunk

import "github.com/heftstore/heft/internal/codec"

// Tensor is a named array of a file.
type Tensor struct {
	Name   string
	DType  string   // as the format names it, in capitals: "BF16", "F32", "Q8_0"; "" when not known
	Shape  []uint64 // nil when not known
	Offset int64    // of its first byte in the file
	Size   int64    // bytes
	Kind   codec.Kind
}

// Layout is where the tensors of a file are: ascending by offset, within the
// file, without overlaps; empty ones are included.
type Layout struct {
	Format  string // "safetensors", "gguf", "zip", "npy"
	Tensors []Tensor
}
