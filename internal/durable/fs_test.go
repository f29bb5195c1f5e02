package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"testing"
)

// eachFS runs test on a new tree of each implementation.
func eachFS(t *testing.T, test func(t *testing.T, fsys FS)) {
	t.Run("dir", func(t *testing.T) { test(t, newDir(t)) })
	t.Run("mem", func(t *testing.T) { test(t, NewMem()) })
}

func newDir(t testing.TB) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// put creates name with data in it, not synced.
func put(t testing.TB, fsys FS, name, data string) {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	must(t, f.Close())
}

func get(t testing.TB, fsys FS, name string) string {
	t.Helper()
	data, err := ReadFile(fsys, name, 1<<30)
	must(t, err)
	return string(data)
}

func TestFSCreate(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		f, err := fsys.Create("x")
		must(t, err)
		_, err = f.Write([]byte("hello"))
		must(t, err)
		_, err = f.Seek(1, io.SeekStart)
		must(t, err)
		rest, err := io.ReadAll(f)
		must(t, err)
		if string(rest) != "ello" {
			t.Errorf("read back %q", rest)
		}
		must(t, f.Sync())
		info, err := f.Stat()
		must(t, err)
		if info.Size() != 5 || info.Name() != "x" || info.IsDir() {
			t.Errorf("Stat: %s, %d bytes, dir %v", info.Name(), info.Size(), info.IsDir())
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		must(t, f.Close())
		wantErr(t, "second Close", f.Close(), fs.ErrClosed)
		_, err = f.Write([]byte("x"))
		wantErr(t, "Write after Close", err, fs.ErrClosed)

		_, err = fsys.Create("x")
		wantErr(t, "Create of a file that exists", err, fs.ErrExist)
		must(t, fsys.Mkdir("d"))
		_, err = fsys.Create("d")
		wantErr(t, "Create of a directory that exists", err, fs.ErrExist)
		_, err = fsys.Create("none/x")
		wantErr(t, "Create without a parent", err, fs.ErrNotExist)
		if _, err := fsys.Create("x/y"); err == nil {
			t.Error("Create below a file succeeded")
		}
		if got := get(t, fsys, "x"); got != "hello" {
			t.Errorf("content is now %q", got)
		}
	})
}

func TestFSOpen(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		_, err := fsys.Open("x")
		wantErr(t, "Open", err, fs.ErrNotExist)
		_, err = fsys.OpenWrite("x")
		wantErr(t, "OpenWrite", err, fs.ErrNotExist)
		put(t, fsys, "x", "hello")

		f, err := fsys.Open("x")
		must(t, err)
		if _, err := f.Write([]byte("J")); err == nil {
			t.Error("Write succeeded on a file open for reading")
		}
		if _, err := f.WriteAt([]byte("J"), 0); err == nil {
			t.Error("WriteAt succeeded on a file open for reading")
		}
		if err := f.Truncate(0); err == nil {
			t.Error("Truncate succeeded on a file open for reading")
		}
		must(t, f.Close())

		f, err = fsys.OpenWrite("x")
		must(t, err)
		_, err = f.Write([]byte("J"))
		must(t, err)
		must(t, f.Close())
		if got := get(t, fsys, "x"); got != "Jello" {
			t.Errorf("content is %q", got)
		}

		must(t, fsys.Mkdir("d"))
		if f, err := fsys.Open("d"); err == nil {
			if _, err := f.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a directory can be read: %v", err)
			}
			must(t, f.Close())
		}
		if _, err := fsys.OpenWrite("d"); err == nil {
			t.Error("a directory can be opened for writing")
		}
	})
}

func TestFSReadWriteAt(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		f, err := fsys.Create("x")
		must(t, err)
		defer func() { _ = f.Close() }()
		const far = 3*chunkSize + 17
		_, err = f.WriteAt([]byte("end"), far)
		must(t, err)
		_, err = f.WriteAt([]byte("begin"), 0)
		must(t, err)
		_, err = f.WriteAt([]byte("x"), -1)
		if err == nil {
			t.Error("WriteAt accepted a negative offset")
		}
		want := make([]byte, far+3)
		copy(want, "begin")
		copy(want[far:], "end")
		got, err := io.ReadAll(f) // the offset is still 0
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Error("content differs: the gap must read as zeros")
		}
		p := make([]byte, 10)
		n, err := f.ReadAt(p, far)
		if n != 3 || !errors.Is(err, io.EOF) {
			t.Errorf("ReadAt over the end: %d, %v", n, err)
		}
		n, err = f.ReadAt(p, far+3)
		if n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("ReadAt at the end: %d, %v", n, err)
		}
		if _, err := f.ReadAt(p, -1); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("ReadAt of a negative offset: %v", err)
		}
		off, err := f.Seek(-3, io.SeekEnd)
		must(t, err)
		if off != far {
			t.Errorf("Seek from the end: %d", off)
		}
		if off, err = f.Seek(1, io.SeekCurrent); err != nil || off != far+1 {
			t.Errorf("Seek from here: %d, %v", off, err)
		}
		if _, err := f.Seek(-1, io.SeekStart); err == nil {
			t.Error("Seek before the start succeeded")
		}
		if n, err := f.Read(p); n != 2 || err != nil || string(p[:n]) != "nd" {
			t.Errorf("Read: %d, %v", n, err)
		}
		if n, err := f.Read(p); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("Read at the end: %d, %v", n, err)
		}
	})
}

