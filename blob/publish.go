package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// Batch stores several blobs that share directory syncs. It is safe for
// concurrent use; its Writers each are not.
type Batch struct {
	s    *Store
	mu   sync.Mutex
	dirs map[string]struct{} // to be synced
	err  error               // a failed sync: nothing more may be acknowledged
	pin  *Pin                // of what is relied on; nil until there is something
	keys map[uint64]FrameRef // of the sketches of the blobs that were put

	protected map[Digest]bool // by a parity, as Options.Parity asks

	relatives relatives
}

// Batch returns an empty batch. What is committed through it is durable only
// after its Sync. From its first use until Release it pins what it stores and
// relies on.
func (s *Store) Batch() *Batch {
	b := &Batch{s: s, dirs: map[string]struct{}{}}
	b.relatives.hold = b.holds
	return b
}

// Release lets go of what was put through b: from then on it is collected unless a
// version names it. The batch may be used again. Writers of it must be closed.
func (b *Batch) Release() error {
	// What is remembered may be collected from now on.
	b.relatives.forget()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys = nil
	if b.pin == nil {
		return nil
	}
	err := b.pin.Close()
	b.pin = nil
	return err
}

// holds pins blobs.
func (b *Batch) holds(ctx context.Context, ds ...Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pin == nil {
		p, err := b.s.Pin(ctx)
		if err != nil {
			return err
		}
		b.pin = p
	}
	return b.pin.Add(ds...)
}

// Put is Store.Put, durable after Sync.
func (b *Batch) Put(ctx context.Context, r io.Reader) (info Info, err error) {
	return b.PutLike(ctx, r, nil)
}

// PutLike is Put of content that may be a later state of the blobs like,
// likeliest first, of which the first one is the same file's: what is alike is
// then stored as a difference. A blob that is not there, or is not like it,
// does no harm.
func (b *Batch) PutLike(ctx context.Context, r io.Reader, like []Digest) (info Info, err error) {
	w := b.Writer(ctx)
	w.kin.like = like
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.ReadFrom(r); err != nil {
		return Info{}, err
	}
	return w.Commit(Digest{})
}

// Writer is Store.Writer, durable after Sync.
func (b *Batch) Writer(ctx context.Context) *Writer {
	w := b.s.writer(ctx, b)
	w.share = b
	return w
}

// draft returns where a tensor with that key begins in a blob of the batch.
func (b *Batch) draft(key uint64) (FrameRef, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref, ok := b.keys[key]
	return ref, ok
}

// sketched notes the tensors of the blob d, which has the rows.
func (b *Batch) sketched(d Digest, rows []row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range rows {
		for _, key := range rows[i].keys {
			if b.keys == nil {
				b.keys = map[uint64]FrameRef{}
			}
			if key != 0 {
				b.keys[key] = FrameRef{Blob: d, Frame: uint32(i)}
			}
		}
	}
}

// Sync makes everything that was committed through b durable. After an error
// nothing of the batch may be relied on, and every later Sync fails too: what
// a failed sync lost is not known, so the blobs have to be put again through
// a new batch.
func (b *Batch) Sync(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// Whoever made the store may have died before its own last sync.
	if len(b.dirs) > 0 && !b.s.rooted.Load() {
		b.dirs["."] = struct{}{}
	}
	for _, dir := range slices.Sorted(maps.Keys(b.dirs)) {
		if err := b.s.fsys.SyncDir(dir); err != nil {
			b.err = fmt.Errorf("blob: syncing the folder %s: %w; put the content again", dir, err)
			return b.err
		}
		delete(b.dirs, dir)
		if dir == "." {
			b.s.rooted.Store(true)
		}
	}
	return nil
}

// rely notes that the blob d's name has to be durable, whoever made it: a
// blob that another process renamed a moment ago may not be synced yet.
func (b *Batch) rely(ds ...Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirs["blobs"] = struct{}{}
	for _, d := range ds {
		b.dirs[blobDir(d)] = struct{}{}
	}
}

// publish gives the finished content its name, unless a sound blob has it.
func (w *Writer) publish(d Digest) (Info, error) {
	if err := w.batch.holds(w.ctx, d); err != nil {
		return Info{}, err
	}
	if info, ok, err := w.sound(d); ok || err != nil {
		return info, err
	}
	_, err := w.s.fsys.Stat(blobPath(d))
	heal := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("blob: %w", err)
	}
	aside, err := w.s.aside(d)
	if err != nil {
		return Info{}, err
	}
	if heal || len(aside) > 0 || w.out.needs(d) {
		// Others may need any frame that the damaged file held, so its
		// replacement holds every frame itself, also when that file is in
		// quarantine. The same goes for a file of the same digest that lent
		// frames and was removed meanwhile.
		if err := w.materialize(d); err != nil {
			return Info{}, err
		}
	}
	info, err := w.out.end(d, w.size)
	if err != nil {
		return Info{}, err
	}
	f, err := w.out.file()
	if err != nil {
		return Info{}, err
	}
	needed, err := w.needed(f)
	if err != nil {
		return Info{}, fmt.Errorf("blob: what %s borrows from changed during the write: %w; put it again", d, err)
	}
	if err := w.s.fsys.Mkdir(blobDir(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		return Info{}, fmt.Errorf("blob: %w", w.s.missingFolder(err))
	}
	placed, err := w.rename(d, heal)
	if err != nil {
		return Info{}, err
	}
	if !placed {
		// Another writer was faster. Its file may be borrowed from by now, so
		// it stays if it is sound.
		info, ok, err := w.sound(d)
		if err == nil && !ok {
			err = fmt.Errorf("blob: %s appeared during the write and is damaged; put it again to heal it", d)
		}
		return info, err
	}
	if heal || len(aside) > 0 {
		w.s.opts.Logger.Warn("healed a damaged blob", "blob", d.String())
	}
	w.batch.rely(d)
	w.batch.rely(needed...)
	w.batch.sketched(d, w.out.rows)
	return info, w.out.released()
}

