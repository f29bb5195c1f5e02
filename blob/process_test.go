package blob

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// childRole, in the environment, makes the test binary one of the processes
// below instead of running tests; childStore is the store's folder.
const (
	childRole  = "BLOB_TEST_ROLE"
	childStore = "BLOB_TEST_STORE"
)

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(childRole), " ")
	if role == "" {
		goleak.VerifyTestMain(m) // ends the process
	}
	if err := child(role, arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is what a process that the tests start does.
func child(role, arg string) error {
	ctx := context.Background()
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	if role == "create" {
		s, err := Create(os.Getenv(childStore), nil)
		if errors.Is(err, ErrExist) {
			fmt.Println("exists")
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(s.ID())
		return s.Close()
	}
	s, err := Open(os.Getenv(childStore), nil)
	if err != nil {
		return err
	}
	switch role {
	case "put": // half of the contents are the same in every process
		for i := range 30 {
			info, err := s.Put(ctx, bytes.NewReader(processContent(n, i)))
			if err != nil {
				return err
			}
			fmt.Println(info.Digest)
		}
		return s.Close()
	case "die": // puts until it is killed, with a half-written blob open
		w := s.Writer(ctx)
		if _, err := w.Write(randomBytes(uint64(n), 4*mib)); err != nil {
			return err
		}
		// The frames pass through other goroutines; the file is there once the
		// pipe is empty.
		if err := w.join(); err != nil {
			return err
		}
		fmt.Println("open")
		for i := 0; ; i++ {
			info, err := s.Put(ctx, bytes.NewReader(randomBytes(uint64(1000*n+i), 1+i*7919%(3*mib))))
			if err != nil {
				return err
			}
			fmt.Println(info.Digest)
		}
	}
	return fmt.Errorf("no role %q", role)
}

func processContent(process, i int) []byte {
	if i%2 == 0 {
		process = -1
	}
	return cat(fmt.Appendf(nil, "process %d, blob %d ", process, i), lines(i*100))
}

func command(t *testing.T, dir, role string, n int) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", childRole, role, n), childStore+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func newDir(t *testing.T, opts *Options) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Create(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

// checkAll verifies every blob and returns how many there are.
func checkAll(t *testing.T, s *Store) (count int) {
	t.Helper()
	var last Digest
	for d, err := range s.All(t.Context()) {
		if err == nil {
			err = s.Verify(t.Context(), d)
		}
		if err != nil {
			t.Error(err)
		}
		if count > 0 && bytes.Compare(last[:], d[:]) >= 0 {
			t.Errorf("%s is listed after %s", d, last)
		}
		last = d
		count++
	}
	return count
}

// TestConcurrentPuts puts the same and different content from many goroutines,
// through two stores on one folder, as two processes would.
func TestConcurrentPuts(t *testing.T) {
	a, dir := newDir(t, &Options{Workers: 2})
	b, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	big := cat(randomBytes(1, mib), lines(mib), []byte("end"))
	var wg sync.WaitGroup
	for g := range 12 {
		s := []*Store{a, b}[g%2]
		wg.Go(func() {
			for i := range 12 {
				content := processContent(g, i)
				if i == 5 {
					content = big
				}
				info, err := s.Put(t.Context(), bytes.NewReader(content))
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				if got, err := readAll(t.Context(), []*Store{b, a}[g%2], info.Digest); err != nil || !bytes.Equal(got, content) {
					t.Errorf("read through the other store: %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if n, want := checkAll(t, a), 6+12*5+1; n != want {
		t.Errorf("%d blobs, not %d", n, want)
	}
	if left := names(a.fsys, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
}

// TestConcurrentHeal heals one damaged blob from many goroutines while others
// read what borrows from it.
func TestConcurrentHeal(t *testing.T) {
	x := newMixed(t)
	flip(t, x.m, blobPath(x.donor), 0, 1)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := x.s.Put(t.Context(), bytes.NewReader(x.other)); err != nil {
				t.Error(err)
			}
			if err := x.s.Verify(t.Context(), x.blob); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantBlob(t, x.s, x.other)
}

func TestProcessesPutAtOnce(t *testing.T) {
	s, dir := newDir(t, nil)
	const processes = 4
	cmds := make([]*exec.Cmd, processes)
	outs := make([]bytes.Buffer, processes)
	for i := range cmds {
		cmds[i] = command(t, dir, "put", i)
		cmds[i].Stdout = &outs[i]
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
		got := strings.Fields(outs[i].String())
		for j := range 30 {
			content := processContent(i, j)
			if len(got) != 30 || got[j] != Sum(content).String() {
				t.Fatalf("process %d acknowledged %d blobs, not the right ones", i, len(got))
			}
			wantBlob(t, s, content)
		}
	}
	if n, want := checkAll(t, s), 15+processes*15; n != want {
		t.Errorf("%d blobs, not %d", n, want)
	}
}

// TestProcessesCreateAtOnce has processes race for a new store: one makes it,
// the others find it.
func TestProcessesCreateAtOnce(t *testing.T) {
	for round := range 5 {
		dir := filepath.Join(t.TempDir(), "new", "store")
		cmds := make([]*exec.Cmd, 4)
		outs := make([]bytes.Buffer, len(cmds))
		for i := range cmds {
			cmds[i] = command(t, dir, "create", i)
			cmds[i].Stdout = &outs[i]
			if err := cmds[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		var made []string
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if out := strings.TrimSpace(outs[i].String()); out != "exists" {
				made = append(made, out)
			}
		}
		s, err := Open(dir, nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if len(made) != 1 || made[0] != s.ID().String() {
			t.Errorf("round %d: created %v, the store is %s", round, made, s.ID())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledWriters kills processes in the middle of their puts: what they
// acknowledged is there, and what they left is swept, but not the file of a
// writer that lives.
func TestKilledWriters(t *testing.T) {
	alive, dir := newDir(t, nil)
	live := alive.Writer(t.Context())
	defer live.Close()
	mine := randomBytes(99, 3*mib)
	if _, err := live.Write(mine[:2*mib+1]); err != nil {
		t.Fatal(err)
	}
	const kills = 10
	var acked []string
	for n := range kills {
		cmd := command(t, dir, "die", n+1)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i <= n && lines.Scan(); i++ {
			if i > 0 {
				acked = append(acked, lines.Text())
			} else if lines.Text() != "open" {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was acknowledged before the kill
			if len(lines.Text()) == 64 {
				acked = append(acked, lines.Text())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the child was not killed")
		}
	}
	if len(acked) < kills*(kills-1)/2 {
		t.Errorf("only %d puts were acknowledged", len(acked))
	}
	if n := len(names(alive.fsys, "tmp")); n < 2 {
		t.Errorf("%d files in tmp, too few to be swept", n)
	}
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, []byte("sweeps"))
	if left := names(s.fsys, "tmp"); len(left) != 1 {
		t.Errorf("after the sweep tmp has %v, not the live writer's file alone", left)
	}
	if n := checkAll(t, s); n < len(acked) {
		t.Errorf("%d blobs, %d were acknowledged", n, len(acked))
	}
	for _, text := range acked {
		d, err := ParseDigest(text)
		if err == nil {
			_, err = s.Stat(t.Context(), d)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := live.ReadFrom(bytes.NewReader(mine[2*mib+1:])); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if _, err := live.Commit(Sum(mine)); err != nil {
		t.Errorf("the live writer: %v", err)
	}
	wantBlob(t, s, mine)
}
