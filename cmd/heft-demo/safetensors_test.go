package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// file returns a safetensors file with that header and data.
func file(header, data string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
}

func TestEncodeTensorsLayout(t *testing.T) {
	got, err := encodeTensors([]tensor{
		{"b.weight", []int{1, 2}, []float32{1, -2}},
		{"a", nil, []float32{0.5}},
	}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	want := file(`{"__metadata__":{"format":"pt"},`+
		`"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},`+
		`"b.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}     `,
		"\x00\x00\x00\x3f"+"\x00\x00\x80\x3f"+"\x00\x00\x00\xc0")
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestEncodeTensorsRefuses(t *testing.T) {
	one := []float32{1}
	for name, tensors := range map[string][]tensor{
		"same name":    {{"a", []int{1}, one}, {"a", []int{1}, one}},
		"metadata":     {{metadataKey, []int{1}, one}},
		"wrong shape":  {{"a", []int{2}, one}},
		"below zero":   {{"a", []int{-1, -1}, one}},
		"beyond int32": {{"a", []int{1 << 30, 4, 0}, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			if file, err := encodeTensors(tensors, nil); err == nil {
				t.Errorf("no error, but %q", file)
			}
		})
	}
}

func TestTensorsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []tensor
		for _, name := range rapid.SliceOfNDistinct(rapid.StringN(0, 8, 16), 0, 5, rapid.ID).Draw(t, "names") {
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
			n, _ := elements(shape)
			// Any bits, as a NaN must come back too.
			bits := rapid.SliceOfN(rapid.Uint32(), n, n).Draw(t, "bits")
			data := make([]float32, n)
			for i, b := range bits {
				data[i] = math.Float32frombits(b)
			}
			in = append(in, tensor{name, shape, data})
		}
		file, err := encodeTensors(in, map[string]string{"k": "v"})
		if err != nil {
			t.Fatal(err)
		}
		if start := binary.LittleEndian.Uint64(file); start%8 != 0 {
			t.Fatalf("header of %d bytes", start)
		}
		out, metadata, err := decodeTensors(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(metadata) != 1 || metadata["k"] != "v" || len(out) != len(in) {
			t.Fatalf("metadata %v, %d tensors, want k:v and %d", metadata, len(out), len(in))
		}
		for _, want := range in {
			at := slices.IndexFunc(out, func(o tensor) bool { return o.name == want.name })
			if at < 0 || !slices.Equal(out[at].shape, want.shape) || !sameBits(out[at].data, want.data) {
				t.Fatalf("tensor %q: got %v, want %v", want.name, out, want)
			}
		}
		slices.Reverse(in)
		if again, err := encodeTensors(in, metadata); err != nil || !bytes.Equal(again, file) {
			t.Fatalf("the order of the tensors changes the bytes (error %v)", err)
		}
	})
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// badFiles are refused, each for another reason.
func badFiles() map[string][]byte {
	const one = `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	return map[string][]byte{
		"empty":          nil,
		"no header":      {1, 0, 0, 0, 0, 0, 0, 0},
		"huge header":    {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
		"not json":       file("{", ""),
		"not an object":  file("[]", ""),
		"metadata":       file(`{"__metadata__":{"a":1}}`, ""),
		"not an entry":   file(`{"a":1}`, ""),
		"data cut":       file(one, "abc"),
		"data left":      file(one, "abcde"),
		"other type":     file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, "abcd"),
		"wrong size":     file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`, "abcdefgh"),
		"one offset":     file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0]}}`, ""),
		"gap":            file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "abcdefgh"),
		"overlap":        file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "abcd"),
		"negative shape": file(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, "abcd"),
		"shape overflow": file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""),
		"huge shape":     file(`{"a":{"dtype":"F32","shape":[2147483647],"data_offsets":[0,8589934588]}}`, "abcd"),
	}
}

func TestDecodeTensorsRefuses(t *testing.T) {
	for name, bad := range badFiles() {
		t.Run(name, func(t *testing.T) {
			if tensors, _, err := decodeTensors(bad); !errors.Is(err, errFormat) {
				t.Errorf("tensors %v, error %v; want %v", tensors, err, errFormat)
			}
		})
	}
}

// FuzzDecodeTensors checks that whatever is accepted can be written and read
// again without a change.
func FuzzDecodeTensors(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte) {
		tensors, metadata, err := decodeTensors(in)
		if err != nil {
			if !errors.Is(err, errFormat) {
				t.Errorf("error %v doesn't wrap %v", err, errFormat)
			}
			return
		}
		out, err := encodeTensors(tensors, metadata)
		if err != nil {
			t.Fatalf("accepted, but not encoded: %v", err)
		}
		again, _, err := decodeTensors(out)
		if err != nil {
			t.Fatalf("own file refused: %v", err)
		}
		for _, want := range tensors {
			at := slices.IndexFunc(again, func(o tensor) bool { return o.name == want.name })
			if at < 0 || !slices.Equal(again[at].shape, want.shape) || !sameBits(again[at].data, want.data) {
				t.Fatalf("tensor %q changed: %v, want %v", want.name, again, want)
			}
		}
	})
}
