package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/heftstore/heft/registry"
)

// hashWriter hashes what it writes, and stops when its context ends.
type hashWriter struct {
	ctx  context.Context
	w    io.Writer
	hash hash.Hash
	size int64
}

func newHashWriter(ctx context.Context, w io.Writer) *hashWriter {
	return &hashWriter{ctx: ctx, w: w, hash: sha256.New()}
}

func (h *hashWriter) Write(p []byte) (int, error) {
	if err := context.Cause(h.ctx); err != nil {
		return 0, err
	}
	n, err := h.w.Write(p)
	_, _ = h.hash.Write(p[:n]) // never fails
	h.size += int64(n)
	return n, err
}

// check compares all that was written with what the blob has to be.
func (h *hashWriter) check(b blob) error {
	if got := registry.SHA256(h.hash.Sum(nil)); got != b.sum || h.size != b.size {
		return fmt.Errorf("its content is %d bytes with the SHA-256 %s, not %d with the recorded %s: verify the store", h.size, got, b.size, b.sum)
	}
	return nil
}
