package registry

import (
	"context"
	"iter"
	"slices"
)

// TensorState is what became of a tensor from one version to another.
type TensorState string

// The states of a tensor.
const (
	TensorSame     TensorState = "same"
	TensorChanged  TensorState = "changed"  // other content
	TensorReshaped TensorState = "reshaped" // another dtype or shape; the content isn't compared
	TensorRenamed  TensorState = "renamed"  // removed and added with the same dtype, shape and content
	TensorRemoved  TensorState = "removed"
	TensorAdded    TensorState = "added"
)

// TensorStates returns every state.
func TensorStates() []TensorState {
	return []TensorState{TensorSame, TensorChanged, TensorReshaped, TensorRenamed, TensorRemoved, TensorAdded}
}

// Unit is what was counted when two tensors were compared.
type Unit string

// The units of a comparison.
const (
	Elements Unit = "elements"
	Blocks   Unit = "blocks" // of a quantised dtype, as Q8_0
	Bytes    Unit = "bytes"  // of a dtype that isn't known or has less than a byte
)

// TensorChange is what became of one tensor, or of a file without tensors,
// whose Name is "".
type TensorChange struct {
	State TensorState
	A, B  *Tensor // nil when it was added, or removed

	// The rest is set for TensorChanged, except when it is a whole file.

	Compared  int64    // how many there are
	Different int64    // how many of them differ, by their bytes: 0 and -0 do
	Unit      Unit     // of the two
	NonFinite int64    // those different that are NaN or infinite in A or B
	Largest   *float64 // change in value of the others; nil when there is none, or the dtype isn't of numbers
}

// Share returns which part of the elements differs, from 0 to 1.
func (c *TensorChange) Share() float64 {
	if c.Compared == 0 {
		return 0
	}
	return float64(c.Different) / float64(c.Compared)
}

// Tensor returns B, or A when that is nil: the tensor as it was last.
func (c *TensorChange) Tensor() *Tensor {
	if c.B != nil {
		return c.B
	}
	return c.A
}

// Diff compares two versions tensor by tensor. Tensors belong together by path
// and name, then by name alone if it is left in one file of each. Files
// without tensors are compared as a whole. When all tensors of a file are the
// same but the file is not, the file is yielded as changed too, with no name:
// its header or what lies between tensors differs.
//
// It yields what both have, in the order of a, as soon as it is compared; then
// the renamed and removed in the order of a, and the added in that of b.
//
// Frames that both have are not read, and of what differs some megabytes are
// in memory at a time, besides the headers.
func (r *Registry) Diff(ctx context.Context, a, b string) iter.Seq2[TensorChange, error] {
	return func(yield func(TensorChange, error) bool) {
		d := &differ{a: &side{reg: r}, b: &side{reg: r}}
		defer d.a.close()
		defer d.b.close()
		err := d.run(ctx, a, b, func(c TensorChange) bool { return yield(c, nil) })
		if err != nil {
			yield(TensorChange{}, err)
		}
	}
}

// differ compares two versions.
type differ struct {
	a, b *side
	bufs [2][]byte // of what is read of each
}

// load lists the arrays of a version, and makes s its side.
func (s *side) load(ctx context.Context, ref string) (all []*array, err error) {
	m, err := s.reg.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	s.ref = m.Ref()
	for f, err := range m.List(ctx) {
		if err != nil {
			return nil, err
		}
		o, err := s.openFile(ctx, f)
		if err != nil {
			return nil, err
		}
		arrays, err := o.arrays(ctx)
		if err != nil {
			return nil, err
		}
		if len(arrays) == 0 {
			arrays = []*array{o.whole()}
		}
		all = append(all, arrays...)
	}
	return all, nil
}

// run yields all changes. It returns nil when yield wants no more.
func (d *differ) run(ctx context.Context, a, b string, yield func(TensorChange) bool) error {
	as, err := d.a.load(ctx, a)
	if err != nil {
		return err
	}
	bs, err := d.b.load(ctx, b)
	if err != nil {
		return err
	}
	match := matched(as, bs)
	files := newFileCheck(as, bs)
	var removed []*array
	taken := map[*array]bool{}
	for i, x := range as {
		y := match[x]
		if y == nil {
			removed = append(removed, x)
		} else {
			taken[y] = true
			c, err := d.compare(ctx, x, y)
			if err != nil {
				return err
			}
			files.add(x, y, c.State)
			if !yield(c) {
				return nil
			}
		}
		if last := i+1 == len(as) || as[i+1].Path != x.Path; last {
			if c, ok := files.changed(x.Path); ok && !yield(c) {
				return nil
			}
		}
	}
	added := slices.DeleteFunc(bs, func(y *array) bool { return taken[y] })
	renamed, err := d.renamed(ctx, removed, added)
	if err != nil {
		return err
	}
	return finish(removed, added, renamed, yield)
}

