package index

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
)

// ErrNotFound says that the index has no such version, alias, path or blob. It
// wraps fs.ErrNotExist.
var ErrNotFound = fmt.Errorf("index: %w", fs.ErrNotExist)

// ErrDuplicate says that a name and version, or an id, is taken. It wraps
// fs.ErrExist. The error is a [*DuplicateError].
var ErrDuplicate = fmt.Errorf("index: %w", fs.ErrExist)

// ErrConflict says that something is not as the caller expected. The error is
// an [*AliasConflictError] or a [*SHA256ConflictError].
var ErrConflict = errors.New("index: conflict")

// DuplicateError says which version has the name and version, or the id, that
// another one was to have. It wraps [ErrDuplicate].
type DuplicateError struct {
	Name    name.Name
	Version name.Version
	ID      uuid.UUID // of the version that exists
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("index: %s:%s exists already, as %s: versions never change, register another one", e.Name, e.Version, e.ID)
}

// Unwrap returns ErrDuplicate.
func (e *DuplicateError) Unwrap() error { return ErrDuplicate }

// PathConflictError says that the full path of a new file is that of another
// file, or one of them would have to be the other's folder. It wraps
// fs.ErrExist.
type PathConflictError struct {
	Path  string // of the new file: name/version/path
	Other string // full path of the file that is in the way
}

func (e *PathConflictError) Error() string {
	if e.Path == e.Other {
		return fmt.Sprintf("index: file %q exists already: choose another name, version or path", e.Path)
	}
	return fmt.Sprintf("index: file %q and file %q can't both exist, because one would be the folder of the other: choose another name, version or path", e.Path, e.Other)
}

// Unwrap returns fs.ErrExist.
func (e *PathConflictError) Unwrap() error { return fs.ErrExist }

// MissingBlobError says that a blob which a version needs is not in the store.
// It wraps [ErrNotFound].
type MissingBlobError struct {
	Digest blob.Digest
	For    blob.Digest // the blob that borrows from it, zero if the version needs it itself
}

func (e *MissingBlobError) Error() string {
	if e.For.IsZero() {
		return fmt.Sprintf("index: the store has no blob %s: put it again", e.Digest)
	}
	return fmt.Sprintf("index: the store has no blob %s, from which blob %s borrows: put both again", e.Digest, e.For)
}

// Unwrap returns ErrNotFound.
func (e *MissingBlobError) Unwrap() error { return ErrNotFound }

// AliasConflictError says that an alias did not point where the caller thought.
// It wraps [ErrConflict].
type AliasConflictError struct {
	Name  name.Name
	Alias name.Alias
	Want  uuid.UUID // zero: it should not exist
	Have  uuid.UUID // zero: it does not exist
}

func (e *AliasConflictError) Error() string {
	return fmt.Sprintf("index: alias %s:%s points at %s, not at %s: look again, then repeat the change", e.Name, e.Alias, orNothing(e.Have), orNothing(e.Want))
}

// Unwrap returns ErrConflict.
func (e *AliasConflictError) Unwrap() error { return ErrConflict }

// SHA256ConflictError says that a SHA-256 does not agree with one that is
// recorded. One of the two was computed wrongly. It wraps [ErrConflict].
type SHA256ConflictError struct {
	Blob  blob.Digest
	Given SHA256
	Have  SHA256      // what is recorded for Blob; zero if Other is not
	Other blob.Digest // the blob for which Given is recorded; zero if Have is not
}

func (e *SHA256ConflictError) Error() string {
	const hint = "one of the two was computed wrongly: check the memory of the machine, and verify the blob"
	if e.Other.IsZero() {
		return fmt.Sprintf("index: the SHA-256 of blob %s can't be %s, because %s is recorded: %s", e.Blob, e.Given, e.Have, hint)
	}
	return fmt.Sprintf("index: blob %s can't have the SHA-256 %s, because it is recorded for blob %s: %s", e.Blob, e.Given, e.Other, hint)
}

// Unwrap returns ErrConflict.
func (e *SHA256ConflictError) Unwrap() error { return ErrConflict }

func orNothing(id uuid.UUID) string {
	if id == uuid.Nil {
		return "nothing"
	}
	return id.String()
}

// ErrLostRecords says that the journal ends before what was acknowledged: it is
// an older one, such as a backup's, or it was cut. The error is a
// [*JournalError].
var ErrLostRecords = errors.New("acknowledged records are missing at its end")

// JournalError says that the journal is damaged, or that acknowledged records
// are missing from it. heft never repairs that: what the names were is only
// known to a backup.
type JournalError struct {
	Offset int64  // in bytes, of the line at fault
	Seq    uint64 // of the record that should be there
	Err    error  // what was found
}

func (e *JournalError) Error() string {
	if errors.Is(e.Err, ErrLostRecords) {
		return fmt.Sprintf("index: journal ends at byte %d, before record %d: %v: restore the newest journal that there is, then run heft repair", e.Offset, e.Seq, e.Err)
	}
	return fmt.Sprintf("index: journal is damaged at byte %d, record %d: %v: restore the journal from a backup", e.Offset, e.Seq, e.Err)
}

// Unwrap returns Err.
func (e *JournalError) Unwrap() error { return e.Err }

// CorruptError says that index.db is damaged. A caller sees it only if building
// the file anew did not help.
type CorruptError struct {
	Bucket string // "" when the damage is not within one
	Key    []byte // nil when no single entry is known to be damaged
	Err    error  // what was found
}

func (e *CorruptError) Error() string {
	const hint = "check the disk, then rebuild the index"
	switch {
	case e.Bucket == "":
		return fmt.Sprintf("index: index.db is damaged: %v: %s", e.Err, hint)
	case e.Key == nil:
		return fmt.Sprintf("index: index.db is damaged in bucket %s: %v: %s", e.Bucket, e.Err, hint)
	}
	return fmt.Sprintf("index: index.db is damaged in bucket %s at key %.64q: %v: %s", e.Bucket, e.Key, e.Err, hint)
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }
