package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/heftstore/heft/internal/durable"
)

// traced is a store's folder whose twin in memory sees every operation first.
// The twin's hook fails what it wants to, and its log is what a power cut is
// made of. It sees bbolt's writes too, and syncs where bbolt does:
//
//	[truncate, sync] write data pages, sync, write a meta page, sync
//
// TestBoltSyncs proves that order.
type traced struct {
	*durable.Dir
	mem  *durable.Mem
	drop string // the call site of the sync that is left out, "" for none

	mu    sync.Mutex
	sites map[string]bool // of all syncs so far
	gaps  *[]int          // operations that were logged when a sync was left out
	last  durable.File    // the twin of what bbolt opened last
}

// The syncs that bbolt makes in a commit.
const (
	boltData = "bbolt: data pages"
	boltMeta = "bbolt: meta page"
	boltGrow = "bbolt: grow"
)

// trace opens dir, whose twin begins with what is there, all of it durable.
func trace(t testing.TB, dir string) *traced {
	t.Helper()
	d, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	mem := durable.NewMem()
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case e.IsDir():
			return mem.Mkdir(name)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		f, err := mem.Create(name)
		if err == nil {
			_, err = f.Write(b)
			err = errors.Join(err, f.Close())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mem.Record()
	return &traced{Dir: d, mem: mem, sites: map[string]bool{}, gaps: new([]int)}
}

// materialize writes a tree of memory into the new folder dir.
func materialize(t testing.TB, m *durable.Mem, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := m.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		if e.IsDir() {
			materialize(t, m, dir, child)
			continue
		}
		b, err := durable.ReadFile(m, child, 1<<30)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, child), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// left says whether a sync is left out, and notes it.
func (d *traced) left(site string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sites[site] = true
	if site != d.drop {
		return false
	}
	*d.gaps = append(*d.gaps, d.mem.Ops())
	return true
}

// site names the line of this package that a sync is called from.
func site(kind string) string {
	pcs := make([]uintptr, 20)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(path.Dir(f.Function), "heft") && strings.Contains(path.Base(f.Function), "index.") && !strings.HasSuffix(f.File, "_test.go") {
			return fmt.Sprintf("%s:%d %s", filepath.Base(f.File), f.Line, kind)
		}
		if !more {
			return "tests " + kind
		}
	}
}

func (d *traced) Create(name string) (durable.File, error) {
	return d.both(func(fsys durable.FS) (durable.File, error) { return fsys.Create(name) })
}

func (d *traced) Open(name string) (durable.File, error) {
	return d.both(func(fsys durable.FS) (durable.File, error) { return fsys.Open(name) })
}

func (d *traced) OpenWrite(name string) (durable.File, error) {
	return d.both(func(fsys durable.FS) (durable.File, error) { return fsys.OpenWrite(name) })
}

func (d *traced) both(open func(durable.FS) (durable.File, error)) (durable.File, error) {
	twin, err := open(d.mem)
	if err != nil {
		return nil, err
	}
	f, err := open(d.Dir)
	if err != nil {
		return nil, errors.Join(err, twin.Close())
	}
	return &tracedFile{f, twin, d}, nil
}

func (d *traced) each(do func(durable.FS) error) error {
	if err := do(d.mem); err != nil {
		return err
	}
	return do(d.Dir)
}

func (d *traced) Rename(from, to string) error {
	return d.each(func(fsys durable.FS) error { return fsys.Rename(from, to) })
}

func (d *traced) Remove(name string) error {
	return d.each(func(fsys durable.FS) error { return fsys.Remove(name) })
}

func (d *traced) Mkdir(name string) error {
	return d.each(func(fsys durable.FS) error { return fsys.Mkdir(name) })
}

func (d *traced) SyncDir(name string) error {
	if d.left(site("syncdir")) {
		return nil
	}
	return d.mem.SyncDir(name)
}

func (d *traced) ReadDir(name string) ([]fs.DirEntry, error) {
	if _, err := d.mem.ReadDir(name); err != nil {
		return nil, err
	}
	return d.Dir.ReadDir(name)
}

func (d *traced) Stat(name string) (fs.FileInfo, error) {
	if _, err := d.mem.Stat(name); err != nil {
		return nil, err
	}
	return d.Dir.Stat(name)
}

// Lock makes the side file in the twin too; what the lock itself does is not
// seen.
func (d *traced) Lock(ctx context.Context, name string, mode durable.LockMode) (*durable.Lock, error) {
	f, err := d.mem.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = d.mem.Create(name)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, err
	}
	return d.Dir.Lock(ctx, name, mode)
}

