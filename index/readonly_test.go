//go:build unix

package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/blob"
)

// readerDir makes the test binary a process that can't write to that store.
const readerDir = "HEFT_INDEX_TEST_READER"

// nobody is a user without any rights, for tests that root runs.
const nobody = 65534

// asReader runs the test t in another process, which can't write to the store
// dir: its modes are changed, and root, who could all the same, runs it as
// somebody else. It returns what the process prints.
func asReader(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	for _, path := range []string{place, filepath.Dir(dir)} {
		// The testing package makes them for this user only.
		if err := errors.Join(os.Chmod(path, 0o755), os.Chmod(filepath.Dir(path), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // the binary may be in a folder of root's own
		from, err := os.Open(self)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		self = filepath.Join(place, "test")
		to, err := os.OpenFile(self, os.O_CREATE|os.O_WRONLY, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(to, from); err != nil {
			t.Fatal(err)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	temp := filepath.Join(place, "temp")
	if err := errors.Join(os.Mkdir(temp, 0o777), os.Chmod(temp, 0o777)); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, 0o555, 0o444)
	defer chmod(t, dir, 0o700, 0o600)
	before := listed(t, dir)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$")
	cmd.Dir = place
	cmd.Env = append(os.Environ(), readerDir+"="+dir, "TMPDIR="+temp, "HOME="+temp)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if after := listed(t, dir); !slices.Equal(before, after) {
		t.Errorf("the store was changed:\n%v\n%v", before, after)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("it left %v in the temporary folder, %v", left, err)
	}
	return string(out)
}

func chmod(t *testing.T, dir string, folder, file fs.FileMode) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var folders []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() {
			return os.Chmod(path, file)
		}
		folders = append(folders, path)
		return os.Chmod(path, 0o700)
	})
	for _, path := range folders {
		err = errors.Join(err, os.Chmod(path, folder))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listing returns what a folder holds: names, sizes and times.
func listed(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			out = append(out, fmt.Sprintf("%s %d %v", path, info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readAnswers prints what a reader is told: the answers, or the error.
func readAnswers(t *testing.T, dir string) {
	s, err := blob.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x, err := Open(t.Context(), s, nil)
	if err != nil {
		fmt.Printf("error: %v\n", err)
		return
	}
	first := answers(t, x)
	if again := answers(t, x); !slices.Equal(first, again) {
		t.Errorf("the second time it says something else")
	}
	for _, a := range first {
		fmt.Println(strings.ReplaceAll(a, "\n", `\n`))
	}
	if n, err := x.CheckJournal(t.Context()); err != nil {
		t.Error(err)
	} else {
		fmt.Println("journal", n)
	}
	err = x.Update(t.Context(), Change{Verb: "x"}, func(*Tx) error { t.Error("an update was run"); return nil })
	if re, ok := errors.AsType[*blob.ReadOnlyError](err); !ok || re.Dir != dir {
		t.Errorf("Update: %v", err)
	}
	if err := x.Rebuild(t.Context()); !readOnly(err) {
		t.Errorf("Rebuild: %v", err)
	}
	if _, err := Open(t.Context(), s, &Options{Exclusive: true}); !readOnly(err) {
		t.Errorf("an exclusive index: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// TestIndexReadOnly opens stores, in several states, that can't be written to.
func TestIndexReadOnly(t *testing.T) {
	if dir := os.Getenv(readerDir); dir != "" {
		readAnswers(t, dir)
		return
	}
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	file := func(name string) string { return filepath.Join(s.Dir(), name) }
	old, err := os.ReadFile(file(databaseName))
	if err != nil {
		t.Fatal(err)
	}
	v := register(t, x, version(t, s, "a", "2"), put(t, s, "two"))
	update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(v.ID, "production") })
	var want strings.Builder
	for _, a := range answers(t, x) {
		want.WriteString(strings.ReplaceAll(a, "\n", `\n`) + "\n")
	}
	want.WriteString("journal 4\n")
	now, err := os.ReadFile(file(databaseName))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(file(journalName))
	if err != nil {
		t.Fatal(err)
	}
	damaged := slices.Clone(now)
	for i := range damaged {
		if i > 2*4096 && i%3 == 0 {
			damaged[i] ^= 0x5a
		}
	}
	for _, c := range []struct {
		name    string
		db      []byte
		journal []byte
		without []string
	}{
		{name: "sound", db: now, journal: journal},
		{name: "no lock file", db: now, journal: journal, without: []string{lockName}},
		{name: "no database", journal: journal},
		{name: "neither", journal: journal, without: []string{lockName}},
		{name: "behind", db: old, journal: journal},
		{name: "behind and no lock file", db: old, journal: journal, without: []string{lockName}},
		{name: "damaged", db: damaged, journal: journal},
		{name: "empty database", db: []byte{}, journal: journal},
		{name: "torn journal", db: now, journal: append(slices.Clone(journal), journal[:100]...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(file(lockName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file(databaseName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			replace(t, file(databaseName), c.db)
			replace(t, file(journalName), c.journal)
			for _, name := range c.without {
				replace(t, file(name), nil)
			}
			if got := asReader(t, s.Dir()); !strings.HasPrefix(got, want.String()) {
				t.Errorf("got\n%s\nwant\n%s", got, want.String())
			}
		})
	}
	t.Run("no journal", func(t *testing.T) {
		replace(t, file(journalName), nil)
		if got := asReader(t, s.Dir()); !strings.Contains(got, "error: index: ") || !strings.Contains(got, "is read-only for this user") {
			t.Errorf("got %s", got)
		}
	})
}
