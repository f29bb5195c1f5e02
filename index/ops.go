package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
)

// apply makes a change in the buckets. It is all that does: a transaction and a
// replay of the journal go through it alike, so that both give the same index.
// It looks at nothing but its arguments and the buckets.
//
// An error that is not a *CorruptError means that the change does not fit what
// the journal said before.
func apply(s *kv, seq uint64, now int64, op *Op) error {
	switch {
	case op.Register != nil:
		return applyRegister(s, seq, op.Register)
	case op.Status != nil:
		return applyStatus(s, seq, now, op.Status)
	case op.Alias != nil:
		return applyAlias(s, seq, now, op.Alias)
	case op.Metadata != nil:
		return applyMetadata(s, seq, now, op.Metadata)
	case op.Delete != nil:
		return applyDelete(s, op.Delete)
	case op.SHA256 != nil:
		return applySHA256(s, op.SHA256)
	}
	return errors.New("index: a change of no kind")
}

func applyRegister(s *kv, seq uint64, r *Register) error {
	v := &r.Version
	if v.Seq != seq {
		return fmt.Errorf("index: version %s names record %d as its own, not %d", v.ID, v.Seq, seq)
	}
	if err := checkDuplicate(s, v); err != nil {
		return err
	}
	if err := putVersion(s, v); err != nil {
		return err
	}
	id := v.ID[:]
	puts := []struct {
		bucket     bucket
		key, value []byte
	}{
		{bucketNames, pair(v.Name.String(), v.Version.String()), id},
		{bucketStatus, statusKey(v), id},
		{bucketManifests, append(v.Manifest[:len(v.Manifest):len(v.Manifest)], id...), nil},
	}
	for _, p := range puts {
		if err := s.put(p.bucket, p.key, p.value); err != nil {
			return err
		}
	}
	if v.Parent != uuid.Nil {
		if err := s.put(bucketChildren, slices.Concat(v.Parent[:], id), nil); err != nil {
			return err
		}
	}
	folder := folderOf(v)
	for _, f := range r.Files {
		if err := s.put(bucketPaths, []byte(folder+f.Path.String()), pathValue(v, len(folder), f)); err != nil {
			return err
		}
	}
	return nil
}

// touch notes that a version changed at the time now, unless it is the record seq
// that registered it, too: what that says of its times stays.
func touch(v *Version, seq uint64, now int64) {
	if v.Seq != seq {
		v.UpdatedAt = now
	}
}

func applyStatus(s *kv, seq uint64, now int64, c *StatusChange) error {
	v, err := getVersion(s, c.ID)
	if err != nil {
		return err
	}
	if err := s.del(bucketStatus, statusKey(v)); err != nil {
		return err
	}
	v.Status = c.To
	touch(v, seq, now)
	if err := s.put(bucketStatus, statusKey(v), v.ID[:]); err != nil {
		return err
	}
	return putVersion(s, v)
}

// applyAlias also counts as a change of the versions that lose or gain the
// alias.
func applyAlias(s *kv, seq uint64, now int64, c *AliasChange) error {
	for _, id := range []uuid.UUID{c.From, c.To} {
		if id == uuid.Nil {
			continue
		}
		v, err := getVersion(s, id)
		if err != nil {
			return err
		}
		touch(v, seq, now)
		if err := putVersion(s, v); err != nil {
			return err
		}
	}
	key := pair(c.Name.String(), c.Alias.String())
	if c.To == uuid.Nil {
		return s.del(bucketAliases, key)
	}
	return s.put(bucketAliases, key, c.To[:])
}

func applyMetadata(s *kv, seq uint64, now int64, c *MetadataChange) error {
	v, err := getVersion(s, c.ID)
	if err != nil {
		return err
	}
	v.Metadata, v.Description = c.Metadata, c.Description
	touch(v, seq, now)
	return putVersion(s, v)
}

