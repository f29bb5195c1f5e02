package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/promise"
)

// TestPromiseFullDisk fills a small file system of its own while versions are
// put: first with bytes, then with files.
func TestPromiseFullDisk(t *testing.T) {
	var said []string
	for _, how := range []string{"size=12m", "size=64m,nr_inodes=150"} {
		exe, err := os.Executable()
		must(t, err)
		dir := filepath.Join(t.TempDir(), "disk")
		must(t, os.Mkdir(dir, 0o700))
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=full %s|0|%s", childEnv, how, dir))
		// The file system is seen by that process alone, and gone with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		b, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) || strings.HasPrefix(string(b), noDisk) {
			t.Skipf("this system lets nobody mount a small disk to fill it: %v %s", err, b)
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", how, err, b)
		}
		said = append(said, strings.TrimSpace(string(b)))
	}
	promise.Kept(t, "%s", strings.Join(said, "; "))
}

const noDisk = "no disk: "

// fillDisk is the process of TestPromiseFullDisk.
func fillDisk(ctx context.Context, how, dir string, out io.Writer) (err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, how); err != nil {
		_, err := fmt.Fprintf(out, "%s%v", noDisk, err)
		return err
	}
	r, err := Create(ctx, filepath.Join(dir, "store"), &Options{Actor: "full"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	contents := map[string][]byte{}
	add := func(i int) error {
		m, err := r.Register(ctx, Model{Name: "m", Version: fmt.Sprint(i)}, bytes.NewReader(weights(uint64(i), 300_000)))
		if err == nil {
			contents[m.Ref()] = weights(uint64(i), 300_000)
		}
		return err
	}
	i := 0
	for err = add(i); err == nil; err = add(i) {
		i++
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "m") {
		return fmt.Errorf("the put that did not fit: %w", err)
	}
	// To the last byte, and the last file.
	for n := 0; ; n++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("filler", n)))
		if err != nil {
			break
		}
		_, failed := f.Write(make([]byte, 1<<20))
		for size := 4096; failed == nil && size > 0; size /= 2 {
			_, failed = f.Write(make([]byte, size))
		}
		if err := f.Close(); err != nil {
			return err
		}
		if failed != nil && n > 200 {
			break
		}
	}
	if err := add(i); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("a put on the full disk: %w", err)
	}
	if err := readContents(ctx, r, contents); err != nil {
		return fmt.Errorf("reading on the full disk: %w", err)
	}
	versions := len(contents)
	for n := range versions / 2 {
		ref := fmt.Sprint("m:", n)
		if err := r.Delete(ctx, ref, Note{}); err != nil {
			return fmt.Errorf("deleting %s on the full disk: %w", ref, err)
		}
		delete(contents, ref)
	}
	if err := readContents(ctx, r, contents); err != nil {
		return fmt.Errorf("reading after deletions: %w", err)
	}
	c, err := r.GC(ctx, &GCOptions{Grace: -1})
	if err != nil {
		return fmt.Errorf("collecting on the full disk: %w", err)
	}
	if c.Purged.Count < versions/2 {
		return fmt.Errorf("%d versions were deleted, and the collection says %+v", versions/2, c)
	}
	for n := range versions / 4 {
		if err := add(1000 + n); err != nil {
			return fmt.Errorf("a put after the collection: %w", err)
		}
	}
	if err := readContents(ctx, r, contents); err != nil {
		return err
	}
	for c, err := range r.Verify(ctx, "", nil) {
		if err := errors.Join(err, c.Err); err != nil {
			return err
		}
	}
	if _, err := r.GC(ctx, &GCOptions{Grace: -1}); err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Join(r.Dir(), "tmp"))
	if err != nil || len(left) > 0 {
		return fmt.Errorf("tmp has %d files, %w", len(left), err)
	}
	_, err = fmt.Fprintf(out, "%s: full after %d versions, all of them readable, half deleted and collected, then %d more put", how, versions, versions/4)
	return err
}

// readContents reads versions whole.
func readContents(ctx context.Context, r *Registry, contents map[string][]byte) error {
	n := 0
	for m, err := range r.Find(ctx, Query{}) {
		if err != nil {
			return err
		}
		want, ok := contents[m.Ref()]
		if !ok {
			return fmt.Errorf("%s is there", m.Ref())
		}
		if m.WeightsHash != blob.Sum(want) {
			return fmt.Errorf("%s has other weights", m.Ref())
		}
		f, err := m.Open(ctx, WeightsFile)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s reads as other bytes", m.Ref())
		}
		n++
	}
	if n != len(contents) {
		return fmt.Errorf("%d versions of %d", n, len(contents))
	}
	return nil
}
