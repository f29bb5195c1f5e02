package chunk

import (
	"errors"
	"math"

	"github.com/heftstore/heft/internal/codec"
)

// The format is specified in https://github.com/ggml-org/ggml, docs/gguf.md.
const (
	ggufMagic = "GGUF"
	// alignKey is the key of the alignment, defaultAlign what holds without it.
	alignKey     = "general.alignment"
	defaultAlign = 32
	maxAlign     = 1 << 20
	// maxKey is the longest key or name that is read: gguf.md allows keys of
	// 65,535 bytes, and names of 64.
	maxKey = 1<<16 - 1
	// maxGGUFRank is the most dimensions; GGML_MAX_DIMS is 4.
	maxGGUFRank = 8
	// maxGGUF is the longest header: 256,000 tokens with their merges and
	// scores take 12 MiB.
	maxGGUF = 64 << 20
	// minPair and minInfo are the fewest bytes of a pair and of a tensor's
	// description: a pair has a string's length, a type and a byte, a
	// description a string's length, a count, a type and an offset.
	minPair = 13
	minInfo = 24
	// maxArrays is how deep arrays of arrays may be nested. None are in use.
	maxArrays = 4
)

// parseGGUF reads the header of versions 2 and 3, little-endian.
func parseGGUF(v *view, l *list) error {
	g := &gguf{view: v, align: defaultAlign}
	err := g.header(l)
	if errors.Is(err, errShort) {
		// The header's length isn't known. Asking for twice as much each time
		// keeps what is read again below the header's length.
		v.need = max(v.need, min(max(firstNeed, 2*int64(len(v.buf))), maxStream))
	}
	return err
}

// gguf is a header that is being read.
type gguf struct {
	*view
	align uint64
	seen  bool // the alignment's key
}

// left returns how many bytes may still belong to the header.
func (g *gguf) left() uint64 {
	if g.pos > maxGGUF {
		return 0
	}
	return uint64(min(g.size, maxGGUF) - g.pos)
}

// skip passes over n bytes of the header.
func (g *gguf) skip(n uint64) error {
	if n > g.left() {
		return errNone
	}
	return g.view.skip(n)
}

func (g *gguf) header(l *list) error {
	head, err := g.next(8)
	if err != nil {
		return err
	}
	if head[4] != 2 && head[4] != 3 || head[5] != 0 || head[6] != 0 || head[7] != 0 {
		return errNone
	}
	tensors, err := g.uint64()
	if err != nil {
		return err
	}
	pairs, err := g.uint64()
	if err != nil {
		return err
	}
	if tensors > maxTensors || tensors > g.left()/minInfo || pairs > g.left()/minPair {
		return errNone
	}
	for range pairs {
		if err := g.pair(); err != nil {
			return err
		}
	}
	first := len(l.tensors)
	for range tensors {
		t, err := g.info()
		if err != nil {
			return err
		}
		if err := l.add(t); err != nil {
			return err
		}
	}
	data := (g.pos + int64(g.align) - 1) &^ (int64(g.align) - 1)
	for i := first; i < len(l.tensors); i++ {
		t := &l.tensors[i]
		if data > g.size || t.Offset > g.size-data || t.Size > g.size-data-t.Offset {
			return errNone
		}
		t.Offset += g.base + data
	}
	return nil
}

// name reads a key or a name.
func (g *gguf) name() (string, error) {
	n, err := g.uint64()
	if err != nil {
		return "", err
	}
	if n > maxKey || n > g.left() {
		return "", errNone
	}
	b, err := g.next(int64(n))
	return string(b), err
}

// pair reads a key and its value.
func (g *gguf) pair() error {
	key, err := g.name()
	if err != nil {
		return err
	}
	kind, err := g.uint32()
	if err != nil {
		return err
	}
	if key != alignKey {
		return g.values(kind, 1, maxArrays)
	}
	if g.seen || kind != ggufUint32 {
		return errNone
	}
	g.seen = true
	n, err := g.uint32()
	if n == 0 || n&(n-1) != 0 || n > maxAlign {
		return orNone(err)
	}
	g.align = uint64(n)
	return nil
}

// orNone returns err, or errNone if that is nil.
func orNone(err error) error {
	if err != nil {
		return err
	}
	return errNone
}

// The types of values that aren't of a fixed size, or looked at.
const (
	ggufUint32 = 4
	ggufString = 8
	ggufArray  = 9
)

// width returns the bytes of a value of a type of fixed size, else 0.
func width(kind uint32) uint64 {
	switch kind {
	case 0, 1, 7: // 8-bit integers, bool
		return 1
	case 2, 3:
		return 2
	case ggufUint32, 5, 6: // and int32, float32
		return 4
	case 10, 11, 12: // uint64, int64, float64
		return 8
	}
	return 0
}

// values passes over n values of a type, with arrays up to depth. Each of them
// takes bytes, so that the header's length bounds the work.
func (g *gguf) values(kind uint32, n uint64, depth int) error {
	if w := width(kind); w > 0 {
		if n > g.left()/w {
			return errNone
		}
		return g.skip(n * w)
	}
	switch {
	case kind == ggufString && n <= g.left()/8:
		for range n {
			size, err := g.uint64()
			if err != nil {
				return err
			}
			if err := g.skip(size); err != nil {
				return err
			}
		}
		return nil
	case kind == ggufArray && n <= g.left()/12 && depth > 0:
		for range n {
			kind, err := g.uint32()
			if err != nil {
				return err
			}
			size, err := g.uint64()
			if err != nil {
				return err
			}
			if err := g.values(kind, size, depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	return errNone
}

// info reads the description of a tensor. Its offset is left as it is there,
// from the beginning of the data.
func (g *gguf) info() (t Tensor, err error) {
	if t.Name, err = g.name(); err != nil {
		return t, err
	}
	rank, err := g.uint32()
	if err != nil {
		return t, err
	}
	if rank > maxGGUFRank {
		return t, errNone
	}
	t.Shape = make([]uint64, rank)
	for i := range t.Shape {
		if t.Shape[i], err = g.uint64(); err != nil {
			return t, err
		}
	}
	kind, err := g.uint32()
	if err != nil {
		return t, err
	}
	off, err := g.uint64()
	if err != nil {
		return t, err
	}
	b, ok := blockOf(kind)
	if !ok || off > math.MaxInt64 || off%g.align != 0 {
		return t, errNone
	}
	row := uint64(1)
	if rank > 0 {
		row = t.Shape[0]
	}
	n, ok := product(t.Shape, 1)
	if !ok || row%b.values != 0 {
		return t, errNone
	}
	size, ok := product([]uint64{n / b.values}, b.bytes)
	if !ok {
		return t, errNone
	}
	t.DType, t.Kind = b.name, b.kind()
	t.Offset, t.Size = int64(off), int64(size)
	return t, nil
}

// block is how a ggml type stores values: so many in so many bytes.
type block struct {
	name          string
	values, bytes uint64
}

// kind returns the kind of a sequence of blocks.
func (b block) kind() codec.Kind {
	switch b.name {
	case "F64":
		return codec.Kind{Elem: codec.F64}
	case "F32":
		return codec.Kind{Elem: codec.F32}
	case "F16":
		return codec.Kind{Elem: codec.F16}
	case "BF16":
		return codec.Kind{Elem: codec.BF16}
	}
	if b.bytes == 1 {
		return codec.Kind{}
	}
	return codec.Kind{Stride: int(b.bytes)}
}
