package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"
)

// trashed is a file's name in trash/: the generation, when it was moved there in
// microseconds, and the digest.
func trashed(g generation, at int64, d Digest) string {
	return fmt.Sprintf("trash/%s-%d-%s", g, at, d)
}

// Trashed is a blob file that was collected and is still there.
type Trashed struct {
	Digest Digest
	Size   int64 // bytes of its file
	At     int64 // when it was moved to the trash, in microseconds
	Held   bool  // a pin that is older keeps it from being purged

	name string
	gen  generation
}

// Trash lists what was collected and not yet purged, the oldest generation first.
// Files with other names are passed over.
func (s *Store) Trash(ctx context.Context) iter.Seq2[Trashed, error] {
	return func(yield func(Trashed, error) bool) {
		// Before the trash is listed: a pin that is made later relies on nothing
		// that is there.
		pinned, err := s.Pinned(ctx)
		if err != nil {
			yield(Trashed{}, err)
			return
		}
		entries, err := s.readDir("trash")
		if err != nil {
			yield(Trashed{}, fmt.Errorf("blob: listing the trash: %w", err))
			return
		}
		for _, e := range entries {
			t, ok := parseTrashed(e.Name())
			if !ok {
				continue
			}
			if err := context.Cause(ctx); err != nil {
				yield(Trashed{}, err)
				return
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // purged meanwhile
			}
			if err != nil {
				yield(Trashed{}, fmt.Errorf("blob: listing the trash: %w", err))
				return
			}
			t.Size, t.Held = info.Size(), pinned.holdsBack(t.gen)
			if !yield(t, nil) {
				return
			}
		}
	}
}

func parseTrashed(base string) (t Trashed, ok bool) {
	parts := strings.Split(base, "-")
	if len(parts) != 3 {
		return t, false
	}
	var err error
	if t.gen, ok = parseGeneration(parts[0]); !ok {
		return t, false
	}
	if t.At, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return t, false
	}
	if t.Digest, err = ParseDigest(parts[2]); err != nil {
		return t, false
	}
	t.name = "trash/" + base
	return t, t.name == trashed(t.gen, t.At, t.Digest)
}

// Purge removes for good what t is, if no pin that is older than it is left.
func (s *Store) Purge(ctx context.Context, t Trashed) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if t.Held {
		return fmt.Errorf("blob: %s is in the trash and pinned: %w", t.Digest, fs.ErrPermission)
	}
	if err := s.fsys.Remove(t.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob: purging %s: %w", t.Digest, err)
	}
	return nil
}

// Collection moves blobs to the trash, and takes the place of those of which only
// some frames are needed. One runs at a time: the caller holds a lock that all
// collections share, and that no version is registered under. It is not safe for
// concurrent use. A collection that dies half way has done no harm.
type Collection struct {
	s      *Store
	gen    generation
	pinned Pinned
	now    int64

	replaced string // see outdateMarks
}

// Collect begins a Collection; now is the time in microseconds, which only tells
// how long something has been in the trash. The caller ends it with Close, before
// it lets go of its lock.
func (s *Store) Collect(ctx context.Context, now int64) (*Collection, error) {
	s.sweepOnce()
	c := &Collection{s: s, now: now}
	var err error
	if c.gen, err = s.generation(); err != nil {
		return nil, fmt.Errorf("blob: collecting: %w", err)
	}
	c.pinned, err = s.Pinned(ctx)
	if err != nil {
		return nil, err
	}
	if c.replaced, err = s.replaced(); err != nil { // after the pins, as in free
		return nil, err
	}
	// The marker may be lost: what is moved has to wait for every pin there is.
	c.gen = max(c.gen, c.pinned.newest) + 1
	if c.gen == 0 {
		return nil, fmt.Errorf("blob: collecting: a file in pins/ has the last generation there is, ffffffffffffffff, which no collection gave it: remove it when no other process uses the store: %w", fs.ErrInvalid)
	}
	return c, nil
}

// Pinned returns what was pinned when the Collection began.
func (c *Collection) Pinned() Pinned { return c.pinned }

// Close raises the generation of the pins that are made from now on: what the
// Collection moved does not wait for those, as they find it gone.
func (c *Collection) Close() error {
	if err := c.s.raise(c.gen); err != nil {
		return fmt.Errorf("blob: collecting: %w", err)
	}
	return nil
}

