package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/heftstore/heft/blob"
)

// Reader reads one file of a version. Every byte that it returns was checked
// before; an error says which file of which version it is about, and is a
// *CorruptError if the stored bytes are not what they were.
//
// ReadAt, Size and Digest are safe for concurrent use. Read, Seek and WriteTo
// share an offset and are not.
type Reader struct {
	b         *blob.Reader
	ref, path string
}

// open opens a file's blob.
func (r *Registry) open(ctx context.Context, ref string, f File) (*Reader, error) {
	b, err := r.store.Open(ctx, f.Digest)
	if err != nil {
		return nil, fileError(err, ref, f.Path)
	}
	if b.Size() != f.Size {
		err := fmt.Errorf("its blob %s is %d bytes long, not %d as registered", f.Digest, b.Size(), f.Size)
		return nil, errors.Join(&CorruptError{Ref: ref, Path: f.Path, Err: err}, b.Close())
	}
	return &Reader{b: b, ref: ref, path: f.Path}, nil
}

// fileError names the file in an error of reading its blob. That a blob is
// missing which the index names is damage: it is not reported as a thing that
// was never there.
func fileError(err error, ref, path string) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if _, ok := errors.AsType[*blob.CorruptError](err); ok {
		return &CorruptError{Ref: ref, Path: path, Err: err}
	}
	if errors.Is(err, blob.ErrNotFound) {
		return &CorruptError{Ref: ref, Path: path, Err: errors.New("its blob is missing: restore it from a backup, or put the same content again")}
	}
	return fmt.Errorf("registry: %s of %s: %w", cmp.Or(path, "the manifest"), ref, err)
}

// Size returns the number of bytes.
func (r *Reader) Size() int64 { return r.b.Size() }

// Digest returns the digest of the whole file.
func (r *Reader) Digest() blob.Digest { return r.b.Digest() }

// Close releases the file.
func (r *Reader) Close() error { return r.b.Close() }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.b.Read(p)
	return n, fileError(err, r.ref, r.path)
}

// ReadAt implements io.ReaderAt. It decodes only what it touches.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.b.ReadAt(p, off)
	return n, fileError(err, r.ref, r.path)
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	n, err := r.b.Seek(offset, whence)
	return n, fileError(err, r.ref, r.path)
}

// WriteTo implements io.WriterTo: the rest of the file, decoded ahead.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	n, err := r.b.WriteTo(w)
	return n, fileError(err, r.ref, r.path)
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.ReaderAt       = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
	_ fs.FS             = (*tree)(nil)
)
