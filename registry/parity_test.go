package registry

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/blob"
)

// protections runs seq, which must not end with an error.
func protections(t *testing.T, seq iter.Seq2[Protection, error]) map[blob.Digest]Protection {
	t.Helper()
	all := map[blob.Digest]Protection{}
	for p, err := range seq {
		must(t, err)
		if _, twice := all[p.Digest]; twice {
			t.Errorf("%s is yielded twice", p.Digest)
		}
		all[p.Digest] = p
	}
	return all
}

// TestParity protects a version whose file borrows from another version's.
func TestParity(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	base := weights(1, 3<<20)
	a, err := r.Register(ctx, Model{Name: "m", Version: "1"}, bytes.NewReader(base))
	must(t, err)
	b, err := r.Register(ctx, Model{Name: "m", Version: "2"}, bytes.NewReader(append(slices.Clone(base), weights(2, 1<<20)...)))
	must(t, err)
	donor, file := blob.Sum(base), b.WeightsHash
	info, err := r.store.Stat(ctx, file)
	must(t, err)
	if !slices.Equal(info.Donors, []blob.Digest{donor}) {
		t.Fatalf("donors %v", info.Donors)
	}

	all := protections(t, r.Parity(ctx))
	if len(all) != 4 || len(all[donor].Uses) != 1 || all[donor].Uses[0] != "m:1/weights.bin" || all[donor].Parity.Percent != 0 || all[donor].Err != nil {
		t.Errorf("%+v", all)
	}
	set := protections(t, r.SetParity(ctx, 10, "m:2", "m"))
	if len(set) != 3 || len(set[donor].Uses) != 0 || len(set[file].Uses) != 1 || set[b.Manifest].Uses[0] != "m:2/manifest" {
		t.Errorf("%+v", set)
	}
	for d, p := range set {
		if !p.Changed || p.Err != nil || p.Parity.Percent != 10 || p.Parity.Stored == 0 || p.Stored == 0 {
			t.Errorf("%s: %+v", d, p)
		}
	}
	if p := protections(t, r.Parity(ctx))[a.Manifest]; p.Parity.Percent != 0 {
		t.Errorf("the manifest of another version: %+v", p)
	}
	for d, p := range protections(t, r.SetParity(ctx, 10, "m:2")) {
		if p.Changed || p.Err != nil {
			t.Errorf("again, %s: %+v", d, p)
		}
	}
	var sum int64
	for _, p := range set {
		sum += p.Parity.Stored
	}
	s, err := r.Stats(ctx)
	if err != nil || s.Parity != sum {
		t.Errorf("stats say %d bytes of parity, not %d, %v", s.Parity, sum, err)
	}

	// What is damaged says so, and keeps the parity that repairs it.
	flip(t, r, donor)
	bad := protections(t, r.SetParity(ctx, 20, "m:2"))
	if p := bad[donor]; p.Changed || !errors.As(p.Err, new(*blob.CorruptError)) {
		t.Errorf("%+v", p)
	}
	if p := bad[file]; !p.Changed || p.Err != nil {
		t.Errorf("%+v", p)
	}
	if _, err := r.store.RepairFile(ctx, donor); err != nil {
		t.Error(err)
	}
	for c, err := range r.Verify(ctx, "", nil) {
		if err != nil || c.Err != nil {
			t.Errorf("after the repair: %v, %v", c.Err, err)
		}
	}

	removed := protections(t, r.RemoveParity(ctx, "m:2"))
	if len(removed) != 3 || !removed[donor].Changed {
		t.Errorf("%+v", removed)
	}
	for range 2 {
		for d, p := range protections(t, r.Parity(ctx)) {
			if p.Parity.Percent != 0 || p.Err != nil {
				t.Errorf("%s: %+v", d, p)
			}
		}
		for d, p := range protections(t, r.RemoveParity(ctx)) {
			if p.Changed || p.Err != nil {
				t.Errorf("%s: %+v", d, p)
			}
		}
	}
}

// TestRemoveParityOfAMissingBlob has a parity whose blob is gone.
func TestRemoveParityOfAMissingBlob(t *testing.T) {
	r := newRegistry(t)
	info, err := r.store.Put(t.Context(), bytes.NewReader([]byte("no version has it")))
	must(t, err)
	protections(t, r.SetParity(t.Context(), 5))
	d := info.Digest
	must(t, os.Remove(filepath.Join(r.Dir(), "blobs", d.String()[:2], d.String())))
	if p := protections(t, r.Parity(t.Context()))[d]; p.Parity.Percent != 5 || !errors.Is(p.Err, blob.ErrNotFound) {
		t.Errorf("%+v", p)
	}
	if p := protections(t, r.RemoveParity(t.Context()))[d]; !p.Changed || p.Err != nil {
		t.Errorf("%+v", p)
	}
	if p, left := protections(t, r.Parity(t.Context()))[d]; left {
		t.Errorf("%+v", p)
	}
}

func TestParityErrors(t *testing.T) {
	r := newRegistry(t)
	_, err := r.Register(t.Context(), Model{Name: "m", Version: "1"}, bytes.NewReader([]byte("w")))
	must(t, err)
	last := func(seq iter.Seq2[Protection, error]) (n int, err error) {
		for _, err = range seq {
			n++
		}
		return n, err
	}
	for _, seq := range []iter.Seq2[Protection, error]{
		r.Parity(t.Context(), "m:1", "m:9"), r.SetParity(t.Context(), 5, "m:1", "m:9"), r.RemoveParity(t.Context(), "m:1", "m:9"),
	} {
		n, err := last(seq)
		wantErr(t, "a version that there is not", err, ErrNotFound)
		if n != 1 {
			t.Errorf("yielded %d times", n)
		}
	}
	for _, percent := range []int{0, 101} {
		_, err := last(r.SetParity(t.Context(), percent))
		wantErr(t, "a percentage that there is not", err, ErrInvalid)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err = range r.SetParity(ctx, 5) {
		n++
		cancel()
	}
	if n != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after the first blob: yielded %d, %v", n, err)
	}
}

// TestOptionsParity registers with parity.
func TestOptionsParity(t *testing.T) {
	r, err := CreateTemp(t.Context(), &Options{Parity: 5})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	_, err = r.Register(t.Context(), Model{Name: "m"}, bytes.NewReader(weights(1, 5000)))
	must(t, err)
	all := protections(t, r.Parity(t.Context(), "m:1"))
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	for d, p := range all {
		if p.Parity.Percent != 5 || p.Parity.Stored != blob.ParitySize(p.Stored, 5) {
			t.Errorf("%s: %+v", d, p)
		}
	}
}
