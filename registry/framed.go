package registry

import (
	"context"
	"errors"
	"io"
	"slices"
	"sort"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/chunk"
)

// array is a tensor with what its file tells of it beyond that, or a whole file
// without tensors.
type array struct {
	Tensor
	file  File
	block int  // bytes of a block of a quantised dtype, 0 when that is not known
	whole bool // a file, with no name
}

// framed is an open file and the frames that its blob is cut into.
type framed struct {
	*Reader
	file   File
	frames []blob.Frame
	starts []int64 // plain offset of each frame
}

// openFramed opens a file's blob and reads its table of frames.
func (r *Registry) openFramed(ctx context.Context, ref string, f File) (*framed, error) {
	o, err := r.open(ctx, ref, f)
	if err != nil {
		return nil, err
	}
	_, frames, err := r.store.Frames(ctx, f.Digest)
	if err != nil {
		return nil, errors.Join(fileError(err, ref, f.Path), o.Close())
	}
	starts := make([]int64, len(frames))
	var at int64
	for i := range frames {
		starts[i] = at
		at += frames[i].Size
	}
	return &framed{Reader: o, file: f, frames: frames, starts: starts}, nil
}

// arrays reads the file's header.
func (f *framed) arrays(ctx context.Context) ([]*array, error) {
	l, err := chunk.Scan(readerAt{ctx, f}, f.Size())
	if err != nil || l == nil {
		return nil, err
	}
	all := make([]*array, len(l.Tensors))
	for i := range l.Tensors {
		t := &l.Tensors[i]
		a := &array{file: f.file, Tensor: Tensor{
			Path: f.path, Name: t.Name, DType: t.DType, Shape: slices.Clone(t.Shape), Offset: t.Offset, Size: t.Size,
			Stored: f.stored(t.Offset, t.Size), Digest: f.known(t.Offset, t.Size),
		}}
		if t.DType != "" {
			a.block = t.Kind.Stride
		}
		all[i] = a
	}
	return all, nil
}

// whole returns the file as an array without a name.
func (f *framed) whole() *array {
	return &array{whole: true, file: f.file, Tensor: Tensor{
		Path: f.path, Size: f.Size(), Stored: f.stored(0, f.Size()), Digest: f.file.Digest,
	}}
}

// frameAt returns the number of the frame that holds the byte at off, which is
// below Size.
func (f *framed) frameAt(off int64) int {
	return sort.Search(len(f.starts), func(i int) bool { return f.starts[i] > off }) - 1
}

// stored returns how many bytes a range takes in the blob's own file. A frame
// counts by the part of it that is in the range; the parts of one frame add up
// to it exactly.
func (f *framed) stored(off, n int64) int64 {
	if n == 0 {
		return 0
	}
	var sum int64
	end := off + n
	for i := f.frameAt(off); i < len(f.frames) && f.starts[i] < end; i++ {
		fr := &f.frames[i]
		if !fr.Held || fr.Size == 0 {
			continue
		}
		from, to := max(off-f.starts[i], 0), min(end-f.starts[i], fr.Size)
		sum += share(fr.Stored, to, fr.Size) - share(fr.Stored, from, fr.Size)
	}
	return sum
}

// known returns the digest of a range if that is known without reading it.
func (f *framed) known(off, n int64) blob.Digest {
	switch {
	case n == 0:
		return blob.Sum(nil)
	case n == f.Size():
		return f.file.Digest
	}
	if i := f.frameAt(off); f.starts[i] == off && f.frames[i].Size == n {
		return f.frames[i].Digest
	}
	return blob.Digest{}
}

// full fills p with the bytes at off.
func (f *framed) full(p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readerAt ends with its context.
type readerAt struct {
	ctx context.Context
	r   io.ReaderAt
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.ReadAt(p, off)
}

// maxOpen is how many files of a version are kept open: tensors that moved
// between shards are looked up in turn in a few of them.
const maxOpen = 4

// side is a version whose files are read, the last ones kept open.
type side struct {
	reg  *Registry
	ref  string
	open []*framed // the one used last is the last
}

func (s *side) close() {
	for _, f := range s.open {
		_ = f.Close() // it was only read
	}
	s.open = nil
}

// openFile returns the file, which stays open until maxOpen others were asked
// for.
func (s *side) openFile(ctx context.Context, f File) (*framed, error) {
	for i, o := range s.open {
		if o.file.Path == f.Path {
			s.open = append(slices.Delete(s.open, i, i+1), o)
			return o, nil
		}
	}
	o, err := s.reg.openFramed(ctx, s.ref, f)
	if err != nil {
		return nil, err
	}
	if len(s.open) == maxOpen {
		_ = s.open[0].Close() // it was only read
		s.open = slices.Delete(s.open, 0, 1)
	}
	s.open = append(s.open, o)
	return o, nil
}

// digest returns the digest of the array's bytes, and keeps it.
func (s *side) digest(ctx context.Context, a *array) (blob.Digest, error) {
	if !a.Digest.IsZero() {
		return a.Digest, nil
	}
	f, err := s.openFile(ctx, a.file)
	if err != nil {
		return blob.Digest{}, err
	}
	a.Digest, err = f.hash(ctx, a.Offset, a.Size)
	return a.Digest, err
}
