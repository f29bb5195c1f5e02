package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/heftstore/heft/internal/durable"
)

// copyFile writes the file f to the target and gives it its name.
func (t *Transfer) copyFile(ctx context.Context, f *file, old *target) (err error) {
	if t.plan {
		t.count(f.size, old)
		return nil
	}
	t.to.sweepOnce()
	o, err := t.to.temporary()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.discard()) }()
	in := io.NewSectionReader(f.f, 0, f.size)
	if _, err := io.CopyBuffer(struct{ io.Writer }{contextFile{ctx, o.f}}, struct{ io.Reader }{in}, o.buf[:]); err != nil {
		return fmt.Errorf("blob: copying %s: %w", f.digest, err)
	}
	// What was written is checked, not what was read: that covers both.
	c, err := readFile(o.f, f.digest)
	if err == nil && !sameTable(c, f) {
		err = &sumError{"its frame table changed while it was copied"}
	}
	if err == nil {
		err = t.to.checkStored(ctx, c)
	}
	if err != nil {
		return asCorrupt(err, f.digest, f.digest, -1)
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("blob: syncing: %w", err)
	}
	if err := t.place(ctx, o, f.digest, old); err != nil {
		return err
	}
	t.count(f.size, old)
	return o.released()
}

func (t *Transfer) count(size int64, old *target) {
	t.now.Files++
	t.now.Written += size
	if old.info != nil {
		t.now.Replaced++
	}
}

// contextFile writes to a file until its context ends.
type contextFile struct {
	ctx context.Context
	f   durable.File
}

func (w contextFile) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

// place renames a finished file to the name of the blob d, if the target's file is
// still the one that was looked at.
func (t *Transfer) place(ctx context.Context, o *output, d Digest, old *target) (err error) {
	if err := t.to.fsys.Mkdir(blobDir(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("blob: %w", err)
	}
	unlock, err := t.to.lockPublish(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now, err := t.to.fsys.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if !t.to.sameFile(old.info, now) {
		return fmt.Errorf("%w: %s", errReplaced, d)
	}
	if err := t.to.outdateParity(d, now != nil); err != nil {
		return err
	}
	if old.bad && now != nil && t.aside {
		if _, err := t.to.setAside(d); err != nil {
			return err
		}
	}
	if now != nil {
		if err := t.to.outdateMarks(); err != nil {
			return err
		}
	}
	if err := t.to.fsys.Rename(o.name, blobPath(d)); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	delete(t.damaged, d)
	t.batch.rely(d)
	return nil
}

// putAgain decodes the blob d and puts it, as content that needs no other blob
// unless the target knows better.
func (t *Transfer) putAgain(ctx context.Context, d Digest) (err error) {
	f, err := t.from.openWhole(d)
	if err != nil {
		return err
	}
	r := newReader(t.from, f)
	defer func() { err = errors.Join(err, r.Close()) }()
	t.now.Encoded = true
	if t.plan {
		if !t.sound(ctx, d) {
			t.now.Files++
			t.now.Written += f.plain
		}
		return nil
	}
	w := t.batch.Writer(ctx)
	w.aside = t.aside
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := r.WriteTo(w); err != nil {
		return err
	}
	info, err := w.Commit(d)
	if err != nil {
		return err
	}
	delete(t.damaged, d)
	if !info.Known {
		t.now.Files++
		t.now.Written += info.Stored
	}
	return nil
}
