package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"slices"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/zeebo/blake3"
)

// Tensor is a named array in a file of a version, as the file's own header
// describes it: safetensors, GGUF, npy, and archives of them as npz and .pth
// are.
type Tensor struct {
	Path   string      `json:"path"`           // of the file, in the version
	Name   string      `json:"name"`           // in the file
	DType  string      `json:"dtype"`          // as the format names it, in capitals: "BF16", "Q8_0"; "" when not known
	Shape  []uint64    `json:"shape,omitzero"` // nil when not known, empty for a scalar
	Offset int64       `json:"offset"`         // of its first byte in the file
	Size   int64       `json:"size"`           // bytes
	Stored int64       `json:"stored"`         // bytes that it takes in the file's own blob; what is borrowed counts there
	Digest blob.Digest `json:"digest,omitzero"`
}

// Tensors yields the tensors of the files with those paths, or for none of all
// files of the version, by path and then offset. A file whose structure is not
// known has none; a path that no file has is ErrNotFound. It reads headers and
// tables, no weights: Digest is zero unless the store has a frame for just that
// tensor. HashTensors fills it in. A damaged header is a *CorruptError.
func (m *Model) Tensors(ctx context.Context, paths ...string) iter.Seq2[Tensor, error] {
	return func(yield func(Tensor, error) bool) {
		ref, files, err := m.filesAt(ctx, paths)
		if err != nil {
			yield(Tensor{}, err)
			return
		}
		for _, f := range files {
			arrays, err := m.reg.arrays(ctx, ref, f)
			if err != nil {
				yield(Tensor{}, err)
				return
			}
			for _, a := range arrays {
				if !yield(a.Tensor, nil) {
					return
				}
			}
		}
	}
}

// arrays returns the tensors of a file.
func (r *Registry) arrays(ctx context.Context, ref string, f File) (all []*array, err error) {
	o, err := r.openFramed(ctx, ref, f)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return o.arrays(ctx)
}

// TensorDigest returns the BLAKE3 of a tensor's bytes, what b3sum prints of
// them: t.Digest if that is known, else it reads them. t is one that Tensors
// yielded for this version; a range that its file doesn't have is ErrInvalid.
func (m *Model) TensorDigest(ctx context.Context, t Tensor) (blob.Digest, error) {
	for t, err := range m.HashTensors(ctx, []Tensor{t}) {
		return t.Digest, err
	}
	return blob.Digest{}, nil
}