// OpenFile is for bbolt; watch does the rest.
func (d *traced) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	var f durable.File
	var err error
	switch {
	case flag&os.O_CREATE != 0:
		f, err = d.mem.Create(name)
	case flag&os.O_RDWR != 0:
		f, err = d.mem.OpenWrite(name)
	default:
		f, err = d.mem.Open(name)
	}
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.last = f
	d.mu.Unlock()
	return d.Dir.OpenFile(name, flag, perm)
}

// watch puts the twin between bbolt and its file.
func (d *traced) watch(db *database) {
	if db.bolt.IsReadOnly() {
		return
	}
	d.mu.Lock()
	twin := d.last
	d.mu.Unlock()
	b := &boltFile{d: d, db: db, twin: twin}
	if info, err := twin.Stat(); err == nil && info.Size() == 0 {
		// What bbolt writes into a new file, and syncs.
		all, err := os.ReadFile(db.file.Name())
		if err == nil {
			_, err = twin.WriteAt(all, 0)
		}
		if err == nil {
			err = twin.Sync()
		}
		if err != nil {
			b.dead = err
		}
	}
	// bbolt has a hook for its own tests.
	hook := reflect.ValueOf(db.bolt).Elem().FieldByName("ops").FieldByName("writeAt")
	write := (*func([]byte, int64) (int, error))(unsafe.Pointer(hook.UnsafeAddr()))
	b.write = *write
	*write = b.writeAt
	sync := db.sync
	db.sync = func() error {
		if b.dead != nil {
			return b.dead
		}
		if !d.left(site("sync")) {
			if err := twin.Sync(); err != nil {
				return err
			}
		}
		return sync()
	}
}

// boltFile is an index.db that bbolt writes.
type boltFile struct {
	d     *traced
	db    *database
	twin  durable.File
	write func([]byte, int64) (int, error)
	dead  error // the twin could not be made
}

func (b *boltFile) writeAt(p []byte, off int64) (int, error) {
	if b.dead != nil {
		return 0, b.dead
	}
	if err := b.grow(); err != nil {
		return 0, err
	}
	meta := off < 2*int64(b.db.bolt.Info().PageSize)
	if meta {
		// As bbolt's own sync would, a failure keeps it from writing the page.
		if err := b.sync(boltData); err != nil {
			return 0, err
		}
	}
	n, err := b.twin.WriteAt(p, off)
	if n > 0 {
		if n, werr := b.write(p[:n], off); werr != nil {
			return n, werr
		}
	}
	if err == nil && meta {
		err = b.sync(boltMeta)
	}
	return n, err
}

// grow notes a truncation that bbolt made, and its sync.
func (b *boltFile) grow() error {
	info, err := b.db.file.Stat()
	if err != nil {
		return err
	}
	twin, err := b.twin.Stat()
	if err != nil || twin.Size() >= info.Size() {
		return err
	}
	if err := b.twin.Truncate(info.Size()); err != nil {
		return err
	}
	if b.db.bolt.NoGrowSync {
		return nil
	}
	return b.sync(boltGrow)
}

func (b *boltFile) sync(site string) error {
	if b.db.bolt.NoSync || b.d.left(site) {
		return nil
	}
	return b.twin.Sync()
}

// tracedFile does all in the twin first.
type tracedFile struct {
	durable.File
	twin durable.File
	d    *traced
}

func (f *tracedFile) Read(p []byte) (int, error) {
	if n, err := f.twin.Read(p); err != nil {
		return n, err
	}
	return f.File.Read(p)
}

func (f *tracedFile) ReadAt(p []byte, off int64) (int, error) {
	if n, err := f.twin.ReadAt(p, off); err != nil && n == 0 {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *tracedFile) Write(p []byte) (int, error) {
	n, err := f.twin.Write(p)
	if n > 0 {
		if n, err := f.File.Write(p[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

func (f *tracedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.twin.WriteAt(p, off)
	if n > 0 {
		if n, err := f.File.WriteAt(p[:n], off); err != nil {
			return n, err
		}
	}
	return n, err
}

func (f *tracedFile) Truncate(size int64) error {
	if err := f.twin.Truncate(size); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *tracedFile) Sync() error {
	if f.d.left(site("sync")) {
		return nil
	}
	return f.twin.Sync()
}

func (f *tracedFile) Stat() (fs.FileInfo, error) {
	if _, err := f.twin.Stat(); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *tracedFile) Close() error { return errors.Join(f.twin.Close(), f.File.Close()) }

// healed counts how often an index.db was found damaged.
type healed struct {
	slog.Handler // for what is never called
	n            *atomic.Int32
}

// Enabled is needed: who discards all is not even asked to handle it.
func (healed) Enabled(context.Context, slog.Level) bool { return true }

func (h healed) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "anew") {
		h.n.Add(1)
	}
	return nil
}
