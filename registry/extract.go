package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/zeebo/blake3"
)

// ExtractOptions changes how Extract works. A nil *ExtractOptions, like its
// zero value, is the default throughout.
type ExtractOptions struct {
	// Only names the files to extract; nil is all of them.
	Only []string

	// Replace overwrites files that differ; the zero value refuses.
	Replace bool

	// Progress hears of every plain byte that is dealt with: written, found
	// right, or kept from an interrupted Extract. It is called from one
	// goroutine at a time; nil hears nothing.
	Progress func(bytes int64)
}

// Extracted says what an Extract did.
type Extracted struct {
	Files   int   `json:"files"`
	Written int   `json:"written"` // files
	Skipped int   `json:"skipped"` // files that were right already
	Resumed int   `json:"resumed"` // of the written, those that an interrupted Extract had begun
	Bytes   int64 `json:"bytes"`   // written now
}

// ExistsError says that a file was not overwritten.
type ExistsError struct {
	Path string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("registry: %s exists and is another file: nothing was written; force it to replace the file, or choose another folder", e.Path)
}

// Is reports that the error is an ErrConflict.
func (e *ExistsError) Is(target error) bool { return target == ErrConflict }

// Extract writes the version's files below the folder dir, which it makes if
// need be. Each file appears under its name only when it is whole, checked and
// durable. A file that is right already is left alone; before anything is
// written, one that differs is an *ExistsError unless Replace is set. What an
// interrupted Extract left of a file, beside it under a name that ends in
// ".heft-part", is checked and continued. Nothing outside dir is touched,
// whatever links it holds.
func (m *Model) Extract(ctx context.Context, dir string, o *ExtractOptions) (done Extracted, err error) {
	x := extraction{m: m, taken: map[string]bool{}}
	if o != nil {
		x.opts = *o
	}
	for f, err := range m.List(ctx) {
		if err != nil {
			return done, err
		}
		x.taken[f.Path] = true
		if x.opts.Only == nil || slices.Contains(x.opts.Only, f.Path) {
			x.files = append(x.files, f)
		}
	}
	for _, only := range x.opts.Only {
		if !slices.ContainsFunc(x.files, func(f File) bool { return f.Path == only }) {
			return done, fmt.Errorf("%w: %s has no file %s", ErrNotFound, m.Ref(), only)
		}
	}
	if err := durable.CreateDir(dir, 0o777); err != nil {
		return done, fmt.Errorf("registry: making the folder: %w", err)
	}
	if x.root, err = os.OpenRoot(dir); err != nil {
		return done, fmt.Errorf("registry: %w", err)
	}
	defer func() { err = errors.Join(err, x.root.Close()) }()
	if err := x.plan(ctx); err != nil {
		return done, err
	}
	for i := range x.files {
		if err := x.file(ctx, i); err != nil {
			return x.done, err
		}
	}
	return x.done, x.sync(dir)
}

type extraction struct {
	m     *Model
	opts  ExtractOptions
	root  *os.Root
	files []File
	taken map[string]bool // every path of the version
	right []bool          // which files are there already
	done  Extracted
	dirs  map[string]bool // to be synced
}

func (x *extraction) progress(n int64) {
	if x.opts.Progress != nil {
		x.opts.Progress(n)
	}
}

// plan finds out which files are right, and refuses to overwrite others.
func (x *extraction) plan(ctx context.Context) error {
	x.right = make([]bool, len(x.files))
	x.dirs = map[string]bool{}
	for i, f := range x.files {
		info, err := x.root.Lstat(f.Path)
		if err != nil {
			if file := x.blocked(f.Path); file != "" {
				return x.exists(file)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("registry: %w", err)
		}
		if info.Mode().IsRegular() && info.Size() == f.Size {
			if x.right[i], err = x.same(ctx, f); err != nil {
				return fmt.Errorf("registry: comparing %s: %w", f.Path, err)
			}
		}
		if !x.right[i] && (info.IsDir() || !x.opts.Replace) {
			return x.exists(f.Path)
		}
	}
	return nil
}

// exists returns the *ExistsError for a path below the folder.
func (x *extraction) exists(p string) error {
	return &ExistsError{Path: filepath.Join(x.root.Name(), filepath.FromSlash(p))}
}

// blocked returns the file that is where a folder above p has to be, or "".
func (x *extraction) blocked(p string) string {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if info, err := x.root.Lstat(dir); err == nil && info.Mode().IsRegular() {
			return dir
		}
	}
	return ""
}

// same reports whether the file that is there has the content of f.
func (x *extraction) same(ctx context.Context, f File) (bool, error) {
	r, err := x.root.Open(f.Path)
	if err != nil {
		return false, err
	}
	defer r.Close()
	h := blake3.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, contextReader{ctx, r}, make([]byte, 1<<20)); err != nil {
		return false, err
	}
	var got blob.Digest
	h.Sum(got[:0])
	return got == f.Digest, nil
}

