package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// quarantineDir is where damaged files are kept.
const quarantineDir = "quarantine"

// ErrSound says that a file was not moved to quarantine, because it is not
// damaged, or not any more.
var ErrSound = errors.New("blob: the file is sound")

// Quarantined is a file that was taken out of blobs/ because it is damaged.
type Quarantined struct {
	Digest Digest // of the blob whose file it was
	File   string // its name in quarantine/
	Size   int64  // bytes of the file
}

// number returns what the file's name ends with, 0 for a name that is none.
func (q Quarantined) number() int {
	_, text, _ := strings.Cut(q.File, ".")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || q.File != quarantineName(q.Digest, n) {
		return 0
	}
	return n
}

func (q Quarantined) path() string { return quarantineDir + "/" + q.File }

func quarantineName(d Digest, n int) string { return d.String() + "." + strconv.Itoa(n) }

// Quarantine moves the file of the blob d from blobs/ to quarantine/, if it is
// damaged: its table, or a frame that it holds. It reads all of the file, and
// looks at the damage again while no other process can replace the file. The
// move is durable on return. Frames of the file that are still sound can't be
// read from then on, by blobs that borrow them neither; what heals is the same as
// before, to put the content again.
//
// The error wraps ErrSound if the file is not damaged itself, whatever its donors
// are, and ErrNotFound if there is none; then nothing was moved. After another
// error the file is in one of the two places.
func (s *Store) Quarantine(ctx context.Context, d Digest) (q Quarantined, err error) {
	found, err := s.findFault(ctx, blobPath(d), d)
	if err != nil {
		return q, err
	}
	if found == nil {
		return q, fmt.Errorf("%w: %s stays where it is", ErrSound, blobPath(d))
	}
	unlock, err := s.lockPublish(ctx)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	// Its content may have been put again meanwhile, which heals it.
	if still, err := s.stillFaulty(found, d); err != nil {
		return q, err
	} else if !still {
		return q, fmt.Errorf("%w: %s was damaged a moment ago and has been healed", ErrSound, blobPath(d))
	}
	q, err = s.setAside(d)
	if err != nil {
		return q, err
	}
	s.opts.Logger.Warn("moved a damaged blob file to quarantine", "blob", d.String(), "file", q.path(), "error", found.err)
	return q, nil
}

// setAside moves the blob d's file to quarantine/, durably. The caller holds the
// publish lock.
func (s *Store) setAside(d Digest) (q Quarantined, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("blob: moving %s to quarantine: %w", blobPath(d), err)
		}
	}()
	st, err := s.fsys.Stat(blobPath(d))
	if err != nil {
		return q, err
	}
	if err := s.fsys.Mkdir(quarantineDir); err == nil {
		err = s.fsys.SyncDir(".")
		if err != nil {
			return q, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return q, err
	}
	taken, err := s.aside(d)
	if err != nil {
		return q, err
	}
	n := 1
	for slices.ContainsFunc(taken, func(q Quarantined) bool { return q.number() == n }) {
		n++
	}
	q = Quarantined{Digest: d, File: quarantineName(d, n), Size: st.Size()}
	if err := s.outdateMarks(); err != nil { // for the file that comes next
		return Quarantined{}, err
	}
	if err := s.fsys.Rename(blobPath(d), q.path()); err != nil {
		return Quarantined{}, err
	}
	// The new name first: what is there twice after a power cut does no harm.
	if err := s.fsys.SyncDir(quarantineDir); err != nil {
		return q, err
	}
	return q, s.fsys.SyncDir(blobDir(d))
}

// Quarantined lists the files in quarantine that were blobs', by digest and then
// in no order that means anything. It looks at names only, and passes over files
// with other names, such as a damaged index that was kept.
func (s *Store) Quarantined(ctx context.Context) iter.Seq2[Quarantined, error] {
	return func(yield func(Quarantined, error) bool) {
		entries, err := s.readDir(quarantineDir)
		if err != nil {
			yield(Quarantined{}, fmt.Errorf("blob: listing the quarantine: %w", err))
			return
		}
		for _, e := range entries {
			if err := context.Cause(ctx); err != nil {
				yield(Quarantined{}, err)
				return
			}
			q := Quarantined{File: e.Name()}
			hex, _, _ := strings.Cut(q.File, ".")
			if q.Digest, err = ParseDigest(hex); err != nil || q.number() == 0 || e.IsDir() {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				yield(Quarantined{}, fmt.Errorf("blob: listing the quarantine: %w", err))
				return
			}
			q.Size = info.Size()
			if !yield(q, nil) {
				return
			}
		}
	}
}

