package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/registry"
)

// What a layout holds.
const (
	markFile  = "oci-layout"
	indexFile = "index.json"
	blobDir   = "blobs/sha256"

	lockFile = ".heft-lock" // there while somebody exports
	partFile = ".heft-part" // what is being written; left only by a process that was killed

	mark    = `{"imageLayoutVersion":"` + version + `"}`
	version = "1.0.0"
	maxMark = 4 << 10
)

// look reports whether the folder is an image layout. It is an error if it is
// none and not empty either.
func look(fsys durable.FS) (bool, error) {
	text, err := durable.ReadFile(fsys, markFile, maxMark)
	if err == nil {
		var found struct {
			Version string `json:"imageLayoutVersion"`
		}
		if err := json.Unmarshal(text, &found); err != nil {
			return false, fmt.Errorf("the file %s is not valid: %w", markFile, err)
		}
		if found.Version != version {
			return false, fmt.Errorf("%w: its image layout has version %.20q, and only %s is known: choose another folder", registry.ErrInvalid, found.Version, version)
		}
		return true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != partFile {
			return false, fmt.Errorf("%w: it holds %.100q and is no OCI image layout: choose another folder", registry.ErrConflict, e.Name())
		}
	}
	return false, nil
}

// layout is an image layout that is added to. One process at a time has it.
type layout struct {
	fsys   durable.FS
	verify bool
	index  *index
	old    []byte                   // the index as it was
	made   []string                 // what was not there before, in the order it was made
	known  map[registry.SHA256]bool // blobs that were put
}

// openLayout opens the layout in a folder, and makes it if there is none.
// Whatever it returns, the caller calls undo if it does not get to publish.
func openLayout(fsys durable.FS) (*layout, error) {
	l := &layout{fsys: fsys, index: newIndex(), known: map[registry.SHA256]bool{}}
	is, err := look(fsys)
	if err != nil {
		return l, err
	}
	if err := fsys.Remove(partFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	if !is {
		// First, so that whatever becomes of the rest is known for a layout.
		if err := l.write(markFile, []byte(mark)); err != nil {
			return l, err
		}
		if err := fsys.SyncDir("."); err != nil {
			return l, err
		}
	}
	for _, dir := range []string{durable.Parent(blobDir), blobDir} {
		err := fsys.Mkdir(dir)
		if err == nil {
			l.made = append(l.made, dir)
		} else if !errors.Is(err, fs.ErrExist) {
			return l, err
		}
		if err := fsys.SyncDir(durable.Parent(dir)); err != nil {
			return l, err
		}
	}
	l.old, err = durable.ReadFile(fsys, indexFile, canon.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	if l.index, err = parseIndex(l.old); err != nil {
		return l, fmt.Errorf("the file %s is not valid: %w", indexFile, err)
	}
	return l, nil
}

// write writes a small file.
func (l *layout) write(name string, content []byte) error {
	return l.publish(name, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// publish writes a file and remembers it if it is new.
func (l *layout) publish(name string, fill func(io.Writer) error) error {
	_, err := l.fsys.Stat(name)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return err
	}
	if err := durable.Publish(l.fsys, partFile, name, fill); err != nil {
		return err
	}
	if isNew {
		l.made = append(l.made, name)
	}
	return nil
}

// undo removes what was made, so that the layout is as it was before.
func (l *layout) undo() (err error) {
	for _, name := range slices.Backward(l.made) {
		err = errors.Join(err, l.fsys.Remove(name))
	}
	l.made = nil
	return err
}

// commit makes the index name what was put. From then on there is nothing to
// undo, even if it fails.
func (l *layout) commit() error {
	// Blobs that were there may be those of somebody who had no time to sync.
	if err := l.fsys.SyncDir(blobDir); err != nil {
		return err
	}
	text, err := l.index.encode()
	if err != nil {
		return fmt.Errorf("the file %s: %w", indexFile, err)
	}
	if !bytes.Equal(text, l.old) {
		if err := l.write(indexFile, text); err != nil {
			return err
		}
	}
	l.made = nil
	if err := l.fsys.SyncDir("."); err != nil {
		return fmt.Errorf("the file %s is in place but its name is not durable: %w", indexFile, err)
	}
	return nil
}

// describe returns the descriptor of a blob.
func describe(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)), Size: int64(len(content))}
}

// blob is content to be put.
type blob struct {
	sum  registry.SHA256
	size int64
	fill func(io.Writer) error
}

// bytesBlob makes content a blob.
func bytesBlob(content []byte) blob {
	return blob{sha256.Sum256(content), int64(len(content)), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}}
}

// put writes a blob unless it is there, and reports whether it did.
func (l *layout) put(ctx context.Context, b blob) (bool, error) {
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	if l.known[b.sum] {
		return false, nil
	}
	name := blobDir + "/" + b.sum.String()
	right, err := l.has(ctx, name, b)
	if err == nil && !right {
		err = l.publish(name, func(w io.Writer) error {
			h := newHashWriter(ctx, w)
			if err := b.fill(h); err != nil {
				return err
			}
			return h.check(b)
		})
	}
	if err != nil {
		return false, err
	}
	l.known[b.sum] = true
	return !right, nil
}

// has reports whether the file name is the blob: by its size, and if verify is
// set by its content.
func (l *layout) has(ctx context.Context, name string, b blob) (right bool, err error) {
	info, err := l.fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() != b.size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%w: %s is in the way: remove it", registry.ErrConflict, name)
	}
	if !l.verify {
		return true, nil
	}
	f, err := l.fsys.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := newHashWriter(ctx, io.Discard)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return false, err
	}
	return h.check(b) == nil, nil
}
