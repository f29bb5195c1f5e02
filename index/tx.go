package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/name"
)

// Tx is one view of the index, or one change of it. It sees its own changes. It
// ends with the function that it was given to and is not safe for concurrent
// use. After a write that failed for another reason than its arguments, the
// whole transaction fails, whatever the function returns.
type Tx struct {
	kv
	ctx     context.Context // of the call of View or Update that the Tx lives within
	store   *blob.Store
	dir     durable.FS
	state   state
	now     int64
	ops     []Op
	broken  error // of a write that was made in part
	update  bool
	chained bool                      // a part of the journal was checked
	known   map[blob.Digest]blob.Info // blobs that were seen in the store
	gone    map[blob.Digest]bool      // blobs that were looked for in vain, as holders of frames
}

var errView = errors.New("index: a view can't change anything: use Update")

// maxStatus is the most bytes of a status; the longest that heft uses has 10.
const maxStatus = 64

// Now returns the time of the transaction, in microseconds since the Unix
// epoch: that of the record that it will write, or of the call of View.
func (tx *Tx) Now() int64 { return tx.now }

// Applied returns the sequence number of the last journal record that the
// transaction sees. Its own record will have the next one.
func (tx *Tx) Applied() uint64 { return tx.state.pos.next - 1 }

// record applies op and notes it for the journal. The caller has checked that
// it can be applied.
func (tx *Tx) record(op Op) error {
	if err := apply(&tx.kv, tx.state.pos.next, tx.now, &op); err != nil {
		return tx.partial(err)
	}
	tx.ops = append(tx.ops, op)
	return nil
}

func (tx *Tx) writable() error {
	if !tx.update {
		return errView
	}
	if tx.btx == nil {
		return errDone
	}
	return tx.broken
}

// Register makes the version v known. It sets the fields that follow from
// others: Files, Size, Hash, Seq, and RegisteredAt and UpdatedAt if they are
// zero; Metadata and Origin become canonical.
//
// It returns a [*DuplicateError] if the id, or the name and version, is taken, a
// [*PathConflictError], a [*MissingBlobError] if the store lacks the manifest, a
// file, or what one of them borrows from, and an error that wraps [ErrNotFound]
// if there is no version v.Parent. It reads those blobs' tables, and adds the
// blobs as AddBlob does.
func (tx *Tx) Register(v *Version, files []File) error {
	return tx.register(v, files, func(w *Version) error {
		_, err := getVersion(&tx.kv, w.Parent)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: there is no version %s, the parent of %s:%s", ErrNotFound, w.Parent, w.Name, w.Version)
		}
		return err
	})
}

// RegisterAgain is Register of a version that was registered before, and got lost:
// its parent may be gone.
func (tx *Tx) RegisterAgain(v *Version, files []File) error {
	return tx.register(v, files, func(*Version) error { return nil })
}

// register is Register with a check of the parent, if there is one.
func (tx *Tx) register(v *Version, files []File, parent func(*Version) error) error {
	if err := tx.writable(); err != nil {
		return err
	}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path.String(), b.Path.String()) })
	w := *v
	if err := complete(&w, files, tx); err != nil {
		return err
	}
	if err := checkDuplicate(&tx.kv, &w); err != nil {
		return err
	}
	if w.Parent != uuid.Nil {
		if err := parent(&w); err != nil {
			return err
		}
	}
	if err := checkPaths(&tx.kv, &w, files); err != nil {
		return err
	}
	if err := tx.checkBlobs(&w, files); err != nil {
		return err
	}
	for _, d := range blobsOf(&w, files) {
		if err := tx.AddBlob(tx.ctx, d); err != nil {
			return err
		}
	}
	if err := tx.record(Op{Register: &Register{Version: w, Files: files}}); err != nil {
		return err
	}
	// A copy: the record must not change with what the caller does to v.
	w.Metadata, w.Origin = bytes.Clone(w.Metadata), bytes.Clone(w.Origin)
	*v = w
	return nil
}

// CheckPaths returns the [*PathConflictError] that Register would return for
// files with those paths, if there is one.
func (tx *Tx) CheckPaths(n name.Name, v name.Version, paths []name.Path) error {
	files := make([]File, len(paths))
	for i, p := range paths {
		files[i].Path = p
	}
	return checkPaths(&tx.kv, &Version{Name: n, Version: v}, files)
}