func applyDelete(s *kv, c *Deletion) error {
	v, err := getVersion(s, c.ID)
	if err != nil {
		return err
	}
	id := v.ID[:]
	for e, err := range s.scan(bucketAliases, pair(v.Name.String(), "")) {
		if err != nil {
			return err
		}
		if string(e.value) == string(id) {
			if err := s.del(bucketAliases, e.key); err != nil {
				return err
			}
		}
	}
	var paths [][]byte
	for e, err := range filesOf(s, v) {
		if err != nil {
			return err
		}
		paths = append(paths, e.key)
	}
	// From the last: the entry before is then never behind pages that were
	// emptied, of which there may be thousands.
	for _, key := range slices.Backward(paths) {
		if err := s.del(bucketPaths, key); err != nil {
			return err
		}
	}
	if v.Parent != uuid.Nil {
		if err := s.del(bucketChildren, slices.Concat(v.Parent[:], id)); err != nil {
			return err
		}
	}
	return errors.Join(
		s.del(bucketManifests, slices.Concat(v.Manifest[:], id)),
		s.del(bucketStatus, statusKey(v)),
		s.del(bucketNames, pair(v.Name.String(), v.Version.String())),
		s.del(bucketVersions, id),
	)
}

func applySHA256(s *kv, c *ContentSHA256) error {
	if known, err := checkSHA256(s, c); err != nil || known {
		return err
	}
	return errors.Join(
		s.put(bucketSHA256, digestKey(byBlob, c.Blob), c.SHA256[:]),
		s.put(bucketSHA256, digestKey(bySHA256, c.SHA256), c.Blob[:]),
	)
}

// checkSHA256 says whether the index has c already. What does not agree with
// what it has is a *SHA256ConflictError.
func checkSHA256(s *kv, c *ContentSHA256) (known bool, err error) {
	have, known, err := getDigest(s, byBlob, c.Blob)
	if err != nil {
		return false, err
	}
	other, taken, err := getDigest(s, bySHA256, c.SHA256)
	switch {
	case err != nil:
		return false, err
	case known && have != c.SHA256:
		return false, &SHA256ConflictError{Blob: c.Blob, Given: c.SHA256, Have: have}
	case taken && other != c.Blob:
		return false, &SHA256ConflictError{Blob: c.Blob, Given: c.SHA256, Other: other}
	}
	return known, nil
}

// checkDuplicate returns a *DuplicateError if the id of v is taken, or its name
// and version.
func checkDuplicate(s *kv, v *Version) error {
	b, err := s.get(bucketNames, pair(v.Name.String(), v.Version.String()))
	if err != nil {
		return err
	}
	if b != nil {
		id, err := parseID(s, bucketNames, pair(v.Name.String(), v.Version.String()), b)
		if err != nil {
			return err
		}
		return &DuplicateError{Name: v.Name, Version: v.Version, ID: id}
	}
	old, err := getVersion(s, v.ID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return &DuplicateError{Name: old.Name, Version: old.Version, ID: old.ID}
}

// checkPaths returns a *PathConflictError if a file of v can't have its path,
// because of another version's file or of one in files. files is sorted by path.
func checkPaths(s *kv, v *Version, files []File) error {
	folder := folderOf(v)
	own := make(map[string]bool, len(files))
	for _, f := range files {
		full := folder + f.Path.String()
		if own[full] {
			return &PathConflictError{Path: full, Other: full}
		}
		own[full] = true
	}
	checked := make(map[string]bool) // folders
	for _, f := range files {
		full := folder + f.Path.String()
		for i, c := range full {
			if c != '/' || checked[full[:i]] {
				continue
			}
			checked[full[:i]] = true
			if own[full[:i]] {
				return &PathConflictError{Path: full, Other: full[:i]}
			}
			if b, err := s.get(bucketPaths, []byte(full[:i])); err != nil {
				return err
			} else if b != nil {
				return &PathConflictError{Path: full, Other: full[:i]}
			}
		}
		if b, err := s.get(bucketPaths, []byte(full)); err != nil {
			return err
		} else if b != nil {
			return &PathConflictError{Path: full, Other: full}
		}
		for e, err := range s.scan(bucketPaths, []byte(full+"/")) {
			if err != nil {
				return err
			}
			return &PathConflictError{Path: full, Other: string(e.key)}
		}
	}
	return nil
}

// pair joins two texts into a key.
func pair(a, b string) []byte { return []byte(a + "\x00" + b) }

// unpair is the reverse of pair.
func unpair(key []byte) (a, b string, ok bool) { return strings.Cut(string(key), "\x00") }

func statusKey(v *Version) []byte {
	return pair(v.Status, string(pair(v.Name.String(), v.Version.String())))
}

// folderOf returns what the full paths of v begin with.
func folderOf(v *Version) string { return v.Name.String() + "/" + v.Version.String() + "/" }

func parseID(s *kv, b bucket, key, value []byte) (uuid.UUID, error) {
	id, err := uuid.FromBytes(value)
	if err != nil {
		return id, s.damaged(b, key, err)
	}
	return id, nil
}

func putVersion(s *kv, v *Version) error {
	b, err := canon.Marshal(v)
	if err != nil {
		return fmt.Errorf("index: version %s can't be written: %w", v.ID, err)
	}
	return s.put(bucketVersions, v.ID[:], b)
}

// getVersion returns an error that wraps ErrNotFound if there is no version id.
func getVersion(s *kv, id uuid.UUID) (*Version, error) {
	b, err := s.get(bucketVersions, id[:])
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("%w: no version has the id %s", ErrNotFound, id)
	}
	v := new(Version)
	if err := canon.Decode(b, v); err != nil {
		return nil, s.damaged(bucketVersions, id[:], err)
	}
	return v, nil
}

