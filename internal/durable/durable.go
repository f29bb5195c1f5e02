// Package durable offers file operations that survive power loss, and an
// in-memory twin that can crash and fail on demand.
package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
)

// FS is a directory tree whose names and bytes become durable only when synced.
//
// A file's bytes are durable after [File.Sync]; its name is durable after
// SyncDir of the directory that holds it, and that directory's own name after
// SyncDir of its parent. Neither implies the other.
//
// Names are slash-separated, relative and valid by [fs.ValidPath]; others are
// refused with a [*fs.PathError] around [fs.ErrInvalid]. The root is ".", which
// only Mkdir, ReadDir, Stat and SyncDir accept. Errors about a name are a
// *fs.PathError, or an *os.LinkError from Rename, so that [errors.Is] finds
// fs.ErrNotExist and fs.ErrExist.
//
// [Dir] and [Mem] implement it. All methods are safe for concurrent use.
type FS interface {
	// Create makes a new file, open for reading and writing, mode 0600 before
	// the umask (but see [Access]). An existing name, a directory's too, is fs.ErrExist.
	Create(name string) (File, error)
	// Open opens an existing file for reading; fs.ErrNotExist if there is none.
	// A directory can't be read through it: Open or the first Read fails.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing, its content
	// untouched; fs.ErrNotExist if there is none.
	OpenWrite(name string) (File, error)
	// Rename moves a file or directory, and replaces a file newname atomically
	// for every running process. After a power cut either name may show the old
	// or the new state until the directories of both names are synced. Moving
	// onto a directory that exists is not supported.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory. Files that are open stay
	// readable through their handles.
	Remove(name string) error
	// Mkdir makes a directory, mode 0700 before the umask (likewise). Its parent must
	// exist; a name that exists, "." too, is fs.ErrExist.
	Mkdir(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the directory's entries durable (creations, renames into
	// and out of it, removals): not the bytes of its files, nor the entries of
	// the directories below it, nor its own name. "." is the root. After an error
	// it may be called again: entries are written through the file system's
	// journal, and one that could not write that fails every later sync too. A
	// file's bytes are another matter, see [File.Sync].
	SyncDir(name string) error
	// Close releases the tree. Files that are open stay usable; the caller
	// closes them.
	Close() error
}

// File is an open file of an [FS].
//
// ReadAt, WriteAt, Truncate, Sync, Stat and TryLock are safe for concurrent
// use. Read, Write and Seek share one offset: concurrent calls don't corrupt
// it, but their order is undefined. Writing beyond the end leaves a gap that
// reads as zeros. Write and WriteAt write everything or return an error.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer

	// Stat describes the file, even after its name was removed or replaced.
	Stat() (fs.FileInfo, error)
	// Truncate changes the size, in bytes; growth reads as zeros. The offset
	// stays. The file must be open for writing.
	Truncate(size int64) error
	// Sync makes the bytes and size durable, not the name. After an error, what
	// was written since the last success may be lost even if a later Sync
	// reports success: discard the file, never retry. The file must be open for
	// writing.
	Sync() error
	// TryLock takes an exclusive advisory lock on the file, kept until Close; false if another handle (of any process) has it.
	// It never blocks. A handle that has the lock gets true again. Reading and
	// writing need no lock.
	TryLock() (bool, error)
}

// ErrTooLarge is wrapped by the error of [ReadFile] for a file beyond the limit.
var ErrTooLarge = errors.New("file is too large")

// Parent returns the directory that holds name, "." for a name in the root.
func Parent(name string) string { return path.Dir(name) }

// WriteFile puts data under name so that a crash at any moment leaves either
// the file that was there before (or none) or the new one, whole.
//
// It creates tmp, writes it, syncs it, closes it, renames it to name and syncs
// the directory of name. On return without an error all of it is durable, but
// the removal of the name tmp is not if tmp lies in another directory: after a
// power cut it may be there again. The directories of both names must exist.
//
// If tmp exists, the error is fs.ErrExist and nothing is touched. On any other
// failure tmp is removed; name is untouched unless only the last step, syncing
// the directory, failed: then name holds data, but might not after a power cut.
// WriteFile is safe for concurrent use with different tmp.
func WriteFile(fsys FS, tmp, name string, data []byte) error {
	err := Publish(fsys, tmp, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(Parent(name)); err != nil {
		return fmt.Errorf("durable: write %s: file is in place but its name is not durable: %w", name, err)
	}
	return nil
}

// Publish is WriteFile of what fill writes, without its last step: the content
// is durable on return, and the name once the directory of name is synced. After
// an error, fill's too, name is untouched.
func Publish(fsys FS, tmp, name string, fill func(io.Writer) error) error {
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("durable: create temporary file for %s: %w", name, err)
	}
	err = fill(f)
	if err == nil {
		// Before the rename: a name must never point at bytes that a power cut
		// can still take away.
		err = f.Sync()
	}
	// Before the rename too: Windows is not always able to rename an open file,
	// and network filesystems report late write errors here.
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("durable: write %s: %w", name, errors.Join(err, fsys.Remove(tmp)))
	}
	return nil
}

// ReadFile returns the content of the file name, at most limit bytes.
// A larger file is an error that wraps [ErrTooLarge]; fs.ErrNotExist if there
// is none. It is safe for concurrent use.
func ReadFile(fsys FS, name string, limit int64) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("durable: read %s: %w", name, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			data, err = nil, fmt.Errorf("durable: read %s: %w", name, cerr)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("durable: read %s: %w", name, err)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("durable: read %s: %w: %d bytes, limit %d", name, ErrTooLarge, info.Size(), limit)
	}
	// One byte more than allowed, because the file may grow while it is read.
	most := limit
	if most < math.MaxInt64 {
		most++
	}
	buf := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(f, most)); err != nil {
		return nil, fmt.Errorf("durable: read %s: %w", name, err)
	}
	if int64(buf.Len()) > limit {
		return nil, fmt.Errorf("durable: read %s: %w: it grew beyond the limit of %d bytes", name, ErrTooLarge, limit)
	}
	return buf.Bytes(), nil
}

// checkName refuses what no FS accepts: invalid paths, and "." where the
// operation needs an entry in a directory.
func checkName(op, name string) error {
	if !fs.ValidPath(name) || name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// checkDirName is checkName for operations that accept the root.
func checkDirName(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
