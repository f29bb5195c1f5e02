package blob

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// ErrNotFound says that the store has no such blob, or that a folder is not a
// store. It wraps fs.ErrNotExist.
var ErrNotFound = fmt.Errorf("blob: %w", fs.ErrNotExist)

// ErrExist is returned by Create for a folder that is a store already. It
// wraps fs.ErrExist.
var ErrExist = fmt.Errorf("blob: %w", fs.ErrExist)

// ErrDamagedStore says that the store's own description, heft.json, is not
// what was written.
var ErrDamagedStore = errors.New("blob: damaged store")

// CorruptError says that stored bytes are not what they were when they were
// written. No byte of the frame at Offset was returned.
type CorruptError struct {
	Blob   Digest // the blob that was read
	In     Digest // the blob file that is damaged: Blob, or one of its donors
	Offset int64  // of the first frame that can't be read, in plain bytes; -1 when nothing can
	Err    error  // what was found
}

func (e *CorruptError) Error() string {
	where := ""
	if e.In != e.Blob {
		where = fmt.Sprintf(", in its donor %s", e.In)
	}
	if e.Offset >= 0 {
		where += fmt.Sprintf(", at byte %d", e.Offset)
	}
	return fmt.Sprintf("blob: %s is corrupt%s: %v; put the same content again to heal it", e.Blob, where, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// MismatchError is returned by Commit when the bytes that were written are not
// the ones that were wanted. Nothing was stored.
type MismatchError struct {
	Want, Got Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("blob: the content has digest %s, not %s as expected: nothing was stored", e.Got, e.Want)
}

// AmbiguousError says that a prefix begins more than one digest.
type AmbiguousError struct {
	Prefix string
	First  [2]Digest // the two lowest that it begins
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("blob: the prefix %s is not unique: %s and %s begin with it; give more digits", e.Prefix, e.First[0].Short(), e.First[1].Short())
}

// NewerError says that a store or blob needs a newer heft than this one.
type NewerError = format.NewerError

// damage reports whether err is about the content of a file rather than about
// reaching it.
func damage(err error) bool {
	if _, ok := errors.AsType[*format.Error](err); ok {
		return true
	}
	_, sums := errors.AsType[*sumError](err)
	return sums || errors.Is(err, codec.ErrDamaged)
}

// sumError says which checksum failed.
type sumError struct{ reason string }

func (e *sumError) Error() string { return e.reason }

// notSound says that the blob d has to be put again.
func notSound(d Digest) error {
	return fmt.Errorf("%w: the blob %s is there but damaged; putting its content again heals it", ErrNotFound, d)
}
