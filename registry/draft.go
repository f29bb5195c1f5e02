package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
)

// WeightsFile is the path under which Register stores weights.
const WeightsFile = "weights.bin"

// Draft is a version in the making: invisible before Commit, gone after Close.
// Its methods are safe for concurrent use, so that several files can be put at
// once.
type Draft struct {
	r       *Registry
	rec     index.Version
	aliases []name.Alias
	amended *amendment // nil unless what is known of it has changed since
	next    bool       // the version is to be the next number
	batch   *blob.Batch
	bulk    *Bulk  // nil unless it is one of its Drafts
	base    []File // of the parent, or else of the latest version: what the files may be like

	mu    sync.Mutex
	sums  map[blob.Digest]SHA256 // those that were computed
	files map[name.Path]Stored
	dirs  map[string]int // folders that the files imply, with how many imply each
	done  bool
}

// Stored is a file that a Draft has stored.
type Stored struct {
	File
	Known   bool  `json:"known"`   // its content was in the store already
	Written int64 `json:"written"` // bytes that were written for it

	// SHA256 is zero unless it was asked for when the content was put.
	SHA256 SHA256 `json:"sha256,omitzero"`

	// Parts is how its content is stored, by this Put or an earlier one.
	Parts blob.Parts `json:"parts"`
}

// Begin starts a version. Of the Model it takes what its declaration says; see
// there for what may be left out. It returns a *NameError, an error that wraps
// ErrInvalid, ErrDuplicate if the version exists already, or ErrNotFound if
// the parent does not. The caller ends it with Commit, and always with Close.
func (r *Registry) Begin(ctx context.Context, m Model) (*Draft, error) {
	d, err := r.newDraft(&m, r.store.Batch())
	if err != nil {
		return nil, err
	}
	return d, d.begin(ctx, nil)
}

// newDraft parses what a caller says of a version.
func (r *Registry) newDraft(m *Model, batch *blob.Batch) (d *Draft, err error) {
	d = &Draft{r: r, next: m.Version == "", batch: batch, sums: map[blob.Digest]SHA256{}, files: map[name.Path]Stored{}, dirs: map[string]int{}}
	if d.rec, err = r.record(m); err != nil {
		return nil, err
	}
	for _, text := range m.Aliases {
		a, err := name.ParseAlias(text)
		if err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
		d.aliases = append(d.aliases, a)
	}
	return d, nil
}

// begin checks that the version can be made, as far as that is known now. like,
// if it is not nil, is another draft that its files may be like: its parent, if
// it has one.
func (d *Draft) begin(ctx context.Context, like *Draft) error {
	return d.r.view(ctx, func(v *view) (err error) {
		if like != nil {
			d.base = like.plainFiles()
		} else if err := v.checkParent(&d.rec); err != nil {
			return err
		} else if d.base, err = v.base(&d.rec); err != nil {
			return err
		}
		if d.next {
			return nil
		}
		id, err := v.tx.Lookup(d.rec.Name, d.rec.Version)
		switch {
		case err == nil:
			return &index.DuplicateError{Name: d.rec.Name, Version: d.rec.Version, ID: id}
		case errors.Is(err, index.ErrNotFound):
			return nil
		}
		return err
	})
}

// checkParent returns ErrNotFound if there is no version that rec names as its
// parent, and ErrInvalid if rec would be its own ancestor: its id may be that
// of a version that was deleted and has children still.
func (v *view) checkParent(rec *index.Version) error {
	if rec.Parent == uuid.Nil {
		return nil
	}
	up, err := v.tx.Version(rec.Parent)
	if err != nil {
		return gone("parent with the id "+rec.Parent.String(), err)
	}
	orphans := false
	for _, err := range v.tx.Children(rec.ID) {
		if err != nil {
			return err
		}
		orphans = true
		break
	}
	for orphans && up.Parent != uuid.Nil {
		if up.Parent == rec.ID {
			return fmt.Errorf("%w: a version with the id %s would be its own ancestor: its parent %s descends from that id", ErrInvalid, rec.ID, rec.Parent)
		}
		if up, err = v.tx.Version(up.Parent); errors.Is(err, index.ErrNotFound) {
			break
		} else if err != nil {
			return err
		}
	}
	return nil
}

