// Package blob keeps immutable bytes named by their hash.
//
// A blob is stored once under the BLAKE3 of its plain content, in frames of at
// most 1 MiB that are encoded, hashed and checked one by one. What is put is
// durable when the call returns; what is read was checked before it is handed
// out. docs/format.md specifies the files.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// Compression says what may be done to make a frame smaller.
type Compression uint8

const (
	// Auto codes floats by their parts, or as what changed since an earlier
	// state of the same tensor, and other bytes with zstd where that pays; what
	// would not shrink by a hundredth is raw. It is the default.
	Auto Compression = iota
	// None stores every frame raw.
	None
	// Zstd uses nothing but zstd, on every frame that shrinks, whatever the
	// CPU time.
	Zstd
)

// ParseCompression reads "auto", "none" or "zstd".
func ParseCompression(s string) (Compression, error) {
	for c := Auto; c <= Zstd; c++ {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("blob: unknown compression %q: it is auto, none or zstd", short(s))
}

// String returns what ParseCompression reads.
func (c Compression) String() string {
	switch c {
	case Auto:
		return "auto"
	case None:
		return "none"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

func (c Compression) mode() codec.Mode {
	switch c {
	case None:
		return codec.None
	case Zstd:
		return codec.ZstdOnly
	}
	return codec.Auto
}

// FrameRef names a frame: the blob and the number of the frame in it.
type FrameRef struct {
	Blob  Digest
	Frame uint32
}

// Options changes how a Store works. A nil *Options, like its zero value, is
// the default throughout.
type Options struct {
	// Compression of what is put from now on; the zero value is Auto.
	// Reading needs no choice.
	Compression Compression

	// Workers is how many frames are encoded or decoded at once; 0 is one a
	// CPU. At most 16, which bounds memory to 256 MiB a running Put.
	Workers int

	// Known tells where a frame with that digest may be stored already. A
	// wrong answer costs time, never bytes: it is checked before it is used.
	// nil knows none. It is called from several goroutines at once.
	Known func(context.Context, Digest) (FrameRef, bool)

	// Similar tells where tensors begin that have one of the keys of a
	// [Sketch], likeliest first. Like Known it may be wrong, and nil knows
	// none.
	Similar func(context.Context, []uint64) []FrameRef

	// Parity, from MinParity to MaxParity, makes for each blob that is put, and
	// for each that it borrows from, a parity file of that percentage of its
	// file, unless it has one, before the put returns. 0 makes none.
	Parity int

	// Logger hears about what was swept, healed or repaired; nil discards.
	Logger *slog.Logger
}

const maxWorkers = 16

// Store is a folder of blobs. It is safe for concurrent use, by any number of
// processes.
type Store struct {
	fsys   durable.FS
	opts   Options
	config config

	encoders sync.Pool // *codec.Encoder
	decoders sync.Pool // *codec.Decoder
	frames   sync.Pool // *[format.MaxFrame]byte
	wide     sync.Pool // *[wideFrames * format.MaxFrame]byte

	publishing chan struct{} // of one; orders renames in this process
	sweep      sync.Once
}

// folders are what a store is made with.
var folders = []string{"blobs", "tmp", "trash", "quarantine", "pins"}

// publishLock orders renames into blobs/ and the creation of a store.
const publishLock = "publish.lock"

// Create makes a store in the folder dir, which it makes too if need be, and
// opens it. The store is durable on return. A folder that holds a store is
// ErrExist; so is one with other files in it, which it leaves as they are.
// What a creation that was interrupted left is completed.
func Create(dir string, opts *Options) (*Store, error) {
	if err := durable.CreateDir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: creating the store folder %s: %w", dir, err)
	}
	fsys, err := durable.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("blob: creating a store in %s: %w", dir, err)
	}
	s, err := create(fsys, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating a store in %s: %w", dir, err), fsys.Close())
	}
	return s, nil
}

// Open opens the store in the folder dir. It returns ErrNotFound when there
// is none, and an error that wraps *NewerError when a newer heft made it.
func Open(dir string, opts *Options) (*Store, error) {
	fsys, err := durable.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no folder %s", ErrNotFound, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("blob: opening the store %s: %w", dir, err)
	}
	s, err := open(fsys, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", dir, err), fsys.Close())
	}
	return s, nil
}

// NewMemory returns a store that is held in memory and gone after Close. It
// behaves like one on disk.
func NewMemory(opts *Options) (*Store, error) { return create(durable.NewMem(), opts) }

