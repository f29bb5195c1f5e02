package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/parity"
)

// The bounds of a parity's budget, in percent of the blob's file.
const (
	MinParity = parity.MinPercent
	MaxParity = parity.MaxPercent
)

// ErrNoParity says that a blob has no parity that is of its file as it is. It
// wraps fs.ErrNotExist.
var ErrNoParity = fmt.Errorf("blob: no parity: %w", fs.ErrNotExist)

// Parity describes the parity file of a blob.
type Parity struct {
	Percent int   `json:"percent"` // the budget
	Stored  int64 `json:"stored"`  // bytes of the parity file
	Stale   bool  `json:"stale"`   // it is of another file than the blob's, which was written anew since
	Damaged bool  `json:"damaged"` // some of the parity file itself is damaged; it may still repair
}

// ParityOf describes the parity of the blob d, which need not be sound, without
// reading all of either file. It returns ErrNoParity if there is none, and a
// *CorruptError if there is one that is damaged beyond use.
func (s *Store) ParityOf(ctx context.Context, d Digest) (p Parity, err error) {
	if err := context.Cause(ctx); err != nil {
		return Parity{}, err
	}
	pf, err := s.openParity(d)
	if err != nil {
		return Parity{}, err
	}
	defer func() { err = errors.Join(err, pf.close()) }()
	stale, err := s.stale(d, pf)
	return Parity{Percent: pf.Percent(), Stored: pf.stored, Stale: stale, Damaged: !pf.Whole()}, err
}

// AddParity gives the blob d a parity of percent, from MinParity to MaxParity,
// in place of one that it has; one of the same percentage that fits is kept. The
// blob's file has to be sound: it is checked as Check does, and a *CorruptError
// tells that it is not. The parity is durable on return. A parity is of one
// file: what the blob borrows is protected by its donors' own.
func (s *Store) AddParity(ctx context.Context, d Digest, percent int) (Parity, error) {
	if err := checkPercent(percent); err != nil {
		return Parity{}, err
	}
	p, err := s.ParityOf(ctx, d)
	if err != nil && !lacking(err) {
		return Parity{}, err
	}
	if err != nil || p.Percent != percent || p.Stale || p.Damaged {
		if err := s.Check(ctx, d); err != nil {
			return Parity{}, err
		}
		if p, err = s.makeParity(ctx, d, percent); err != nil {
			return Parity{}, err
		}
	}
	b := s.Batch()
	b.relyParity(d) // whoever made it
	return p, b.Sync(ctx)
}

// lacking reports whether err says that there is no parity that is of use.
func lacking(err error) bool { return isDamaged(err) || errors.Is(err, ErrNoParity) }

func checkPercent(percent int) error {
	if percent < MinParity || percent > MaxParity {
		return fmt.Errorf("blob: a parity of %d%%: it is %d to %d: %w", percent, MinParity, MaxParity, fs.ErrInvalid)
	}
	return nil
}

// RemoveParity removes the parity of the blob d, which need not exist, and does
// nothing if there is none. That is durable on return. Whoever removes a blob
// has to call it.
func (s *Store) RemoveParity(ctx context.Context, d Digest) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if _, err := s.fsys.Stat(parityDir(d)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.outdateParity(d, true)
}

