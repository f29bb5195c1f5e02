package registry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/fstest"
)

// network is a safetensors file of one fp32 tensor after some steps of training,
// and the same in bf16.
func network(seed uint64, steps int) (wide, narrow []byte) {
	const n = 64 << 10
	rng := rand.New(rand.NewPCG(seed, 1))
	values := make([]float64, n)
	for i := range values {
		values[i] = rng.NormFloat64()
	}
	for range steps {
		for i := range values {
			values[i] += rng.NormFloat64() * 1e-4
		}
	}
	var w, b []byte
	for _, x := range values {
		bits := math.Float32bits(float32(x))
		w = binary.LittleEndian.AppendUint32(w, bits)
		b = binary.LittleEndian.AppendUint16(b, uint16((bits+0x7fff+bits>>16&1)>>16))
	}
	file := func(dtype string, data []byte) []byte {
		head := fmt.Sprintf(`{"layer.weight":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, dtype, n, len(data))
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...), data...)
	}
	return file("F32", w), file("BF16", b)
}

// TestDeltas puts states of one network in the ways in which a base is found,
// and one of another network, which has none.
func TestDeltas(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	put := func(m Model, path string, content []byte) *Model {
		t.Helper()
		d, err := r.Begin(ctx, m)
		must(t, err)
		defer func() { must(t, d.Close()) }()
		_, err = d.Put(ctx, path, bytes.NewReader(content))
		must(t, err)
		out, err := d.Commit(ctx)
		must(t, err)
		f, err := out.Open(ctx, path)
		must(t, err)
		got, err := io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		if !bytes.Equal(got, content) {
			t.Fatalf("%s: other bytes came back", out.Ref())
		}
		return out
	}
	isDelta := func(what string, m *Model, want bool) {
		t.Helper()
		s, err := m.Storage(ctx)
		must(t, err)
		if got := s.Parts.Delta.Frames > 0; got != want || want && s.Stored*10 > m.WeightsSize*8 {
			t.Errorf("%s: %d bytes of %d, %+v", what, s.Stored, m.WeightsSize, s.Parts)
		}
	}
	state := func(steps int) []byte { wide, _ := network(1, steps); return wide }
	first := put(Model{Name: "m", Version: "1"}, "model.safetensors", state(0))
	isDelta("the first", first, false)
	isDelta("the next of the name", put(Model{Name: "m", Version: "2"}, "model.safetensors", state(1)), true)
	isDelta("a declared parent", put(Model{Name: "child", Parent: first.ID}, "model.safetensors", state(2)), true)
	isDelta("in a file of another name", put(Model{Name: "m", Version: "3"}, "renamed.safetensors", state(3)), true)
	isDelta("nothing declared", put(Model{Name: "stranger", Version: "1"}, "w.safetensors", state(4)), true)
	other, _ := network(2, 0)
	isDelta("another network", put(Model{Name: "other", Version: "1"}, "model.safetensors", other), false)
	isDelta("another network as a child", put(Model{Name: "other2", Parent: first.ID}, "model.safetensors", func() []byte { w, _ := network(3, 0); return w }()), false)
	for c, err := range r.Verify(ctx, "", nil) {
		must(t, err)
		must(t, c.Err)
	}
}

// TestCastOfAnotherFile puts a folder with a network in fp32 and in bf16, of
// which the narrow one comes first by name.
func TestCastOfAnotherFile(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	wide, narrow := network(1, 0)
	d, err := r.Begin(ctx, Model{Name: "m", Version: "1"})
	must(t, err)
	defer func() { must(t, d.Close()) }()
	must(t, d.PutFS(ctx, fstest.MapFS{"a.bf16.safetensors": {Data: narrow}, "b.fp32.safetensors": {Data: wide}}))
	for _, s := range d.Files() {
		if s.Size == int64(len(narrow)) && (s.Written > 1000 || s.Parts.Delta.Size == 0) {
			t.Errorf("the cast takes %d bytes: %+v", s.Written, s.Parts)
		}
	}
	m, err := d.Commit(ctx)
	must(t, err)
	f, err := m.Open(ctx, "a.bf16.safetensors")
	must(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, narrow) {
		t.Errorf("other bytes came back, %v", err)
	}
}