// HashTensors yields tensors of the version with their digests, in the order
// given. It reads those whose digest is not known, and opens a file once for
// all of its tensors that follow each other.
func (m *Model) HashTensors(ctx context.Context, tensors []Tensor) iter.Seq2[Tensor, error] {
	return func(yield func(Tensor, error) bool) {
		s := &side{reg: m.reg}
		defer s.close() // it was only read
		var f File
		for _, t := range tensors {
			var err error
			if t.Digest.IsZero() {
				if s.ref == "" || f.Path != t.Path {
					s.ref, f, err = m.file(ctx, t.Path)
				}
				if err == nil {
					t.Digest, err = s.digest(ctx, &array{Tensor: t, file: f})
				}
			}
			if err != nil {
				yield(Tensor{}, err)
				return
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// OpenTensor opens the tensor of that name, in the file with that path, or for
// "" in whichever file of the version has it. It returns a *NoTensorError, and
// a *ManyTensorsError when several files have the name. The caller closes the
// reader.
func (m *Model) OpenTensor(ctx context.Context, path, name string) (*TensorReader, error) {
	var paths []string
	if path != "" {
		paths = []string{path}
	}
	ref, files, err := m.filesAt(ctx, paths)
	if err != nil {
		return nil, err
	}
	var found []*array
	var names []string
	for _, f := range files {
		arrays, err := m.reg.arrays(ctx, ref, f)
		if err != nil {
			return nil, err
		}
		for _, a := range arrays {
			if a.Name == name {
				found = append(found, a)
			}
			names = append(names, a.Name)
		}
	}
	switch len(found) {
	case 0:
		return nil, &NoTensorError{Ref: ref, Path: path, Name: name, Tensors: len(names), Nearest: nearest(names, name)}
	case 1:
		a := found[0]
		f, err := m.reg.open(ctx, ref, a.file)
		if err != nil {
			return nil, err
		}
		return &TensorReader{f: f, section: io.NewSectionReader(f, a.Offset, a.Size), tensor: a.Tensor}, nil
	}
	e := &ManyTensorsError{Ref: ref, Name: name}
	for _, a := range found {
		e.Paths = append(e.Paths, a.Path)
	}
	return nil, e
}

// filesAt returns the files with those paths, by path, or all for none.
func (m *Model) filesAt(ctx context.Context, paths []string) (ref string, files []File, err error) {
	for _, p := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		r, f, err := m.file(ctx, p)
		if err != nil {
			return "", nil, err
		}
		ref, files = r, append(files, f)
	}
	if len(paths) > 0 {
		return ref, files, nil
	}
	for f, err := range m.List(ctx) {
		if err != nil {
			return "", nil, err
		}
		files = append(files, f)
	}
	return m.Ref(), files, nil
}

// TensorReader reads one tensor. It decodes only the frames that it touches,
// and every byte was checked before, as with Reader.
//
// ReadAt, Size and Tensor are safe for concurrent use. Read and Seek share an
// offset and are not.
type TensorReader struct {
	f       *Reader
	section *io.SectionReader
	tensor  Tensor
}

// Tensor describes what is read.
func (r *TensorReader) Tensor() Tensor { return r.tensor }

// Size returns the number of bytes.
func (r *TensorReader) Size() int64 { return r.section.Size() }

// Read implements io.Reader.
func (r *TensorReader) Read(p []byte) (int, error) { return r.section.Read(p) }

// ReadAt implements io.ReaderAt; offsets count from the tensor's first byte.
func (r *TensorReader) ReadAt(p []byte, off int64) (int, error) { return r.section.ReadAt(p, off) }

// Seek implements io.Seeker.
func (r *TensorReader) Seek(offset int64, whence int) (int64, error) {
	return r.section.Seek(offset, whence)
}

// Close releases the file.
func (r *TensorReader) Close() error { return r.f.Close() }

var (
	_ io.ReadSeekCloser = (*TensorReader)(nil)
	_ io.ReaderAt       = (*TensorReader)(nil)
)

// NoTensorError says that a version, or a file of it, has no tensor of that
// name. It wraps ErrNotFound.
type NoTensorError struct {
	Ref     string   // name:version
	Path    string   // of the file; "" when all were searched
	Name    string   // what was asked for
	Tensors int      // how many there are
	Nearest []string // the names that are most like it, three at most
}

func (e *NoTensorError) Error() string {
	where := e.Ref
	if e.Path != "" {
		where = e.Path + " of " + e.Ref
	}
	if e.Tensors == 0 {
		return fmt.Sprintf("registry: %s has no tensors: neither safetensors nor GGUF, npy, npz or .pth was recognised", where)
	}
	text := fmt.Sprintf("registry: %s has no tensor %q", where, e.Name)
	if len(e.Nearest) > 0 {
		text += "; did you mean " + strings.Join(e.Nearest, ", ") + "?"
	}
	return text
}

// Unwrap returns ErrNotFound.
func (e *NoTensorError) Unwrap() error { return ErrNotFound }

// ManyTensorsError says that several files of a version have a tensor of that
// name. It wraps ErrInvalid.
type ManyTensorsError struct {
	Ref   string // name:version
	Name  string
	Paths []string // of the files that have it
}

func (e *ManyTensorsError) Error() string {
	return fmt.Sprintf("registry: %d files of %s have a tensor %q; say which:\n%s", len(e.Paths), e.Ref, e.Name, strings.Join(e.Paths, "\n"))
}

// Unwrap returns ErrInvalid.
func (e *ManyTensorsError) Unwrap() error { return ErrInvalid }

// share returns floor(n*part/whole), for parts that are not above whole.
func share(n, part, whole int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(part))
	q, _ := bits.Div64(hi, lo, uint64(whole))
	return int64(q)
}

// hash returns the BLAKE3 of n bytes at off.
func (f *framed) hash(ctx context.Context, off, n int64) (blob.Digest, error) {
	if off < 0 || n < 0 || n > f.Size()-off {
		return blob.Digest{}, fmt.Errorf("%w: %s of %s has %d bytes, not %d at %d", ErrInvalid, f.path, f.ref, f.Size(), n, off)
	}
	h := blake3.New()
	buf := make([]byte, min(n, hashBuffer))
	if _, err := io.CopyBuffer(onlyWriter{h}, io.NewSectionReader(readerAt{ctx, f}, off, n), buf); err != nil {
		return blob.Digest{}, err
	}
	var d blob.Digest
	h.Sum(d[:0])
	return d, nil
}

// hashBuffer is what is hashed at once: zeebo/blake3 hashes 8 chunks of 1 KiB
// in parallel with AVX2, so some multiple of 8 KiB that stays in the L2 cache.
const hashBuffer = 64 << 10

// onlyWriter hides what else a writer can do, so that a copy keeps to its own
// buffer.
type onlyWriter struct{ io.Writer }