// outdateParity removes the parity of the blob d, whose file is about to get
// its name; heal if it replaces one. Parity of an earlier file that stayed could
// turn a damaged file back into one that has not the frames that others borrow.
func (s *Store) outdateParity(d Digest, heal bool) error {
	err := s.fsys.Remove(parityPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		if !heal {
			return nil
		}
		// Somebody may have removed it and died before syncing that.
		if _, err = s.fsys.Stat(parityDir(d)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err == nil {
		err = s.fsys.SyncDir(parityDir(d))
	}
	if err != nil {
		return fmt.Errorf("blob: removing the parity of %s: %w", d, err)
	}
	return nil
}

// Parities lists the blobs for which there is a parity file, ascending. It looks
// at names only: there may be no such blob.
func (s *Store) Parities(ctx context.Context) iter.Seq2[Digest, error] {
	if _, err := s.fsys.Stat("parity"); errors.Is(err, fs.ErrNotExist) {
		return func(func(Digest, error) bool) {}
	}
	return s.all(ctx, "parity", "")
}

// ParityStored adds up the bytes of all parity files, from their sizes alone.
func (s *Store) ParityStored(ctx context.Context) (total int64, err error) {
	for d, err := range s.Parities(ctx) {
		if err != nil {
			return total, err
		}
		st, err := s.fsys.Stat(parityPath(d))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return total, fmt.Errorf("blob: %w", err)
		}
		total += st.Size()
	}
	return total, nil
}

// relyParity notes that the name of the blob d's parity has to be durable.
func (b *Batch) relyParity(d Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, dir := range []string{".", "parity", parityDir(d)} {
		b.dirs[dir] = struct{}{}
	}
}

// protect makes what Options.Parity asks for: a parity for the blob, which was
// just written or checked, and for all that it needs of other blobs.
func (b *Batch) protect(ctx context.Context, info Info) error {
	if b.s.opts.Parity == 0 {
		return nil
	}
	if err := checkPercent(b.s.opts.Parity); err != nil {
		return err
	}
	if err := b.protectOne(ctx, info.Digest, b.s.makeParity); err != nil {
		return err
	}
	for left := info.Donors; len(left) > 0; {
		d := left[0]
		left = left[1:]
		if b.isProtected(d) {
			continue
		}
		donor, err := b.s.Stat(ctx, d)
		if err == nil {
			err = b.protectOne(ctx, d, b.s.AddParity)
		}
		if isDamaged(err) || errors.Is(err, ErrNotFound) {
			// Of a donor only the frames that are needed were checked.
			b.s.opts.Logger.Warn("no parity for a donor", "blob", d.String(), "error", err)
			continue
		}
		if err != nil {
			return err
		}
		left = append(left[:len(left):len(left)], donor.Donors...)
	}
	return nil
}

func isDamaged(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// protectOne makes a parity for the blob d, unless it has one.
func (b *Batch) protectOne(ctx context.Context, d Digest, make func(context.Context, Digest, int) (Parity, error)) error {
	if b.isProtected(d) {
		return nil
	}
	p, err := b.s.ParityOf(ctx, d)
	if err != nil && !lacking(err) {
		return err
	}
	if err != nil || p.Stale || p.Damaged {
		if _, err := make(ctx, d, b.s.opts.Parity); err != nil {
			return err
		}
	}
	b.relyParity(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.protected == nil {
		b.protected = map[Digest]bool{}
	}
	b.protected[d] = true
	return nil
}

func (b *Batch) isProtected(d Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.protected[d]
}

func parityDir(d Digest) string  { return "parity/" + d.String()[:2] }
func parityPath(d Digest) string { return parityDir(d) + "/" + d.String() }

// parityFile is an open parity file whose list was checked.
type parityFile struct {
	*parity.File
	f      durable.File
	stored int64
}

func (p *parityFile) close() error { return p.f.Close() }

// openParity opens the parity file of the blob d.
func (s *Store) openParity(d Digest) (*parityFile, error) {
	f, err := s.fsys.Open(parityPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w of the blob %s", ErrNoParity, d)
	}
	if err != nil {
		return nil, fmt.Errorf("blob: opening the parity of %s: %w", d, err)
	}
	p := &parityFile{f: f}
	st, err := f.Stat()
	if err == nil {
		p.stored = st.Size()
		p.File, err = parity.Open(f, p.stored)
	}
	if err != nil {
		return nil, errors.Join(asParityError(err, d), f.Close())
	}
	return p, nil
}

// asParityError makes damage of a parity file a *CorruptError.
func asParityError(err error, d Digest) error {
	if _, ok := errors.AsType[*parity.Error](err); ok {
		return &CorruptError{Blob: d, In: d, Offset: -1, Err: fmt.Errorf("its parity file: %w", err)}
	}
	return fmt.Errorf("blob: the parity of %s: %w", d, err)
}

// stale reports whether p is of another file than the one that is there. A file
// whose footer and table are damaged is not another one: files are written
// only where no parity of an earlier one is left.
func (s *Store) stale(d Digest, p *parityFile) (bool, error) {
	f, err := s.openFile(d)
	if errors.Is(err, ErrNotFound) || unsound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The table has a checksum of each frame's stored bytes, and the footer one
	// of the table: a file that ends alike is the same.
	ends, err := p.Ends(f.f, f.size)
	return !ends, errors.Join(err, f.close())
}

// makeParity writes the parity of the file that the blob d has, which is sound.
// Its name is durable after a sync of the folders that relyParity notes.
func (s *Store) makeParity(ctx context.Context, d Digest, percent int) (p Parity, err error) {
	for range placeTries {
		if p, err = s.tryParity(ctx, d, percent); !errors.Is(err, errReplaced) {
			break
		}
	}
	return p, err
}

// placeTries is how often to begin anew when another process heals the blob
// meanwhile, which leaves it sound: once more should do.
const placeTries = 3

func (s *Store) tryParity(ctx context.Context, d Digest, percent int) (p Parity, err error) {
	f, err := s.openFile(d)
	if err != nil {
		return Parity{}, asCorrupt(err, d, d, -1)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	before, err := f.f.Stat()
	if err != nil {
		return Parity{}, fmt.Errorf("blob: %w", err)
	}
	o, err := s.temporary()
	if err != nil {
		return Parity{}, err
	}
	defer func() { err = errors.Join(err, o.discard()) }()
	p = Parity{Percent: percent}
	if p.Stored, err = parity.Write(ctx, o.f, f.f, f.size, percent); err != nil {
		return Parity{}, fmt.Errorf("blob: the parity of %s: %w", d, err)
	}
	if err := o.f.Sync(); err != nil {
		return Parity{}, fmt.Errorf("blob: syncing the parity of %s: %w", d, err)
	}
	for _, dir := range []string{"parity", parityDir(d)} {
		if err := s.fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return Parity{}, fmt.Errorf("blob: %w", err)
		}
	}
	if err := s.place(ctx, o, parityPath(d), d, before); err != nil {
		return Parity{}, err
	}
	return p, o.released()
}
