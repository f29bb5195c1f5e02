package archive

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/migrate/internal/outdir"
	"github.com/heftstore/heft/registry"
)

// Create writes the files of a version to a new tar file, as Write does. Its
// folder must exist. The file has its name only when it is whole and durable;
// after an error nothing is left, and a file that was there is as it was. Only
// a process that is killed leaves something: a file beside it whose name begins
// with ".heft-" and ends in ".part".
//
// A path that exists is an error that wraps registry.ErrConflict, unless
// Options.Replace is set and it is not a folder. A link there is replaced, not
// what it leads to.
func Create(ctx context.Context, path string, m *registry.Model, o *Options) (done Report, err error) {
	dir, err := outdir.Open(filepath.Dir(path))
	if err != nil {
		return done, fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if o == nil {
		o = &Options{}
	}
	c := creation{fsys: dir, name: filepath.Base(path), path: path, exists: dir.Lstat}
	if done, err = c.run(ctx, m, o); err != nil {
		err = fmt.Errorf("archive: %w", err)
	}
	return done, err
}

// creation is a Create in an open folder.
type creation struct {
	fsys   durable.FS
	name   string // in it
	path   string // for errors
	exists func(name string) (fs.FileInfo, error)
}

func (c *creation) run(ctx context.Context, m *registry.Model, o *Options) (done Report, err error) {
	if err := c.check(o); err != nil {
		return done, err
	}
	tmp := ".heft-" + rand.Text() + ".part"
	err = durable.Publish(c.fsys, tmp, c.name, func(w io.Writer) error {
		// A header and the padding before it take up to 1 KiB: small files
		// would cost three writes each.
		b := bufio.NewWriterSize(w, 256<<10)
		if done, err = write(ctx, b, m, o); err != nil {
			return err
		}
		if err := b.Flush(); err != nil {
			return err
		}
		return c.check(o) // it may have come to be meanwhile, and a rename would lose it
	})
	if err != nil {
		return Report{}, err
	}
	if err := c.fsys.SyncDir("."); err != nil {
		return done, fmt.Errorf("%s is in place but its name is not durable: %w", c.path, err)
	}
	return done, nil
}

// check refuses a path that is taken.
func (c *creation) check(o *Options) error {
	info, err := c.exists(c.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%w: %s is a folder: give the path of a file", registry.ErrConflict, c.path)
	case !o.Replace:
		return fmt.Errorf("%w: %s exists: nothing was written; replace it on purpose, or choose another path", registry.ErrConflict, c.path)
	}
	return nil
}