// record parses what a caller says of a version.
func (r *Registry) record(m *Model) (rec index.Version, err error) {
	if rec.Name, err = parseName(m.Name); err != nil {
		return rec, err
	}
	if m.Version != "" {
		if rec.Version, err = name.ParseVersion(m.Version); err != nil {
			return rec, fmt.Errorf("registry: %w", err)
		}
	}
	status := Pending
	if m.Status != "" {
		if status, err = ParseStatus(string(m.Status)); err != nil {
			return rec, err
		}
	}
	rec.Status = string(status)
	if rec.Metadata, err = m.Metadata.encode(); err != nil {
		return rec, err
	}
	rec.RegisteredBy = m.RegisteredBy
	if rec.RegisteredBy == "" && m.Origin == nil {
		rec.RegisteredBy = r.actor
	}
	rec.Description = m.Description
	err = errors.Join(checkText("name of who registers", rec.RegisteredBy, maxActor), checkText("description", rec.Description, maxDescription))
	if err != nil {
		return rec, err
	}
	if m.RegisteredAt < 0 || m.UpdatedAt < 0 {
		return rec, fmt.Errorf("%w: the time of registration %d, or of the last change %d, is before 1970", ErrInvalid, m.RegisteredAt, m.UpdatedAt)
	}
	rec.ID, rec.Parent, rec.RegisteredAt, rec.UpdatedAt = m.ID, m.Parent, m.RegisteredAt, m.UpdatedAt
	if rec.Origin, err = m.Origin.encode(); err != nil {
		return rec, err
	}
	if rec.ID == uuid.Nil {
		rec.ID = uuid.New()
	}
	return rec, nil
}

// errDone is returned by a Draft after Commit or Close.
var errDone = fmt.Errorf("registry: the draft is closed: %w", fs.ErrClosed)

// Put stores what src holds as the file p of the version. It returns a
// *NameError for a bad path and ErrDuplicate for one that the Draft has
// already or that would be both file and folder; src is then not read.
func (d *Draft) Put(ctx context.Context, p string, src io.Reader) (Stored, error) {
	if d.r.sha {
		return d.PutSHA256(ctx, p, src)
	}
	return d.putHashed(ctx, p, src, nil)
}

// PutSHA256 is Put and computes the SHA-256 of the content in the same pass,
// which is recorded with the version.
func (d *Draft) PutSHA256(ctx context.Context, p string, src io.Reader) (Stored, error) {
	src, sum := newHashing(src)
	return d.putHashed(ctx, p, src, sum)
}

// putHashed is Put. sum, if it is not nil, returns the SHA-256 of what was read.
func (d *Draft) putHashed(ctx context.Context, p string, src io.Reader, sum func() SHA256) (Stored, error) {
	at, err := name.ParsePath(p)
	if err != nil {
		return Stored{}, fmt.Errorf("registry: %w", err)
	}
	if err := d.reserve(at); err != nil {
		return Stored{}, err
	}
	info, err := d.batch.PutLike(ctx, src, d.like(at))
	if err != nil {
		d.unreserve(at)
		return Stored{}, fmt.Errorf("registry: storing %s of %s: %w", p, d.rec.Name, err)
	}
	if sum == nil {
		return d.put(at, info, nil), nil
	}
	return d.put(at, info, new(sum())), nil
}

// Adopt makes content that the store has already the file p of the version,
// without reading it from anywhere else; every stored byte of it is checked. It
// returns what Put does, and ErrNotFound if the store does not have the content,
// or not undamaged: Put it then.
func (d *Draft) Adopt(ctx context.Context, p string, content blob.Digest) (Stored, error) {
	at, err := name.ParsePath(p)
	if err != nil {
		return Stored{}, fmt.Errorf("registry: %w", err)
	}
	if err := d.reserve(at); err != nil {
		return Stored{}, err
	}
	info, err := d.batch.Adopt(ctx, content)
	if err != nil {
		d.unreserve(at)
		if errors.Is(err, blob.ErrNotFound) {
			err = fmt.Errorf("%w: the content of %s of %s: %w", ErrNotFound, p, d.rec.Name, err)
		}
		return Stored{}, named(err)
	}
	return d.put(at, info, nil), nil
}

// put notes a file that was stored, and its SHA-256 unless that is nil.
func (d *Draft) put(at name.Path, info blob.Info, sum *SHA256) Stored {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stored{File: File{Path: at.String(), Digest: info.Digest, Size: info.Size}, Known: info.Known, Parts: info.Parts}
	if !info.Known {
		s.Written = info.Stored
	}
	if sum != nil {
		s.SHA256 = *sum
		d.sums[info.Digest] = *sum
	}
	d.files[at] = s
	return s
}

// unreserve gives back what reserve took.
func (d *Draft) unreserve(at name.Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, at)
	for _, dir := range parents(at) {
		if d.dirs[dir.String()]--; d.dirs[dir.String()] == 0 {
			delete(d.dirs, dir.String())
		}
	}
}

