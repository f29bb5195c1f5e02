package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/heftstore/heft/registry"
)

// input is one of the arguments of put: a file, a folder or standard input.
type input struct {
	path string    // what a file is stored under; "" for a folder
	root *os.Root  // a folder
	r    io.Reader // a file or standard input
	size int64     // bytes, 0 when unknown
	c    io.Closer // nil for standard input
}

type inputs []input

func (all inputs) close() {
	for _, in := range all {
		if in.c != nil {
			_ = in.c.Close() // it was only read
		}
	}
}

// openInputs opens what the arguments name, and returns how many bytes there
// are, 0 when that is unknown. Everything that could be wrong with the
// arguments is found here, before the store is touched.
func (a *app) openInputs(ctx context.Context, args []string, as string) (all inputs, total int64, err error) {
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	taken := paths{files: map[string]string{}, folders: map[string]string{}}
	if as != "" && len(args) > 1 {
		return nil, 0, usageError("--as names one file, but there are %d arguments", len(args))
	}
	for _, arg := range args {
		if arg == "-" {
			if len(args) > 1 {
				return all, 0, usageError("standard input (-) can't be mixed with files")
			}
			return inputs{{path: cmp.Or(as, registry.WeightsFile), r: interruptible(ctx, a.stdin)}}, 0, nil
		}
		in, size, err := openInput(ctx, arg, as, taken.take)
		if err != nil {
			return all, 0, err
		}
		in.size = size
		all = append(all, in)
		total += size
	}
	// As Draft.PutFS does within a folder.
	slices.SortStableFunc(all, func(a, b input) int { return cmp.Compare(b.size, a.size) })
	if len(taken.files) == 0 {
		return all, 0, usageError("there is no file in %s", args[0])
	}
	return all, total, nil
}

// paths is what files will be stored under, and the folders that these imply,
// with the argument that each comes from.
type paths struct {
	files, folders map[string]string
}

// take adds a path, or says what it collides with.
func (p paths) take(file, from string) error {
	if other, ok := p.files[file]; ok {
		return usageError("%s and %s would both be stored as %s", other, from, file)
	}
	if other, ok := p.folders[file]; ok {
		return usageError("%s would be stored as %s, which is a folder for %s", from, file, other)
	}
	for dir := path.Dir(file); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if other, ok := p.files[dir]; ok {
			return usageError("%s would be stored as %s, which is a folder for %s", other, dir, from)
		}
		p.folders[dir] = from
	}
	p.files[file] = from
	return nil
}

// openInput opens one file or folder and returns its size. It calls take for
// each file with the path that it will be stored under.
func openInput(ctx context.Context, arg, as string, take func(file, from string) error) (input, int64, error) {
	f, err := openFile(ctx, arg)
	if err != nil {
		return input{}, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return input{}, 0, errors.Join(err, f.Close())
	}
	if !info.IsDir() {
		stored := cmp.Or(as, filepath.Base(arg))
		if err := take(stored, arg); err != nil {
			return input{}, 0, errors.Join(err, f.Close())
		}
		if !info.Mode().IsRegular() { // a pipe: a read may wait for ever
			return input{path: stored, r: interruptible(ctx, f), c: f}, 0, nil
		}
		return input{path: stored, r: f, c: f}, info.Size(), nil
	}
	if err := f.Close(); err != nil {
		return input{}, 0, err
	}
	if as != "" {
		return input{}, 0, usageError("--as names one file, but %s is a folder", arg)
	}
	root, err := os.OpenRoot(arg)
	if err != nil {
		return input{}, 0, err
	}
	size, err := measure(ctx, arg, root.FS(), take)
	if err != nil {
		return input{}, 0, errors.Join(err, root.Close())
	}
	return input{root: root, c: root}, size, nil
}

// openFile opens a file for reading. A named pipe that nobody writes to makes that
// wait, so it ends with ctx.
func openFile(ctx context.Context, name string) (*os.File, error) {
	var f *os.File
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		f, err = os.Open(name)
	}()
	select {
	case <-done:
		return f, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// measure returns how many bytes the files below fsys, which is the folder dir,
// have, and calls take for each.
func measure(ctx context.Context, dir string, fsys fs.FS, take func(file, from string) error) (size int64, err error) {
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		from := filepath.Join(dir, p)
		info, err := fs.Stat(fsys, p) // of what a link points to
		if e, ok := errors.AsType[*fs.PathError](err); ok && d.Type()&fs.ModeSymlink != 0 {
			return withHint(exitWith(exitError, "the link %s: %s", from, e.Err), "a link has to lead to a file of the same folder; remove it, or put what it leads to")
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return withHint(usageError("%s is neither a file nor a folder", from), "leave it out, or put what it leads to")
		}
		size += info.Size()
		return take(p, from)
	})
	return size, err
}

// put adds the input to the draft.
func (in input) put(ctx context.Context, d *registry.Draft, p *progress) error {
	if in.root != nil {
		return d.PutFS(ctx, p.fs(in.root.FS()))
	}
	_, err := d.Put(ctx, in.path, p.reader(in.r))
	return err
}
