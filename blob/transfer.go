package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/heftstore/heft/internal/format"
)

// Transfer brings blobs from one store to another as the files that they are
// stored in, with what they borrow from. It is not safe for concurrent use.
//
// What it brings, or finds there, is pinned in both stores until Close.
type Transfer struct {
	from, to *Store
	batch    *Batch // of the target: pins, and folders to sync
	pin      *Pin   // of the source
	plan     bool   // nothing is written
	aside    bool   // a file that is damaged goes to quarantine before it is replaced
	whole    map[Digest]bool
	lent     map[Digest]*frameSet // frames that the target is known to lend
	unfit    map[Digest]bool      // donors whose file can't be brought
	damaged  map[Digest]bool      // files of the target to be replaced, and not yet
	now      Copied               // of the blob at hand

	folder *os.File // the lock of a backup's folder; nil if there is none
	sealed bool     // the target has its heft.json
}

// Copied is what was done for one blob.
type Copied struct {
	Files    int   // that were written, those of donors among them
	Written  int64 // their bytes; in a plan, about
	Replaced int   // files of the target among them that another one took the place of
	Encoded  bool  // the content was put again, since a file would not fit what is there
}

// Add adds the numbers of q.
func (c *Copied) Add(q Copied) {
	c.Files += q.Files
	c.Written += q.Written
	c.Replaced += q.Replaced
}

// TransferFrom begins a Transfer to s from another store. A damaged file that is
// replaced is kept in quarantine/. The caller closes the Transfer, before both
// stores.
func (s *Store) TransferFrom(ctx context.Context, from *Store) (*Transfer, error) {
	t := newTransfer(from, s)
	t.aside, t.sealed = true, true
	return t, t.begin(ctx)
}

// Distrust says that the target's file of the blob d, if there is one, is damaged:
// what needs it has to be copied again, and the file is replaced.
func (t *Transfer) Distrust(d Digest) {
	t.damaged[d] = true
	delete(t.lent, d)
	clear(t.whole)
	clear(t.unfit)
}

func newTransfer(from, to *Store) *Transfer {
	return &Transfer{
		from: from, to: to, batch: to.Batch(),
		whole: map[Digest]bool{}, lent: map[Digest]*frameSet{}, unfit: map[Digest]bool{}, damaged: map[Digest]bool{},
	}
}

func (t *Transfer) begin(ctx context.Context) (err error) {
	if t.pin, err = t.from.Pin(ctx); err != nil {
		return errors.Join(err, t.Close())
	}
	return nil
}

// Pin pins blobs of the source, as [Pin.Add] does.
func (t *Transfer) Pin(ds ...Digest) error { return t.pin.Add(ds...) }

// Close lets go of what was pinned, and of a backup's folder.
func (t *Transfer) Close() error {
	err := t.batch.Release()
	if t.pin != nil {
		err = errors.Join(err, t.pin.Close())
	}
	if t.folder != nil {
		err = errors.Join(err, t.folder.Close(), t.to.Close())
		t.folder = nil
	}
	return err
}

// Sync makes what was copied durable. After an error nothing of it may be relied
// on.
func (t *Transfer) Sync(ctx context.Context) error {
	if t.plan {
		return nil
	}
	return t.batch.Sync(ctx)
}

// errUnfit says that a file of the source does not go with what the target has.
var errUnfit = errors.New("blob: the file does not fit")

// transferTries is how often to begin anew when another process changes the file
// that is to be replaced, or the one that is copied.
const transferTries = 8

// Copy gives the target the blob d, as a whole, and what reading it takes, unless
// that is there. A file is copied byte for byte; table and stored bytes have to
// pass their checksums. It takes the place of a file of which frames are missing,
// or which is encoded in another way, if it has all the frames of that one;
// otherwise the content is decoded and put. Of what is there the frame tables are
// looked at, no more. It is durable after Sync.
//
// The error is ErrNotFound or a *CorruptError if the source's is missing or
// damaged, and the target has no sound one; everything else may be copied still.
func (t *Transfer) Copy(ctx context.Context, d Digest) (c Copied, err error) {
	if t.whole[d] {
		return Copied{}, nil
	}
	t.now = Copied{}
	if err := t.pin.Add(d); err != nil {
		return Copied{}, err
	}
	for range transferTries {
		if err = t.copyWhole(ctx, d); errors.Is(err, errUnfit) {
			err = t.putAgain(ctx, d)
		}
		if !errors.Is(err, errReplaced) {
			break
		}
	}
	if errors.Is(err, ErrNotFound) || isDamaged(err) || unsound(err) {
		if t.damaged[d] || !t.sound(ctx, d) {
			return t.now, asCorrupt(err, d, d, -1)
		}
		err = nil // what the target has is better
	}
	if err == nil {
		t.whole[d] = true
	}
	return t.now, err
}

