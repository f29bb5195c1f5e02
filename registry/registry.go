// Package registry keeps named, versioned models: the front door of heft.
//
// A version is a tree of files plus what was known when it was registered. It
// is made through a [Draft], all or nothing, and immutable from then on; only
// its status, aliases, metadata and description change, and every change is
// kept in a journal with who made it and why. Whatever is read was checked
// against its hash before.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// Options changes how a Registry works. A nil *Options, like its zero value,
// is the default throughout.
type Options struct {
	// Compression of what is registered from now on; the zero value is
	// blob.Auto.
	Compression blob.Compression

	// SHA256 computes the SHA-256 of what is registered from now on in the same
	// pass, and records it with the version. The zero value leaves that to
	// Model.SHA256.
	SHA256 bool

	// Parity, from blob.MinParity to blob.MaxParity, makes for each blob that is
	// registered from now on, and for each that it borrows from, a parity file
	// of that percentage of its file, unless it has one. 0 makes none.
	Parity int

	// Workers is how many frames are encoded or decoded at once; 0 is one a
	// CPU, at most 16.
	Workers int

	// Exclusive keeps the index open and locked until Close, which makes each
	// change some milliseconds faster. Other processes wait meanwhile; the
	// zero value shares.
	Exclusive bool

	// Actor is recorded with every change whose Note names nobody; "" is
	// user@host.
	Actor string

	// Access says, to Create only, who may use the store: the zero value is
	// blob.Private. A store that is there is used as it was made.
	Access blob.Access

	// Patience says what happens while another process has a lock; the zero
	// value waits in silence until the context ends.
	Patience blob.Patience

	// Logger hears what was swept, healed or rebuilt; nil discards.
	Logger *slog.Logger

	// Now returns the time in microseconds since the Unix epoch; nil is the
	// system clock. Order never depends on it.
	Now func() int64
}

// Registry is a store of models. It is safe for concurrent use, by any number
// of processes.
type Registry struct {
	store *blob.Store
	index *index.Index
	actor string
	sha   bool // Options.SHA256
	now   func() int64
	log   *slog.Logger
	temp  string // removed by Close
}

// Create makes a store in the folder dir, which it makes too if need be, and
// opens it. A folder that holds one already, or other files, is an error that
// wraps fs.ErrExist. The store is durable on return.
func Create(ctx context.Context, dir string, opts *Options) (*Registry, error) {
	return start(ctx, opts, func(o *blob.Options) (*blob.Store, error) { return blob.Create(dir, o) })
}

// Open opens the store in the folder dir. It returns ErrNotFound when there is
// none there, and an error that wraps *blob.NewerError when a newer heft made
// it. An index that is missing or damaged is rebuilt.
func Open(ctx context.Context, dir string, opts *Options) (*Registry, error) {
	r, err := start(ctx, opts, func(o *blob.Options) (*blob.Store, error) { return blob.Open(dir, o) })
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no store in %s", ErrNotFound, dir)
	}
	return r, err
}

// CreateTemp makes a store that leaves nothing behind after Close, for tests.
func CreateTemp(ctx context.Context, opts *Options) (*Registry, error) {
	dir, err := os.MkdirTemp("", "heft-")
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r, err := Create(ctx, dir, opts)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.temp = dir
	return r, nil
}

func start(ctx context.Context, opts *Options, open func(*blob.Options) (*blob.Store, error)) (*Registry, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	r := &Registry{actor: o.Actor, sha: o.SHA256, now: o.Now, log: o.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.actor == "" {
		r.actor = defaultActor()
	}
	if err := checkText("actor", r.actor, maxActor); err != nil {
		return nil, err
	}
	if r.now == nil {
		r.now = func() int64 { return time.Now().UnixMicro() }
	}
	store, err := open(&blob.Options{
		Compression: o.Compression, Parity: o.Parity, Workers: o.Workers, Known: r.known, Similar: r.similar,
		Logger: o.Logger, Access: o.Access, Patience: o.Patience,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r.store = store
	r.index, err = index.Open(ctx, store, &index.Options{Exclusive: o.Exclusive, Logger: o.Logger, Now: r.now, Patience: o.Patience})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registry: %w", err), store.Close())
	}
	return r, nil
}

// known tells the blob store where a frame may be stored already.
func (r *Registry) known(ctx context.Context, d blob.Digest) (ref blob.FrameRef, ok bool) {
	err := r.index.View(ctx, func(tx *index.Tx) error {
		ref, ok = tx.Frame(d)
		return nil
	})
	return ref, ok && err == nil // a hint that fails costs only space
}

// similar tells the blob store where tensors may begin that are like another.
func (r *Registry) similar(ctx context.Context, keys []uint64) (refs []blob.FrameRef) {
	err := r.index.View(ctx, func(tx *index.Tx) error {
		refs = tx.Similar(keys)
		return nil
	})
	if err != nil {
		return nil // as above
	}
	return refs
}

// defaultActor is user@host, as far as they are known.
func defaultActor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		name += "@" + host
	}
	return name
}