func create(fsys durable.FS, opts *Options) (s *Store, err error) {
	// Before the lock makes its file in a folder that is somebody else's.
	if err := vacant(fsys); err != nil {
		return nil, err
	}
	if d, ok := fsys.(*durable.Dir); ok {
		// Of two processes that create at once, one finds the other's store.
		l, lockErr := d.Lock(context.Background(), publishLock, durable.Exclusive)
		if lockErr != nil {
			return nil, fmt.Errorf("blob: %w", lockErr)
		}
		defer func() { err = errors.Join(err, l.Unlock()) }()
	}
	if err := vacant(fsys); err != nil {
		return nil, err
	}
	if err := makeFolders(fsys); err != nil {
		return nil, err
	}
	c, err := writeConfig(fsys)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return newStore(fsys, opts, c), nil
}

// vacant returns ErrExist unless the folder is empty or an interrupted
// creation left it.
func vacant(fsys durable.FS) error {
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	for _, e := range entries {
		// The lock has a second file, publish.lock.turn, once somebody waited.
		if !strings.HasPrefix(e.Name(), publishLock) && !slices.Contains(folders, e.Name()) {
			return fmt.Errorf("%w: the folder holds %s already", ErrExist, e.Name())
		}
	}
	return nil
}

func open(fsys durable.FS, opts *Options) (*Store, error) {
	c, err := readConfig(fsys)
	if err != nil {
		return nil, err
	}
	return newStore(fsys, opts, c), nil
}

func newStore(fsys durable.FS, opts *Options, c config) *Store {
	s := &Store{fsys: fsys, config: c, publishing: make(chan struct{}, 1)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Workers <= 0 {
		s.opts.Workers = runtime.GOMAXPROCS(0)
	}
	s.opts.Workers = min(s.opts.Workers, maxWorkers)
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	s.encoders.New = func() any { return codec.NewEncoder(s.opts.Compression.mode()) }
	s.decoders.New = func() any { return new(codec.Decoder) }
	s.frames.New = func() any { return new([format.MaxFrame]byte) }
	s.wide.New = func() any { return new([wideFrames * format.MaxFrame]byte) }
	return s
}

// Close releases the store's folder. Readers and Writers must be closed
// before.
func (s *Store) Close() error { return s.fsys.Close() }

// ID returns the store's id, given when it was created.
func (s *Store) ID() uuid.UUID { return s.config.StoreID }

// CreatedAt returns when the store was created, in microseconds since the
// Unix epoch.
func (s *Store) CreatedAt() int64 { return s.config.CreatedAt }

// Dir returns the store's folder, "" for one in memory.
func (s *Store) Dir() string {
	if d, ok := s.fsys.(*durable.Dir); ok {
		return d.Path()
	}
	return ""
}

// DonorLevels is how far the donors of donors matter: a frame that is borrowed,
// and each base below it, may be in another blob.
const DonorLevels = 1 + format.MaxDepth

// Info describes a stored blob.
type Info struct {
	Digest Digest
	Size   int64    // plain bytes
	Stored int64    // bytes of its file
	Known  bool     // from Put and Commit: it was there already, and nothing was written
	Donors []Digest // the blobs whose frames it needs, ascending
	Parts  Parts    // how its frames are stored

	// Partial says that the blob was collected but for frames that others need:
	// it can't be read.
	Partial bool
}

// Parts breaks a blob down by how its frames are stored.
type Parts struct {
	Raw      Part `json:"raw"`      // as they are
	Self     Part `json:"self"`     // encoded on their own
	Delta    Part `json:"delta"`    // as what differs from another frame
	Borrowed Part `json:"borrowed"` // as a frame that is stored elsewhere, or earlier in the blob
}

// Part is some of a blob's frames.
type Part struct {
	Frames int   `json:"frames"`
	Size   int64 `json:"size"`   // plain bytes
	Stored int64 `json:"stored"` // bytes in the blob's file
}

// Add adds the numbers of q.
func (p *Parts) Add(q Parts) {
	for _, x := range [...]struct{ to, from *Part }{{&p.Raw, &q.Raw}, {&p.Self, &q.Self}, {&p.Delta, &q.Delta}, {&p.Borrowed, &q.Borrowed}} {
		x.to.Frames += x.from.Frames
		x.to.Size += x.from.Size
		x.to.Stored += x.from.Stored
	}
}

// Frame describes one frame of a blob.
type Frame struct {
	Digest Digest   // of its plain bytes
	Size   int64    // plain bytes
	Stored int64    // bytes in this blob's file; 0 when the frame is held elsewhere
	Held   bool     // the file itself holds the stored bytes
	Depth  int      // of a held one, how many other frames decoding it needs
	Keys   []uint64 // of the sketch of the tensor that begins with the frame; nil for none
}

// Put stores what r holds and returns its digest. When it returns without an
// error, the blob is durable. Content that the store has already is only
// checked, and healed if it is damaged; Info.Known then says that nothing was
// written. On an error nothing may be relied on: no part of a blob is seen, but
// a whole one may be, whose folder could not be synced.
func (s *Store) Put(ctx context.Context, r io.Reader) (Info, error) {
	b := s.Batch()
	info, err := b.Put(ctx, r)
	if err == nil {
		err = b.Sync(ctx)
	}
	return info, errors.Join(err, b.Release())
}

// Stat describes a blob from its file's footer and frame table, which it
// checks, without reading a frame. It returns ErrNotFound or a *CorruptError.
func (s *Store) Stat(ctx context.Context, d Digest) (Info, error) {
	info, _, err := s.Frames(ctx, d)
	return info, err
}

// Frames describes a blob, as Stat does, and its frames in order.
func (s *Store) Frames(ctx context.Context, d Digest) (Info, []Frame, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, nil, err
	}
	f, err := s.openFile(d)
	if err != nil {
		return Info{}, nil, asCorrupt(err, d, d, -1)
	}
	defer f.close()
	frames := make([]Frame, len(f.table.Rows))
	for i := range frames {
		r := &f.table.Rows[i]
		frames[i] = Frame{Digest: r.Sum, Size: int64(r.PlainLen), Stored: int64(r.StoredLen), Held: r.Place == format.Held, Depth: int(r.Depth)}
	}
	for i := range f.table.Sketches {
		k := &f.table.Sketches[i]
		frames[k.Frame].Keys = k.Keys[:]
	}
	return f.info(), frames, nil
}