// sound reports whether the target has all of the blob d, undamaged.
func (t *Transfer) sound(ctx context.Context, d Digest) bool {
	return t.to.VerifyWith(ctx, d, &VerifyOptions{Whole: true}) == nil
}

// copyWhole is Copy of d's file, and of those that it needs; or errUnfit.
func (t *Transfer) copyWhole(ctx context.Context, d Digest) (err error) {
	f, err := t.from.openWhole(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	old, err := t.target(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()
	there := old.file != nil && !old.partial() && sameTable(old.file, f)
	if old.file != nil && !there && !covers(f, old.file) {
		return errUnfit
	}
	all := make([]uint32, len(f.table.Rows))
	for i := range all {
		all[i] = uint32(i)
	}
	for e, ws := range wantsOf(f, all, map[Digest][]want{}) {
		if e == d {
			continue // all of them are there
		}
		if err := t.lend(ctx, e, ws, 1); err != nil {
			return err
		}
	}
	if there && !old.bad {
		return nil
	}
	return t.copyFile(ctx, f, old)
}

// target is the file that the target has of a blob.
type target struct {
	*file             // nil if there is none, or its table can't be read
	info  fs.FileInfo // nil if there is none
	bad   bool        // it has to be replaced
}

func (o *target) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.close()
}

// target opens the target's file of the blob d, which it pins before.
func (t *Transfer) target(ctx context.Context, d Digest) (*target, error) {
	if !t.plan {
		if err := t.batch.holds(ctx, d); err != nil {
			return nil, err
		}
	}
	o := &target{bad: t.damaged[d]}
	var err error
	if o.info, err = t.to.fsys.Stat(blobPath(d)); errors.Is(err, fs.ErrNotExist) {
		return o, nil
	} else if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	o.file, err = t.to.openFile(d)
	switch {
	case err == nil:
		t.batch.rely(d)
		return o, nil
	case errors.Is(err, ErrNotFound):
		return &target{}, nil
	case unsound(err):
		o.bad = true
		return o, nil
	}
	return nil, err
}

// openWhole opens the whole blob d, which may be in the trash.
func (s *Store) openWhole(d Digest) (*file, error) {
	f, err := s.openFile(d)
	if err == nil && !f.partial() {
		return f, nil
	}
	if err == nil {
		err = errors.Join(errPartial(d), f.close())
	}
	names, terr := s.inTrash(d)
	if terr != nil {
		return nil, terr
	}
	for _, name := range names {
		if f, terr := s.openNamed(name, d); terr == nil && !f.partial() {
			return f, nil
		} else if terr == nil {
			err = errors.Join(err, f.close())
		}
	}
	return nil, err
}

// openAny opens what there is of the blob d, in the trash too.
func (s *Store) openAny(d Digest) (*file, error) {
	f, err := s.openFile(d)
	if errors.Is(err, ErrNotFound) {
		return s.openTrashed(d)
	}
	return f, err
}

// sameTable reports whether two files hold the same.
func sameTable(a, b *file) bool {
	return a.size == b.size && slices.Equal(a.table.Rows, b.table.Rows) && slices.Equal(a.table.Donors, b.table.Donors)
}

// sameFrames reports whether two files of a blob are cut alike.
func sameFrames(a, b *file) bool {
	return slices.EqualFunc(a.table.Rows, b.table.Rows, func(x, y format.Row) bool { return x.PlainLen == y.PlainLen && x.Sum == y.Sum })
}

// covers reports whether f can take the place of old for all who need frames of it.
func covers(f, old *file) bool {
	if !sameFrames(f, old) {
		return false
	}
	for i := range old.table.Rows {
		if n, ok := old.held(uint32(i)); ok {
			m, ok := f.held(uint32(i))
			if !ok || f.table.Rows[m].Depth > old.table.Rows[n].Depth {
				return false
			}
		}
	}
	return true
}

// serves reports whether old can take the place of f, for the frame i and those
// who need it.
func serves(old, f *file, i uint32) bool {
	n, ok := old.held(i)
	m, held := f.held(i)
	if !ok || !held {
		return false
	}
	a, b := old.table.Rows[n], f.table.Rows[m]
	if a.Depth == 0 {
		return true
	}
	if a.Depth != b.Depth || a.Codec != b.Codec || a.BaseFrame != b.BaseFrame || (a.Base == format.SelfBase) != (b.Base == format.SelfBase) {
		return false
	}
	return a.Base == format.SelfBase || old.table.Donors[a.Base] == f.table.Donors[b.Base]
}

// lend makes the target's file of the blob d have the frames that ws means, and
// what they need in turn; or errUnfit.
func (t *Transfer) lend(ctx context.Context, d Digest, ws []want, level int) (err error) {
	if level > DonorLevels || t.whole[d] {
		return nil
	}
	if t.unfit[d] {
		return errUnfit
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := t.pin.Add(d); err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, errUnfit) {
			t.unfit[d] = true
		}
	}()
	f, err := t.from.openAny(d)
	if errors.Is(err, ErrNotFound) || unsound(err) {
		return errUnfit // which decoding will explain
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	have := t.lent[d]
	if have == nil {
		have = new(frameSet)
	}
	fresh, ok := runs(f, ws, have)
	if !ok {
		return errUnfit
	}
	if len(fresh) == 0 {
		return nil
	}
	old, err := t.target(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()
	replace := old.bad || old.file == nil || !sameFrames(f, old.file) ||
		slices.ContainsFunc(fresh, func(i uint32) bool { return !serves(old.file, f, i) })
	if replace && old.file != nil {
		if !covers(f, old.file) {
			return errUnfit
		}
		// Others rely on what is there: the new file's needs for that come along.
		for i := range old.table.Rows {
			if _, ok := old.held(uint32(i)); ok && !slices.Contains(fresh, uint32(i)) {
				fresh = append(fresh, uint32(i))
			}
		}
	}
	if err := t.needs(ctx, f, fresh, level); err != nil {
		return err
	}
	if replace {
		if err := t.copyFile(ctx, f, old); isDamaged(err) || unsound(err) {
			return errUnfit // another of its frames may be damaged
		} else if err != nil {
			return err
		}
	}
	for _, i := range fresh {
		have.add(i)
	}
	t.lent[d] = have
	return nil
}

// needs brings what the frames of f are decoded with from other blobs.
func (t *Transfer) needs(ctx context.Context, f *file, rows []uint32, level int) error {
	held := make([]uint32, len(rows))
	for k, i := range rows {
		held[k], _ = f.held(i) // runs has seen that it is
	}
	for e, ws := range wantsOf(f, held, map[Digest][]want{}) {
		if e == f.digest {
			continue // runs has followed those
		}
		if err := t.lend(ctx, e, ws, level+1); err != nil {
			return err
		}
	}
	return nil
}

// runs returns the numbers of the frames of f that ws means and have lacks, with
// those of f that they are decoded with; false if one is not held.
func runs(f *file, ws []want, have *frameSet) (fresh []uint32, ok bool) {
	seen := frameSet{}
	for len(ws) > 0 {
		w := ws[0]
		ws = ws[1:]
		for i, left := w.frame, 1; left > 0; i++ {
			if uint64(i) >= uint64(len(f.table.Rows)) {
				if i == w.frame {
					return nil, false
				}
				break // a run is reckoned to its longest
			}
			n, held := f.held(i)
			if !held && i == w.frame {
				return nil, false
			}
			if !held {
				break
			}
			if left -= int(f.table.Rows[n].PlainLen); i == w.frame {
				left = w.bytes
			}
			if seen.has(i) || have.has(i) {
				continue
			}
			seen.add(i)
			fresh = append(fresh, i)
			ws = append(ws, wantsOf(f, []uint32{n}, map[Digest][]want{})[f.digest]...)
		}
	}
	return fresh, true
}
