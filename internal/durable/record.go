package durable

import (
	"fmt"
	"time"
)

// recording is what Mem.Record switched on.
type recording struct {
	base   map[uint64]*inode // the tree when it began, all of it durable
	root   uint64
	ops    []record
	replay *replay // where the last Crash has got to
}

// record is one operation of the log.
type record struct {
	op     Op
	failed bool // a Sync that the hook failed
	when   time.Time
	node   uint64 // the file or directory itself
	dir    uint64 // the directory that it was in, or was added to
	to     uint64 // the directory that a rename moved it to
	data   []byte // of a write
}

// Record begins the log that Ops, Trace and Crash use: one entry for each
// create, write, truncate, rename, remove, mkdir, sync and syncdir that
// succeeds, and for each sync that the hook fails (a short write counts with
// the bytes that it wrote). All that m holds at this moment counts as durable.
// Calling it again begins anew. The log keeps a copy of all bytes written, so
// it is for tests.
func (m *Mem) Record() {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := &recording{base: make(map[uint64]*inode), root: m.root.id}
	log.addBase(m.root)
	m.log = log
}

// addBase notes n, and what is below it, as durable.
func (l *recording) addBase(n *node) {
	in := &inode{mtime: n.mtime}
	l.base[n.id] = in
	if !n.isDir() {
		in.disk = n.content.clone()
		in.size = in.disk.size
		return
	}
	in.entries = make(map[string]uint64, len(n.entries))
	for base, child := range n.entries {
		in.entries[base] = child.id
		l.addBase(child)
	}
}

// record appends to the log, if there is one.
func (m *Mem) record(r record) {
	if m.log != nil {
		m.log.ops = append(m.log.ops, r)
	}
}

// Ops returns how many operations the log holds, 0 without Record.
func (m *Mem) Ops() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.log == nil {
		return 0
	}
	return len(m.log.ops)
}

// Trace returns the log, a line an operation, for comparison with a golden
// file: see [Op]. A failed sync ends in " failed".
func (m *Mem) Trace() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.log == nil {
		return nil
	}
	lines := make([]string, len(m.log.ops))
	for i, r := range m.log.ops {
		lines[i] = r.op.String()
		if r.failed {
			lines[i] = fmt.Sprintf("%s failed", r.op)
		}
	}
	return lines
}
