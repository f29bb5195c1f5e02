//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// umask sets the process's umask for the rest of the test.
func umask(t *testing.T, mask int) {
	t.Helper()
	old := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(old) })
}

// makeAll makes a file and a folder by every way that there is.
func makeAll(t *testing.T, d *Dir) {
	t.Helper()
	f, err := d.Create("file")
	must(t, err)
	must(t, f.Close())
	must(t, d.Mkdir("folder"))
	must(t, WriteFile(d, "tmp", "written", []byte("x")))
	f2, err := d.OpenFile("opened", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, f2.Close())
	l := lock(t, d, Exclusive)
	_ = lockFails(t, d, Exclusive) // makes the queue's file
	must(t, l.Unlock())
}

// TestDirModes makes files and folders under several umasks.
func TestDirModes(t *testing.T) {
	for _, c := range []struct {
		access       Access
		umask        int
		file, folder fs.FileMode
	}{
		{Private, 0, 0o600, 0o700},
		{Private, 0o022, 0o600, 0o700},
		{Private, 0o077, 0o600, 0o700},
		{Private, 0o277, 0o400, 0o500},
		{Group, 0, 0o660, 0o770 | fs.ModeSetgid},
		{Group, 0o022, 0o660, 0o770 | fs.ModeSetgid},
		{Group, 0o077, 0o660, 0o770 | fs.ModeSetgid},
		{Group, 0o177, 0o660, 0o770 | fs.ModeSetgid},
	} {
		t.Run(fmt.Sprintf("access %d umask %03o", c.access, c.umask), func(t *testing.T) {
			d := newDir(t)
			d.SetAccess(c.access)
			umask(t, c.umask)
			if c.umask == 0o277 { // the queue's file could not be opened again
				f, err := d.Create("file")
				must(t, err)
				must(t, errors.Join(f.Close(), d.Mkdir("folder")))
			} else {
				makeAll(t, d)
			}
			entries, err := d.ReadDir(".")
			must(t, err)
			for _, e := range entries {
				info, err := e.Info()
				must(t, err)
				want := c.file
				if e.IsDir() {
					want = c.folder
				}
				if got := info.Mode() & (fs.ModePerm | fs.ModeSetgid); got != want {
					t.Errorf("%s has mode %v, want %v", e.Name(), got, want)
				}
			}
			if want := 6; len(entries) != want && c.umask != 0o277 {
				t.Errorf("%d entries, want %d: %v", len(entries), want, entries)
			}
		})
	}
}

func TestDirShare(t *testing.T) {
	d := newDir(t)
	must(t, d.Mkdir("folder"))
	put(t, d, "file", "x")
	for _, name := range []string{".", "folder", "file", "folder"} {
		must(t, d.Share(name))
		info, err := d.Stat(name)
		must(t, err)
		want := 0o770 | fs.ModeSetgid
		if name == "file" {
			want = 0o660
		}
		if got := info.Mode() & (fs.ModePerm | fs.ModeSetgid); got != want {
			t.Errorf("%s has mode %v, want %v", name, got, want)
		}
	}
	if err := d.Share("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing name: %v", err)
	}
	if err := d.Share("../x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a name outside: %v", err)
	}
}

// TestGroupFileOfAnother opens a file of the group that is there already.
func TestGroupFileOfAnother(t *testing.T) {
	d := newDir(t)
	d.SetAccess(Group)
	put(t, d, "there", "content")
	must(t, os.Chmod(filepath.Join(d.Path(), "there"), 0o640))
	f, err := d.OpenFile("there", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, f.Close())
	if get(t, d, "there") != "content" {
		t.Error("its content is gone")
	}
	if info, err := d.Stat("there"); err != nil || info.Mode() != 0o640 {
		t.Errorf("its mode was changed: %v, %v", info.Mode(), err)
	}
	if _, err := d.OpenFile("no/folder", os.O_RDWR|os.O_CREATE, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing folder: %v", err)
	}
}
