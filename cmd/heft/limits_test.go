//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/promise"
)

// hefts runs the command as a process of its own, on a store.
type hefts struct {
	t     *testing.T
	heft  string // a name for the test binary by which TestMain knows it
	dir   string // where it runs
	store string
	sys   *syscall.SysProcAttr // of the processes
}

func newHefts(t *testing.T) *hefts {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &hefts{t: t, heft: filepath.Join(dir, "heft"), dir: dir, store: filepath.Join(dir, "store")}
	if err := os.Symlink(self, h.heft); err != nil {
		t.Fatal(err)
	}
	return h
}

// under runs heft after a shell command, and returns its exit code and what it
// printed on standard output and standard error.
func (h *hefts) under(shell string, args ...string) (code int, stdout, stderr string) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "sh", append([]string{"-c", shell + ` && exec "$0" "$@"`, h.heft}, args...)...)
	cmd.Dir = h.dir
	cmd.SysProcAttr = h.sys
	cmd.Env = append(os.Environ(), "HEFT_STORE="+h.store, "HEFT_ACTOR=tester")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode(), out.String(), errs.String()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return 0, out.String(), errs.String()
}

// run runs heft, which must succeed, and returns its standard output.
func (h *hefts) run(args ...string) string {
	h.t.Helper()
	code, stdout, stderr := h.under("true", args...)
	if code != 0 {
		h.t.Fatalf("heft %q: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

func (h *hefts) write(name string, b []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

func randomPart(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// TestPromiseFewDescriptors runs commands with few open files allowed, on a file
// that borrows from more donors than that. Either they succeed or they say what
// is wrong, and nothing is half-written.
func TestPromiseFewDescriptors(t *testing.T) {
	const enough = 32
	h := newHefts(t)
	var all []byte
	for i := range 24 {
		part := randomPart(uint64(i), 300_000)
		h.write(fmt.Sprintf("parts/%02d", i), part)
		all = append(all, part...)
	}
	h.write("all/w.bin", all)
	for i := range 100 {
		h.write(fmt.Sprintf("runs/many/1/%03d", i), randomPart(uint64(1000+i), 2000))
	}
	h.run("put", "-q", "parts:1", "parts")
	if out := h.run("put", "-q", "all:1", "all"); !strings.Contains(out, "shared") {
		t.Fatalf("nothing was borrowed: %s", out)
	}
	limits := []int{12, 16, enough} // below, the runtime itself gives up
	if promise.Full() {
		limits = nil
		for n := 12; n <= 64; n++ {
			limits = append(limits, n)
		}
	}
	commands, refused := 0, 0
	for _, n := range limits {
		changed := slices.Concat(all[:5_000_000], fmt.Append(nil, "changed for ", n), all[5_000_000:])
		h.write("changed/w.bin", changed)
		for _, args := range [][]string{
			{"ls"},
			{"verify"},
			{"get", "-f", "all:1", "out"},
			{"put", fmt.Sprintf("changed:%d", n), "changed"},
			{"import", "dir", "runs/{name}/{version}/"},
			{"log"},
			{"rm", "many:1"},
		} {
			code, stdout, stderr := h.under(fmt.Sprintf("ulimit -n %d", n), args...)
			commands++
			switch {
			case code == 0:
			case args[0] == "rm" && code == exitNotFound: // it was not imported
			case n < enough && code == exitError && strings.Contains(stderr, "too many open files") && strings.Contains(stderr, "ulimit -n"):
				refused++
			default:
				t.Errorf("%d descriptors: heft %q: exit code %d\n%s%s", n, args, code, stdout, stderr)
			}
			if args[0] != "put" {
				continue
			}
			ref := fmt.Sprintf("changed:%d", n)
			if code, _, stderr := h.under("true", "show", ref); code == exitNotFound {
				h.run("put", "-q", ref, "changed")
			} else if code != 0 {
				t.Errorf("show %s: %s", ref, stderr)
			}
			h.run("get", "-q", "-f", ref, "out")
			if got, err := os.ReadFile(filepath.Join(h.dir, "out", "w.bin")); err != nil || !bytes.Equal(got, changed) {
				t.Errorf("%d descriptors: what was put can't be had back: %v", n, err)
			}
		}
		if err := os.RemoveAll(filepath.Join(h.dir, "out")); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("no command ran out of descriptors, so this test shows nothing")
	}
	if out := h.run("verify"); !strings.Contains(out, "all sound") {
		t.Errorf("verify: %s", out)
	}
	h.run("put", "-q", "last:1", "changed") // which sweeps
	if left, err := os.ReadDir(filepath.Join(h.store, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("tmp has %v, %v", left, err)
	}
	promise.Kept(t, "%d commands with %d to %d descriptors: %d refused, 0 half-written; %d are enough", commands, limits[0], limits[len(limits)-1], refused, enough)
}
