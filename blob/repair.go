package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/parity"
)

// BeyondError says that a blob's file is damaged more than its parity repairs.
// Nothing was changed.
type BeyondError struct {
	Blob   Digest
	Shards int64 // of the file that are damaged
	Bad    int   // in the worst column, shards of which each is computed from the others
	Budget int   // that may be damaged in each column
}

func (e *BeyondError) Error() string {
	return fmt.Sprintf("blob: %s is damaged beyond what its parity repairs, in %d shards: of those that depend on each other, %d where %d can be rebuilt; nothing was changed; put the same content again to heal it", e.Blob, e.Shards, e.Bad, e.Budget)
}

// Repaired is what RepairFile did.
type Repaired struct {
	Blob   Digest `json:"blob"`
	Size   int64  `json:"size"`   // bytes of its file
	Shards int64  `json:"shards"` // of the file that were damaged and rebuilt
	File   bool   `json:"file"`   // the file was damaged, and written anew
	Parity bool   `json:"parity"` // the parity file was damaged too, and written anew
}

// RepairFile rebuilds the file of the blob d from its parity: byte for byte the
// file that the parity was made of. It replaces the damaged one at once, after
// all of it was read back, by its own hash and then as Check does; until then,
// and after any error, the damaged file stays as it is. If the blob has no file,
// but damaged ones in quarantine/, the first of those that is within the budget
// is what is repaired, and stays where it is. A file that is sound is left
// alone, and a parity file that is damaged is made anew. All of it is durable on
// return.
//
// It returns ErrNoParity if there is none, or none of the file that is there;
// ErrNotFound if there is no file; *BeyondError if the damage is more than the
// budget; *CorruptError if the parity file is damaged beyond use. Bytes that the
// disk can't read are damage like any other. It repairs what the blob holds, not
// what it borrows: that is in its donors.
func (s *Store) RepairFile(ctx context.Context, d Digest) (r Repaired, err error) {
	p, err := s.openParity(d)
	if err != nil {
		return Repaired{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	stale, err := s.stale(d, p)
	if err != nil {
		return Repaired{}, err
	}
	if stale {
		return Repaired{}, fmt.Errorf("%w of the blob %s as it is: its file was written anew since", ErrNoParity, d)
	}
	src, err := s.damagedFile(ctx, d, p)
	if err != nil {
		return Repaired{}, err
	}
	defer func() { err = errors.Join(err, src.f.Close()) }()
	r = Repaired{Blob: d, Size: p.Size(), Shards: src.damage.Shards, File: src.damage.Any() || src.quarantined}
	if r.File {
		if err := s.rebuild(ctx, d, p, src); err != nil {
			return Repaired{}, err
		}
		s.opts.Logger.Warn("repaired a damaged blob", "blob", d.String(), "shards", r.Shards)
	}
	if !p.Whole() || src.damage.Parity > 0 {
		if _, err := s.makeParity(ctx, d, p.Percent()); err != nil {
			return Repaired{}, err
		}
		r.Parity = true
	}
	b := s.Batch()
	b.rely(d)
	b.relyParity(d)
	return r, b.Sync(ctx)
}

// remains is what is left of a file that is rebuilt.
type remains struct {
	f           durable.File
	info        fs.FileInfo
	quarantined bool
	damage      *parity.Damage
}

// damagedFile opens the file of the blob d, or one in quarantine, and says what
// is damaged of it: not more than the parity repairs.
func (s *Store) damagedFile(ctx context.Context, d Digest, p *parityFile) (*remains, error) {
	src, err := s.scan(ctx, d, blobPath(d), p)
	if !errors.Is(err, fs.ErrNotExist) {
		return src, err
	}
	entries, err := s.readDir(quarantineDir)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	var beyond error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), d.String()+".") {
			continue
		}
		src, err := s.scan(ctx, d, quarantineDir+"/"+e.Name(), p)
		if err == nil {
			src.quarantined = true
			return src, nil
		}
		if _, ok := errors.AsType[*BeyondError](err); !ok {
			return nil, err
		}
		beyond = err
	}
	if beyond == nil {
		beyond = fmt.Errorf("%w: no blob %s", ErrNotFound, d)
	}
	return nil, beyond
}

// scan opens the file name and compares it with the parity of the blob d.
func (s *Store) scan(ctx context.Context, d Digest, name string, p *parityFile) (*remains, error) {
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("blob: opening %s: %w", name, err)
	}
	src := &remains{f: f}
	if src.info, err = f.Stat(); err == nil {
		src.damage, err = p.Scan(ctx, f, src.info.Size())
	}
	if err != nil {
		err = fmt.Errorf("blob: reading %s: %w", d, err)
	} else {
		err = asBeyond(src.damage.Err(), d, src.damage.Shards)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return src, nil
}

// asBeyond gives an error of parity the blob's name.
func asBeyond(err error, d Digest, shards int64) error {
	if e, ok := errors.AsType[*parity.BeyondError](err); ok {
		return &BeyondError{Blob: d, Shards: shards, Bad: e.Bad, Budget: e.Budget}
	}
	return err
}

// rebuild writes the file of the blob d as it was and gives it its name. It is
// renamed over the damaged one, which holds nothing that it does not: moving
// that away first would leave a moment, and after a power cut perhaps a store,
// without the blob.
func (s *Store) rebuild(ctx context.Context, d Digest, p *parityFile, src *remains) (err error) {
	o, err := s.temporary()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.discard()) }()
	if err := p.Repair(ctx, o.f, src.f, src.damage); err != nil {
		return fmt.Errorf("blob: repairing %s: %w", d, err)
	}
	f, err := readFile(o.f, d)
	if err == nil {
		err = s.checkStored(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("blob: repairing %s: its parity is of a file that is not sound: %w", d, err)
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("blob: syncing: %w", err)
	}
	before := src.info
	if src.quarantined {
		before = nil
		if err := s.fsys.Mkdir(blobDir(d)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("blob: %w", err)
		}
	}
	if err := s.place(ctx, o, blobPath(d), d, before); err != nil {
		return err
	}
	return o.released()
}

// temporary returns an output with its file made, for other things than frames.
func (s *Store) temporary() (*output, error) {
	o := &output{s: s}
	if err := o.create(); err != nil {
		return nil, fmt.Errorf("blob: making a temporary file: %w", err)
	}
	o.buf = s.frame()
	return o, nil
}

// errReplaced says that a blob's file is another one than it was before, or
// gone.
var errReplaced = errors.New("blob: another process replaced or removed the blob's file meanwhile, and nothing was changed")

// place renames a finished temporary file to name, if the blob d still has the
// file that before describes; nil is none.
func (s *Store) place(ctx context.Context, o *output, name string, d Digest, before fs.FileInfo) (err error) {
	unlock, err := s.lockPublish(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now, err := s.fsys.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if !s.sameFile(before, now) {
		return fmt.Errorf("%w: %s; try again", errReplaced, d)
	}
	if name == blobPath(d) {
		if err := s.outdateMarks(); err != nil {
			return err
		}
	}
	if err := s.fsys.Rename(o.name, name); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	return nil
}

// sameFile reports whether a file is what it was. nil is no file.
func (s *Store) sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	_, disk := s.fsys.(*durable.Dir)
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && (!disk || os.SameFile(a, b))
}
