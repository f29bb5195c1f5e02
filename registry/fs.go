package registry

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// FS returns the files of the version as a read-only file system. It is safe
// for concurrent use; its files read, seek and read at offsets as a Reader
// does. The list of files is read once. Times are the version's
// registration.
func (m *Model) FS() fs.FS {
	return &tree{m: m}
}

// tree is a version as an fs.FS.
type tree struct {
	m     *Model
	mu    sync.Mutex
	nodes map[string]*node // nil until they could be read
}

// load returns the tree's nodes by path.
func (t *tree) load() (map[string]*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes == nil {
		nodes, err := t.read()
		if err != nil {
			return nil, err // it may pass: the next call tries again
		}
		t.nodes = nodes
	}
	return t.nodes, nil
}

// node is a file or folder of a tree, and its own fs.FileInfo and fs.DirEntry.
type node struct {
	name    string
	file    File
	folder  bool
	entries []fs.DirEntry // of a folder, by name
	time    time.Time
}

func (n *node) Name() string               { return n.name }
func (n *node) Size() int64                { return n.file.Size }
func (n *node) ModTime() time.Time         { return n.time }
func (n *node) IsDir() bool                { return n.folder }
func (n *node) Sys() any                   { return nil }
func (n *node) Type() fs.FileMode          { return n.Mode().Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }
func (n *node) Mode() fs.FileMode {
	if n.folder {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

// read lists the version's files and makes the folders between them.
func (t *tree) read() (map[string]*node, error) {
	at := time.UnixMicro(t.m.RegisteredAt).UTC()
	nodes := map[string]*node{".": {name: ".", folder: true, time: at}}
	for f, err := range t.m.List(context.Background()) { // fs.FS has no context
		if err != nil {
			return nil, err
		}
		child := &node{name: path.Base(f.Path), file: f, time: at}
		nodes[f.Path] = child
		for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
			parent, ok := nodes[dir]
			if !ok {
				parent = &node{name: path.Base(dir), folder: true, time: at}
				nodes[dir] = parent
			}
			parent.entries = append(parent.entries, child)
			if ok {
				break
			}
			child = parent
		}
	}
	for _, n := range nodes {
		slices.SortFunc(n.entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return nodes, nil
}

func (t *tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	nodes, err := t.load()
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	n, ok := nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Open implements fs.FS.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.folder {
		return &openFolder{node: n}, nil
	}
	r, err := t.m.reg.open(context.Background(), t.m.Ref(), n.file)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{Reader: r, node: n}, nil
}

// Stat implements fs.StatFS.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.folder {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return slices.Clone(n.entries), nil
}

// openFile is a Reader with a Stat.
type openFile struct {
	*Reader
	node *node
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }

// openFolder lists its entries.
type openFolder struct {
	node *node
	next int
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.node.name, Err: fs.ErrInvalid}
}

func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := f.node.entries[f.next:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 && n < len(rest) {
		rest = rest[:n]
	}
	f.next += len(rest)
	return slices.Clone(rest), nil
}
