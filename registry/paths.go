package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// Entry is a stored file by its full path: name/version/path.
type Entry struct {
	Path         string      `json:"path"`
	Digest       blob.Digest `json:"digest"`
	Size         int64       `json:"size"`          // bytes
	RegisteredAt int64       `json:"registered_at"` // microseconds since the Unix epoch
}

// Save registers what src holds as the only file of a new version by its full
// path: "org/model/1.0/weights.bin" is the file weights.bin of org/model:1.0.
// It returns what Register does.
func (r *Registry) Save(ctx context.Context, path string, src io.Reader) (*Model, error) {
	rest, file, ok := cutLast(path)
	model, version, ok2 := cutLast(rest)
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: %q is not a full path: it is name/version/file", ErrInvalid, path)
	}
	return r.registerFile(ctx, Model{Name: model, Version: version}, file, src)
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// entry finds a file by its full path.
func (r *Registry) entry(ctx context.Context, full string) (e index.FileEntry, err error) {
	// A full path is a name, a version and a path, so it is bound by the rules
	// of the three, which those of a path contain.
	err = r.view(ctx, func(v *view) error {
		e, err = v.tx.Path(full)
		if errors.Is(err, index.ErrNotFound) {
			return fmt.Errorf("%w: there is no file %s", ErrNotFound, full)
		}
		return err
	})
	return e, err
}

// Load opens a file by its full path. It returns ErrNotFound when there is
// none.
func (r *Registry) Load(ctx context.Context, path string) (*Reader, error) {
	e, err := r.entry(ctx, path)
	if err != nil {
		return nil, err
	}
	m, err := r.one(ctx, func(v *view) (*index.Version, error) { return v.id(e.Version) })
	if err != nil {
		return nil, err
	}
	return m.Open(ctx, e.File.Path.String())
}

// Exists reports whether there is a file with the full path.
func (r *Registry) Exists(ctx context.Context, path string) (bool, error) {
	_, err := r.entry(ctx, path)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Remove deletes the version whose only file has the full path, as Delete
// does. A version with other files is an error that wraps ErrConflict: a
// version is never changed.
func (r *Registry) Remove(ctx context.Context, path string, n Note) error {
	e, err := r.entry(ctx, path)
	if err != nil {
		return err
	}
	ref := e.Version.String()
	return r.remove(ctx, ref, n, func(v *view, rec *index.Version) error {
		if rec.Files != 1 {
			return fmt.Errorf("%w: %s has %d files, and a version can't lose one of them: delete the version", ErrConflict, refOf(rec), rec.Files)
		}
		return v.inUse(rec)
	})
}

// List yields the files whose full path begins with prefix, "" for all, by
// path.
func (r *Registry) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return collect(ctx, r, func(v *view) ([]Entry, error) {
		var all []Entry
		for e, err := range v.tx.Paths(prefix) {
			if err != nil {
				return nil, err
			}
			all = append(all, Entry{Path: e.Full, Digest: e.File.Digest, Size: e.File.Size, RegisteredAt: e.RegisteredAt})
		}
		return all, nil
	})
}
