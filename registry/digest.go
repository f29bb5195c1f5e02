package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// SHA256 is the SHA-256 of a file, as sha256sum prints it. It is for others who
// name files so: heft itself goes by BLAKE3. As text it is 64 hex digits.
type SHA256 = index.SHA256

// ParseSHA256 reads 64 hex digits, in either case, with or without the prefix
// "sha256:". Anything else is an error that wraps ErrInvalid.
func ParseSHA256(s string) (sum SHA256, err error) {
	if err := sum.UnmarshalText([]byte(strings.TrimPrefix(s, "sha256:"))); err != nil {
		return SHA256{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return sum, nil
}

// FileSHA256 is a file of a version with its SHA-256.
type FileSHA256 struct {
	File
	SHA256 SHA256 `json:"sha256"`
}

// SHA256Options changes how SHA256s works. A nil *SHA256Options, like its zero
// value, is the default throughout.
type SHA256Options struct {
	// Only names the files, by path; nil is all of the version.
	Only []string

	// Progress hears how many bytes were read since it was called last; nil
	// hears nothing.
	Progress func(bytes int64)
}

func (o *SHA256Options) only() []string {
	if o == nil {
		return nil
	}
	return o.Only
}

// SHA256 returns the SHA-256 of a file of the version. What is recorded, because
// it was asked for when the content was put or ever since, is returned at once;
// otherwise the file is read, which checks every byte of it, and the SHA-256 is
// recorded. It returns ErrNotFound when the version has no such file, and
// a *CorruptError when the file is damaged. A store that can't be written to is
// no error: the SHA-256 is then computed each time.
func (m *Model) SHA256(ctx context.Context, path string) (SHA256, error) {
	for f, err := range m.SHA256s(ctx, &SHA256Options{Only: []string{path}}) {
		return f.SHA256, err
	}
	return SHA256{}, fmt.Errorf("%w: %s has no file %s", ErrNotFound, m.Ref(), path)
}

// SHA256s yields files of the version with their SHA-256, ascending by path, and
// does for each what SHA256 does. What it yields is recorded. An error ends it,
// after the files before the one at fault.
func (m *Model) SHA256s(ctx context.Context, o *SHA256Options) iter.Seq2[FileSHA256, error] {
	return func(yield func(FileSHA256, error) bool) {
		progress := func(int64) {}
		if o != nil && o.Progress != nil {
			progress = o.Progress
		}
		w, err := m.hashWork(ctx, o.only())
		if err != nil {
			yield(FileSHA256{}, err)
			return
		}
		done := 0                         // files that were yielded
		finish := func(before int) bool { // is false when it is over
			if err := w.record(ctx, m.reg); err != nil {
				yield(FileSHA256{}, err)
				return false
			}
			for ; done < before; done++ {
				f := w.files[done]
				if !yield(FileSHA256{f, w.sums[f.Digest]}, nil) {
					return false
				}
			}
			return true
		}
		for i, f := range w.files {
			if err := w.compute(ctx, m.reg, f, progress); err != nil {
				if finish(i) {
					yield(FileSHA256{}, err)
				}
				return
			}
			if w.isLong() && !finish(i+1) {
				return
			}
		}
		finish(len(w.files))
	}
}

// SHA256Size returns how many bytes SHA256s will read: those of the files whose
// SHA-256 is not recorded.
func (m *Model) SHA256Size(ctx context.Context, o *SHA256Options) (total int64, err error) {
	w, err := m.hashWork(ctx, o.only())
	seen := map[blob.Digest]bool{}
	for _, f := range w.files {
		if _, ok := w.sums[f.Digest]; !ok && !seen[f.Digest] {
			seen[f.Digest] = true
			total += f.Size
		}
	}
	return total, err
}

// hashWork is what SHA256s has to do.
type hashWork struct {
	ref   string
	files []File
	sums  map[blob.Digest]SHA256 // what is known of them
	fresh map[blob.Digest]SHA256 // what of it is not recorded
	read  int64                  // bytes, for fresh
}

// hashWork finds files of the version, and what is recorded of them.
func (m *Model) hashWork(ctx context.Context, only []string) (w hashWork, err error) {
	if m.reg == nil {
		return hashWork{}, errForeign
	}
	var paths []name.Path
	for _, s := range only {
		p, err := name.ParsePath(s)
		if err != nil {
			return hashWork{}, fmt.Errorf("registry: %w", err)
		}
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b name.Path) int { return strings.Compare(a.String(), b.String()) })
	paths = slices.Compact(paths)
	err = m.reg.view(ctx, func(v *view) error {
		rec, err := v.tx.Version(m.id)
		if err != nil {
			return gone(m.Ref(), err)
		}
		w = hashWork{ref: refOf(rec), sums: map[blob.Digest]SHA256{}, fresh: map[blob.Digest]SHA256{}}
		if only == nil {
			w.files, err = v.files(m.id)
		}
		for i := 0; i < len(paths) && err == nil; i++ {
			var f File
			f, err = v.file(rec, paths[i])
			w.files = append(w.files, f)
		}
		if err != nil {
			return err
		}
		for _, f := range w.files {
			sum, ok, err := v.tx.SHA256(f.Digest)
			if err != nil {
				return err
			}
			if ok {
				w.sums[f.Digest] = sum
			}
		}
		return nil
	})
	if err != nil {
		return hashWork{}, err
	}
	return w, nil
}

// compute reads a file, unless the SHA-256 of its content is known.
func (w *hashWork) compute(ctx context.Context, r *Registry, f File, progress func(int64)) error {
	if _, ok := w.sums[f.Digest]; ok {
		return nil
	}
	h := newHasher()
	err := r.readTo(ctx, w.ref, f, io.MultiWriter(countWriter{ctx, progress}, h))
	if err != nil {
		return err
	}
	sum := h.sum()
	w.sums[f.Digest], w.fresh[f.Digest] = sum, sum
	w.read += f.Size
	return nil
}

// readTo writes a file, all of which it checks, to dst.
func (r *Registry) readTo(ctx context.Context, ref string, f File, dst io.Writer) (err error) {
	b, err := r.open(ctx, ref, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	_, err = b.WriteTo(dst)
	return err
}

// isLong says whether what is not recorded is worth a record. One takes some
// milliseconds, for two syncs: reading that much takes a hundred.
func (w *hashWork) isLong() bool { return w.read >= 256<<20 || len(w.fresh) >= 256 }

// record records what was computed, durably, if the store can be written to.
func (w *hashWork) record(ctx context.Context, r *Registry) error {
	if len(w.fresh) == 0 {
		return nil
	}
	c, err := r.change("sha256", Note{})
	if err == nil {
		err = r.update(ctx, c, func(v *view) error { return recordSHA256(v.tx, w.fresh) })
	}
	if err != nil && !readOnly(err) {
		return err
	}
	clear(w.fresh)
	w.read = 0
	return nil
}

// readOnly says whether err means that the store can't be written to by this
// process.
func readOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// recordSHA256 records the SHA-256 of contents. It is the last thing that
// a transaction does, or the only one.
func recordSHA256(tx *index.Tx, sums map[blob.Digest]SHA256) error {
	// In an order, so that equal changes are equal records.
	digests := slices.SortedFunc(maps.Keys(sums), func(a, b blob.Digest) int { return bytes.Compare(a[:], b[:]) })
	for _, d := range digests {
		if err := tx.SetSHA256(d, sums[d]); err != nil {
			return err
		}
	}
	return nil
}

// Holding is a file of a version.
type Holding struct {
	*Model
	Path string `json:"path"`
}

// FindSHA256 yields the files of all versions whose content has that SHA-256, by
// full path. It knows what was recorded when it was put, or asked for since, and
// yields ErrNotFound when no version holds such content as far as that is known.
// It looks through the paths of all versions.
func (r *Registry) FindSHA256(ctx context.Context, sum SHA256) iter.Seq2[Holding, error] {
	return collect(ctx, r, func(v *view) ([]Holding, error) {
		d, known, err := v.tx.BySHA256(sum)
		if err != nil {
			return nil, err
		}
		var all []Holding
		if known {
			if all, err = v.holdings(d); err != nil {
				return nil, err
			}
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%w: no version is known to hold content with the SHA-256 %s", ErrNotFound, sum)
		}
		return all, nil
	})
}

// holdings returns the files of all versions that are the blob d.
func (v *view) holdings(d blob.Digest) (all []Holding, err error) {
	models := map[uuid.UUID]*Model{}
	for e, err := range v.tx.Paths("") {
		if err != nil {
			return nil, err
		}
		if e.File.Digest != d {
			continue
		}
		m, ok := models[e.Version]
		if !ok {
			rec, err := v.tx.Version(e.Version)
			if err == nil {
				m, err = v.model(rec)
			}
			if err != nil {
				return nil, err
			}
			models[e.Version] = m
		}
		all = append(all, Holding{m, e.File.Path.String()})
	}
	return all, nil
}

// countWriter discards what it counts, until its context ends.
type countWriter struct {
	ctx   context.Context
	count func(int64)
}

func (w countWriter) Write(p []byte) (int, error) {
	w.count(int64(len(p)))
	return len(p), context.Cause(w.ctx)
}