// finish yields what only one version has.
func finish(removed, added []*array, renamed map[*array]*array, yield func(TensorChange) bool) error {
	taken := map[*array]bool{}
	for _, x := range removed {
		if y := renamed[x]; y != nil {
			taken[y] = true
			if !yield(TensorChange{State: TensorRenamed, A: &x.Tensor, B: &y.Tensor}) {
				return nil
			}
		}
	}
	for _, x := range removed {
		if renamed[x] == nil && !yield(TensorChange{State: TensorRemoved, A: &x.Tensor}) {
			return nil
		}
	}
	for _, y := range added {
		if !taken[y] && !yield(TensorChange{State: TensorAdded, B: &y.Tensor}) {
			return nil
		}
	}
	return nil
}

// place is what tensors belong together by.
type place struct{ path, name string }

// matched returns the array of bs that belongs to each of as.
func matched(as, bs []*array) map[*array]*array {
	at := map[place]*array{}
	for _, y := range bs {
		at[place{y.Path, y.Name}] = y
	}
	match := map[*array]*array{}
	left := map[string][2][]*array{} // by name
	for _, x := range as {
		p := place{x.Path, x.Name}
		if y := at[p]; y != nil {
			match[x] = y
			delete(at, p)
			continue
		}
		l := left[x.Name]
		l[0] = append(l[0], x)
		left[x.Name] = l
	}
	for _, y := range bs {
		if at[place{y.Path, y.Name}] != nil {
			l := left[y.Name]
			l[1] = append(l[1], y)
			left[y.Name] = l
		}
	}
	for name, l := range left {
		if name != "" && len(l[0]) == 1 && len(l[1]) == 1 {
			match[l[0][0]] = l[1][0]
		}
	}
	return match
}

// fileCheck finds files whose tensors are all the same though the files are
// not.
type fileCheck struct {
	a, b map[string]*fileTally // by path
}

type fileTally struct {
	file    File
	tensors int
	same    int // those with the same name in the same file of the other version
}

func newFileCheck(as, bs []*array) *fileCheck {
	tally := func(all []*array) map[string]*fileTally {
		files := map[string]*fileTally{}
		for _, a := range all {
			if files[a.Path] == nil {
				files[a.Path] = &fileTally{file: a.file}
			}
			files[a.Path].tensors++
		}
		return files
	}
	return &fileCheck{tally(as), tally(bs)}
}

func (c *fileCheck) add(x, y *array, s TensorState) {
	if s == TensorSame && x.Path == y.Path {
		c.a[x.Path].same++
	}
}

// changed returns the change of the file with that path, if there is one that
// no change of a tensor tells.
func (c *fileCheck) changed(path string) (TensorChange, bool) {
	a, b := c.a[path], c.b[path]
	if b == nil || a.file.Digest == b.file.Digest || a.same < a.tensors || a.same < b.tensors {
		return TensorChange{}, false
	}
	return TensorChange{State: TensorChanged, A: a.file.tensor(), B: b.file.tensor()}, true
}

// tensor returns the file as a tensor without a name.
func (f File) tensor() *Tensor { return &Tensor{Path: f.Path, Size: f.Size, Digest: f.Digest} }

// alike reports whether two arrays can have the same content.
func alike(x, y *array) bool {
	return x.DType == y.DType && x.Size == y.Size && x.whole == y.whole &&
		(x.Shape == nil) == (y.Shape == nil) && slices.Equal(x.Shape, y.Shape)
}

// compare tells what became of x, which is y now.
func (d *differ) compare(ctx context.Context, x, y *array) (TensorChange, error) {
	c := TensorChange{State: TensorSame, A: &x.Tensor, B: &y.Tensor}
	known := !x.Digest.IsZero() && !y.Digest.IsZero()
	switch {
	case known && x.Digest == y.Digest && alike(x, y):
		return c, nil
	case x.whole && y.whole:
		c.State = TensorChanged
		return c, nil
	case !alike(x, y):
		c.State = TensorReshaped
		return c, nil
	case x.file.Digest == y.file.Digest && x.Offset == y.Offset:
		return c, nil
	}
	p, err := d.pair(ctx, x, y)
	if err != nil {
		return c, err
	}
	n := comparison{element: elementOf(x.DType, min(x.block, y.block), x.Size)}
	for _, s := range p.unequal(int64(n.width)) {
		if err := p.read(ctx, s, n.width, n.add); err != nil {
			return c, err
		}
	}
	if n.different == 0 {
		return c, nil
	}
	c.State, c.Unit = TensorChanged, n.unit
	c.Compared, c.Different, c.NonFinite = x.Size/int64(n.width), n.different, n.nonFinite
	if n.change != nil && n.different > n.nonFinite {
		c.Largest = &n.largest
	}
	return c, nil
}

// pair opens the files of two arrays.
func (d *differ) pair(ctx context.Context, x, y *array) (*pair, error) {
	a, err := d.a.openFile(ctx, x.file)
	if err != nil {
		return nil, err
	}
	b, err := d.b.openFile(ctx, y.file)
	if err != nil {
		return nil, err
	}
	if d.bufs[0] == nil {
		d.bufs[0], d.bufs[1] = make([]byte, compareBuffer), make([]byte, compareBuffer)
	}
	return &pair{a: a, b: b, x: x, y: y, bufs: &d.bufs}, nil
}

// compareBuffer is what is read of each version at once: a frame or two, so
// that both sides decode at the same time for much longer than it takes to
// start that.
const compareBuffer = 1 << 20
