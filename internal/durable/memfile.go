package durable

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memFile is a File of a Mem.
type memFile struct {
	mem      *Mem
	node     *node
	name     string
	writable bool
	closed   atomic.Bool

	mu  sync.Mutex // guards off; taken before mem.mu
	off int64
}

func (f *memFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// check says whether the handle may do op.
func (f *memFile) check(op Op) error {
	switch {
	case f.closed.Load():
		return f.fail(string(op.Kind), fs.ErrClosed)
	case op.Off < 0:
		return f.fail(string(op.Kind), fs.ErrInvalid)
	case f.writable:
	case op.Kind == OpWrite:
		return f.fail(string(op.Kind), syscall.EBADF)
	case op.Kind == OpTruncate || op.Kind == OpSync:
		return f.fail(string(op.Kind), fs.ErrInvalid)
	}
	return nil
}

// ready is check, and then the hook's opinion.
func (f *memFile) ready(op Op) error {
	if err := f.check(op); err != nil {
		return err
	}
	return f.mem.before(op)
}

// Read implements [File].
func (f *memFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil // a reader reports the end on its own, with the next call
	}
	return n, err
}

// ReadAt implements [File].
func (f *memFile) ReadAt(p []byte, off int64) (int, error) { return f.readAt(p, off) }

func (f *memFile) readAt(p []byte, off int64) (int, error) {
	if err := f.ready(Op{Kind: OpRead, Name: f.name, Off: off, Len: len(p)}); err != nil {
		return 0, err
	}
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	n := f.node.content.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements [File].
func (f *memFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.writeAt(p, f.off)
	f.off += int64(n)
	return n, err
}

// WriteAt implements [File].
func (f *memFile) WriteAt(p []byte, off int64) (int, error) { return f.writeAt(p, off) }

func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	op := Op{Kind: OpWrite, Name: f.name, Off: off, Len: len(p)}
	if off > maxContent-int64(len(p)) {
		return 0, f.fail("write", syscall.EFBIG)
	}
	n, err := written(f.ready(op), len(p))
	if n == 0 {
		return 0, err
	}
	p, op.Len = p[:n], n
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.node.content.writeAt(p, off)
	f.node.mtime = time.Now()
	if f.mem.log != nil {
		f.mem.record(record{op: op, when: f.node.mtime, node: f.node.id, data: slices.Clone(p)})
	}
	return n, err
}

// Seek implements [File].
func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	if f.closed.Load() {
		return 0, f.fail("seek", fs.ErrClosed)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		f.mem.mu.RLock()
		offset += f.node.content.size
		f.mem.mu.RUnlock()
	default:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.off = offset
	return offset, nil
}

// Stat implements [File].
func (f *memFile) Stat() (fs.FileInfo, error) {
	if err := f.ready(Op{Kind: OpStat, Name: f.name}); err != nil {
		return nil, err
	}
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	return f.node.info(path.Base(f.name)), nil
}

// Truncate implements [File].
func (f *memFile) Truncate(size int64) error {
	if size > maxContent {
		return f.fail("truncate", syscall.EFBIG)
	}
	op := Op{Kind: OpTruncate, Name: f.name, Off: size}
	if err := f.ready(op); err != nil {
		return err
	}
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.node.content.truncate(size)
	f.node.mtime = time.Now()
	f.mem.record(record{op: op, when: f.node.mtime, node: f.node.id})
	return nil
}

// Sync implements [File].
func (f *memFile) Sync() error {
	op := Op{Kind: OpSync, Name: f.name}
	if err := f.check(op); err != nil {
		return err
	}
	err := f.mem.before(op)
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	// A failure of the hook is recorded too: it loses what was written so far.
	f.mem.record(record{op: op, node: f.node.id, failed: err != nil})
	return err
}

// TryLock implements [File].
func (f *memFile) TryLock() (bool, error) {
	if err := f.ready(Op{Kind: OpLock, Name: f.name}); err != nil {
		return false, err
	}
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed.Load() {
		return false, f.fail("lock", fs.ErrClosed) // nobody would release it
	}
	if f.node.locker != nil && f.node.locker != f {
		return false, nil
	}
	f.node.locker = f
	return true, nil
}

// Close implements [File].
func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	err := f.mem.before(Op{Kind: OpClose, Name: f.name})
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.node.locker == f {
		f.node.locker = nil
	}
	return err
}
