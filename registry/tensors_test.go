package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/heftstore/heft/blob"
)

// arrayOf is a tensor of a file that a test makes.
type arrayOf struct {
	name, dtype string
	shape       []uint64
	data        []byte
}

// vector is one with a single dimension.
func vector(name, dtype string, data []byte) arrayOf {
	n := len(data)
	if w := elementOfDType(dtype).width; w > 0 {
		n /= w
	}
	return arrayOf{name, dtype, []uint64{uint64(n)}, data}
}

// safetensors makes a file of tensors, with metadata if that isn't empty.
func safetensors(metadata string, tensors ...arrayOf) []byte {
	var head, data bytes.Buffer
	if metadata != "" {
		fmt.Fprintf(&head, `"__metadata__":{"note":%q}`, metadata)
	}
	for _, t := range tensors {
		if head.Len() > 0 {
			head.WriteByte(',')
		}
		shape, err := json.Marshal(t.shape)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&head, `%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.name, t.dtype, shape, data.Len(), data.Len()+len(t.data))
		data.Write(t.data)
	}
	head.WriteByte('}')
	for (head.Len()+1)%8 != 0 {
		head.WriteByte(' ')
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(head.Len()+1))
	b = append(b, '{')
	return append(append(b, head.Bytes()...), data.Bytes()...)
}

// npy makes a file of one array without a name.
func npy(shape string, data []byte) []byte {
	head := "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), 0)
	return append(append(b, head...), data...)
}

// ggufQ8 makes a GGUF file of one tensor of Q8_0, whose blocks have 34 bytes
// for 32 values.
func ggufQ8(name string, data []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, 1)                 // tensors
	b = le.AppendUint64(b, 0)                 // metadata
	b = le.AppendUint64(b, uint64(len(name))) // the tensor's
	b = le.AppendUint32(append(b, name...), 1)
	b = le.AppendUint64(b, uint64(len(data)/34*32))
	b = le.AppendUint32(b, 8) // Q8_0
	b = le.AppendUint64(b, 0) // offset
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, data...)
}

func TestTensors(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	big := weights(1, 3<<20)
	small := f32(1, 2, 3, 4, 5, 6)
	m := addFiles(t, r, "m:1", map[string][]byte{
		"b.safetensors": safetensors("", arrayOf{"w", "BF16", []uint64{3 << 9, 1 << 10}, big},
			arrayOf{"s", "F32", []uint64{2, 3}, small}, arrayOf{"scalar", "I64", []uint64{}, make([]byte, 8)},
			arrayOf{"none", "F32", []uint64{0, 4}, nil}),
		"a/x.npy":     npy("(2, )", f32(1, 2)),
		"config.json": []byte(`{"layers": 2}`),
		"empty":       nil,
	})
	content := map[string][]byte{"w": big, "s": small, "scalar": make([]byte, 8), "none": {}, "": f32(1, 2)}
	shapes := map[string][]uint64{"w": {3 << 9, 1 << 10}, "s": {2, 3}, "scalar": {}, "none": {0, 4}, "": {2}}
	got := all(t, m.Tensors(ctx))
	var names []string
	stored := map[string]int64{}
	for _, x := range got {
		names = append(names, x.Path+" "+x.Name)
		want := content[x.Name]
		if x.Size != int64(len(want)) || x.Shape == nil || diff(x.Shape, shapes[x.Name]) != "" {
			t.Errorf("%s has %d bytes and the shape %v", x.Name, x.Size, x.Shape)
		}
		if !x.Digest.IsZero() && x.Digest != blob.Sum(want) {
			t.Errorf("%s has another digest", x.Name)
		}
		stored[x.Path] += x.Stored
		d, err := m.TensorDigest(ctx, x)
		if err != nil || d != blob.Sum(want) {
			t.Errorf("TensorDigest(%s): %s, %v", x.Name, d, err)
		}
		if b := read(t, m, x.Path)[x.Offset:][:x.Size]; !bytes.Equal(b, want) {
			t.Errorf("%s isn't at %d", x.Name, x.Offset)
		}
	}
	same(t, "tensors", names, []string{"a/x.npy ", "b.safetensors w", "b.safetensors s", "b.safetensors scalar", "b.safetensors none"})
	info, err := r.store.Stat(ctx, blob.Sum(read(t, m, "b.safetensors")))
	must(t, err)
	if s := stored["b.safetensors"]; s <= 0 || s > info.Stored {
		t.Errorf("the tensors take %d bytes of a blob's %d", s, info.Stored)
	}

	same(t, "of two files", all(t, m.Tensors(ctx, "b.safetensors", "a/x.npy", "b.safetensors")), got)
	same(t, "of one file", all(t, m.Tensors(ctx, "a/x.npy")), got[:1])
	same(t, "of one without any", all(t, m.Tensors(ctx, "config.json")), []Tensor(nil))
	wantErr(t, "no such file", failure(m.Tensors(ctx, "a/x.npy", "b")), ErrNotFound)

	for i, x := range all(t, m.HashTensors(ctx, got)) {
		if x.Digest != blob.Sum(content[x.Name]) || x.Name != got[i].Name {
			t.Errorf("HashTensors: %d is %s with %s", i, x.Name, x.Digest)
		}
	}
	_, err = m.TensorDigest(ctx, Tensor{Path: "config.json", Offset: 10, Size: 4})
	wantErr(t, "beyond the end", err, ErrInvalid)
	_, err = m.TensorDigest(ctx, Tensor{Path: "nothing", Size: 4})
	wantErr(t, "no such file", err, ErrNotFound)
	must(t, r.Delete(ctx, "m:1", Note{}))
	wantErr(t, "deleted", failure(m.Tensors(ctx)), ErrNotFound)
	wantErr(t, "foreign", failure((&Model{}).Tensors(ctx)), ErrInvalid)
	_, err = (&Model{}).TensorDigest(ctx, Tensor{Path: "x"})
	wantErr(t, "foreign", err, ErrInvalid)
	_, err = (&Model{}).OpenTensor(ctx, "", "x")
	wantErr(t, "foreign", err, ErrInvalid)
}

// What a frame takes is parted between the tensors in it without a rest, and
// what is borrowed counts for nothing.
func TestTensorStored(t *testing.T) {
	f := &framed{
		frames: []blob.Frame{{Size: 10, Stored: 7, Held: true}, {Size: 10, Stored: 0}, {Size: 20, Stored: 5, Held: true}},
		starts: []int64{0, 10, 20},
	}
	if got := f.stored(0, 40); got != 12 {
		t.Errorf("all of it takes %d", got)
	}
	if got := f.stored(10, 10); got != 0 {
		t.Errorf("what is borrowed takes %d", got)
	}
	for step := int64(1); step <= 40; step++ {
		sum := int64(0)
		for at := int64(0); at < 40; at += step {
			sum += f.stored(at, min(step, 40-at))
		}
		if sum != 12 {
			t.Errorf("in steps of %d it takes %d", step, sum)
		}
	}
}

func TestOpenTensor(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	first, second := weights(1, 2<<20), weights(2, 1000)
	m := addFiles(t, r, "m:1", map[string][]byte{
		"1.safetensors": safetensors("", vector("layers.0.weight", "U8", first), vector("twice", "U8", second)),
		"2.safetensors": safetensors("", vector("layers.1.weight", "U8", second), vector("twice", "U8", first), vector("none", "F32", nil)),
		"config.json":   []byte("{}"),
	})
	for _, tt := range []struct {
		path, name string
		want       []byte
	}{
		{"", "layers.0.weight", first},
		{"1.safetensors", "layers.0.weight", first},
		{"", "layers.1.weight", second},
		{"1.safetensors", "twice", second},
		{"2.safetensors", "twice", first},
		{"", "none", nil},
	} {
		f, err := m.OpenTensor(ctx, tt.path, tt.name)
		must(t, err)
		if f.Size() != int64(len(tt.want)) || f.Tensor().Name != tt.name {
			t.Errorf("%s: %d bytes, %+v", tt.name, f.Size(), f.Tensor())
		}
		if err := iotest.TestReader(f, tt.want); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		must(t, f.Close())
	}

	_, err := m.OpenTensor(ctx, "", "twice")
	wantErr(t, "in two files", err, fs.ErrInvalid)
	many, ok := errors.AsType[*ManyTensorsError](err)
	if !ok {
		t.Fatalf("in two files: %v", err)
	}
	same(t, "paths", many.Paths, []string{"1.safetensors", "2.safetensors"})
	for _, tt := range []struct {
		path, name, text string
		nearest          []string
	}{
		{"", "layer.0.weight", "m:1 has no tensor \"layer.0.weight\"; did you mean layers.0.weight, layers.1.weight?", []string{"layers.0.weight", "layers.1.weight"}},
		{"2.safetensors", "layers.0.weight", "2.safetensors of m:1 has no tensor", []string{"layers.1.weight"}},
		{"", "TWICE", "did you mean twice?", []string{"twice"}},
		{"", "quite another", "m:1 has no tensor \"quite another\"", nil},
		{"config.json", "twice", "config.json of m:1 has no tensors", nil},
	} {
		_, err := m.OpenTensor(ctx, tt.path, tt.name)
		wantErr(t, tt.name, err, fs.ErrNotExist)
		none, ok := errors.AsType[*NoTensorError](err)
		if !ok || !strings.Contains(err.Error(), tt.text) || strings.Count(err.Error(), "?") != min(len(tt.nearest), 1) {
			t.Fatalf("%s: %v", tt.name, err)
		}
		same(t, tt.name, none.Nearest, tt.nearest)
	}
	_, err = m.OpenTensor(ctx, "3.safetensors", "twice")
	wantErr(t, "no such file", err, ErrNotFound)
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct {
		names []string
		given string
		want  []string
	}{
		{nil, "a", nil},
		{[]string{"b", "cc", "ddddddd"}, "a", []string{"b"}},
		{[]string{"wte.weight", "wpe.weight", "ln_f.weight", "h.0.attn.c_attn.weight"}, "wte.wieght", []string{"wte.weight", "wpe.weight"}},
		{[]string{"h.10.attn.c_attn.weight", "h.0.attn.c_attn.weight"}, "c_attn", []string{"h.0.attn.c_attn.weight", "h.10.attn.c_attn.weight"}},
		{[]string{"x.1", "x.2", "x.3", "x.4", "x.1"}, "x.9", []string{"x.1", "x.2", "x.3"}},
	} {
		same(t, tt.given, nearest(tt.names, tt.given), tt.want)
	}
}

// damageFrame flips the last stored byte of a frame that a blob holds itself,
// the last one of those that begin before the plain offset.
func damageFrame(t testing.TB, r *Registry, d blob.Digest, before int64) {
	t.Helper()
	_, frames, err := r.store.Frames(t.Context(), d)
	must(t, err)
	at, last, plain := int64(16), int64(-1), int64(0) // the header has 16 bytes
	for _, f := range frames {
		if plain >= before {
			break
		}
		plain += f.Size
		if f.Held {
			at += f.Stored
			last = at - 1
		}
	}
	b, err := os.ReadFile(blobFile(r, d))
	must(t, err)
	b[last] ^= 0x40
	must(t, os.WriteFile(blobFile(r, d), b, 0o600))
}

func TestDamagedTensors(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	const path = "w.safetensors"
	file := safetensors("", vector("a", "U8", weights(1, 3<<20)), vector("b", "U8", weights(2, 3<<20)))
	m := addFiles(t, r, "m:1", map[string][]byte{path: file})
	tensors := all(t, m.Tensors(ctx))
	damageFrame(t, r, blob.Sum(file), int64(len(file)))

	// The header and the first tensor can still be read.
	same(t, "tensors", all(t, m.Tensors(ctx)), tensors)
	readAll := func(name string) error {
		f, err := m.OpenTensor(ctx, "", name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	}
	must(t, readAll("a"))
	wantCorrupt(t, "reading", readAll("b"), "m:1", path)
	tensors[1].Digest = blob.Digest{}
	_, err := m.TensorDigest(ctx, tensors[1])
	wantCorrupt(t, "TensorDigest", err, "m:1", path)

	flip(t, r, blob.Sum(file))
	wantCorrupt(t, "Tensors", failure(m.Tensors(ctx)), "m:1", path)
	wantCorrupt(t, "OpenTensor", readAll("a"), "m:1", path)
	must(t, os.Remove(blobFile(r, blob.Sum(file))))
	wantCorrupt(t, "a missing blob", failure(m.Tensors(ctx)), "m:1", path)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, "cancelled", failure(m.Tensors(ended)), context.Canceled)
	wantErr(t, "cancelled", failure(r.Diff(ended, "m:1", "m:1")), context.Canceled)
}
