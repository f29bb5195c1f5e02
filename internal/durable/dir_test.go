package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestDirClose(t *testing.T) {
	d := newDir(t)
	f, err := d.Create("x")
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, d.Close())
	_, err = d.Create("y")
	wantErr(t, "Create after Close", err, fs.ErrClosed)
	_, err = f.Write([]byte("z"))
	must(t, err)
}

func TestDirSymlink(t *testing.T) {
	outside := t.TempDir()
	d := newDir(t)
	if err := os.Symlink(outside, filepath.Join(d.Path(), "out")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := d.Create("out/x"); err == nil {
		t.Error("Create left the directory through a symbolic link")
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("outside the directory: %v, %v", list, err)
	}
}

func TestDirOpenFile(t *testing.T) {
	d := newDir(t)
	f, err := d.OpenFile("x", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteString("hello")
	must(t, err)
	must(t, f.Close())
	data, err := os.ReadFile(filepath.Join(d.Path(), "x"))
	if err != nil || string(data) != "hello" {
		t.Errorf("the file in Path holds %q, %v", data, err)
	}
	_, err = d.OpenFile("../x", os.O_RDWR, 0)
	wantErr(t, "OpenFile outside", err, fs.ErrInvalid)
}

func TestCreateDir(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "a", "b", "c")
	for range 2 {
		must(t, CreateDir(path, 0o700))
	}
	info, err := os.Stat(path)
	must(t, err)
	if !info.IsDir() || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	file := filepath.Join(base, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "d")} {
		if err := CreateDir(path, 0o700); err == nil {
			t.Errorf("CreateDir(%s) succeeded", path)
		}
	}
	_, err = OpenDir(filepath.Join(base, "none"))
	wantErr(t, "OpenDir", err, fs.ErrNotExist)
	if _, err := OpenDir(file); err == nil {
		t.Error("OpenDir opened a file")
	}
}

func TestTryLockOSFile(t *testing.T) {
	d := newDir(t)
	a, err := d.OpenFile("x", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	b, err := d.Open("x")
	must(t, err)
	defer func() { _ = b.Close() }()
	if ok, err := TryLock(a); err != nil || !ok {
		t.Errorf("TryLock: %v, %v", ok, err)
	}
	if ok, err := b.TryLock(); err != nil || ok {
		t.Errorf("TryLock of another handle: %v, %v", ok, err)
	}
	must(t, a.Close())
	if ok, err := b.TryLock(); err != nil || !ok {
		t.Errorf("TryLock after Close: %v, %v", ok, err)
	}
}
