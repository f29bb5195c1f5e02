package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/heftstore/heft/blob"
)

// FileState says what is wrong with a blob's file.
type FileState uint8

const (
	// FileDamaged is a file of which something can't be read.
	FileDamaged FileState = iota + 1
	// FileUnreadable is a file of which nothing can be read.
	FileUnreadable
	// FileMissing is a file that is not there.
	FileMissing
	// FileSound is a file that was damaged and is not any more: it was healed, or
	// what read it failed.
	FileSound
)

// String returns the state in small letters.
func (s FileState) String() string {
	switch s {
	case FileDamaged:
		return "damaged"
	case FileUnreadable:
		return "unreadable"
	case FileMissing:
		return "missing"
	case FileSound:
		return "sound again"
	}
	return fmt.Sprintf("FileState(%d)", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s FileState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// FileDamage is a blob's file that is at fault.
type FileDamage struct {
	Digest  blob.Digest
	State   FileState
	Touches []string // name:version/path of all that is in the file or may need a frame of it, of every version; sorted
	Moved   string   // its name in quarantine/, "" if it was not moved
	Err     error    // why it could not be looked at or moved
}

// examine looks at the files that were found to be at fault, and moves those away
// that are to be.
func (v *Verification) examine(ctx context.Context) error {
	if len(v.bad) == 0 {
		return nil
	}
	touches, err := v.touches(ctx)
	if err != nil {
		return err
	}
	for _, d := range slices.SortedFunc(maps.Keys(v.bad), compareDigests) {
		f := FileDamage{Digest: d, Touches: touches[d]}
		v.inspect(ctx, &f)
		if err := context.Cause(ctx); err != nil && f.Err != nil {
			return err
		}
		v.found.Files = append(v.found.Files, f)
	}
	return nil
}

// inspect tells the state of a file and, if the rule says so, moves it.
func (v *Verification) inspect(ctx context.Context, f *FileDamage) {
	_, err := v.r.store.Stat(ctx, f.Digest)
	_, corrupt := errors.AsType[*blob.CorruptError](err)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		f.State = FileMissing
		return
	case corrupt:
		f.State = FileUnreadable
	default:
		f.State, f.Err = FileDamaged, err
	}
	if f.Err != nil || v.opts.Quarantine == QuarantineNothing || v.opts.Quarantine == QuarantineUnreadable && f.State != FileUnreadable {
		return
	}
	q, err := v.r.store.Quarantine(ctx, f.Digest)
	switch {
	case errors.Is(err, blob.ErrSound):
		f.State = FileSound
	case errors.Is(err, blob.ErrNotFound):
		f.State = FileMissing
	case err != nil:
		f.Err = named(err)
	}
	f.Moved = q.File
}

// touches lists, for each file at fault, all that needs it: the files of versions,
// and manifests, that it is, and those whose blobs have it as a donor, or as a
// donor of one, as far as the index knows or the verification found.
func (v *Verification) touches(ctx context.Context) (map[blob.Digest][]string, error) {
	var touches map[blob.Digest][]string
	err := v.r.view(ctx, func(w *view) error {
		touches = map[blob.Digest][]string{}
		borrowers := map[blob.Digest][]blob.Digest{}
		for b, err := range w.tx.Blobs() {
			if err != nil {
				return err
			}
			for _, d := range b.Donors {
				borrowers[d] = append(borrowers[d], b.Digest)
			}
		}
		needs := map[blob.Digest][]blob.Digest{} // blob -> files at fault
		for d, found := range v.bad {
			reach := map[blob.Digest]bool{d: true}
			queue := []blob.Digest{d}
			for _, c := range found {
				if !reach[c.Digest] {
					reach[c.Digest] = true
					queue = append(queue, c.Digest)
				}
			}
			for len(queue) > 0 {
				b := queue[0]
				queue = queue[1:]
				needs[b] = append(needs[b], d)
				for _, next := range borrowers[b] {
					if !reach[next] {
						reach[next] = true
						queue = append(queue, next)
					}
				}
			}
		}
		add := func(b blob.Digest, use string) {
			for _, d := range needs[b] {
				touches[d] = append(touches[d], use)
			}
		}
		for rec, err := range w.tx.All() {
			if err != nil {
				return err
			}
			files, err := w.files(rec.ID)
			if err != nil {
				return err
			}
			add(rec.Manifest, refOf(rec)+"/"+ManifestUse)
			for _, f := range files {
				add(f.Digest, refOf(rec)+"/"+f.Path)
			}
		}
		for d := range touches {
			slices.Sort(touches[d])
		}
		return nil
	})
	return touches, err
}
