// Package archive writes versions of a registry as tar files.
package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/registry"
)

// Options changes how Write and Create work. A nil *Options, like its zero
// value, is the default throughout.
type Options struct {
	// Flat leaves out the leading folder; the zero value has all files in one
	// that is named after the version: "resnet-1.0.0" for team/resnet:1.0.0.
	Flat bool

	// Replace lets Create take the place of an existing file; the zero value
	// refuses. Write has no use for it.
	Replace bool

	// Progress hears how many bytes of files were written since it was called
	// last: Model.WeightsSize in all. nil hears nothing.
	Progress func(bytes int64)
}

// Report says what was written.
type Report struct {
	Folder string `json:"folder,omitzero"` // that all files are in; "" if Flat
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"` // of the files: the tar is longer
}

// unfinished is the last entry of a tar that could not be finished.
const unfinished = "UNFINISHED"

// Write writes the files of a version to w as a tar: in the order of their
// paths, mode 0644, owned by user and group 0, of the time at which the version
// was registered, to the second. Equal versions give equal bytes. Entries are
// USTAR, and PAX where a path or size needs it.
//
// Every byte was checked before it is written; a file that is damaged is
// a *registry.CorruptError. After an error, what was written is either nothing
// or a tar that breaks off in the middle of an entry, which readers report:
// never one that looks complete.
func Write(ctx context.Context, w io.Writer, m *registry.Model, o *Options) (Report, error) {
	if o == nil {
		o = &Options{}
	}
	done, err := write(ctx, w, m, o)
	if err != nil {
		err = fmt.Errorf("archive: %w", err)
	}
	return done, err
}

func write(ctx context.Context, w io.Writer, m *registry.Model, o *Options) (done Report, err error) {
	if !o.Flat {
		if done.Folder, err = folder(m); err != nil {
			return done, err
		}
	}
	var files []registry.File
	for f, err := range m.List(ctx) {
		if err != nil {
			return done, err
		}
		files = append(files, f)
	}
	out := &writer{ctx: ctx, tar: tar.NewWriter(w), progress: o.Progress}
	for _, f := range files {
		if err := out.file(m, f, path.Join(done.Folder, f.Path)); err != nil {
			out.abandon()
			return done, fmt.Errorf("%s of %s: %w", f.Path, m.Ref(), err)
		}
		done.Files++
		done.Bytes += f.Size
	}
	if err := out.tar.Close(); err != nil {
		return done, fmt.Errorf("%s: %w", m.Ref(), err)
	}
	return done, nil
}

// folder names the leading folder. A Model's fields are its holder's to change:
// they are checked, as a folder called ".." would lead out of where it is
// unpacked.
func folder(m *registry.Model) (string, error) {
	n, err := name.ParseName(m.Name)
	if err != nil {
		return "", err
	}
	v, err := name.ParseVersion(m.Version)
	if err != nil {
		return "", err
	}
	return path.Base(n.String()) + "-" + v.String(), nil
}

// writer writes the entries of a tar.
type writer struct {
	ctx      context.Context
	tar      *tar.Writer
	progress func(int64)
}

func (w *writer) file(m *registry.Model, f registry.File, as string) (err error) {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	r, err := m.Open(w.ctx, f.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: as, Size: f.Size, Mode: 0o644,
		ModTime: time.UnixMicro(m.RegisteredAt).Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	if _, err := r.WriteTo(w); err != nil {
		return err
	}
	return w.tar.Flush() // an error if bytes are missing
}

// Write writes part of a file.
func (w *writer) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	n, err := w.tar.Write(p)
	if w.progress != nil {
		w.progress(int64(n))
	}
	return n, err
}

// abandon sees to it that nobody takes the tar for a whole one. Without its end
// mark alone many readers do, when it stops between two entries: so it stops in
// one. Where bytes of an entry are missing already it does nothing, and an
// error changes nothing: what could not be written is missing as well.
func (w *writer) abandon() {
	_ = w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: unfinished, Size: 1, Mode: 0o644})
}
