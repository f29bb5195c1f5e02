// Package sourcetest checks what has to be true of every source of an import. It
// is for tests.
package sourcetest

import (
	"crypto/sha1" //nolint:gosec // git's name for a file
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// Listing says all there is to say of what is below dir: names, kinds, sizes,
// times, what links lead to, hashes.
func Listing(tb testing.TB, dir string) []string {
	tb.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %d %d", p, info.Mode(), info.Size(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(b))
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + to
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// Untouched returns a function that checks that nothing below dir has changed
// since.
func Untouched(tb testing.TB, dir string) func() {
	tb.Helper()
	before := Listing(tb, dir)
	return func() {
		tb.Helper()
		after := Listing(tb, dir)
		for _, line := range before {
			if !slices.Contains(after, line) {
				tb.Errorf("gone or changed: %s", line)
			}
		}
		for _, line := range after {
			if !slices.Contains(before, line) {
				tb.Errorf("new or changed: %s", line)
			}
		}
	}
}

// Items returns what a source yields, after checking each item and that all of
// its files can be read and have the sizes and hashes that are said of them. The
// source is closed when the test ends.
func Items(tb testing.TB, src migrate.Source) []*migrate.Item {
	tb.Helper()
	tb.Cleanup(func() {
		if err := src.Close(); err != nil {
			tb.Error(err)
		}
	})
	var all []*migrate.Item
	ids := map[uuid.UUID]string{}
	for it, err := range src.Items(tb.Context()) {
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, it)
		if it.From == "" || it.Err != nil && it.Skip != "" || it.Err != nil && len(it.Files) > 0 {
			tb.Errorf("from %q: %d files, %v, %q", it.From, len(it.Files), it.Err, it.Skip)
		}
		if it.Err != nil || it.Skip != "" {
			continue
		}
		m := &it.Model
		if other, ok := ids[m.ID]; ok || m.ID == uuid.Nil || m.RegisteredAt <= 0 || m.UpdatedAt < 0 || m.Origin == nil || m.Origin.Source != src.Kind() {
			tb.Errorf("%s: %+v of the origin %+v; its id is that of %q", it.From, m, m.Origin, other)
		}
		ids[m.ID] = it.From
		if _, ok := ids[m.Parent]; m.Parent != uuid.Nil && !ok {
			tb.Errorf("%s comes before its parent", it.From)
		}
		for i := range it.Files {
			if err := read(tb, &it.Files[i]); err != nil {
				tb.Errorf("%s of %s: %v", it.Files[i].Path, it.From, err)
			}
		}
	}
	return all
}

// read reads a file and compares it with what is said of it.
func read(tb testing.TB, f *migrate.File) error {
	tb.Helper()
	r, err := f.Open(tb.Context())
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	git := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...)) //nolint:gosec // as above
	switch want := f.Want; {
	case int64(len(b)) != f.Size:
		return fmt.Errorf("%d bytes, want %d", len(b), f.Size)
	case want.SHA256 != registry.SHA256{} && want.SHA256 != sha256.Sum256(b):
		return fmt.Errorf("it does not have the SHA-256 %s", want.SHA256)
	case want.GitSHA1 != [20]byte{} && want.GitSHA1 != git:
		return fmt.Errorf("it does not have git's hash %x", want.GitSHA1)
	}
	return nil
}
