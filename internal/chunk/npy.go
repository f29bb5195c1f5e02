package chunk

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/heftstore/heft/internal/codec"
)

// The format is specified in numpy's numpy/lib/format.py.
const (
	npyMagic = "\x93NUMPY"
	// maxNpy is the longest header: numpy itself reads 10,000 bytes.
	maxNpy = 1 << 16
)

// parseNpy reads an array's header: a Python dictionary of three keys.
func parseNpy(v *view, l *list) error {
	head, err := v.next(8)
	if err != nil {
		return err
	}
	var n uint32
	switch major := head[6]; major {
	case 1:
		b, err := v.next(2)
		if err != nil {
			return err
		}
		n = uint32(binary.LittleEndian.Uint16(b))
	case 2, 3:
		if n, err = v.uint32(); err != nil {
			return err
		}
	default:
		return errNone
	}
	if n > maxNpy {
		return errNone
	}
	dict, err := v.next(int64(n))
	if err != nil {
		return err
	}
	p := &python{raw: string(dict)}
	t, err := p.array()
	if err != nil {
		return err
	}
	if uint64(t.Size) > v.left() {
		return errNone
	}
	t.Offset = v.base + v.pos
	return l.add(t)
}

// python reads the one literal of a header of npy.
type python struct {
	raw string
	pos int
}

// accept passes over word if it comes next, after white space.
func (p *python) accept(word string) bool {
	for p.pos < len(p.raw) && strings.IndexByte(" \t\n", p.raw[p.pos]) >= 0 {
		p.pos++
	}
	if !strings.HasPrefix(p.raw[p.pos:], word) {
		return false
	}
	p.pos += len(word)
	return true
}

// array reads the dictionary and what follows it up to the header's end.
func (p *python) array() (t Tensor, err error) {
	if !p.accept("{") {
		return t, errNone
	}
	var descr, order, shape int
	for !p.accept("}") {
		key, err := p.string()
		if err != nil {
			return t, err
		}
		if !p.accept(":") {
			return t, errNone
		}
		switch key {
		case "descr":
			descr++
			t.DType, err = p.string()
		case "fortran_order":
			order++
			if !p.accept("True") && !p.accept("False") {
				err = errNone
			}
		case "shape":
			shape++
			t.Shape, err = p.tuple()
		default:
			err = errNone
		}
		if err != nil {
			return t, err
		}
		if !p.accept(",") {
			if !p.accept("}") {
				return t, errNone
			}
			break
		}
	}
	if descr != 1 || order != 1 || shape != 1 || !p.accept("") || p.pos < len(p.raw) {
		return t, errNone
	}
	d, ok := descrOf(t.DType)
	if !ok {
		return t, errNone
	}
	n, ok := product(t.Shape, d.bits/8)
	if !ok {
		return t, errNone
	}
	t.DType, t.Kind, t.Size = d.name, d.kind, int64(n)
	return t, nil
}

// string reads a string in single quotes, without escapes.
func (p *python) string() (string, error) {
	if !p.accept("'") {
		return "", errNone
	}
	s, _, ok := strings.Cut(p.raw[p.pos:], "'")
	if !ok || strings.ContainsAny(s, "\\\n") {
		return "", errNone
	}
	p.pos += len(s) + 1
	return s, nil
}

// tuple reads unsigned integers in parentheses; a single one has a comma.
func (p *python) tuple() ([]uint64, error) {
	list := make([]uint64, 0, 4)
	if !p.accept("(") {
		return nil, errNone
	}
	comma := true
	for !p.accept(")") {
		if !comma || len(list) == maxRank {
			return nil, errNone
		}
		p.accept("")
		start, n := p.pos, uint64(0)
		for ; p.pos < len(p.raw) && '0' <= p.raw[p.pos] && p.raw[p.pos] <= '9'; p.pos++ {
			d := uint64(p.raw[p.pos] - '0')
			if n > (math.MaxUint64-d)/10 {
				return nil, errNone
			}
			n = n*10 + d
		}
		if p.pos == start {
			return nil, errNone
		}
		list = append(list, n)
		comma = p.accept(",")
	}
	if len(list) == 1 && !comma {
		return nil, errNone // Python reads (3) as a number
	}
	return list, nil
}

// descrOf returns the dtype of a descr. Its name is safetensors', where that
// has one; big-endian ones keep the format's own, in capitals.
func descrOf(descr string) (dtype, bool) {
	switch descr {
	case "<f2":
		return dtypeOf("F16")
	case "<f4":
		return dtypeOf("F32")
	case "<f8":
		return dtypeOf("F64")
	case "<c8":
		return dtypeOf("C64")
	case "<c16":
		return dtype{"C128", 128, codec.Kind{Elem: codec.F64}}, true
	case "|b1":
		return dtypeOf("BOOL")
	case "|i1", "<i1", ">i1":
		return dtypeOf("I8")
	case "|u1", "<u1", ">u1":
		return dtypeOf("U8")
	case "<i2":
		return dtypeOf("I16")
	case "<i4":
		return dtypeOf("I32")
	case "<i8":
		return dtypeOf("I64")
	case "<u2":
		return dtypeOf("U16")
	case "<u4":
		return dtypeOf("U32")
	case "<u8":
		return dtypeOf("U64")
	case ">f2", ">i2", ">u2":
		return swapped(descr, 2), true
	case ">f4", ">i4", ">u4", ">c8":
		return swapped(descr, 4), true
	case ">f8", ">i8", ">u8", ">c16":
		return swapped(descr, 8), true
	}
	return dtype{}, false
}

// swapped returns the dtype of big-endian numbers of so many bytes, two of
// which make a complex one.
func swapped(descr string, width int) dtype {
	bits := uint64(8 * width)
	if descr[1] == 'c' {
		bits *= 2
	}
	return dtype{strings.ToUpper(descr), bits, codec.Kind{Stride: width}}
}
