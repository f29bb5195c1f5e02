package chunk

import (
	"math"

	"github.com/heftstore/heft/internal/codec"
)

// maxHeader is the longest header of a safetensors file: MAX_HEADER_SIZE of
// https://github.com/huggingface/safetensors, safetensors/src/tensor.rs.
const maxHeader = 100_000_000

// parseSafetensors reads the header: its length in 8 bytes, then JSON.
//
// Stricter than the format's own reader: a tensor has exactly its three keys.
func parseSafetensors(v *view, l *list) error {
	n, err := v.uint64()
	if err != nil {
		return err
	}
	if n < 2 || n > maxHeader || n > v.left() {
		return errNone
	}
	head, err := v.next(int64(n))
	if err != nil {
		return err
	}
	data := v.pos
	room := uint64(v.size - data)
	first := len(l.tensors)
	s := &text{raw: head}
	if err := s.tensors(l, room); err != nil {
		return err
	}
	return cover(l.tensors[first:], v, data)
}

// cover checks that tensors whose offsets count from data, the end of the
// header, cover the rest of v, and makes the offsets the file's.
func cover(tensors []Tensor, v *view, data int64) error {
	sub := list{tensors: tensors}
	sub.sort()
	var end int64
	for i := range tensors {
		t := &tensors[i]
		if t.Offset != end {
			return errNone
		}
		end += t.Size
		t.Offset += v.base + data
	}
	if !v.endless() && end != v.size-data {
		return errNone
	}
	return nil
}

// tensors reads the header's object, whose tensors lie in room bytes. Their
// offsets are left as the header has them.
func (s *text) tensors(l *list, room uint64) error {
	if s.peek() != '{' {
		return errNone
	}
	metadata := 0
	err := s.object(func(key string) error {
		if key == "__metadata__" {
			if metadata++; metadata > 1 {
				return errNone
			}
			return s.skip(1)
		}
		t, err := s.tensor(room)
		if err != nil {
			return err
		}
		t.Name = key
		return l.add(t)
	})
	if err != nil {
		return err
	}
	s.space()
	if s.pos < len(s.raw) {
		return errNone
	}
	return nil
}

// tensor reads the object that describes a tensor.
func (s *text) tensor(room uint64) (Tensor, error) {
	var t Tensor
	var seen [3]bool
	var span []uint64
	err := s.object(func(key string) (err error) {
		var field int
		switch key {
		case "dtype":
			t.DType, err = s.string()
		case "shape":
			field = 1
			t.Shape, err = s.numbers(maxRank)
		case "data_offsets":
			field = 2
			span, err = s.numbers(2)
		default:
			return errNone
		}
		if seen[field] {
			return errNone
		}
		seen[field] = true
		return err
	})
	if err != nil {
		return t, err
	}
	if seen != [3]bool{true, true, true} || len(span) != 2 || span[0] > span[1] || span[1] > room || span[1] > math.MaxInt64 {
		return t, errNone
	}
	t.Offset, t.Size = int64(span[0]), int64(span[1]-span[0])
	d, ok := dtypeOf(t.DType)
	if !ok {
		return t, nil
	}
	t.DType, t.Kind = d.name, d.kind
	n, ok := product(t.Shape, d.bits)
	if !ok || n%8 != 0 || n/8 != uint64(t.Size) {
		return t, errNone
	}
	return t, nil
}

// dtype describes the elements of a tensor.
type dtype struct {
	name string // a constant, so that a layout keeps no part of a header alive
	bits uint64
	kind codec.Kind
}

// dtypeOf returns the dtype of a safetensors name, as in its enum Dtype
// (https://github.com/huggingface/safetensors, safetensors/src/tensor.rs).
func dtypeOf(name string) (dtype, bool) {
	switch name {
	case "F64":
		return dtype{"F64", 64, codec.Kind{Elem: codec.F64}}, true
	case "F32":
		return dtype{"F32", 32, codec.Kind{Elem: codec.F32}}, true
	case "F16":
		return dtype{"F16", 16, codec.Kind{Elem: codec.F16}}, true
	case "BF16":
		return dtype{"BF16", 16, codec.Kind{Elem: codec.BF16}}, true
	case "F8_E4M3":
		return dtype{"F8_E4M3", 8, codec.Kind{}}, true
	case "F8_E5M2":
		return dtype{"F8_E5M2", 8, codec.Kind{}}, true
	case "F8_E8M0":
		return dtype{"F8_E8M0", 8, codec.Kind{}}, true
	case "F6_E2M3":
		return dtype{"F6_E2M3", 6, codec.Kind{}}, true
	case "F6_E3M2":
		return dtype{"F6_E3M2", 6, codec.Kind{}}, true
	case "F4":
		return dtype{"F4", 4, codec.Kind{}}, true
	case "I64":
		return dtype{"I64", 64, codec.Kind{Stride: 8}}, true
	case "I32":
		return dtype{"I32", 32, codec.Kind{Stride: 4}}, true
	case "I16":
		return dtype{"I16", 16, codec.Kind{Stride: 2}}, true
	case "I8":
		return dtype{"I8", 8, codec.Kind{}}, true
	case "U64":
		return dtype{"U64", 64, codec.Kind{Stride: 8}}, true
	case "U32":
		return dtype{"U32", 32, codec.Kind{Stride: 4}}, true
	case "U16":
		return dtype{"U16", 16, codec.Kind{Stride: 2}}, true
	case "U8":
		return dtype{"U8", 8, codec.Kind{}}, true
	case "BOOL":
		return dtype{"BOOL", 8, codec.Kind{}}, true
	case "C64":
		return dtype{"C64", 64, codec.Kind{Elem: codec.F32}}, true
	}
	return dtype{}, false
}
