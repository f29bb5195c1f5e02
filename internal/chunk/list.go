package chunk

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// What a layout may hold at most, so that a hostile file can't fill memory. A
// model of 10^12 weights in 384 experts a layer has 140,000 tensors with names
// of 60 bytes and two dimensions each; beyond these limits a file is cut by its
// content. A Tensor takes 96 bytes: 24 MiB in all.
const (
	maxTensors = 1 << 18
	maxNames   = 16 << 20 // bytes of all names and types
	maxDims    = 1 << 20  // of all tensors
	maxRank    = 64       // dimensions of one tensor; PyTorch's limit
)

// list collects the tensors of a file.
type list struct {
	tensors []Tensor
	prefix  string // of the names: where in an archive they are
	names   int    // bytes of all names and types
	dims    int    // dimensions of all tensors
}

// add appends t, with the list's prefix before its name.
func (l *list) add(t Tensor) error {
	l.names += len(l.prefix) + len(t.Name) + len(t.DType)
	l.dims += len(t.Shape)
	if !utf8.ValidString(t.Name) || len(l.tensors) == maxTensors || l.names > maxNames || l.dims > maxDims {
		return errNone
	}
	t.Name = l.prefix + t.Name
	l.tensors = append(l.tensors, t)
	return nil
}

// finish sorts the tensors and checks that they lie in a file of size bytes,
// don't overlap and have names of their own.
func (l *list) finish(size int64) error {
	l.sort()
	var end int64
	for i := range l.tensors {
		t := &l.tensors[i]
		if t.Offset < end || t.Size < 0 || t.Offset > size || t.Size > size-t.Offset {
			return errNone
		}
		end = t.Offset + t.Size
	}
	// Sorted numbers take a tenth of the memory of a map of names.
	byName := make([]int32, len(l.tensors))
	for i := range byName {
		byName[i] = int32(i)
	}
	slices.SortFunc(byName, func(a, b int32) int {
		return cmp.Compare(l.tensors[a].Name, l.tensors[b].Name)
	})
	for i := 1; i < len(byName); i++ {
		if l.tensors[byName[i-1]].Name == l.tensors[byName[i]].Name {
			return errNone
		}
	}
	return nil
}

// sort puts the tensors in order of their offsets, empty ones before others.
func (l *list) sort() {
	slices.SortStableFunc(l.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Size, b.Size))
	})
}

// product returns unit times all dims, and false when a part of it, from left
// to right, exceeds an int64.
func product(dims []uint64, unit uint64) (uint64, bool) {
	n := unit
	for _, d := range dims {
		hi, lo := bits.Mul64(n, d)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, false
		}
		n = lo
	}
	return n, true
}