// All lists the digests of the blobs, ascending. It looks at names only: a
// file that it lists may be damaged. Files with other names are passed over.
func (s *Store) All(ctx context.Context) iter.Seq2[Digest, error] { return s.all(ctx, "blobs", "") }

// all lists the digests that begin with the lower-case hex prefix, of the files
// in the folders of root.
func (s *Store) all(ctx context.Context, root, prefix string) iter.Seq2[Digest, error] {
	return func(yield func(Digest, error) bool) {
		folders, err := s.fsys.ReadDir(root)
		if err != nil {
			yield(Digest{}, fmt.Errorf("blob: listing %s: %w", root, err))
			return
		}
		for _, folder := range folders {
			if n := min(len(prefix), 2); !folder.IsDir() || len(folder.Name()) != 2 || folder.Name()[:n] != prefix[:n] {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(Digest{}, err)
				return
			}
			files, err := s.fsys.ReadDir(root + "/" + folder.Name())
			if err != nil {
				yield(Digest{}, fmt.Errorf("blob: listing %s: %w", root, err))
				return
			}
			for _, e := range files {
				d, err := ParseDigest(e.Name())
				if err != nil || d.String() != e.Name() || e.Name()[:2] != folder.Name() || !strings.HasPrefix(e.Name(), prefix) {
					continue
				}
				if !yield(d, nil) {
					return
				}
			}
		}
	}
}

// Resolve returns the digest of the one stored blob that the prefix, 4 to 64
// hex digits with or without "b3:", begins. It returns ErrNotFound when there
// is none, *AmbiguousError when there are several, and an error that wraps
// ErrDigest for other text.
func (s *Store) Resolve(ctx context.Context, prefix string) (Digest, error) {
	p, err := parsePrefix(prefix)
	if err != nil {
		return Digest{}, err
	}
	var found []Digest
	for d, err := range s.all(ctx, "blobs", p) {
		if err != nil {
			return Digest{}, err
		}
		if found = append(found, d); len(found) == 2 {
			return Digest{}, &AmbiguousError{Prefix: p, First: [2]Digest(found)}
		}
	}
	if len(found) == 0 {
		return Digest{}, fmt.Errorf("%w: no blob begins with %s", ErrNotFound, p)
	}
	return found[0], nil
}

func blobDir(d Digest) string  { return "blobs/" + d.String()[:2] }
func blobPath(d Digest) string { return blobDir(d) + "/" + d.String() }
