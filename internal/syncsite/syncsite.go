// Package syncsite leaves single syncs of a package out, for tests that show that
// the loss would be noticed.
//
// A site is a call of Sync or SyncDir in the source, written as the folder, the
// file and the line: "blob/output.go:141".
package syncsite

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/heftstore/heft/internal/durable"
)

// Find returns the sites in the Go files of the folder dir, without its tests:
// calls x.Sync() and x.SyncDir(name), whatever x is.
func Find(dir string) (sites []string, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("syncsite: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(abs, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("syncsite: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("syncsite: %w", err)
		}
		for n := range ast.Preorder(file) {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				continue
			}
			to, ok := call.Fun.(*ast.SelectorExpr)
			if ok && (to.Sel.Name == "Sync" && len(call.Args) == 0 || to.Sel.Name == "SyncDir" && len(call.Args) == 1) {
				sites = append(sites, site(name, set.Position(to.Sel.Pos()).Line))
			}
		}
	}
	if len(sites) == 0 {
		return nil, fmt.Errorf("syncsite: nothing in %s is synced: %w", dir, fs.ErrNotExist)
	}
	return sites, nil
}

func site(file string, line int) string {
	file = filepath.ToSlash(file)
	return fmt.Sprintf("%s/%s:%d", path.Base(path.Dir(file)), path.Base(file), line)
}

// FS is a file system that leaves the syncs of one site out and says that they
// worked. It is safe for concurrent use.
type FS struct {
	durable.FS
	skip string

	mu   sync.Mutex
	seen map[string]int
}

// Skip returns fsys without the syncs of that site; "" leaves none out.
func Skip(fsys durable.FS, site string) *FS {
	return &FS{FS: fsys, skip: site, seen: map[string]int{}}
}

// Seen returns the sites that have been called, sorted.
func (f *FS) Seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.seen))
}

// left notes the site that calls a method of f or of a file of it, and reports
// whether it is the one to leave out.
func (f *FS) left() bool {
	var pc [1]uintptr
	runtime.Callers(3, pc[:]) // without Callers, left and the method
	frame, _ := runtime.CallersFrames(pc[:]).Next()
	s := site(frame.File, frame.Line)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[s]++
	return s == f.skip
}

// SyncDir implements [durable.FS].
func (f *FS) SyncDir(name string) error {
	if f.left() {
		return nil
	}
	return f.FS.SyncDir(name)
}

// Create implements [durable.FS].
func (f *FS) Create(name string) (durable.File, error) { return f.wrap(f.FS.Create(name)) }

// OpenWrite implements [durable.FS].
func (f *FS) OpenWrite(name string) (durable.File, error) { return f.wrap(f.FS.OpenWrite(name)) }

func (f *FS) wrap(file durable.File, err error) (durable.File, error) {
	if err != nil {
		return nil, err
	}
	return &syncFile{file, f}, nil
}

// syncFile is a file of an FS.
type syncFile struct {
	durable.File
	fsys *FS
}

// Sync implements [durable.File].
func (f *syncFile) Sync() error {
	if f.fsys.left() {
		return nil
	}
	return f.File.Sync()
}
