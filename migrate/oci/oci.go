// Package oci writes versions of a registry to an OCI image layout, as images of
// the CNCF ModelPack format.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/migrate/internal/outdir"
	"github.com/heftstore/heft/registry"
)

// Options changes how Export works. A nil *Options, like its zero value, is the
// default throughout.
type Options struct {
	// Verify reads the blobs that the layout has already, and writes those anew
	// whose content is wrong. The zero value goes by their names and sizes.
	Verify bool

	// Hashed hears how many bytes were read since it was called last, to learn
	// the SHA-256 of files: registry.Model.SHA256Size of all versions in all.
	// nil hears nothing.
	Hashed func(bytes int64)

	// Progress hears how many bytes of files were written, or found there, since
	// it was called last: registry.Model.WeightsSize of all versions in all. nil
	// hears nothing.
	Progress func(bytes int64)
}

// Report says what an Export did.
type Report struct {
	Images  []Image `json:"images"`
	Written int     `json:"written"` // blobs
	Reused  int     `json:"reused"`  // blobs that were there already
	Bytes   int64   `json:"bytes"`   // of the written
}

// Image is a version in a layout.
type Image struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`            // of the image manifest: "sha256:…"
	Replaced bool   `json:"replaced,omitzero"` // an entry that the version had
}

// Export adds versions of r to the OCI image layout in dir, which it makes if
// need be. Each becomes an image of the CNCF ModelPack format, whose layers are
// the version's files as they are, and what heft knows of it annotations of the
// image. Equal versions give equal images.
//
// An image's tag is the version's label, or its name and label where another
// entry has that tag, with an underscore for each character that a tag can't
// hold. An entry that the version has already is replaced and keeps its tag;
// its blobs stay, like the entries of all others.
//
// All versions are added or none: index.json is written last, and after an error
// the layout is as it was before, or gone if it was not there, except for
// blobs with a wrong content, which are replaced. The parents of dir stay. If
// only syncing its name failed, the new index.json is in place. A process that
// is killed leaves whole blobs at most, which the next Export uses, and files
// whose names begin with ".heft-", which it removes. On return without an error
// all is durable.
//
// A folder that holds other things than an image layout is refused with an error
// that wraps registry.ErrConflict, and so is one that somebody else exports to
// at the same time. A damaged file is a *registry.CorruptError.
func Export(ctx context.Context, r *registry.Registry, models iter.Seq2[*registry.Model, error], dir string, o *Options) (Report, error) {
	if o == nil {
		o = &Options{}
	}
	done, err := exportTo(ctx, r, models, dir, o)
	if err != nil {
		return Report{}, fmt.Errorf("oci: exporting to %s: %w", dir, err)
	}
	return done, nil
}

func exportTo(ctx context.Context, r *registry.Registry, models iter.Seq2[*registry.Model, error], dir string, o *Options) (done Report, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		defer func() {
			if err != nil {
				_ = os.Remove(dir) // fails if it is not empty: then it is not ours alone
			}
		}()
	}
	if err := durable.CreateDir(dir, 0o777); err != nil {
		return done, err
	}
	d, err := outdir.Open(dir)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := look(d); err != nil { // before a lock is put into somebody's folder
		return done, err
	}
	unlock, err := lock(d)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	e := export{reg: r, opts: o}
	return e.run(ctx, d, models)
}

// lock keeps others from exporting to the folder until unlock is called. The
// lock of a process that dies is gone, though its file stays.
func lock(d *outdir.Dir) (unlock func() error, err error) {
	for {
		f, err := d.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		locked, err := durable.TryLock(f)
		if err == nil && !locked {
			err = fmt.Errorf("%w: somebody else is exporting there: wait for it, or choose another folder", registry.ErrConflict)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		there, err := d.Stat(lockFile)
		if err == nil && os.SameFile(mine, there) {
			return func() error { return errors.Join(d.Remove(lockFile), f.Close()) }, nil
		}
		// Its last holder removed it before the lock was there.
		if err := f.Close(); err != nil {
			return nil, err
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// export is an Export to an open folder.
type export struct {
	reg    *registry.Registry
	opts   *Options
	layout *layout
	done   Report
}

func (e *export) run(ctx context.Context, fsys durable.FS, models iter.Seq2[*registry.Model, error]) (done Report, err error) {
	e.done.Images = []Image{}
	e.layout, err = openLayout(fsys)
	e.layout.verify = e.opts.Verify
	defer func() {
		if err != nil {
			err = errors.Join(err, e.layout.undo())
		}
	}()
	if err != nil {
		return e.done, err
	}
	for m, err := range models {
		if err != nil {
			return e.done, err
		}
		if err := e.image(ctx, m); err != nil {
			return e.done, fmt.Errorf("%s: %w", m.Ref(), err)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return e.done, err
	}
	return e.done, e.layout.commit()
}

// image adds a version.
func (e *export) image(ctx context.Context, m *registry.Model) error {
	var files []registry.FileSHA256
	for f, err := range m.SHA256s(ctx, &registry.SHA256Options{Progress: e.opts.Hashed}) {
		if err != nil {
			return err
		}
		if err := e.file(ctx, m, f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		if err := e.put(ctx, bytesBlob([]byte(emptyBlob))); err != nil {
			return err
		}
	}
	layers, err := layers(m, files)
	if err != nil {
		return err
	}
	c, err := config(ctx, m, files, layers)
	if err != nil {
		return err
	}
	d, err := e.json(ctx, typeModelConfig, c)
	if err != nil {
		return err
	}
	notes, err := annotations(e.reg.ID(), m)
	if err != nil {
		return err
	}
	d, err = e.json(ctx, typeManifest, manifest{
		SchemaVersion: 2, MediaType: typeManifest, ArtifactType: typeModel, Config: d, Layers: layers, Annotations: notes,
	})
	if err != nil {
		return err
	}
	d.ArtifactType = typeModel
	tag, replaced, err := e.layout.index.put(m, d)
	if err != nil {
		return err
	}
	e.done.Images = append(e.done.Images, Image{Name: m.Name, Version: m.Version, Tag: tag, Digest: d.Digest, Replaced: replaced})
	return nil
}

// file puts a file of a version.
func (e *export) file(ctx context.Context, m *registry.Model, f registry.FileSHA256) error {
	progress := func(int64) {}
	if e.opts.Progress != nil {
		progress = e.opts.Progress
	}
	var heard int64
	err := e.put(ctx, blob{f.SHA256, f.Size, func(w io.Writer) (err error) {
		r, err := m.Open(ctx, f.Path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		_, err = r.WriteTo(writerFunc(func(p []byte) (int, error) {
			n, err := w.Write(p)
			heard += int64(n)
			progress(int64(n))
			return n, err
		}))
		return err
	}})
	if err == nil && heard < f.Size {
		progress(f.Size - heard)
	}
	return err
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// json puts v as canonical JSON and describes the blob.
func (e *export) json(ctx context.Context, mediaType string, v any) (descriptor, error) {
	text, err := canon.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return describe(mediaType, text), e.put(ctx, bytesBlob(text))
}

func (e *export) put(ctx context.Context, b blob) error {
	wrote, err := e.layout.put(ctx, b)
	switch {
	case err != nil:
		return err
	case wrote:
		e.done.Written++
		e.done.Bytes += b.size
	default:
		e.done.Reused++
	}
	return nil
}
