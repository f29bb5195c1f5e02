package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// openFiles is what a command needs at most: 16 donors and 5 a worker, of which
// there are 16 at most, and some for the store: docs/library.md, "Limits". With
// two workers 32 do (TestPromiseFewDescriptors).
const openFiles = 128

// explain gives an error of the machine or its file systems a next step, and
// says of one about a read-only store what it means. Other errors stay as they
// are.
func (a *app) explain(err error) error {
	if _, ok := errors.AsType[*hintError](err); ok || err == nil {
		return err
	}
	if e, ok := errors.AsType[*blob.ReadOnlyError](err); ok {
		what := "folder"
		if _, serr := os.Stat(filepath.Join(e.Dir, "heft.json")); serr == nil {
			what = "store"
		}
		return withHint(exitWith(exitError, "the %s %s is read-only for this user", what, e.Dir),
			"what is in it can be read; to change it ask its owner for access, or name another one")
	}
	if _, ok := errors.AsType[*blob.BusyError](err); ok {
		return withHint(err, "a longer --wait waits longer; without it heft waits as long as it takes")
	}
	path := a.failedPath(err)
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return withHint(err, "allow this process %d open files, as with 'ulimit -n %d'", openFiles, openFiles)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return withHint(err, "%s; 'heft gc' frees what no version needs", room(path))
	case errors.Is(err, syscall.ENAMETOOLONG):
		return withHint(err, "the file system there has no names that long: name another folder")
	case errors.Is(err, fs.ErrPermission):
		hint := belongs(path) + ": its owner can give access"
		if dir, derr := a.dir(); derr == nil && path != "" && strings.HasPrefix(path, dir) {
			hint += "; 'heft init --shared' makes a store that a group uses"
		}
		return withHint(err, "%s", hint)
	}
	return err
}

// ofMachine says whether err is about this process or user, and nothing that
// another could not read.
func ofMachine(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, fs.ErrPermission)
}

// failedPath returns the file that err is about, "" if that is not known.
func (a *app) failedPath(err error) string {
	op, name := "", ""
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		op, name = e.Op, e.Path
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		op, name = e.Op, e.New
	}
	if name == "" || filepath.IsAbs(name) || !slices.Contains([]string{"openat", "mkdirat", "renameat", "linkat", "unlinkat", "statat", "chmodat"}, op) {
		return name
	}
	// It is named within some folder: the store, or one that is written to.
	dir, derr := a.dir()
	if derr != nil || !ofStore(name) {
		return ""
	}
	return filepath.Join(dir, name)
}

// ofStore says whether a store has a file of that name: docs/format.md, "The
// folder".
func ofStore(name string) bool {
	first, _, _ := strings.Cut(filepath.ToSlash(name), "/")
	for _, prefix := range []string{"blobs", "tmp", "trash", "quarantine", "pins", "heft.json", "journal", "index.", "publish.lock"} {
		if strings.HasPrefix(first, prefix) {
			return true
		}
	}
	return false
}

// existing returns path, or the folder nearest above it that is there.
func existing(path string) string {
	for {
		_, err := os.Stat(path)
		up := filepath.Dir(path)
		if err == nil || up == path {
			return path
		}
		path = up
	}
}

// room says what is left where path is.
func room(path string) string {
	if path == "" {
		return "make room on that disk"
	}
	path = existing(path)
	s, err := durable.Free(path)
	switch {
	case err != nil:
		return "make room where " + path + " is"
	case s.Files == 0:
		return fmt.Sprintf("where %s is no further file can be made, though %s are free", path, formatSize(s.Bytes))
	}
	return fmt.Sprintf("%s are free where %s is", formatSize(s.Bytes), path)
}

// belongs says whose path is.
func belongs(path string) string {
	if path == "" {
		return "it is not this user's"
	}
	path = existing(path)
	if who := owner(path); who != "" {
		return path + " belongs to " + who
	}
	return path + " is not this user's"
}