// complete checks v as far as that needs no lookup, and sets what follows.
func complete(v *Version, files []File, tx *Tx) (err error) {
	switch {
	case v.ID == uuid.Nil || v.Name.IsZero() || v.Version.IsZero() || v.Manifest.IsZero():
		return fmt.Errorf("index: a version needs an id, a name, a version and a manifest: %w", fs.ErrInvalid)
	case v.Parent == v.ID:
		return fmt.Errorf("index: version %s can't be its own parent: %w", v.ID, fs.ErrInvalid)
	}
	if err := checkStatus(v.Status); err != nil {
		return err
	}
	if v.Metadata, err = canonical(v.Metadata); err != nil {
		return err
	}
	if v.Origin, err = canonical(v.Origin); err != nil {
		return err
	}
	v.Files, v.Size, v.Hash = len(files), 0, v.Manifest
	for _, f := range files {
		if f.Path.IsZero() || f.Digest.IsZero() || f.Size < 0 {
			return fmt.Errorf("index: file %q of %s:%s needs a path, a digest and a size: %w", f.Path, v.Name, v.Version, fs.ErrInvalid)
		}
		v.Size += f.Size
	}
	if len(files) == 1 {
		v.Hash = files[0].Digest
	}
	v.RegisteredAt = cmp.Or(v.RegisteredAt, tx.now)
	v.UpdatedAt = cmp.Or(v.UpdatedAt, tx.now)
	v.Seq = tx.state.pos.next
	return nil
}

func canonical(metadata json.RawMessage) (json.RawMessage, error) {
	if len(metadata) == 0 {
		return nil, nil
	}
	b, err := canon.Compact(metadata)
	if err != nil {
		return nil, fmt.Errorf("index: metadata: %w", err)
	}
	return b, nil
}

func checkStatus(s string) error {
	if s == "" || len(s) > maxStatus || !utf8.ValidString(s) || bytes.ContainsFunc([]byte(s), unicode.IsControl) {
		return fmt.Errorf("index: status %.80q is not 1 to %d bytes of printable text: %w", s, maxStatus, fs.ErrInvalid)
	}
	return nil
}

