//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

// nobody is a user without any rights, for tests that root runs.
const nobody = 65534

// asOther makes the processes from now on those of a user who has no rights on
// the files of this one: root would have them all, so it is somebody else then.
// Who is not root goes on as before.
func (h *hefts) asOther() {
	h.t.Helper()
	for _, path := range []string{h.dir, filepath.Dir(h.dir)} {
		if err := os.Chmod(path, 0o755); err != nil { // the testing package makes them private
			h.t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	// The link leads into a folder of root's own.
	self, err := os.ReadFile(h.heft)
	if err == nil {
		err = errors.Join(os.Remove(h.heft), os.WriteFile(h.heft, self, 0o755), os.Chmod(h.heft, 0o755))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// chmod gives folders and files of the store other modes.
func (h *hefts) chmod(folder, file fs.FileMode) {
	h.t.Helper()
	var folders []string
	err := filepath.WalkDir(h.store, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			folders = append(folders, path)
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, file)
	})
	for _, path := range folders {
		err = errors.Join(err, os.Chmod(path, folder))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// fails runs heft, which must fail with that exit code, print nothing as its
// result, and on standard error what matches the pattern, the store's folder
// being STORE.
func (h *hefts) fails(code int, pattern string, args ...string) {
	h.t.Helper()
	got, stdout, stderr := h.under("true", args...)
	stderr = strings.ReplaceAll(stderr, h.store, "STORE")
	if !regexp.MustCompile("^(?:"+pattern+")\n$").MatchString(stderr) || got != code || stdout != "" {
		h.t.Errorf("heft %q: exit code %d, want %d\n%s%s\nwant\n%s", args, got, code, stdout, stderr, pattern)
	}
}

// withModel returns a store with a version a:1.
func withModel(t *testing.T, init ...string) *hefts {
	t.Helper()
	h := newHefts(t)
	h.write("a.bin", []byte("weights of a"))
	h.write("b.bin", []byte("weights of b"))
	h.run(append([]string{"init"}, init...)...)
	h.run("put", "-q", "a:1", "a.bin")
	return h
}

// TestReadOnlyStore reads from a store that this user can't write to, and is
// refused to write.
func TestReadOnlyStore(t *testing.T) {
	h := withModel(t)
	verbs := [][]string{
		{"ls"}, {"show", "a:1"}, {"cat", "a/1/a.bin"}, {"verify"}, {"verify", "a:1"}, {"stats"}, {"log"},
		{"find", "name=a"}, {"lineage", "a:1"}, {"digest", "a:1"}, {"digest", "a:1", "--blake3"}, {"export", "a:1", "-"},
	}
	var want []string
	for _, args := range verbs {
		code, stdout, stderr := h.under("true", args...)
		if code != 0 {
			t.Fatalf("heft %q: %s", args, stderr)
		}
		want = append(want, fmt.Sprint(code, stdout, stderr))
	}
	for _, missing := range []string{"", "index.db", "index.lock"} {
		if missing != "" {
			if err := os.Remove(filepath.Join(h.store, missing)); err != nil {
				t.Fatal(err)
			}
		}
		h.asOther()
		h.chmod(0o555, 0o444)
		before := listing(t, h.store)
		for i, args := range verbs {
			code, stdout, stderr := h.under("true", args...)
			if got := fmt.Sprint(code, stdout, stderr); got != want[i] {
				t.Errorf("without %q: heft %q: got\n%s\nwant\n%s", missing, args, got, want[i])
			}
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := errors.Join(os.Mkdir(out, 0o777), os.Chmod(out, 0o777), os.Chmod(filepath.Dir(out), 0o755), os.Chmod(filepath.Dir(filepath.Dir(out)), 0o755)); err != nil {
			t.Fatal(err)
		}
		h.run("get", "-q", "-f", "a:1", out)
		const refused = "heft: the store STORE is read-only for this user\nhint: what is in it can be read; to change it ask its owner for access, or name another one"
		for _, args := range [][]string{
			{"put", "-q", "b:1", "b.bin"}, {"put", "-q", "b:1", "a.bin"}, {"rm", "a:1"}, {"status", "a:1", "archived"},
			{"alias", "a", "best", "a:1"}, {"promote", "a:1"},
		} {
			h.fails(exitError, refused, args...)
		}
		if after := listing(t, h.store); after != before {
			t.Errorf("without %q the store changed from\n%s\nto\n%s", missing, before, after)
		}
		h.chmod(0o755, 0o644)
	}
}

// listing returns the names, sizes and times below dir.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFilesOfAnother meets files in the store that this user may not read.
func TestFilesOfAnother(t *testing.T) {
	me := `\S+`
	if os.Geteuid() == 0 {
		me = "(root|user 0)"
	}
	ask := ": its owner can give access; 'heft init --shared' makes a store that a group uses"
	for _, c := range []struct {
		name, glob, pattern string
		args                []string
	}{
		{"the blob", "blobs/*/*", `heft: .*opening [0-9a-f]{64}: openat blobs/../[0-9a-f]{64}: permission denied\nhint: STORE/blobs/../[0-9a-f]{64} belongs to ` + me + ask, []string{"cat", "a/1/a.bin"}},
		{"the blob, verified", "blobs/*/*", `heft: .*permission denied\nhint: STORE/blobs/../[0-9a-f]{64} belongs to ` + me + ask, []string{"-q", "verify"}},
		{"the index", "index.db", `heft: opening index.db: openat index.db: permission denied\nhint: STORE/index.db belongs to ` + me + ask, []string{"ls"}},
		{"the lock", "index.lock", `heft: open lock file: openat index.lock: permission denied\nhint: STORE/index.lock belongs to ` + me + ask, []string{"ls"}},
		{"the journal", "journal", `heft: opening the journal: openat journal: permission denied\nhint: STORE/journal belongs to ` + me + ask, []string{"log"}},
		{"the folder", ".", `heft: opening the store STORE: open directory: open STORE: permission denied\nhint: STORE belongs to ` + me + ask, []string{"ls"}},
		{"heft.json", "heft.json", `heft: opening the store STORE: reading heft.json: read heft.json: openat heft.json: permission denied\nhint: STORE/heft.json belongs to ` + me + ask, []string{"ls"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := withModel(t)
			h.asOther()
			h.chmod(0o777, 0o666)
			files, err := filepath.Glob(filepath.Join(h.store, c.glob))
			if err != nil || len(files) == 0 {
				t.Fatalf("%v, %v", files, err)
			}
			for _, f := range files {
				if err := os.Chmod(f, 0); err != nil {
					t.Fatal(err)
				}
			}
			h.fails(exitError, c.pattern, c.args...)
			h.chmod(0o700, 0o600)
		})
	}
	t.Run("somebody's weights", func(t *testing.T) {
		h := withModel(t)
		h.asOther()
		h.chmod(0o777, 0o666)
		if err := os.Chmod(filepath.Join(h.dir, "b.bin"), 0); err != nil {
			t.Fatal(err)
		}
		h.fails(exitError, `heft: .*open (.*/)?b.bin: permission denied\nhint: .*b.bin belongs to `+me+": its owner can give access", "put", "-q", "b:1", "b.bin")
		h.chmod(0o700, 0o600)
	})
}

// TestSharedStore writes to a shared store under umasks that leave the group
// nothing.
func TestSharedStore(t *testing.T) {
	h := withModel(t, "--shared")
	for i, mask := range []string{"022", "077", "0177"} {
		name := fmt.Sprintf("b:%d", i)
		h.write("b.bin", fmt.Appendf(nil, "weights number %d", i))
		if code, _, stderr := h.under("umask "+mask, "put", "-q", name, "b.bin"); code != 0 {
			t.Fatalf("umask %s: %s", mask, stderr)
		}
		if code, _, stderr := h.under("umask "+mask+" && rm $HEFT_STORE/index.db", "alias", "b", fmt.Sprintf("x%d", i), "b:0"); code != 0 {
			t.Fatalf("umask %s: %s", mask, stderr)
		}
	}
	err := filepath.WalkDir(h.store, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o660)
		if e.IsDir() {
			want = 0o770 | fs.ModeSetgid
		}
		if got := info.Mode() & (fs.ModePerm | fs.ModeSetgid); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := h.run("verify"); !strings.Contains(out, "all sound") {
		t.Error(out)
	}
}

// TestSharedStoreOfTwoUsers has two users of one group write in turn. It needs
// root, who can be both.
func TestSharedStoreOfTwoUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nobody else can be had; TestSharedStore has the modes
	}
	const group = 54321
	h := newHefts(t)
	h.asOther()
	if err := errors.Join(os.Mkdir(h.store, 0o700), os.Chown(h.store, 1001, group)); err != nil {
		t.Fatal(err)
	}
	as := func(uid uint32, umask string, args ...string) {
		t.Helper()
		h.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{group}}}
		if code, _, stderr := h.under("umask "+umask, args...); code != 0 {
			t.Errorf("user %d: heft %q: %s", uid, args, stderr)
		}
	}
	as(1001, "077", "init", "--shared")
	for i := range 3 {
		for _, uid := range []uint32{1001, 1002} {
			h.write("w.bin", randomPart(uint64(i), 200_000+int(uid)))
			as(uid, "077", "put", "-q", fmt.Sprintf("m:%d.%d", i, uid), "w.bin")
			as(uid, "022", "alias", "m", "newest", fmt.Sprintf("m:%d.%d", i, uid))
		}
	}
	as(1002, "077", "verify")
	as(1001, "077", "rm", "m:0.1002")
	h.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1003, Gid: 1003}}
	if code, _, stderr := h.under("true", "ls"); code == 0 || !strings.Contains(stderr, "permission denied") {
		t.Errorf("who is not in the group: exit code %d, %s", code, stderr)
	}
}