// Close releases the store. Readers and Drafts must be closed before.
func (r *Registry) Close() error {
	err := errors.Join(r.index.Close(), r.store.Close())
	if r.temp != "" {
		err = errors.Join(err, os.RemoveAll(r.temp))
	}
	return err
}

// Dir returns the store's folder.
func (r *Registry) Dir() string { return r.store.Dir() }

// ID returns the store's id.
func (r *Registry) ID() uuid.UUID { return r.store.ID() }

// CreatedAt returns when the store was created, in microseconds since the
// Unix epoch.
func (r *Registry) CreatedAt() int64 { return r.store.CreatedAt() }

// Note says who makes a change, and why. The journal keeps it for good.
type Note struct {
	Actor  string // "" is Options.Actor
	Reason string // may be empty
}

// Check returns an error that wraps ErrInvalid if the Note can't be recorded.
func (n Note) Check() error {
	return errors.Join(checkText("actor", n.Actor, maxActor), checkText("reason", n.Reason, maxReason))
}

// change is what the index records of a verb and a note.
func (r *Registry) change(verb string, n Note) (index.Change, error) {
	if n.Actor == "" {
		n.Actor = r.actor
	}
	if err := n.Check(); err != nil {
		return index.Change{}, err
	}
	return index.Change{Verb: verb, Actor: n.Actor, Reason: n.Reason}, nil
}

// collect runs fn in a view and then yields what it gathered. Nothing is
// locked while the caller's loop runs, so the loop may change the registry.
func collect[T any](ctx context.Context, r *Registry, fn func(v *view) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var all []T
		err := r.view(ctx, func(v *view) (err error) {
			all, err = fn(v)
			return err
		})
		if err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for _, t := range all {
			if !yield(t, nil) {
				return
			}
		}
	}
}

var (
	// ErrNotFound says that there is no such store, model, version, alias or
	// file. It wraps fs.ErrNotExist.
	ErrNotFound = fmt.Errorf("registry: %w", fs.ErrNotExist)
	// ErrDuplicate says that a version or file is there already. It wraps
	// fs.ErrExist.
	ErrDuplicate = index.ErrDuplicate
	// ErrConflict says that a change was refused because of what is there: an
	// alias that has moved, a version in use, a file that would be
	// overwritten.
	ErrConflict = index.ErrConflict
	// ErrInvalid says that what was given breaks a rule: a name, status, text,
	// metadata or query. It wraps fs.ErrInvalid.
	ErrInvalid = fmt.Errorf("registry: %w", fs.ErrInvalid)
)

// CorruptError says that a file of a version can't be read as it was
// registered. No wrong byte of it was returned.
type CorruptError struct {
	Ref  string // name:version
	Path string // the file in it; "" for its manifest
	Err  error  // what was found: a *blob.CorruptError, or that the blob is missing
}

func (e *CorruptError) Error() string {
	what := "the manifest"
	if e.Path != "" {
		what = e.Path
	}
	return fmt.Sprintf("registry: %s of %s: %v", what, e.Ref, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// InUseError says why a version was not deleted.
type InUseError struct {
	Ref        string
	Children   []string // versions that name it as their parent
	Production bool
}

func (e *InUseError) Error() string {
	why := "it is in production"
	if len(e.Children) > 0 {
		why = fmt.Sprintf("it is the parent of %s", e.Children[0])
		if n := len(e.Children); n > 1 {
			why += fmt.Sprintf(" and %d more", n-1)
		}
		if e.Production {
			why += ", and in production"
		}
	}
	return fmt.Sprintf("registry: %s was not deleted: %s; force the deletion if that is meant", e.Ref, why)
}

// Is reports that the error is an ErrConflict.
func (e *InUseError) Is(target error) bool { return target == ErrConflict }
