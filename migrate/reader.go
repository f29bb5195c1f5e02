package migrate

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // it names git objects, nothing is trusted because of it
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strconv"
	"sync"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/zeebo/blake3"
)

// reading is one file of a source being read: it counts, hashes as git does if
// that is asked for, ends with its context, and remembers whether it was the
// source that failed.
type reading struct {
	ctx      context.Context
	src      io.ReadCloser
	progress func(int64)
	git      hash.Hash // nil unless wanted
	n        int64
	before   fs.FileInfo // nil if the source can't tell

	mu  sync.Mutex // ReadAt may be called from several goroutines
	err error      // the first of the source
}

// statter is what an *os.File can do.
type statter interface{ Stat() (fs.FileInfo, error) }

func open(ctx context.Context, f *File, progress func(int64)) (*reading, error) {
	src, err := f.Open(ctx)
	if err != nil {
		return nil, &sourceError{err}
	}
	r := &reading{ctx: ctx, src: src, progress: progress}
	if s, ok := src.(statter); ok {
		if r.before, err = s.Stat(); err != nil {
			return nil, &sourceError{errors.Join(err, src.Close())}
		}
	}
	if f.Want.GitSHA1 != ([20]byte{}) {
		r.git = sha1.New() //nolint:gosec // as above
		r.git.Write(strconv.AppendInt([]byte("blob "), f.Size, 10))
		r.git.Write([]byte{0})
	}
	return r, nil
}

// Read implements io.Reader.
func (r *reading) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.src.Read(p)
	r.n += int64(n)
	if r.git != nil {
		r.git.Write(p[:n])
	}
	r.progress(int64(n))
	r.note(err)
	return n, err
}

func (r *reading) note(err error) {
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// failure returns the first error of the source.
func (r *reading) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// stream returns the reading for whoever stores it: if the source can be read at
// any place, so can this.
func (r *reading) stream() io.Reader {
	if s, ok := r.src.(seekable); ok {
		return &seekableReading{r, s}
	}
	return r
}

type seekable interface {
	io.ReaderAt
	io.Seeker
}

type seekableReading struct {
	*reading
	src seekable
}

// ReadAt implements io.ReaderAt.
func (r *seekableReading) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.src.ReadAt(p, off)
	r.note(err)
	return n, err
}

// Seek implements io.Seeker.
func (r *seekableReading) Seek(offset int64, whence int) (int64, error) {
	return r.src.Seek(offset, whence)
}

// check compares what was read with what the source said of it.
func (r *reading) check(f *File) error {
	if r.n != f.Size {
		return &sourceError{fmt.Errorf("it had %d bytes and now has %d: import again when nothing writes there", f.Size, r.n)}
	}
	if s, ok := r.src.(statter); ok && r.before != nil {
		after, err := s.Stat()
		if err != nil {
			return &sourceError{err}
		}
		if after.Size() != r.before.Size() || !after.ModTime().Equal(r.before.ModTime()) {
			return &sourceError{errors.New("it was changed while it was read: import again when nothing writes there")}
		}
	}
	if r.git != nil && !bytes.Equal(r.git.Sum(nil), f.Want.GitSHA1[:]) {
		return &sourceError{fmt.Errorf("it has the git hash %x, and its name says %x: it is damaged or was changed", r.git.Sum(nil), f.Want.GitSHA1)}
	}
	return nil
}

// checkStored compares the hashes of what was stored with what the source said.
func checkStored(f *File, s registry.Stored) error {
	switch {
	case !f.Want.BLAKE3.IsZero() && s.Digest != f.Want.BLAKE3:
		return &sourceError{fmt.Errorf("it has the BLAKE3 %s, and should have %s: it is damaged or was changed", s.Digest, f.Want.BLAKE3)}
	case f.Want.SHA256 != registry.SHA256{} && s.SHA256 != f.Want.SHA256:
		return &sourceError{fmt.Errorf("it has the SHA-256 %s, and should have %s: it is damaged or was changed", s.SHA256, f.Want.SHA256)}
	}
	return nil
}

// sourceError is about one file of the source, not about the store.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// digest reads a file of the source for its BLAKE3.
func digest(ctx context.Context, f *File) (d blob.Digest, err error) {
	if !f.Want.BLAKE3.IsZero() {
		return f.Want.BLAKE3, nil
	}
	r, err := open(ctx, f, func(int64) {})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.src.Close()) }()
	h := blake3.New()
	if _, err := io.Copy(h, r); err != nil {
		return d, &sourceError{err}
	}
	if err := r.check(f); err != nil {
		return d, err
	}
	h.Sum(d[:0])
	return d, nil
}