// TestStoreIsBusy has another process hold the locks.
func TestStoreIsBusy(t *testing.T) {
	h := withModel(t)
	d, err := durable.OpenDir(h.store)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	held := func(file string) string {
		return fmt.Sprintf("heft: (storing b.bin of b: )?STORE/%s was not free within 10ms: held by process %d: try again when that process is done\nhint: a longer --wait waits longer; without it heft waits as long as it takes", file, os.Getpid())
	}
	for _, c := range []struct {
		file string
		args []string
	}{
		{"index.lock", []string{"ls"}},
		{"index.lock", []string{"alias", "a", "x", "a:1"}},
		{"publish.lock", []string{"put", "-q", "b:1", "b.bin"}},
	} {
		l, err := d.Lock(t.Context(), c.file, durable.Exclusive)
		if err != nil {
			t.Fatal(err)
		}
		h.fails(exitError, held(c.file), append([]string{"--wait", "10ms"}, c.args...)...)
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	h.run("--wait", "10s", "put", "-q", "b:1", "b.bin")
}

// TestWaitingIsTold checks that a command says who it waits for. When that
// happens is tested in package durable.
func TestWaitingIsTold(t *testing.T) {
	var b strings.Builder
	a := &app{stderr: &b, wait: time.Minute}
	p := a.options().Patience
	p.Tell(blob.Wait{Path: "/s/index.lock", Holder: "held by process 12"})
	if got := b.String(); got != "waiting for /s/index.lock: held by process 12\n" || p.Limit != time.Minute || p.After != 0 {
		t.Errorf("told %q, %+v", got, p)
	}
}

// TestExplain has the texts of what a test can't bring about.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	a := &app{storeDir: dir}
	write := func(errno syscall.Errno) error {
		return fmt.Errorf("blob: writing: %w", &fs.PathError{Op: "write", Path: filepath.Join(dir, "tmp/x"), Err: errno})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{write(syscall.ENOSPC), `heft: writing: write DIR/tmp/x: no space left on device\nhint: [0-9.]+ [KMGT]?i?B are free where DIR is; 'heft gc' frees what no version needs`},
		{write(syscall.EDQUOT), `heft: writing: write DIR/tmp/x: dis[ck] quota exceeded\nhint: [0-9.]+ [KMGT]?i?B are free where DIR is; 'heft gc' frees what no version needs`},
		{&fs.PathError{Op: "mkdirat", Path: "model", Err: syscall.ENOSPC}, `heft: mkdirat model: no space left on device\nhint: make room on that disk; 'heft gc' frees what no version needs`},
		{&fs.PathError{Op: "openat", Path: "model", Err: syscall.EACCES}, `heft: openat model: permission denied\nhint: it is not this user's: its owner can give access`},
		{&fs.PathError{Op: "openat", Path: "blobs/ab", Err: syscall.EMFILE}, `heft: openat blobs/ab: too many open files\nhint: allow this process 128 open files, as with 'ulimit -n 128'`},
		{&os.LinkError{Op: "renameat", Old: "tmp/x", New: "blobs/ab/y", Err: syscall.ENAMETOOLONG}, `heft: renameat tmp/x blobs/ab/y: file name too long\nhint: the file system there has no names that long: name another folder`},
		{&durable.ReadOnlyError{Dir: dir, Err: syscall.EROFS}, `heft: the folder DIR is read-only for this user\nhint: what is in it can be read; to change it ask its owner for access, or name another one`},
		{&durable.LockError{Path: dir + "/index.lock", Err: syscall.ENOLCK}, `heft: file locks don't work on the file system of DIR/index.lock: no locks available: processes would overwrite each other's changes; mount it with locks, or move the store to a local disk`},
		{errors.New("other"), "heft: other"},
	} {
		var b strings.Builder
		if code := report(t.Context(), &b, a.explain(c.err)); code != exitError {
			t.Errorf("%v: exit code %d", c.err, code)
		}
		got := strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), dir, "DIR")
		if !regexp.MustCompile("^(?:" + c.want + ")$").MatchString(got) {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
	if a.explain(nil) != nil {
		t.Error("no error was explained")
	}
}

// TestDamagedStores has the messages about a store that lacks something, or that
// a newer heft made.
func TestDamagedStores(t *testing.T) {
	h := withModel(t)
	remove := func(name string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(h.store, name)); err != nil {
			t.Fatal(err)
		}
	}
	remove("tmp") // held nothing
	h.run("put", "-q", "c:1", "b.bin")
	remove("blobs")
	const gone = `heft: .*damaged store: the folder blobs of STORE is missing, and with it the content of every version; names and history are still there: mount or restore it, or make an empty one if the content is to be given up`
	h.fails(exitCorrupt, gone, "cat", "a/1/a.bin")
	h.fails(exitCorrupt, gone, "put", "-q", "d:1", "b.bin")
	h.fails(exitCorrupt, gone, "-q", "verify")
	if out := h.run("ls"); !strings.Contains(out, "a:1") && !strings.Contains(out, "a ") {
		t.Errorf("ls: %s", out)
	}
	if _, err := os.Stat(filepath.Join(h.store, "blobs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blobs was made again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(h.store, "heft.json"), []byte(`{"format":9,"min_reader":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails(exitError, `heft: opening the store STORE: heft.json: .*minimum reader version 9.*\nhint: install a newer heft`, "ls")
}
