package durable

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// childEnv holds what TestMain does instead of running tests: "hold" or
// "count", a directory, and a number.
const childEnv = "DURABLE_TEST_CHILD"

func TestMain(m *testing.M) {
	child, ok := os.LookupEnv(childEnv)
	if !ok {
		os.Exit(m.Run())
	}
	if err := runChild(strings.Split(child, "|")); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runChild(args []string) error {
	d, err := OpenDir(args[1])
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for range rounds {
		l, err := d.Lock(context.Background(), "lock", Exclusive)
		if err != nil {
			return err
		}
		if args[0] == "hold" {
			if _, err := fmt.Fprintln(os.Stdout, "locked"); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, os.Stdin) // until it is killed
			return err
		}
		if err := increment(d); err != nil {
			return err
		}
		if err := l.Unlock(); err != nil {
			return err
		}
	}
	return nil
}

// increment adds one to the number in the file "count", in three steps that
// only a lock makes one.
func increment(d *Dir) error {
	path := filepath.Join(d.Path(), "count")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	runtime.Gosched()
	return os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600)
}

func child(t *testing.T, what string, d *Dir, rounds int) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", childEnv, what, d.Path(), rounds))
	cmd.Stderr = os.Stderr
	return cmd
}

func TestLockProcesses(t *testing.T) {
	d := newDir(t)
	put(t, d, "count", "0")
	const processes, rounds = 4, 100
	var cmds []*exec.Cmd
	for range processes {
		cmd := child(t, "count", d, rounds)
		must(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		must(t, cmd.Wait())
	}
	if got := get(t, d, "count"); got != strconv.Itoa(processes*rounds) {
		t.Errorf("count is %s, want %d", got, processes*rounds)
	}
}

// TestLockKilledProcess names the process that has the lock, and gets the lock
// when it dies.
func TestLockKilledProcess(t *testing.T) {
	d := newDir(t)
	cmd := child(t, "hold", d, 1)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	for _, mode := range []LockMode{Shared, Exclusive} {
		err := lockFails(t, d, mode)
		if want := fmt.Sprintf("held by process %d", cmd.Process.Pid); !strings.Contains(err.Error(), want) {
			t.Errorf("error %q doesn't say %q", err, want)
		}
	}
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("the child was killed, but reports success")
	}
	must(t, lock(t, d, Exclusive).Unlock())
}

// TestTryLockProcesses checks the lock of an open file against another process,
// which takes the same kind of lock on the same file.
func TestTryLockProcesses(t *testing.T) {
	d := newDir(t)
	put(t, d, "lock", "")
	f, err := d.Open("lock")
	must(t, err)
	defer func() { _ = f.Close() }()
	cmd := child(t, "hold", d, 1)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	if ok, err := f.TryLock(); err != nil || ok {
		t.Errorf("TryLock of a file that another process has locked: %v, %v", ok, err)
	}
	must(t, stdin.Close())
	must(t, cmd.Wait())
	if ok, err := f.TryLock(); err != nil || !ok {
		t.Errorf("TryLock after that process has ended: %v, %v", ok, err)
	}
}