// rename moves the temporary file to its name. Without heal it leaves a file
// that is there alone and reports false.
func (w *Writer) rename(d Digest, heal bool) (placed bool, err error) {
	unlock, err := w.s.lockPublish(w.ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if !heal {
		if _, err := w.s.fsys.Stat(blobPath(d)); err == nil {
			return false, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("blob: %w", err)
		}
	}
	if err := w.s.outdateParity(d, heal); err != nil {
		return false, err
	}
	if heal && w.aside {
		if _, err := w.s.setAside(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if err := w.s.fsys.Rename(w.out.name, blobPath(d)); err != nil {
		return false, fmt.Errorf("blob: %w", err)
	}
	return true, nil
}

// lockPublish orders the check and the rename of all writers, of every
// process. It is held for two system calls.
func (s *Store) lockPublish(ctx context.Context) (unlock func() error, err error) {
	select {
	case s.publishing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("blob: waiting for %s: %w", publishLock, context.Cause(ctx))
	}
	d, ok := s.fsys.(*durable.Dir)
	if !ok {
		return func() error { <-s.publishing; return nil }, nil
	}
	l, err := d.Lock(ctx, publishLock, durable.Exclusive)
	if err != nil {
		<-s.publishing
		return nil, fmt.Errorf("blob: %w", err)
	}
	return func() error { defer func() { <-s.publishing }(); return l.Unlock() }, nil
}

// sound reports whether the store has the blob d, undamaged: each of its
// frames is one that this Writer borrowed, and checked just now, or passes its
// checksum.
func (w *Writer) sound(d Digest) (Info, bool, error) {
	f, err := w.s.openFile(d)
	if errors.Is(err, ErrNotFound) || unsound(err) {
		return Info{}, false, nil
	}
	if err != nil {
		return Info{}, false, err
	}
	defer f.close()
	checked := map[FrameRef]bool{}
	for i := range w.out.rows {
		if r := &w.out.rows[i]; r.Place == format.Borrowed {
			checked[r.holder] = true
		}
	}
	// The frames may end elsewhere, when the content was put in another way.
	same := slices.EqualFunc(f.table.Rows, w.out.rows, func(a format.Row, b row) bool { return a.PlainLen == b.PlainLen })
	if !same {
		// Nothing can be compared frame by frame, so all of it has to be read.
		err := w.s.Verify(w.ctx, d)
		if _, bad := errors.AsType[*CorruptError](err); bad || unsound(err) {
			return Info{}, false, nil
		} else if err != nil {
			return Info{}, false, err
		}
	}
	for i := range f.table.Rows {
		if r := &f.table.Rows[i]; same && r.Sum != w.out.rows[i].Sum {
			return Info{}, false, nil // its table is of other content
		}
		ok, err := w.frameSound(f, uint32(i), checked)
		if !ok || err != nil {
			return Info{}, false, err
		}
	}
	needed, err := w.needed(f)
	if errors.Is(err, ErrNotFound) || unsound(err) {
		return Info{}, false, nil
	}
	if err != nil {
		return Info{}, false, err
	}
	info := f.info()
	info.Known = true
	w.batch.rely(d)
	w.batch.rely(needed...)
	w.batch.sketched(d, w.out.rows)
	return info, true, nil
}

func (w *Writer) frameSound(f *file, i uint32, checked map[FrameRef]bool) (bool, error) {
	r := &f.table.Rows[i]
	from, ref := f, FrameRef{Blob: f.digest, Frame: i}
	switch r.Place {
	case format.Repeated:
		return true, nil // an earlier row was checked
	case format.Borrowed:
		ref = FrameRef{Blob: f.table.Donors[r.Donor], Frame: r.Frame}
	}
	if checked[ref] {
		return true, nil
	}
	if ref.Blob != f.digest {
		o, err := w.donors.acquire(ref.Blob)
		if errors.Is(err, ErrNotFound) || unsound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer w.donors.release(o)
		from = o.file
	}
	n, err := from.lends(ref.Frame, r)
	if err != nil {
		return false, nil
	}
	held := &from.table.Rows[n]
	if !standsAlone(held) {
		if err := w.decodes(from, n); unsound(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		checked[ref] = true
		return true, nil
	}
	buf := w.s.frame()
	defer w.s.frames.Put(buf)
	stored, err := from.stored(n, buf[:])
	if unsound(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if held.Codec == codec.Raw && Sum(stored) != Digest(r.Sum) {
		return false, nil
	}
	checked[ref] = true
	return true, nil
}

// unsound reports whether err is a reason to write a file anew: its content is
// damaged, or the disk can't read it back. The new one holds every frame, so
// that nothing is lost if the trouble was passing.
func unsound(err error) bool { return damage(err) || errors.Is(err, syscall.EIO) }

// sweepOnce removes, once a Store, the temporary files that no process has
// locked: their writers are gone.
func (s *Store) sweepOnce() {
	s.sweep.Do(func() {
		entries, err := s.fsys.ReadDir("tmp")
		if err != nil {
			s.opts.Logger.Warn("sweeping tmp", "error", err)
			return
		}
		for _, e := range entries {
			if err := s.sweepFile("tmp/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.opts.Logger.Warn("sweeping tmp", "file", e.Name(), "error", err)
			}
		}
	})
}

func (s *Store) sweepFile(name string) (err error) {
	f, err := s.fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if ok, err := f.TryLock(); err != nil || !ok {
		return err
	}
	s.opts.Logger.Info("removing what an interrupted write left", "file", name)
	return s.fsys.Remove(name)
}