func TestFSTruncate(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		f, err := fsys.Create("x")
		must(t, err)
		defer func() { _ = f.Close() }()
		_, err = f.Write([]byte("abcdef"))
		must(t, err)
		must(t, f.Truncate(2))
		must(t, f.Truncate(4))
		if got := get(t, fsys, "x"); got != "ab\x00\x00" {
			t.Errorf("content is %q", got)
		}
		_, err = f.Write([]byte("g")) // the offset stays at 6
		must(t, err)
		if got := get(t, fsys, "x"); got != "ab\x00\x00\x00\x00g" {
			t.Errorf("content is %q", got)
		}
		if err := f.Truncate(-1); err == nil {
			t.Error("Truncate accepted a negative size")
		}
	})
}

func TestFSRename(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "new", "new")
		put(t, fsys, "old", "old")
		must(t, fsys.Mkdir("d"))
		open, err := fsys.Open("old")
		must(t, err)
		defer func() { _ = open.Close() }()
		must(t, fsys.Rename("new", "old"))
		if got := get(t, fsys, "old"); got != "new" {
			t.Errorf("content after the rename is %q", got)
		}
		data, err := io.ReadAll(open)
		must(t, err)
		if string(data) != "old" {
			t.Errorf("the replaced file reads as %q", data)
		}
		_, err = fsys.Stat("new")
		wantErr(t, "Stat of the old name", err, fs.ErrNotExist)
		wantErr(t, "Rename of nothing", fsys.Rename("new", "x"), fs.ErrNotExist)
		wantErr(t, "Rename to nowhere", fsys.Rename("old", "none/x"), fs.ErrNotExist)
		must(t, fsys.Rename("old", "old"))
		must(t, fsys.Rename("old", "d/x"))
		if err := fsys.Rename("d/x", "d"); err == nil {
			t.Error("a file replaced a directory")
		}
		must(t, fsys.Rename("d", "e"))
		if got := get(t, fsys, "e/x"); got != "new" {
			t.Errorf("content in the renamed directory is %q", got)
		}
		must(t, fsys.Mkdir("e/d"))
		if err := fsys.Rename("e", "e/d/y"); err == nil {
			t.Error("a directory moved into itself")
		}
		if err := fsys.Rename("e", "e/x"); err == nil {
			t.Error("a directory replaced a file in itself")
		}
	})
}

func TestFSRemove(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		must(t, fsys.Mkdir("d"))
		put(t, fsys, "d/x", "hello")
		f, err := fsys.OpenWrite("d/x")
		must(t, err)
		defer func() { _ = f.Close() }()
		if err := fsys.Remove("d"); err == nil {
			t.Error("a directory with a file in it was removed")
		}
		must(t, fsys.Remove("d/x"))
		wantErr(t, "second Remove", fsys.Remove("d/x"), fs.ErrNotExist)
		_, err = f.WriteAt([]byte("J"), 0)
		must(t, err)
		data, err := io.ReadAll(f)
		must(t, err)
		if string(data) != "Jello" {
			t.Errorf("the removed file reads as %q", data)
		}
		put(t, fsys, "d/x", "other") // a new file under the same name
		must(t, fsys.Remove("d/x"))
		must(t, fsys.Remove("d"))
		_, err = fsys.Stat("d")
		wantErr(t, "Stat of a removed directory", err, fs.ErrNotExist)
	})
}

