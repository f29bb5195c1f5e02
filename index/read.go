package index

import (
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
)

// Version returns the version id. The error wraps [ErrNotFound] if there is
// none.
func (tx *Tx) Version(id uuid.UUID) (*Version, error) { return getVersion(&tx.kv, id) }

// Lookup returns the id of a version. The error wraps [ErrNotFound] if there is
// none.
func (tx *Tx) Lookup(n name.Name, v name.Version) (uuid.UUID, error) {
	key := pair(n.String(), v.String())
	b, err := tx.get(bucketNames, key)
	if err != nil {
		return uuid.Nil, err
	}
	if b == nil {
		return uuid.Nil, fmt.Errorf("%w: no version %s:%s", ErrNotFound, n, v)
	}
	return parseID(&tx.kv, bucketNames, key, b)
}

// Versions lists the versions of a name by the bytes of their labels, not by
// [name.Compare]. A name without any gives an empty list.
func (tx *Tx) Versions(n name.Name) iter.Seq2[*Version, error] {
	return tx.versions(bucketNames, pair(n.String(), ""))
}

// All lists the versions by name, then by label, both as bytes.
func (tx *Tx) All() iter.Seq2[*Version, error] { return tx.versions(bucketNames, nil) }

// WithPrefix lists the versions whose name begins with the text prefix, in the
// order of All.
func (tx *Tx) WithPrefix(prefix string) iter.Seq2[*Version, error] {
	if strings.Contains(prefix, "\x00") {
		return func(func(*Version, error) bool) {}
	}
	return tx.versions(bucketNames, []byte(prefix))
}

// ByStatus lists the versions of a status, in the order of All.
func (tx *Tx) ByStatus(status string) iter.Seq2[*Version, error] {
	return tx.versions(bucketStatus, pair(status, ""))
}

// InStatus lists the versions of a name that have a status, in the order of
// Versions.
func (tx *Tx) InStatus(n name.Name, status string) iter.Seq2[*Version, error] {
	return tx.versions(bucketStatus, pair(status, string(pair(n.String(), ""))))
}