// contextReader stops when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// file extracts file i if it is not right already.
func (x *extraction) file(ctx context.Context, i int) (err error) {
	f := x.files[i]
	x.done.Files++
	folder := path.Dir(f.Path)
	for d := folder; ; d = path.Dir(d) {
		// Of a file that is right too: it may be what an Extract that was
		// killed had no time to sync.
		x.dirs[d] = true
		if d == "." {
			break
		}
	}
	if x.right[i] {
		x.done.Skipped++
		x.progress(f.Size)
		return nil
	}
	if err := x.root.MkdirAll(folder, 0o777); err != nil {
		return fmt.Errorf("registry: making the folder of %s: %w", f.Path, err)
	}
	// The digest in its name keeps the parts of two versions apart.
	part := path.Join(folder, "."+f.Digest.Short()+".heft-part")
	for x.taken[part] { // a file of the version has that name
		part += "-part"
	}
	out, err := x.openPart(part, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := x.fill(ctx, out, f); err != nil {
		if st, statErr := out.Stat(); statErr == nil && st.Size() == 0 {
			err = errors.Join(err, x.root.Remove(part)) // nothing to continue
		}
		return err
	}
	if err := out.Sync(); err != nil {
		// What a failed sync lost is not known: nothing of it may be kept.
		return errors.Join(fmt.Errorf("registry: syncing %s: %w", f.Path, err), x.root.Remove(part))
	}
	if !x.opts.Replace {
		// It was not there when the plan was made; a rename would lose it.
		if info, err := x.root.Lstat(f.Path); err == nil {
			if info.Mode().IsRegular() && info.Size() == f.Size {
				if same, err := x.same(ctx, f); err != nil || same {
					x.done.Skipped++
					return errors.Join(err, x.root.Remove(part))
				}
			}
			return errors.Join(x.exists(f.Path), x.root.Remove(part))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("registry: %w", err)
		}
	}
	if err := x.root.Rename(part, f.Path); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	x.done.Written++
	return nil
}

// openPart opens and locks the file in which f grows.
func (x *extraction) openPart(part string, f File) (*os.File, error) {
	for {
		// A link would have the file that it leads to overwritten.
		info, err := x.root.Lstat(part)
		if err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: %s is in the way of extracting %s: remove it", ErrConflict, filepath.Join(x.root.Name(), part), f.Path)
		}
		if err == nil && links(info) > 1 {
			// So would one that shares its bytes with another name.
			if err := x.root.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("registry: %w", err)
			}
		}
		out, err := x.root.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
		locked, err := durable.TryLock(out)
		if err == nil && !locked {
			return nil, errors.Join(fmt.Errorf("%w: another process is extracting %s here: wait for it, or choose another folder", ErrConflict, f.Path), out.Close())
		}
		mine := false
		if err == nil {
			mine, err = x.isAt(out, part)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("registry: locking %s: %w", part, err), out.Close())
		}
		if mine {
			return out, nil
		}
		// Its last holder gave it its final name before the lock was there.
		if err := out.Close(); err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
	}
}

// isAt reports whether an open file still has the name.
func (x *extraction) isAt(f *os.File, name string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), err
}

// fill brings out to the whole content of f, keeping what it has of it.
func (x *extraction) fill(ctx context.Context, out *os.File, f File) (err error) {
	from, err := x.m.reg.matching(ctx, out, f.Digest)
	if err != nil {
		return fileError(err, x.m.Ref(), f.Path)
	}
	if from > 0 {
		x.done.Resumed++
		x.progress(from)
	}
	if err := out.Truncate(from); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	if _, err := out.Seek(from, io.SeekStart); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	r, err := x.m.reg.open(ctx, x.m.Ref(), f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		return err
	}
	_, err = r.WriteTo(&extractWriter{ctx: ctx, f: out, x: x})
	return err
}

// extractWriter writes, counts, and stops when its context ends.
type extractWriter struct {
	ctx context.Context
	f   *os.File
	x   *extraction
}

func (w *extractWriter) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	w.x.done.Bytes += int64(n)
	w.x.progress(int64(n))
	return n, err
}

// matching returns how many bytes at the beginning of f are the blob's: whole
// frames whose hashes are right.
func (r *Registry) matching(ctx context.Context, f *os.File, d blob.Digest) (int64, error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return 0, err
	}
	_, frames, err := r.store.Frames(ctx, d)
	if err != nil {
		return 0, err
	}
	var at int64
	var buf []byte
	for _, frame := range frames {
		if at+frame.Size > st.Size() {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		buf = slices.Grow(buf[:0], int(frame.Size))[:frame.Size]
		if _, err := f.ReadAt(buf, at); err != nil {
			return 0, err
		}
		if blob.Sum(buf) != frame.Digest {
			break
		}
		at += frame.Size
	}
	return at, nil
}

// sync makes the new names durable.
func (x *extraction) sync(dir string) error {
	if len(x.dirs) == 0 {
		return nil
	}
	d, err := durable.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	for name := range x.dirs {
		if err := d.SyncDir(name); err != nil {
			return errors.Join(fmt.Errorf("registry: syncing the folder: %w", err), d.Close())
		}
	}
	return d.Close()
}