// pathValue is the version's id, the file's digest and size, the time of
// registration, and where in the key the file's own path begins.
func pathValue(v *Version, folder int, f File) []byte {
	b := slices.Concat(v.ID[:], f.Digest[:])
	b = binary.LittleEndian.AppendUint64(b, uint64(f.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.RegisteredAt))
	return binary.LittleEndian.AppendUint32(b, uint32(folder))
}

func parsePath(s *kv, e entry) (fe FileEntry, err error) {
	const size = 16 + 32 + 8 + 8 + 4
	if len(e.value) != size {
		return fe, s.damaged(bucketPaths, e.key, errors.New("value has a wrong length"))
	}
	fe.Full = string(e.key)
	copy(fe.Version[:], e.value)
	copy(fe.File.Digest[:], e.value[16:])
	fe.File.Size = int64(binary.LittleEndian.Uint64(e.value[48:]))
	fe.RegisteredAt = int64(binary.LittleEndian.Uint64(e.value[56:]))
	folder := int(binary.LittleEndian.Uint32(e.value[64:]))
	if folder > len(e.key) {
		return fe, s.damaged(bucketPaths, e.key, errors.New("value points beyond the key"))
	}
	if fe.File.Path, err = name.ParsePath(fe.Full[folder:]); err != nil {
		return fe, s.damaged(bucketPaths, e.key, err)
	}
	return fe, nil
}

// What the keys of bucketSHA256 begin with.
const (
	byBlob   = 'b'
	bySHA256 = 's'
)

// digestKey is a key of bucketSHA256.
func digestKey(kind byte, digest [32]byte) []byte { return append([]byte{kind}, digest[:]...) }

// getDigest returns the digest that bucketSHA256 has for another one, and
// whether it has any.
func getDigest(s *kv, kind byte, of [32]byte) (digest [32]byte, ok bool, err error) {
	key := digestKey(kind, of)
	b, err := s.get(bucketSHA256, key)
	if err != nil || b == nil {
		return digest, false, err
	}
	if len(b) != len(digest) {
		return digest, false, s.damaged(bucketSHA256, key, errors.New("value has a wrong length"))
	}
	return [32]byte(b), true, nil
}

// blobValue is the size, the stored size, the parts and the donors of a blob.
func blobValue(info blob.Info) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(info.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(info.Stored))
	for _, p := range [...]blob.Part{info.Parts.Raw, info.Parts.Self, info.Parts.Delta, info.Parts.Borrowed} {
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Frames))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Size))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Stored))
	}
	for _, d := range info.Donors {
		b = append(b, d[:]...)
	}
	return b
}

func parseBlob(s *kv, e entry) (info BlobInfo, err error) {
	if len(e.key) != len(info.Digest) || len(e.value) < 96 || len(e.value)%32 != 0 {
		return info, s.damaged(bucketBlobs, e.key, errors.New("entry has a wrong length"))
	}
	copy(info.Digest[:], e.key)
	info.Size = int64(binary.LittleEndian.Uint64(e.value))
	info.Stored = int64(binary.LittleEndian.Uint64(e.value[8:]))
	b := e.value[16:]
	for _, p := range [...]*blob.Part{&info.Parts.Raw, &info.Parts.Self, &info.Parts.Delta, &info.Parts.Borrowed} {
		*p = blob.Part{
			Frames: int(binary.LittleEndian.Uint32(b)),
			Size:   int64(binary.LittleEndian.Uint64(b[4:])),
			Stored: int64(binary.LittleEndian.Uint64(b[12:])),
		}
		b = b[20:]
	}
	for ; len(b) > 0; b = b[32:] {
		info.Donors = append(info.Donors, blob.Digest(b))
	}
	return info, nil
}