// reserve takes the path for a file.
func (d *Draft) reserve(at name.Path) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return errDone
	}
	if _, ok := d.files[at]; ok {
		return fmt.Errorf("%w: the draft has a file %s already", ErrDuplicate, at)
	}
	if d.dirs[at.String()] > 0 {
		return fmt.Errorf("%w: %s is a folder of the draft, so it can't be a file", ErrDuplicate, at)
	}
	dirs := parents(at)
	for _, dir := range dirs {
		if _, ok := d.files[dir]; ok {
			return fmt.Errorf("%w: %s is a file of the draft, so it can't be a folder for %s", ErrDuplicate, dir, at)
		}
	}
	d.files[at] = Stored{}
	for _, dir := range dirs {
		d.dirs[dir.String()]++
	}
	return nil
}

// parents returns the folders above a path.
func parents(p name.Path) (dirs []name.Path) {
	for dir := path.Dir(p.String()); dir != "."; dir = path.Dir(dir) {
		if d, err := name.ParsePath(dir); err == nil { // a parent of a path is one
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// amendment is what Amend was given.
type amendment struct {
	metadata    json.RawMessage
	description string
}

// Amend gives the version another metadata and description, as Edit would right
// after its registration: its manifest, and so its hash, keep those that Begin
// was given. It is for versions that come from another registry.
func (d *Draft) Amend(metadata Metadata, description string) error {
	raw, err := metadata.encode()
	if err == nil {
		err = checkText("description", description, maxDescription)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.amended = &amendment{raw, description}
	return nil
}

// Files returns what was stored so far, by path.
func (d *Draft) Files() []Stored {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Stored
	for _, s := range d.files {
		if s.Path != "" {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Stored) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Commit registers the version with the files that were put: all of it, or
// nothing when it returns an error. On return it is durable. It returns
// ErrDuplicate when the version exists, *index.PathConflictError when a file's
// full path is another version's, and ErrNotFound when the parent is gone. The
// Draft is closed by success; after an error Commit may be called again.
func (d *Draft) Commit(ctx context.Context) (*Model, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil, errDone
	}
	for {
		rec, files, err := d.finished()
		if err != nil {
			return nil, err
		}
		if d.next {
			if rec.Version, err = d.r.nextNumber(ctx, rec.Name); err != nil {
				return nil, err
			}
		}
		c := &closing{d: d, rec: rec, files: files}
		if err := c.seal(ctx); err != nil {
			return nil, err
		}
		err = d.r.registerAll(ctx, "register", Note{}, d.batch, []*closing{c})
		if dup, ok := errors.AsType[*index.DuplicateError](err); ok && d.next && dup.ID != rec.ID {
			continue // another writer took the number: each round one of them got on
		}
		if err != nil {
			return nil, err
		}
		return c.model, nil
	}
}

// finished returns the record of the version with its files, ascending by path.
// The caller holds mu.
func (d *Draft) finished() (rec index.Version, files []index.File, err error) {
	rec = d.rec
	if rec.RegisteredAt == 0 {
		rec.RegisteredAt = d.r.now()
	}
	files = make([]index.File, 0, len(d.files))
	for p, s := range d.files {
		if s.Path == "" {
			return rec, nil, fmt.Errorf("%w: %s is still being put", ErrConflict, p)
		}
		files = append(files, index.File{Path: p, Digest: s.Digest, Size: s.Size})
		rec.Size += s.Size
	}
	slices.SortFunc(files, func(a, b index.File) int { return strings.Compare(a.Path.String(), b.Path.String()) })
	rec.Files = len(files)
	return rec, files, nil
}

// nextNumber returns the version after the highest plain number of the model.
func (r *Registry) nextNumber(ctx context.Context, n name.Name) (next name.Version, err error) {
	err = r.view(ctx, func(v *view) error {
		highest := uint64(0)
		for rec, err := range v.tx.Versions(n) {
			if err != nil {
				return err
			}
			if i, ok := rec.Version.Number(); ok {
				highest = max(highest, i)
			}
		}
		next, err = name.ParseVersion(strconv.FormatUint(highest+1, 10))
		if _, ok := next.Number(); err == nil && !ok {
			err = fmt.Errorf("%w: %s:%d has the highest number there is: give the next version a label", ErrInvalid, n, highest)
		}
		return err
	})
	return next, err
}

// Close discards the Draft if it was not committed. Content that was stored
// and belongs to no version is removed by GC later. A second
// Close does nothing.
func (d *Draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil
	}
	d.done = true
	if d.bulk != nil {
		d.bulk.drop(d)
	} else {
		d.r.release(d.batch)
	}
	return nil
}

// Register stores the weights as the only file, weights.bin, of a new version.
// It is Begin, Put and Commit in one.
func (r *Registry) Register(ctx context.Context, m Model, weights io.Reader) (*Model, error) {
	return r.registerFile(ctx, m, WeightsFile, weights)
}

func (r *Registry) registerFile(ctx context.Context, m Model, path string, src io.Reader) (*Model, error) {
	d, err := r.Begin(ctx, m)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if _, err := d.Put(ctx, path, src); err != nil {
		return nil, err
	}
	return d.Commit(ctx)
}
