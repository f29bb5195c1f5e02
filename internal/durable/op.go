package durable

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// OpKind names an operation on a [Mem] or on one of its files.
type OpKind string

// The operations that [Mem.Record] logs.
const (
	OpCreate   OpKind = "create"
	OpWrite    OpKind = "write" // Write and WriteAt
	OpTruncate OpKind = "truncate"
	OpRename   OpKind = "rename"
	OpRemove   OpKind = "remove"
	OpMkdir    OpKind = "mkdir"
	OpSync     OpKind = "sync"
	OpSyncDir  OpKind = "syncdir"
)

// The operations that change nothing: only the hook of [Mem.Fail] sees them.
const (
	OpOpen      OpKind = "open"
	OpOpenWrite OpKind = "openwrite"
	OpRead      OpKind = "read" // Read and ReadAt
	OpStat      OpKind = "stat" // of a name or of an open file
	OpReadDir   OpKind = "readdir"
	OpLock      OpKind = "lock"
	OpClose     OpKind = "close" // of a file; its handle is released even if the hook fails it
)

// Op is one operation. Operations on an open file carry the name that it was
// opened by, even after a rename.
type Op struct {
	Kind OpKind
	Name string
	To   string // new name, for OpRename
	Off  int64  // first byte, for OpRead and OpWrite; new size, for OpTruncate
	Len  int    // bytes asked for, for OpRead and OpWrite
	N    int    // running number, from 1, since the call to Mem.Fail; only in its hook
}

// String returns the line that [Mem.Trace] shows, such as "write tmp/x 0+4096".
func (op Op) String() string {
	switch op.Kind {
	case OpRead, OpWrite:
		return fmt.Sprintf("%s %s %d+%d", op.Kind, op.Name, op.Off, op.Len)
	case OpTruncate:
		return fmt.Sprintf("%s %s %d", op.Kind, op.Name, op.Off)
	case OpRename:
		return fmt.Sprintf("%s %s %s", op.Kind, op.Name, op.To)
	default:
		return fmt.Sprintf("%s %s", op.Kind, op.Name)
	}
}

// hook is a function given to Mem.Fail.
type hook struct {
	fail func(Op) error
	n    atomic.Int64
}

// Fail makes m call the function before each operation that has passed the
// checks of its arguments; nil ends that. An error that it returns is what the
// operation returns, unwrapped, and the operation doesn't happen, but see
// [ShortWrite]. A failed OpSync has an effect on [Mem.Crash]. The function is
// called without any lock held, at the same time by concurrent operations; it
// may use m, but then sees its own operations too.
func (m *Mem) Fail(fail func(Op) error) {
	if fail == nil {
		m.hook.Store(nil)
		return
	}
	m.hook.Store(&hook{fail: fail})
}

// before asks the hook about op.
func (m *Mem) before(op Op) error {
	h := m.hook.Load()
	if h == nil {
		return nil
	}
	op.N = int(h.n.Add(1))
	err := h.fail(op)
	if short, ok := errors.AsType[*shortWrite](err); ok && op.Kind != OpWrite {
		return short.err
	}
	return err
}

// ShortWrite returns an error for the hook of [Mem.Fail] to return: a write
// then writes its first n bytes, all of them if it has fewer, and returns their
// number and err. Other operations just return err. err must not be nil.
func ShortWrite(n int, err error) error { return &shortWrite{n: max(n, 0), err: err} }

type shortWrite struct {
	n   int
	err error
}

func (e *shortWrite) Error() string {
	return fmt.Sprintf("durable: write stopped after %d bytes: %v", e.n, e.err)
}

func (e *shortWrite) Unwrap() error { return e.err }

// written splits what before returned for a write of size bytes: how many to
// write, and the error to return.
func written(err error, size int) (int, error) {
	if err == nil {
		return size, nil
	}
	if short, ok := errors.AsType[*shortWrite](err); ok {
		return min(short.n, size), short.err
	}
	return 0, err
}