// blobsOf returns the manifest and the files' blobs, each once.
func blobsOf(v *Version, files []File) []blob.Digest {
	all := []blob.Digest{v.Manifest}
	for _, f := range files {
		all = append(all, f.Digest)
	}
	slices.SortFunc(all, func(a, b blob.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(all)
}

// checkBlobs looks for every blob of v, and for what they borrow from, in the
// store.
func (tx *Tx) checkBlobs(v *Version, files []File) error {
	for _, d := range blobsOf(v, files) {
		info, err := tx.stat(d)
		if errors.Is(err, blob.ErrNotFound) {
			return &MissingBlobError{Digest: d}
		}
		if err != nil {
			return fmt.Errorf("index: looking for blob %s: %w", d, err)
		}
		if info.Partial {
			return &MissingBlobError{Digest: d} // it was collected
		}
		if err := tx.checkDonors(d, info.Donors); err != nil {
			return err
		}
	}
	for _, f := range files {
		if info := tx.known[f.Digest]; info.Size != f.Size {
			return fmt.Errorf("index: file %q is said to have %d bytes, but its blob %s has %d: %w", f.Path, f.Size, f.Digest, info.Size, fs.ErrInvalid)
		}
	}
	return nil
}

// checkDonors checks that the donors of the blob d are there, and theirs, as far
// as d may need them.
func (tx *Tx) checkDonors(d blob.Digest, donors []blob.Digest) error {
	seen := map[blob.Digest]bool{}
	partial := false
	for level := range blob.DonorLevels {
		var next []blob.Digest
		for _, donor := range donors {
			if seen[donor] {
				continue
			}
			seen[donor] = true
			info, err := tx.stat(donor)
			if errors.Is(err, blob.ErrNotFound) {
				partial = true
				continue
			}
			if _, damaged := errors.AsType[*blob.CorruptError](err); damaged && level > 0 {
				continue // which of its frames are needed can't be told; verify names it
			}
			if err != nil {
				return fmt.Errorf("index: looking for blob %s, which %s needs: %w", donor, d, err)
			}
			partial = partial || info.Partial
			next = append(next, info.Donors...)
		}
		donors = next
	}
	if !partial {
		return nil
	}
	// A collection left some frames of a donor, or took one that only other frames
	// of a donor need: does d need what is gone?
	m := tx.store.Marks(func(context.Context, blob.Digest) ([]blob.Digest, bool) { return nil, false })
	if err := m.Add(tx.ctx, d); err != nil {
		return fmt.Errorf("index: looking for what blob %s needs: %w", d, err)
	}
	for _, donor := range m.Lacking() {
		return &MissingBlobError{Digest: donor, For: d}
	}
	return nil
}

// stat is Store.Stat, once a transaction for each blob: what removes blobs waits
// for this transaction.
func (tx *Tx) stat(d blob.Digest) (blob.Info, error) {
	if info, ok := tx.known[d]; ok {
		return info, nil
	}
	info, err := tx.store.Stat(tx.ctx, d)
	if err == nil {
		tx.known[d] = info
	}
	return info, err
}

// SetStatus gives the version id another status. The error wraps [ErrNotFound]
// if there is no such version.
func (tx *Tx) SetStatus(id uuid.UUID, to string) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := checkStatus(to); err != nil {
		return err
	}
	v, err := getVersion(&tx.kv, id)
	if err != nil {
		return err
	}
	return tx.record(Op{Status: &StatusChange{ID: id, From: v.Status, To: to}})
}

// SetAlias makes the alias n:a point at the version to, if it points at from
// now; otherwise it returns an [*AliasConflictError]. A zero from means that the
// alias must not exist, a zero to removes it. The error wraps [ErrNotFound] if
// there is no version to, or not of that name. If from is to, nothing changes
// and nothing is recorded.
func (tx *Tx) SetAlias(n name.Name, a name.Alias, from, to uuid.UUID) error {
	if err := tx.writable(); err != nil {
		return err
	}
	have, err := tx.Alias(n, a)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if have != from {
		return &AliasConflictError{Name: n, Alias: a, Want: from, Have: have}
	}
	if to != uuid.Nil {
		v, err := getVersion(&tx.kv, to)
		if err != nil {
			return err
		}
		if v.Name != n {
			return fmt.Errorf("%w: version %s is one of %s, not of %s", ErrNotFound, to, v.Name, n)
		}
	}
	if from == to {
		return nil
	}
	return tx.record(Op{Alias: &AliasChange{Name: n, Alias: a, From: from, To: to}})
}

// SetMetadata replaces what is known of the version id: its metadata, JSON or
// nothing, and its description. The manifest keeps what was known at
// registration. The error wraps [ErrNotFound] if there is no such version.
func (tx *Tx) SetMetadata(id uuid.UUID, metadata json.RawMessage, description string) error {
	if err := tx.writable(); err != nil {
		return err
	}
	metadata, err := canonical(metadata)
	if err != nil {
		return err
	}
	if _, err := getVersion(&tx.kv, id); err != nil {
		return err
	}
	return tx.record(Op{Metadata: &MetadataChange{ID: id, Metadata: metadata, Description: description}})
}

// Delete removes the version id, its paths and the aliases that point at it. Its
// children keep it as their Parent. It asks nothing: whether a version may be
// deleted is for the caller to know. The error wraps [ErrNotFound] if there is
// no such version.
func (tx *Tx) Delete(id uuid.UUID) error {
	if err := tx.writable(); err != nil {
		return err
	}
	v, err := getVersion(&tx.kv, id)
	if err != nil {
		return err
	}
	return tx.record(Op{Delete: &Deletion{ID: id, Name: v.Name, Version: v.Version}})
}

// SetSHA256 records the SHA-256 of a blob's plain content, which the caller
// computed from what was stored or read. That it is recorded already changes
// nothing. If the blob has another one recorded, or another blob has this one,
// the error is a [*SHA256ConflictError] and nothing changes. The blob need not be
// in the store.
func (tx *Tx) SetSHA256(d blob.Digest, sum SHA256) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if d.IsZero() {
		return fmt.Errorf("index: a SHA-256 needs the digest of the blob that it belongs to: %w", fs.ErrInvalid)
	}
	c := &ContentSHA256{Blob: d, SHA256: sum}
	if known, err := checkSHA256(&tx.kv, c); err != nil || known {
		return err
	}
	return tx.record(Op{SHA256: c})
}