// aside returns the files of the blob d in quarantine, the latest number first.
func (s *Store) aside(d Digest) (qs []Quarantined, err error) {
	entries, err := s.readDir(quarantineDir)
	if err != nil {
		return nil, fmt.Errorf("blob: listing the quarantine: %w", err)
	}
	hex := d.String() + "."
	for _, e := range entries {
		if q := (Quarantined{Digest: d, File: e.Name()}); strings.HasPrefix(q.File, hex) && q.number() > 0 {
			qs = append(qs, q)
		}
	}
	slices.SortFunc(qs, func(a, b Quarantined) int { return cmp.Compare(b.number(), a.number()) })
	return qs, nil
}

// donorsAside returns the donors of the blob d's files in quarantine, and whether one
// can tell.
func (s *Store) donorsAside(d Digest) (donors []Digest, ok bool, err error) {
	qs, err := s.aside(d)
	if err != nil {
		return nil, false, err
	}
	for _, q := range qs {
		f, err := s.openNamed(q.path(), d)
		if errors.Is(err, ErrNotFound) || unsound(err) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		donors, ok = append(donors, digests(f.table.Donors)...), true
		if err := f.close(); err != nil {
			return nil, false, err
		}
	}
	return donors, ok, nil
}

// Release moves a file out of quarantine back to blobs/, after it has read and
// checked all of it: its table and every frame that it holds. A damaged file that
// has its place by then goes to quarantine instead, and readers miss the blob
// for a moment. The move is durable on return.
//
// The error is a *CorruptError if the file is still damaged; it wraps ErrExist if
// the blob has a sound file, and ErrNotFound if q is not in quarantine. In these
// cases nothing was moved.
func (s *Store) Release(ctx context.Context, q Quarantined) (err error) {
	d := q.Digest
	if q.number() == 0 {
		return fmt.Errorf("blob: %q is no name of a file of %s in quarantine: %w", q.File, d, fs.ErrInvalid)
	}
	before, err := s.fsys.Stat(q.path())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s", ErrNotFound, q.path())
	}
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	found, err := s.findFault(ctx, q.path(), d)
	if err != nil {
		return err
	}
	if found != nil {
		return fmt.Errorf("blob: %s stays where it is: %w", q.path(), found.corrupt(d))
	}
	inPlace, err := s.findFault(ctx, blobPath(d), d)
	missing := errors.Is(err, ErrNotFound)
	if err != nil && !missing {
		return err
	}
	unlock, err := s.lockPublish(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	after, err := s.fsys.Stat(q.path())
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return errors.Join(fmt.Errorf("%w: another process has moved %s", ErrNotFound, q.path()), err)
	}
	if inPlace != nil {
		missing, err = s.giveWay(inPlace, d)
	} else if _, err = s.fsys.Stat(blobPath(d)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else {
		missing = false
	}
	if err != nil {
		return err
	}
	if !missing {
		return fmt.Errorf("%w: %s is sound, so %s stays where it is", ErrExist, blobPath(d), q.path())
	}
	return s.putBack(q)
}

// giveWay moves a damaged file out of the way of another one, and reports false if
// it has been healed.
func (s *Store) giveWay(found *fault, d Digest) (bool, error) {
	still, err := s.stillFaulty(found, d)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	if err != nil || !still {
		return false, err
	}
	_, err = s.setAside(d)
	return err == nil, err
}

// putBack moves q to blobs/, durably. The caller holds the publish lock.
func (s *Store) putBack(q Quarantined) error {
	err := s.takeIn(q.path(), q.Digest)
	if err == nil {
		err = s.fsys.SyncDir(quarantineDir)
	}
	if err != nil {
		return fmt.Errorf("blob: moving %s back: %w", q.path(), err)
	}
	s.opts.Logger.Info("moved a blob file back from quarantine", "blob", q.Digest.String(), "file", q.path())
	return nil
}

// cuts returns the lengths of the frames that the blob d, of size plain bytes, has
// or had: of its file, or of the latest one in quarantine whose table can be read.
// It returns nil if none can tell.
func (s *Store) cuts(d Digest, size int64) ([]uint32, error) {
	aside, err := s.aside(d)
	if err != nil {
		return nil, err
	}
	names := []string{blobPath(d)}
	for _, q := range aside {
		names = append(names, q.path())
	}
	for _, name := range names {
		f, err := s.openNamed(name, d)
		if err != nil {
			continue // what it was can't be told, whatever the reason
		}
		rows := lens(f.table.Rows)
		if err := f.close(); err != nil {
			return nil, err
		}
		if f.plain == size {
			return rows, nil
		}
	}
	return nil, nil
}
