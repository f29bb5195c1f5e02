package migrate

import (
	"context"
	"io"
	"iter"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
)

// Source is a place that holds models in another layout. What it reads it never
// writes to. It need not be safe for concurrent use, but the files of its Items
// are opened from several goroutines.
type Source interface {
	// Kind names the layout: what registry.Origin has as its Source.
	Kind() string

	// Items yields what there is to import: parents before their children, and
	// otherwise in an order that does not change. What is wrong with one of them
	// is in its Err or its Notes; an error that is yielded ends it all. It can be
	// called again and then reads anew.
	Items(ctx context.Context) iter.Seq2[*Item, error]

	// Close releases what the Source holds. Items must not be running.
	Close() error
}

// Item is one version to be imported, or something in the source that can't be.
type Item struct {
	// From says where it is in the source, for people: "row 17", "org/m/1.0".
	From string

	// Model is what becomes of it, as registry.Begin takes it. Its ID is never
	// zero. Origin has Source, LegacyID and Details; the fingerprint is added by
	// whoever imports it. Aliases come from the source.
	Model registry.Model

	// Edited is what is known of it now, if that is something else than when it
	// was registered; nil if it is not.
	Edited *Edited

	// Files are those of the version, by path.
	Files []File

	// Notes say what was noticed and how it was dealt with.
	Notes []string

	// Skip says why it is left out, though nothing is wrong with it.
	Skip string

	// Err says why it can't be imported.
	Err error
}

// Edited is the metadata and description of a version after its registration.
type Edited struct {
	Metadata    registry.Metadata
	Description string
}

// File is a file of an Item.
type File struct {
	Path     string // in the version, slash-separated
	Size     int64  // bytes
	Modified int64  // anything that changes with the content, such as its time in nanoseconds; 0 if there is no such thing

	// Open opens it for one reading from its beginning to its end. What it
	// returns should also be an io.ReaderAt and an io.Seeker where it can: its
	// structure is then seen before it is read.
	Open func(ctx context.Context) (io.ReadCloser, error)

	// Want are the hashes that its content has to have. Those that are zero, ""
	// or nil are not known.
	Want Hashes
}

// Hashes are what a source says of a file's content.
type Hashes struct {
	BLAKE3  blob.Digest
	SHA256  registry.SHA256
	GitSHA1 [20]byte // of the file as a git blob
}