func TestFSReadDir(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		must(t, fsys.Mkdir("d"))
		wantErr(t, "second Mkdir", fsys.Mkdir("d"), fs.ErrExist)
		wantErr(t, "Mkdir of the root", fsys.Mkdir("."), fs.ErrExist)
		wantErr(t, "Mkdir without a parent", fsys.Mkdir("none/d"), fs.ErrNotExist)
		for _, name := range []string{"d/c", "d/a", "d/b.txt", "d/B"} {
			put(t, fsys, name, "1234")
		}
		must(t, fsys.Mkdir("d/b"))
		must(t, fsys.SyncDir("d"))
		must(t, fsys.SyncDir("."))
		list, err := fsys.ReadDir("d")
		must(t, err)
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
			info, err := e.Info()
			must(t, err)
			if e.IsDir() != (e.Name() == "b") || info.IsDir() != e.IsDir() || !e.IsDir() && info.Size() != 4 {
				t.Errorf("entry %s: dir %v, %d bytes", e.Name(), e.IsDir(), info.Size())
			}
		}
		if want := []string{"B", "a", "b", "b.txt", "c"}; !slices.Equal(names, want) {
			t.Errorf("names %q, want %q", names, want)
		}
		if list, err := fsys.ReadDir("."); err != nil || len(list) != 1 || list[0].Name() != "d" {
			t.Errorf("the root lists as %v, %v", list, err)
		}
		_, err = fsys.ReadDir("none")
		wantErr(t, "ReadDir of nothing", err, fs.ErrNotExist)
		wantErr(t, "SyncDir of nothing", fsys.SyncDir("none"), fs.ErrNotExist)
		if _, err := fsys.ReadDir("d/a"); err == nil {
			t.Error("a file was listed")
		}
		if err := fsys.SyncDir("d/a"); err == nil {
			t.Error("a file was synced as a directory")
		}
		info, err := fsys.Stat("d")
		must(t, err)
		if !info.IsDir() || info.Name() != "d" {
			t.Errorf("Stat: %s, dir %v", info.Name(), info.IsDir())
		}
		if info, err := fsys.Stat("."); err != nil || !info.IsDir() {
			t.Errorf("Stat of the root: %v, %v", info, err)
		}
	})
}

func TestFSInvalidName(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "x", "")
		names := []string{"", "/x", "../x", "d/../x", "./x", "x/", "d//x", "\xff"}
		for _, name := range append(names, ".") {
			_, err := fsys.Create(name)
			wantErr(t, "Create "+name, err, fs.ErrInvalid)
			_, err = fsys.Open(name)
			wantErr(t, "Open "+name, err, fs.ErrInvalid)
			_, err = fsys.OpenWrite(name)
			wantErr(t, "OpenWrite "+name, err, fs.ErrInvalid)
			wantErr(t, "Rename from "+name, fsys.Rename(name, "y"), fs.ErrInvalid)
			wantErr(t, "Rename to "+name, fsys.Rename("x", name), fs.ErrInvalid)
			err = fsys.Remove(name)
			wantErr(t, "Remove "+name, err, fs.ErrInvalid)
			if pe, ok := errors.AsType[*fs.PathError](err); !ok || pe.Path != name {
				t.Errorf("Remove %q: %v is not a PathError with that name", name, err)
			}
		}
		for _, name := range names {
			wantErr(t, "Mkdir "+name, fsys.Mkdir(name), fs.ErrInvalid)
			_, err := fsys.ReadDir(name)
			wantErr(t, "ReadDir "+name, err, fs.ErrInvalid)
			_, err = fsys.Stat(name)
			wantErr(t, "Stat "+name, err, fs.ErrInvalid)
			wantErr(t, "SyncDir "+name, fsys.SyncDir(name), fs.ErrInvalid)
		}
	})
}

func TestFSTryLock(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "x", "hello")
		a, err := fsys.Open("x")
		must(t, err)
		b, err := fsys.OpenWrite("x")
		must(t, err)
		defer func() { _ = b.Close() }()
		try := func(who string, f File, want bool) {
			t.Helper()
			if got, err := f.TryLock(); err != nil || got != want {
				t.Errorf("%s: TryLock: %v, %v, want %v", who, got, err, want)
			}
		}
		try("a", a, true)
		try("a again", a, true)
		try("b", b, false)
		_, err = b.WriteAt([]byte("J"), 0) // the lock is advisory
		must(t, err)
		must(t, fsys.Rename("x", "y"))
		try("b after a rename", b, false)
		other, err := fsys.Open("y")
		must(t, err)
		must(t, other.Close())
		try("b after a third handle is closed", b, false)
		put(t, fsys, "x", "")
		c, err := fsys.Open("x")
		must(t, err)
		defer func() { _ = c.Close() }()
		try("another file under the old name", c, true)
		must(t, a.Close())
		try("b after a is closed", b, true)
		_, err = a.TryLock()
		wantErr(t, "TryLock after Close", err, fs.ErrClosed)
	})
}
