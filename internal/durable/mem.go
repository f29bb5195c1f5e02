package durable

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Mem is an [FS] in memory. It serves as a file system without a disk, and in
// tests as a disk that fails ([Mem.Fail]) and loses power ([Mem.Crash]).
//
// Files have inode semantics: an open file stays usable after its name was
// removed or replaced. A file holds at most 256 GiB, and takes the memory that
// its written parts need. Nothing outlives the process; syncing only matters to
// Crash.
//
// A Mem is safe for concurrent use. Errors are those that [Dir] returns on Unix.
type Mem struct {
	mu   sync.RWMutex // guards everything below it, and all nodes
	root *node
	ids  uint64     // the last node id given out
	log  *recording // nil unless Record was called

	hook atomic.Pointer[hook]
}

var _ FS = (*Mem)(nil)

// node is a file or a directory, whatever its names.
type node struct {
	id      uint64
	entries map[string]*node // nil for a file
	content content
	mtime   time.Time
	locker  *memFile // handle that has the lock
}

func (n *node) isDir() bool { return n.entries != nil }

// NewMem returns an empty tree.
func NewMem() *Mem {
	m := &Mem{}
	m.root = m.newNode()
	m.root.entries = make(map[string]*node)
	return m
}

func (m *Mem) newNode() *node {
	m.ids++
	return &node{id: m.ids, mtime: time.Now()}
}

// find returns the node called name.
func (m *Mem) find(name string) (*node, error) {
	n := m.root
	if name == "." {
		return n, nil
	}
	for rest, more := name, true; more; {
		var elem string
		elem, rest, more = strings.Cut(rest, "/")
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.entries[elem]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// findParent returns the directory that holds, or would hold, name.
func (m *Mem) findParent(name string) (*node, error) {
	n, err := m.find(Parent(name))
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	return n, err
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	if err := checkName("create", name); err != nil {
		return nil, err
	}
	op := Op{Kind: OpCreate, Name: name}
	if err := m.before(op); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.add(op)
	if err != nil {
		return nil, err
	}
	return &memFile{mem: m, node: n, name: name, writable: true}, nil
}

// Mkdir implements [FS].
func (m *Mem) Mkdir(name string) error {
	if name == "." {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	if err := checkName("mkdir", name); err != nil {
		return err
	}
	op := Op{Kind: OpMkdir, Name: name}
	if err := m.before(op); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.add(op)
	return err
}

// add makes the file or directory of an OpCreate or OpMkdir.
func (m *Mem) add(op Op) (*node, error) {
	dir, err := m.findParent(op.Name)
	if err != nil {
		return nil, &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
	}
	base := path.Base(op.Name)
	if _, ok := dir.entries[base]; ok {
		return nil, &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: fs.ErrExist}
	}
	n := m.newNode()
	if op.Kind == OpMkdir {
		n.entries = make(map[string]*node)
	}
	dir.entries[base] = n
	dir.mtime = n.mtime
	m.record(record{op: op, when: n.mtime, node: n.id, dir: dir.id})
	return n, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	return m.open(Op{Kind: OpOpen, Name: name})
}

// OpenWrite implements [FS].
func (m *Mem) OpenWrite(name string) (File, error) {
	return m.open(Op{Kind: OpOpenWrite, Name: name})
}

func (m *Mem) open(op Op) (File, error) {
	if err := checkName("open", op.Name); err != nil {
		return nil, err
	}
	if err := m.before(op); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(op.Name)
	if err == nil && n.isDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: op.Name, Err: err}
	}
	return &memFile{mem: m, node: n, name: op.Name, writable: op.Kind == OpOpenWrite}, nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldname, newname string) error {
	if err := checkName("rename", oldname); err != nil {
		return err
	}
	if err := checkName("rename", newname); err != nil {
		return err
	}
	op := Op{Kind: OpRename, Name: oldname, To: newname}
	if err := m.before(op); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(op); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (m *Mem) rename(op Op) error {
	n, err := m.find(op.Name)
	if err != nil {
		return err
	}
	from, err := m.findParent(op.Name)
	if err != nil {
		return err
	}
	to, err := m.findParent(op.To)
	if err != nil {
		return err
	}
	base := path.Base(op.To)
	target, exists := to.entries[base]
	switch {
	case target == n && exists:
		return nil // as rename(2): same file, nothing to do
	case n.isDir() && strings.HasPrefix(op.To, op.Name+"/"):
		return fs.ErrInvalid
	case exists && target.isDir() && n.isDir():
		return fs.ErrExist
	case exists && target.isDir():
		return syscall.EISDIR
	case exists && n.isDir():
		return syscall.ENOTDIR
	}
	now := time.Now()
	delete(from.entries, path.Base(op.Name))
	to.entries[base] = n
	from.mtime, to.mtime = now, now
	m.record(record{op: op, when: now, node: n.id, dir: from.id, to: to.id})
	return nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	if err := checkName("remove", name); err != nil {
		return err
	}
	op := Op{Kind: OpRemove, Name: name}
	if err := m.before(op); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && len(n.entries) > 0 {
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	dir, err := m.findParent(name)
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	delete(dir.entries, path.Base(name))
	dir.mtime = time.Now()
	m.record(record{op: op, when: dir.mtime, node: n.id, dir: dir.id})
	return nil
}

// ReadDir implements [FS]. The entries are as they were at the time of the call.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := checkDirName("readdir", name); err != nil {
		return nil, err
	}
	if err := m.before(Op{Kind: OpReadDir, Name: name}); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	dir, err := m.find(name)
	if err == nil && !dir.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list := make([]fs.DirEntry, 0, len(dir.entries))
	for _, base := range slices.Sorted(maps.Keys(dir.entries)) {
		list = append(list, fs.FileInfoToDirEntry(dir.entries[base].info(base)))
	}
	return list, nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	if err := checkDirName("stat", name); err != nil {
		return nil, err
	}
	if err := m.before(Op{Kind: OpStat, Name: name}); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.info(path.Base(name)), nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(name string) error {
	if err := checkDirName("syncdir", name); err != nil {
		return err
	}
	op := Op{Kind: OpSyncDir, Name: name}
	if err := m.before(op); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	m.record(record{op: op, node: n.id})
	return nil
}

// Close implements [FS]. It does nothing, so that a test can close what uses m
// and open it again.
func (m *Mem) Close() error { return nil }

// memInfo describes a node at one moment.
type memInfo struct {
	base  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (n *node) info(base string) fs.FileInfo {
	if n.isDir() {
		return memInfo{base: base, mode: fs.ModeDir | 0o700, mtime: n.mtime}
	}
	return memInfo{base: base, size: n.content.size, mode: 0o600, mtime: n.mtime}
}

func (i memInfo) Name() string       { return i.base }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.mtime }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }
