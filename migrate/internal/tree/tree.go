// Package tree reads a folder that nobody vouches for: nothing outside it is
// ever opened, and no link is followed.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate"
)

// Tree is an open folder. It is safe for concurrent use.
type Tree struct {
	root *os.Root
	dir  string
}

// Open opens the folder dir, itself reached through links or not. The caller
// closes it.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	return &Tree{root, dir}, nil
}

// Close releases the folder; what was opened in it stays open.
func (t *Tree) Close() error { return t.root.Close() }

// Dir returns the folder's path, as it was given.
func (t *Tree) Dir() string { return t.dir }

// FS returns the folder as a file system, for fs.WalkDir, which does not follow
// links. What is found there is opened with Open.
func (t *Tree) FS() fs.FS { return t.root.FS() }

// LinkError says that a path is, or leads through, a link.
type LinkError struct{ Path string }

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a link, and links are not followed: put a copy of what it leads to in its place", e.Path)
}

// Stat describes the file or folder at a slash-separated path below the folder.
// It returns an error that wraps fs.ErrInvalid for a path that is absolute, is
// not in its shortest form or leads out, fs.ErrNotExist, and a *LinkError.
func (t *Tree) Stat(path string) (fs.FileInfo, error) {
	if !fs.ValidPath(path) || !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil, fmt.Errorf("path %.200q is not below the folder: %w", path, fs.ErrInvalid)
	}
	for i, c := range path {
		if c != '/' {
			continue
		}
		info, err := t.root.Lstat(path[:i])
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil, &LinkError{path[:i]}
		}
	}
	info, err := t.root.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, &LinkError{path}
	}
	return info, err
}

// Open opens the regular file at path. Its errors are those of Stat; anything
// that is no regular file is one that wraps fs.ErrInvalid.
func (t *Tree) Open(path string) (*os.File, error) {
	before, err := t.regular(path)
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(path)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened: import again when nothing writes there", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadFile returns the content of the regular file at path, of at most limit
// bytes; a longer one is an error that wraps fs.ErrInvalid.
func (t *Tree) ReadFile(path string, limit int64) (content []byte, err error) {
	f, err := t.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	content, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, limit, fs.ErrInvalid)
	}
	return content, err
}

// File describes the regular file at path as the file as of an Item.
func (t *Tree) File(path, as string) (migrate.File, error) {
	info, err := t.regular(path)
	if err != nil {
		return migrate.File{}, err
	}
	return migrate.File{
		Path: as, Size: info.Size(), Modified: info.ModTime().UnixNano(),
		Open: func(context.Context) (io.ReadCloser, error) { return t.Open(path) },
	}, nil
}

func (t *Tree) regular(path string) (fs.FileInfo, error) {
	info, err := t.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		kind := "not a regular file"
		if info.IsDir() {
			kind = "a folder, not a file"
		}
		err = fmt.Errorf("%s is %s: %w", path, kind, fs.ErrInvalid)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no file %s: %w", strings.ToValidUTF8(path, "\uFFFD"), fs.ErrNotExist)
	}
	return info, err
}