// Trash moves the blob d's file to the trash and reports whether it did: not if
// there is none, or a pin was made for it meanwhile, or a blob that may need it
// has got another file. The caller knows that no
// version needs it, and that it was not pinned when the Collection began.
func (c *Collection) Trash(ctx context.Context, d Digest) (done bool, err error) {
	unlock, err := c.s.lockPublish(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	to := trashed(c.gen, c.now, d)
	err = c.s.fsys.Rename(blobPath(d), to)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := c.s.fsys.Stat("trash"); errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("blob: collecting: the store has no folder trash: %w", err)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("blob: moving %s to the trash: %w", d, err)
	}
	// Whoever pinned it before the move may have seen it; whoever did after it
	// has not.
	free, err := c.free(ctx, d)
	if free && err == nil {
		return true, nil
	}
	if back := c.s.fsys.Rename(to, blobPath(d)); back != nil {
		err = errors.Join(err, fmt.Errorf("blob: bringing %s back from the trash: %w", d, back))
	}
	return false, err
}

// Restore brings the blob d back from the trash if it is there undamaged, and
// reports whether the store has it then. It also takes the place of a file of
// which a collection has left some frames only. The name is durable on return.
func (s *Store) Restore(ctx context.Context, d Digest) (ok bool, err error) {
	unlock, err := s.lockPublish(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f, err := s.openFile(d)
	switch {
	case err == nil:
		partial := f.partial()
		if err := f.close(); err != nil || !partial {
			return !partial, err
		}
	case !errors.Is(err, ErrNotFound) && !unsound(err):
		return false, err
	}
	found, err := s.inTrash(d)
	if err != nil {
		return false, err
	}
	for _, name := range found {
		if err := s.checkFile(ctx, name, d); err != nil {
			if !unsound(err) && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
			s.opts.Logger.Warn("not restoring what is damaged", "file", name, "error", err)
			continue
		}
		if err := s.restore(name, d); err != nil {
			return false, err
		}
		s.opts.Logger.Info("restored from the trash", "blob", d.String())
		return true, nil
	}
	return false, nil
}

// restore gives a sound file the name of the blob d, durably. The caller holds the
// publish lock.
func (s *Store) restore(name string, d Digest) error {
	err := s.outdateParity(d, true)
	if err == nil {
		err = s.takeIn(name, d)
	}
	if err != nil {
		return fmt.Errorf("blob: restoring %s: %w", d, err)
	}
	return nil
}

// takeIn is restore for a file that the blob's parity is of.
func (s *Store) takeIn(name string, d Digest) error {
	err := s.fsys.Mkdir(blobDir(d))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = s.outdateMarks()
	}
	if err == nil {
		err = s.fsys.Rename(name, blobPath(d))
	}
	for _, dir := range []string{"blobs", blobDir(d)} {
		if err == nil {
			err = s.fsys.SyncDir(dir)
		}
	}
	return err
}

// inTrash returns the names of the blob d's files in the trash, the latest first.
func (s *Store) inTrash(d Digest) (names []string, err error) {
	entries, err := s.readDir("trash")
	if err != nil {
		return nil, fmt.Errorf("blob: listing the trash: %w", err)
	}
	for i := len(entries) - 1; i >= 0; i-- { // they are sorted, and generations come first
		if t, ok := parseTrashed(entries[i].Name()); ok && t.Digest == d {
			names = append(names, t.name)
		}
	}
	return names, nil
}

// openTrashed opens the blob d's file in the trash: whoever reads something may
// need it, that was collected meanwhile.
func (s *Store) openTrashed(d Digest) (*file, error) {
	names, err := s.inTrash(d)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := s.openNamed(name, d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return f, err
	}
	return nil, fmt.Errorf("%w: no blob %s", ErrNotFound, d)
}

// checkFile is Check for the file name, of the whole blob d.
func (s *Store) checkFile(ctx context.Context, name string, d Digest) (err error) {
	f, err := s.openNamed(name, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if f.partial() {
		return &sumError{"some of its frames were removed"}
	}
	return s.checkStored(ctx, f)
}
