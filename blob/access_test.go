//go:build unix

package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/canon"
)

// modes calls fn for everything below dir, itself as ".".
func modes(t *testing.T, dir string, fn func(name string, mode fs.FileMode)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fn(name, info.Mode()&(fs.ModePerm|fs.ModeSetgid))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSharedStoreModes makes, opens and fills stores under umasks that forbid
// the group everything.
func TestSharedStoreModes(t *testing.T) {
	for _, access := range []Access{Private, Shared} {
		for _, mask := range []int{0, 0o022, 0o077} {
			// A umask belongs to the whole process: no test of this package runs
			// beside this one.
			old := syscall.Umask(mask)
			defer syscall.Umask(old)
			dir := filepath.Join(t.TempDir(), "store")
			s, err := Create(dir, &Options{Access: access})
			if err != nil {
				t.Fatal(err)
			}
			if s.Access() != access {
				t.Errorf("access %v, want %v", s.Access(), access)
			}
			put(t, s, randomBytes(1, 1000))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			// What it was made with counts, not what it is opened with.
			if s, err = Open(dir, &Options{Access: 1 - access}); err != nil {
				t.Fatal(err)
			}
			put(t, s, randomBytes(2, mib+1))
			temp := s.writer(t.Context(), s.Batch())
			if _, err := temp.Write(randomBytes(3, 3*mib)); err != nil {
				t.Fatal(err)
			}
			seen := 0
			modes(t, dir, func(name string, mode fs.FileMode) {
				seen++
				want := fs.FileMode(0o600)
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if info.IsDir() {
					want = 0o700
				}
				if access == Shared {
					if want |= want >> 3; info.IsDir() {
						want |= fs.ModeSetgid
					}
				}
				if mode != want {
					t.Errorf("access %v, umask %03o: %s has mode %v, want %v", access, mask, name, mode, want)
				}
			})
			if seen < 10 {
				t.Errorf("only %d names were looked at", seen)
			}
			if err := errors.Join(temp.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSharedStoreNeedsANewReader shows what an older heft sees.
func TestSharedStoreNeedsANewReader(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Create(dir, &Options{Access: Shared})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.config.Format != 2 || s.config.MinReader != 2 {
		t.Errorf("format %d, minimum reader %d: an older heft would make files that the group can't read", s.config.Format, s.config.MinReader)
	}
	private, _ := newDir(t, nil)
	if private.config.Format != 1 || private.config.MinReader != 1 {
		t.Errorf("a private store has format %d, minimum reader %d: older releases read 1", private.config.Format, private.config.MinReader)
	}
	if b, err := os.ReadFile(filepath.Join(private.Dir(), configName)); err != nil || strings.Contains(string(b), "access") {
		t.Errorf("a private store has %s, %v", b, err)
	}
}

func TestConfigOfUnknownAccess(t *testing.T) {
	s, m := newMem(t, nil)
	c := s.config
	c.Access = "world"
	sum, err := c.sum()
	if err != nil {
		t.Fatal(err)
	}
	b, err := canon.Marshal(summed{c, sum})
	if err != nil {
		t.Fatal(err)
	}
	saveFile(t, m, configName, b)
	if _, err := open(m, nil); !errors.Is(err, ErrDamagedStore) || !strings.Contains(err.Error(), `"world"`) {
		t.Errorf("opened, or not refused for its access: %v", err)
	}
}

// TestCreateSharedCompletes finds what an interrupted creation left, before its
// folders were given to the group.
func TestCreateSharedCompletes(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "blobs", "7f"), 0o700), os.Mkdir(filepath.Join(dir, "tmp"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s, err := Create(dir, &Options{Access: Shared})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	modes(t, dir, func(name string, mode fs.FileMode) {
		if mode&0o060 != 0o060 {
			t.Errorf("%s has mode %v", name, mode)
		}
	})
}

func TestCreateSharedRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Create(filepath.Join(dir, "no", "store"), &Options{Access: Shared})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make the folder above it first") {
		t.Errorf("below a folder that is not there: %v", err)
	}
	if _, err := Create(filepath.Join(dir, "store"), &Options{Access: 7}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("access 7: %v", err)
	}
	if got := names(mustDir(t, dir), "."); len(got) != 0 {
		t.Errorf("it left %v", got)
	}
}

// TestMissingBlobsFolder reads from and writes to a store whose blobs/ is gone.
func TestMissingBlobsFolder(t *testing.T) {
	s, dir := newDir(t, nil)
	info := put(t, s, []byte("content"))
	if err := os.RemoveAll(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	want := "the folder blobs of " + dir + " is missing, and with it the content of every version"
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrDamagedStore) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := s.Open(t.Context(), info.Digest)
	check("Open", err)
	_, err = s.Stat(t.Context(), info.Digest)
	check("Stat", err)
	check("Verify", s.Verify(t.Context(), info.Digest))
	for _, text := range []string{"content", "other"} {
		_, err = s.Put(t.Context(), strings.NewReader(text))
		check("Put", err)
	}
	for _, e := range s.All(t.Context()) {
		err = e
	}
	check("All", err)
	if _, err := os.Stat(filepath.Join(dir, "blobs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blobs/ was made again: %v", err)
	}
	if left := names(s.fsys, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
}

// TestMissingTmpFolder writes to a store whose tmp/ is gone, which held nothing
// of worth.
func TestMissingTmpFolder(t *testing.T) {
	s, dir := newDir(t, nil)
	if err := os.RemoveAll(filepath.Join(dir, "tmp")); err != nil {
		t.Fatal(err)
	}
	put(t, s, []byte("content"))
	wantBlob(t, s, []byte("content"))
}