// versions lists the versions whose ids are the values in b under a prefix.
func (tx *Tx) versions(b bucket, prefix []byte) iter.Seq2[*Version, error] {
	return func(yield func(*Version, error) bool) {
		for e, err := range tx.scan(b, prefix) {
			var v *Version
			if err == nil {
				v, err = tx.target(b, e)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// target returns the version whose id is the value of e.
func (tx *Tx) target(b bucket, e entry) (*Version, error) {
	id, err := parseID(&tx.kv, b, e.key, e.value)
	if err != nil {
		return nil, err
	}
	return tx.pointed(b, e.key, id)
}

// pointed returns the version id, which the index itself points at: it is
// damaged if there is none.
func (tx *Tx) pointed(b bucket, key []byte, id uuid.UUID) (*Version, error) {
	value, err := tx.get(bucketVersions, id[:])
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, tx.damaged(b, key, fmt.Errorf("it points at version %s, which is missing", id))
	}
	return getVersion(&tx.kv, id)
}

// Names lists the names that begin with the text prefix and have a version, by
// their bytes.
func (tx *Tx) Names(prefix string) iter.Seq2[name.Name, error] {
	return func(yield func(name.Name, error) bool) {
		from := []byte(prefix)
		if string(from) < floor {
			from = []byte(floor)
		}
		for {
			es, _, err := tx.page(bucketNames, from, []byte(prefix), 1)
			if err != nil {
				yield(name.Name{}, err)
				return
			}
			if len(es) == 0 {
				return
			}
			text, _, _ := unpair(es[0].key)
			n, err := name.ParseName(text)
			if err != nil {
				err = tx.damaged(bucketNames, es[0].key, err)
			}
			if !yield(n, err) || err != nil {
				return
			}
			// Beyond the versions of this name: NUL is what parts them from it.
			from = []byte(text + "\x01")
		}
	}
}

// Children lists the ids of the versions that were made from the version id, in
// the order of their bytes. The parent may be deleted.
func (tx *Tx) Children(id uuid.UUID) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) {
		for e, err := range tx.scan(bucketChildren, id[:]) {
			var child uuid.UUID
			if err == nil {
				child, err = parseID(&tx.kv, bucketChildren, e.key, e.key[len(id):])
			}
			if !yield(child, err) || err != nil {
				return
			}
		}
	}
}

// Alias returns the id of the version that the alias n:a points at. The error
// wraps [ErrNotFound] if there is no such alias.
func (tx *Tx) Alias(n name.Name, a name.Alias) (uuid.UUID, error) {
	key := pair(n.String(), a.String())
	b, err := tx.get(bucketAliases, key)
	if err != nil {
		return uuid.Nil, err
	}
	if b == nil {
		return uuid.Nil, fmt.Errorf("%w: no alias %s:%s", ErrNotFound, n, a)
	}
	return parseID(&tx.kv, bucketAliases, key, b)
}

// Aliases lists the aliases of a name by their bytes.
func (tx *Tx) Aliases(n name.Name) iter.Seq2[AliasEntry, error] {
	return func(yield func(AliasEntry, error) bool) {
		for e, err := range tx.scan(bucketAliases, pair(n.String(), "")) {
			a := AliasEntry{Name: n}
			if err == nil {
				a.ID, err = parseID(&tx.kv, bucketAliases, e.key, e.value)
			}
			if err == nil {
				_, text, _ := unpair(e.key)
				if a.Alias, err = name.ParseAlias(text); err != nil {
					err = tx.damaged(bucketAliases, e.key, err)
				}
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// Files lists the files of the version id by the bytes of their paths. Its error
// wraps [ErrNotFound] if there is no such version.
func (tx *Tx) Files(id uuid.UUID) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		v, err := getVersion(&tx.kv, id)
		if err != nil {
			yield(File{}, err)
			return
		}
		for e, err := range filesOf(&tx.kv, v) {
			var fe FileEntry
			if err == nil {
				fe, err = parsePath(&tx.kv, e)
			}
			if !yield(fe.File, err) || err != nil {
				return
			}
		}
	}
}

// filesOf lists the entries of the files of v. Below the folder of a:b there can
// also be files of a/b:c.
func filesOf(s *kv, v *Version) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		for e, err := range s.scan(bucketPaths, []byte(folderOf(v))) {
			if err == nil && (len(e.value) < len(v.ID) || string(e.value[:len(v.ID)]) != string(v.ID[:])) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Path returns the file with a full path, name/version/path. The error wraps
// [ErrNotFound] if there is none.
func (tx *Tx) Path(full string) (FileEntry, error) {
	b, err := tx.get(bucketPaths, []byte(full))
	if err != nil {
		return FileEntry{}, err
	}
	if b == nil {
		return FileEntry{}, fmt.Errorf("%w: no file %.200q", ErrNotFound, full)
	}
	return parsePath(&tx.kv, entry{[]byte(full), b})
}

// Paths lists the files whose full path begins with the text prefix, by the
// bytes of the paths.
func (tx *Tx) Paths(prefix string) iter.Seq2[FileEntry, error] {
	return func(yield func(FileEntry, error) bool) {
		for e, err := range tx.scan(bucketPaths, []byte(prefix)) {
			var fe FileEntry
			if err == nil {
				fe, err = parsePath(&tx.kv, e)
			}
			if !yield(fe, err) || err != nil {
				return
			}
		}
	}
}

// ByManifest lists the versions whose manifest's digest begins with hex digits,
// in either case, by digest. Text that is no beginning of one gives an empty
// list.
func (tx *Tx) ByManifest(hexPrefix string) iter.Seq2[*Version, error] {
	return func(yield func(*Version, error) bool) {
		text := strings.ToLower(hexPrefix)
		prefix, err := hex.DecodeString(text[:len(text)&^1])
		if err != nil || len(text) > 2*len(blob.Digest{}) {
			return
		}
		for e, err := range tx.scan(bucketManifests, prefix) {
			var v *Version
			if err == nil {
				if !strings.HasPrefix(hex.EncodeToString(e.key), text) {
					continue
				}
				var id uuid.UUID
				if id, err = parseID(&tx.kv, bucketManifests, e.key, e.key[min(len(e.key), 32):]); err == nil {
					v, err = tx.pointed(bucketManifests, e.key, id)
				}
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Blob returns what is known of a blob. The error wraps [ErrNotFound] if it was
// never added; that says nothing of the store.
func (tx *Tx) Blob(d blob.Digest) (BlobInfo, error) {
	b, err := tx.get(bucketBlobs, d[:])
	if err != nil {
		return BlobInfo{}, err
	}
	if b == nil {
		return BlobInfo{}, fmt.Errorf("%w: blob %s is not in the index", ErrNotFound, d)
	}
	return parseBlob(&tx.kv, entry{d[:], b})
}

// Blobs lists the blobs that were added, by digest.
func (tx *Tx) Blobs() iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		for e, err := range tx.scan(bucketBlobs, nil) {
			var info BlobInfo
			if err == nil {
				info, err = parseBlob(&tx.kv, e)
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// SHA256 returns the SHA-256 of a blob's content, and whether it is recorded.
// That says nothing of the store.
func (tx *Tx) SHA256(d blob.Digest) (SHA256, bool, error) { return getDigest(&tx.kv, byBlob, d) }

// BySHA256 returns the blob whose content has the SHA-256 sum, and whether one is
// recorded. That says nothing of the store.
func (tx *Tx) BySHA256(sum SHA256) (blob.Digest, bool, error) {
	return getDigest(&tx.kv, bySHA256, sum)
}

// Frame returns where a frame with that digest is held, as far as is known. It
// is a hint: the blob may be gone. After an error it knows nothing.
func (tx *Tx) Frame(d blob.Digest) (blob.FrameRef, bool) {
	b, err := tx.get(bucketFrames, d[:])
	if err != nil || b == nil {
		return blob.FrameRef{}, false
	}
	ref, err := parseFrame(&tx.kv, bucketFrames, d[:], b)
	return ref, err == nil
}

// Similar returns where tensors begin whose sketches have one of the keys, those
// that are no deltas first. They are hints as those of Frame are.
func (tx *Tx) Similar(keys []uint64) (refs []blob.FrameRef) {
	for depth := range maxBase + 1 {
		for _, k := range keys {
			key := sketchKey(k, depth)
			b, err := tx.get(bucketSketches, key)
			if err != nil || b == nil {
				continue
			}
			if ref, err := parseFrame(&tx.kv, bucketSketches, key, b); err == nil && !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}
