// Package migrate brings what other layouts hold into a registry.
//
// A [Source] reads one of them; the packages below this one have one for each.
// [Plan] tells what would become of everything in it, [Apply] does it. Both yield
// one [Outcome] after another, and a [Report] adds them up.
//
// An import can be repeated, and continues where an earlier one ended, however
// that was: what is there already is recognised by the id that it has in the
// source, or else by its name and label, and by its content.
package migrate

import (
	"cmp"
	"fmt"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
)

// OnConflict says what becomes of an Item whose id, or name and label, belongs to
// a version with other content.
type OnConflict string

// The ways out of a conflict.
const (
	Fail   OnConflict = "fail"   // it is reported as failed
	Skip   OnConflict = "skip"   // it is reported as skipped
	Suffix OnConflict = "suffix" // it is imported under its label and "-2", or the next number that is free
)

// ParseOnConflict reads an OnConflict. Other text is an error that wraps
// registry.ErrInvalid and lists them.
func ParseOnConflict(s string) (OnConflict, error) {
	switch c := OnConflict(s); c {
	case Fail, Skip, Suffix:
		return c, nil
	}
	return "", fmt.Errorf("%w: unknown way out of a conflict %q: it is one of fail, skip, suffix", registry.ErrInvalid, s)
}

// Options changes how an import works. A nil *Options, like its zero value, is
// the default throughout.
type Options struct {
	// OnConflict is Fail if it is "".
	OnConflict OnConflict

	// Note is recorded with the versions; its zero value is nobody in particular
	// and no reason.
	Note registry.Note

	// DropParents imports a version whose parent is in the source and could not be
	// imported without a parent. Without, it fails too, so that it keeps its
	// parent when that is mended and comes with a later import.
	DropParents bool

	// Workers is how many versions are read and stored at once; 0 is 4. More
	// than one help with small files, which mostly wait for the disk; a large one
	// keeps all CPUs busy by itself.
	Workers int

	// Progress hears how many bytes of the source's files were dealt with since
	// it was called last: read, or found to be there already. It is called from
	// several goroutines; nil hears nothing.
	Progress func(bytes int64)
}

func (o *Options) withDefaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	c.OnConflict = cmp.Or(c.OnConflict, Fail)
	c.Workers = cmp.Or(c.Workers, 4)
	if c.Progress == nil {
		c.Progress = func(int64) {}
	}
	return c
}

// State is what became of an Item.
type State string

// The states.
const (
	Imported State = "imported" // or, in a plan, to be imported
	Present  State = "present"  // it was there already
	Skipped  State = "skipped"
	Failed   State = "failed"
)

// Outcome is what became, or would become, of an Item.
type Outcome struct {
	State State
	From  string    // where it is in the source, for people
	Ref   string    // name:version, as it is or would be in the registry; "" if it has none
	ID    uuid.UUID // of the version; zero if it is not in the registry
	Files int
	Size  int64    // bytes of its files, as the source has them
	Notes []string // what was noticed and how it was dealt with
	Why   error    // of one that was skipped or failed

	// Written are the bytes that were written for the files of an imported one.
	Written int64
}

// Report adds up Outcomes.
type Report struct {
	Imported int   `json:"imported"`
	Present  int   `json:"present"`
	Skipped  int   `json:"skipped"`
	Failed   int   `json:"failed"`
	Noted    int   `json:"noted"`   // outcomes of any state that have notes
	Files    int   `json:"files"`   // of the imported
	Bytes    int64 `json:"bytes"`   // of their files
	Written  int64 `json:"written"` // bytes that were written for those
}

// Add counts an Outcome.
func (r *Report) Add(o Outcome) {
	switch o.State {
	case Imported:
		r.Imported++
		r.Files += o.Files
		r.Bytes += o.Size
		r.Written += o.Written
	case Present:
		r.Present++
	case Skipped:
		r.Skipped++
	case Failed:
		r.Failed++
	}
	if len(o.Notes) > 0 {
		r.Noted++
	}
}

// ConflictError says that what a version would be called is taken.
type ConflictError struct {
	Ref  string // of the version that is there
	ByID bool   // it is the id that is taken, not the name and label
	Why  string // what differs
}

func (e *ConflictError) Error() string {
	what := e.Ref + " is there already"
	if e.ByID {
		what = "its id belongs to " + e.Ref
	}
	return what + ", and " + e.Why
}

// Is reports that the error is a registry.ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == registry.ErrConflict }
