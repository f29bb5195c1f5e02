package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// PutFS stores every file of fsys under its path there, the largest first: a
// smaller one, in narrower floats, may then be stored as what it was made from.
// Links are followed as far as fsys follows them (os.Root.FS does within the
// root); a link to a folder, or anything else that is not a file or folder, is
// an error that wraps ErrInvalid.
func (d *Draft) PutFS(ctx context.Context, fsys fs.FS) error {
	type entry struct {
		path string
		size int64
	}
	var all []entry
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("registry: reading the folder to store: %w", err)
		}
		if e.IsDir() {
			return nil
		}
		info, err := fs.Stat(fsys, p)
		if err != nil {
			return fmt.Errorf("registry: reading the folder to store: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is neither a file nor a folder: leave it out, or put what it leads to", ErrInvalid, p)
		}
		all = append(all, entry{p, info.Size()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(b.size, a.size) })
	for _, e := range all {
		if err := d.putFrom(ctx, fsys, e.path); err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) putFrom(ctx context.Context, fsys fs.FS, p string) error {
	f, err := fsys.Open(p)
	if err != nil {
		return fmt.Errorf("registry: reading the folder to store: %w", err)
	}
	_, err = d.Put(ctx, p, f)
	return errors.Join(err, f.Close())
}
