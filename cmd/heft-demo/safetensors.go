package main

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// tensor is a named array of float32, the last dimension running fastest.
type tensor struct {
	name  string
	shape []int
	data  []float32
}

// The layout is that of https://github.com/huggingface/safetensors ("Format"):
// the header's length as a little-endian uint64, a JSON object, the data.
const (
	headerAlign = 8           // data starts at a multiple; spaces fill the header
	headerLimit = 100_000_000 // bytes; the limit of the reference implementation
	metadataKey = "__metadata__"
)

// errFormat is for bytes that are no safetensors file of float32.
var errFormat = errors.New("not a float32 safetensors file")

// tensorEntry is what a header says about a tensor.
type tensorEntry struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets []int  `json:"data_offsets"` // of start and end, from the end of the header
}

// encodeTensors returns the tensors, in the order of their names, and the
// metadata as a safetensors file. Equal input gives equal bytes, in whichever
// order it comes. The names must differ.
func encodeTensors(tensors []tensor, metadata map[string]string) ([]byte, error) {
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b tensor) int { return cmp.Compare(a.name, b.name) })
	header := map[string]any{}
	if metadata != nil {
		header[metadataKey] = metadata
	}
	end := 0
	for _, t := range tensors {
		if _, taken := header[t.name]; taken || t.name == metadataKey {
			return nil, fmt.Errorf("encode tensors: name %q is taken", t.name)
		}
		if n, ok := elements(t.shape); !ok || n != len(t.data) {
			return nil, fmt.Errorf("encode tensors: %q has shape %v but %d elements", t.name, t.shape, len(t.data))
		}
		// Not nil, which would be null in JSON: a scalar's shape is [].
		entry := tensorEntry{DType: "F32", Shape: append([]int{}, t.shape...), Offsets: []int{end, end + 4*len(t.data)}}
		header[t.name], end = entry, entry.Offsets[1]
	}
	text, err := json.Marshal(header) // sorts the names
	if err != nil {
		return nil, fmt.Errorf("encode tensors: %w", err)
	}
	for len(text)%headerAlign != 0 {
		text = append(text, ' ')
	}
	file := make([]byte, 0, 8+len(text)+end)
	file = binary.LittleEndian.AppendUint64(file, uint64(len(text)))
	file = append(file, text...)
	for _, t := range tensors {
		for _, v := range t.data {
			file = binary.LittleEndian.AppendUint32(file, math.Float32bits(v))
		}
	}
	return file, nil
}

// decodeTensors reads a safetensors file that has float32 tensors only. The
// tensors come in the order of their data, which the file must hold without
// gaps. An error wraps errFormat.
func decodeTensors(file []byte) ([]tensor, map[string]string, error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("%w: %d bytes", errFormat, len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	body := file[8:]
	if n > headerLimit || n > uint64(len(body)) {
		return nil, nil, fmt.Errorf("%w: header of %d bytes in a file of %d", errFormat, n, len(file))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(body[:n], &header); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", errFormat, err)
	}
	var metadata map[string]string
	if raw, ok := header[metadataKey]; ok {
		if err := json.Unmarshal(raw, &metadata); err != nil {
			return nil, nil, fmt.Errorf("%w: metadata: %w", errFormat, err)
		}
		delete(header, metadataKey)
	}
	tensors, err := decodeEntries(header, body[n:])
	return tensors, metadata, err
}

// decodeEntries returns the tensors of a header with their part of the data.
func decodeEntries(header map[string]json.RawMessage, data []byte) ([]tensor, error) {
	type named struct {
		tensorEntry
		name string
	}
	var entries []named
	for name, raw := range header {
		e := named{name: name}
		if err := json.Unmarshal(raw, &e.tensorEntry); err != nil {
			return nil, fmt.Errorf("%w: tensor %q: %w", errFormat, name, err)
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b named) int {
		return cmp.Or(slices.Compare(a.Offsets, b.Offsets), cmp.Compare(a.name, b.name))
	})
	var tensors []tensor
	end := 0
	for _, e := range entries {
		n, ok := elements(e.Shape)
		switch {
		case e.DType != "F32":
			return nil, fmt.Errorf("%w: tensor %q is %q", errFormat, e.name, e.DType)
		// Divided, not multiplied: the shape may claim more than an int holds.
		case !ok || n > (len(data)-end)/4:
			return nil, fmt.Errorf("%w: tensor %q of shape %v goes beyond the data", errFormat, e.name, e.Shape)
		case !slices.Equal(e.Offsets, []int{end, end + 4*n}):
			return nil, fmt.Errorf("%w: tensor %q of shape %v is at %v, want %v", errFormat, e.name, e.Shape, e.Offsets, []int{end, end + 4*n})
		}
		t := tensor{e.name, e.Shape, make([]float32, n)}
		for i := range t.data {
			t.data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[end+4*i:]))
		}
		tensors = append(tensors, t)
		end += 4 * n
	}
	if end != len(data) {
		return nil, fmt.Errorf("%w: %d bytes after the last tensor", errFormat, len(data)-end)
	}
	return tensors, nil
}

// elements returns how many elements a shape has, and false when that is more
// than an int32 holds or a dimension is below zero.
func elements(shape []int) (int, bool) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > math.MaxInt32 {
			return 0, false
		}
		if n *= int64(d); n > math.MaxInt32 {
			return 0, false
		}
	}
	return int(n), true
}
