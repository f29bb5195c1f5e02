package registry

import (
	"bytes"
	"cmp"
	"context"
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
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
)

// WeightsFile is the path under which Register stores weights.
const WeightsFile = "weights.bin"

// Draft is a version in the making: invisible before Commit, gone after Close.
// Its methods are safe for concurrent use, so that several files can be put at
// once.
type Draft struct {
	r     *Registry
	rec   index.Version
	next  bool // the version is to be the next number
	batch *blob.Batch
	base  []File // of the parent, or else of the latest version: what the files may be like

	mu    sync.Mutex
	sums  map[blob.Digest]SHA256 // nil unless they are wanted
	files map[name.Path]Stored
	dirs  map[string]int // folders that the files imply, with how many imply each
	done  bool
}

// Stored is a file that a Draft has stored.
type Stored struct {
	File
	Known   bool  `json:"known"`   // its content was in the store already
	Written int64 `json:"written"` // bytes that were written for it

	// Parts is how its content is stored, by this Put or an earlier one.
	Parts blob.Parts `json:"parts"`
}

// Begin starts a version. Of the Model it takes what its declaration says; see
// there for what may be left out. It returns a *NameError, an error that wraps
// ErrInvalid, ErrDuplicate if the version exists already, or ErrNotFound if
// the parent does not. The caller ends it with Commit, and always with Close.
func (r *Registry) Begin(ctx context.Context, m Model) (*Draft, error) {
	d := &Draft{r: r, next: m.Version == "", batch: r.store.Batch(), files: map[name.Path]Stored{}, dirs: map[string]int{}}
	if r.sha {
		d.sums = map[blob.Digest]SHA256{}
	}
	var err error
	if d.rec, err = r.record(&m); err != nil {
		return nil, err
	}
	err = r.view(ctx, func(v *view) error {
		if err := v.checkParent(&d.rec); err != nil {
			return err
		}
		if d.base, err = v.base(&d.rec); err != nil {
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
	if err != nil {
		return nil, err
	}
	return d, nil
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
	if rec.RegisteredBy == "" {
		rec.RegisteredBy = r.actor
	}
	rec.Description = m.Description
	err = errors.Join(checkText("name of who registers", rec.RegisteredBy, maxActor), checkText("description", rec.Description, maxDescription))
	if err != nil {
		return rec, err
	}
	if m.RegisteredAt < 0 {
		return rec, fmt.Errorf("%w: the registration time %d is before 1970", ErrInvalid, m.RegisteredAt)
	}
	rec.ID, rec.Parent, rec.RegisteredAt = m.ID, m.Parent, m.RegisteredAt
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
	at, err := name.ParsePath(p)
	if err != nil {
		return Stored{}, fmt.Errorf("registry: %w", err)
	}
	if err := d.reserve(at); err != nil {
		return Stored{}, err
	}
	sum := func() SHA256 { return SHA256{} }
	if d.sums != nil {
		src, sum = newHashing(src)
	}
	info, err := d.batch.PutLike(ctx, src, d.like(at))
	var hashed SHA256
	if err == nil {
		hashed = sum()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.files, at)
		for _, dir := range parents(at) {
			if d.dirs[dir.String()]--; d.dirs[dir.String()] == 0 {
				delete(d.dirs, dir.String())
			}
		}
		return Stored{}, fmt.Errorf("registry: storing %s of %s: %w", p, d.rec.Name, err)
	}
	s := Stored{File: File{Path: p, Digest: info.Digest, Size: info.Size}, Known: info.Known, Parts: info.Parts}
	if !info.Known {
		s.Written = info.Stored
	}
	d.files[at] = s
	if d.sums != nil {
		d.sums[info.Digest] = hashed
	}
	return s, nil
}

// base returns the files that those of rec may be a later state of: its
// parent's, or without one those of the latest version of the same name.
func (v *view) base(rec *index.Version) ([]File, error) {
	id := rec.Parent
	if id == uuid.Nil {
		last, err := v.latest(rec.Name)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		id = last.ID
	}
	return v.files(id)
}

// maxLike bounds how many files of the base are looked through for the tensors
// of one, when they may have moved from one file to another.
const maxLike = 64

// like returns the files that the one at the path at may be like, that of the
// same path first.
func (d *Draft) like(at name.Path) (like []blob.Digest) {
	for _, f := range d.base {
		switch {
		case f.Path == at.String():
			like = slices.Insert(like, 0, f.Digest)
		case f.Size > 0 && len(like) < maxLike:
			like = append(like, f.Digest)
		}
	}
	return like
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

// PutFS stores every file of fsys under its path there, the largest first: a
// smaller one, in narrower floats, may then be stored as what it was made from.
// Links are followed as far as fsys follows them (os.Root.FS does within the
// root); a link to a folder, or anything else that is not a file or folder, is
// an error that wraps ErrInvalid.
func (d *Draft) PutFS(ctx context.Context, fsys fs.FS) error {
	type entry struct {
		path string
		size int64
	}
	var all []entry
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("registry: reading the folder to store: %w", err)
		}
		if e.IsDir() {
			return nil
		}
		info, err := fs.Stat(fsys, p)
		if err != nil {
			return fmt.Errorf("registry: reading the folder to store: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is neither a file nor a folder: leave it out, or put what it leads to", ErrInvalid, p)
		}
		all = append(all, entry{p, info.Size()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(b.size, a.size) })
	for _, e := range all {
		if err := d.putFrom(ctx, fsys, e.path); err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) putFrom(ctx context.Context, fsys fs.FS, p string) error {
	f, err := fsys.Open(p)
	if err != nil {
		return fmt.Errorf("registry: reading the folder to store: %w", err)
	}
	_, err = d.Put(ctx, p, f)
	return errors.Join(err, f.Close())
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
	rec := d.rec
	if rec.RegisteredAt == 0 {
		rec.RegisteredAt = d.r.now()
	}
	files := make([]index.File, 0, len(d.files))
	for p, s := range d.files {
		if s.Path == "" {
			return nil, fmt.Errorf("%w: %s is still being put", ErrConflict, p)
		}
		files = append(files, index.File{Path: p, Digest: s.Digest, Size: s.Size})
		rec.Size += s.Size
	}
	slices.SortFunc(files, func(a, b index.File) int { return strings.Compare(a.Path.String(), b.Path.String()) })
	rec.Files = len(files)
	for {
		m, err := d.commit(ctx, rec, files)
		if dup, ok := errors.AsType[*index.DuplicateError](err); ok && d.next && dup.ID != rec.ID {
			continue // another writer took the number: each round one of them got on
		}
		if err != nil {
			return nil, err
		}
		d.done = true
		return m, nil
	}
}

func (d *Draft) commit(ctx context.Context, rec index.Version, files []index.File) (m *Model, err error) {
	if d.next {
		if rec.Version, err = d.r.nextNumber(ctx, rec.Name); err != nil {
			return nil, err
		}
	}
	raw, err := canon.Marshal(newManifest(&rec, files))
	if err != nil {
		return nil, fmt.Errorf("%w: the manifest: %w", ErrInvalid, err)
	}
	info, err := d.batch.Put(ctx, bytes.NewReader(raw))
	if err == nil {
		err = d.batch.Sync(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: storing the manifest of %s: %w", refOf(&rec), err)
	}
	rec.Manifest, rec.Hash = info.Digest, info.Digest
	if len(files) == 1 {
		rec.Hash = files[0].Digest
	}
	c, err := d.r.change("register", Note{})
	if err != nil {
		return nil, err
	}
	err = d.r.update(ctx, c, func(v *view) error {
		if err := v.checkParent(&rec); err != nil {
			return err
		}
		if Status(rec.Status) == Production {
			if _, err := v.demote(rec.Name); err != nil {
				return err
			}
		}
		rec := rec // the function may run twice
		if err := v.tx.Register(&rec, files); err != nil {
			return err
		}
		if err := recordSHA256(v.tx, d.sums); err != nil {
			return err
		}
		// Here, not after the update: an error would say that nothing was
		// registered.
		m, err = v.model(&rec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
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
// and belongs to no version is removed by garbage collection later. A second
// Close does nothing.
func (d *Draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = true
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
