package registry

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
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
	"go.uber.org/goleak"
)

// childEnv holds what TestMain does instead of running tests: "register",
// "promote", "endless", "churn", "commit" and how many, "full" and of what, "collect", the number of the process, and the store.
const childEnv = "REGISTRY_TEST_CHILD"

func TestMain(m *testing.M) {
	child, ok := os.LookupEnv(childEnv)
	if !ok {
		goleak.VerifyTestMain(m) // ends the process
	}
	args := strings.SplitN(child, "|", 3)
	if err := runChild(context.Background(), args[0], args[1], args[2], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	childRegisters = 20
	childPromotes  = 10
)

func runChild(ctx context.Context, what, number, dir string, out io.Writer) error {
	if what == "churn" {
		return runChurn(ctx, number, dir, out)
	}
	if how, ok := strings.CutPrefix(what, "full "); ok {
		return fillDisk(ctx, how, dir, out)
	}
	r, err := Open(ctx, dir, &Options{Actor: "process " + number})
	if err != nil {
		return err
	}
	if what == "collect" {
		return errors.Join(collectAndMeasure(ctx, r, out), r.Close())
	}
	if strings.HasPrefix(what, "commit ") {
		return errors.Join(commits(ctx, r, what, number, out), r.Close())
	}
	for i := 0; what == "endless" || what == "register" && i < childRegisters; i++ {
		content := weights(uint64(i), 300_000) // every process has these
		if i%2 == 1 {
			content = append(content, number...)
		}
		m, err := r.Register(ctx, Model{Name: "all"}, bytes.NewReader(content))
		if err != nil {
			return err
		}
		// One write, so that a line is there whole or not at all.
		if _, err := fmt.Fprintf(out, "%s %s\n", m.Ref(), m.WeightsHash); err != nil {
			return err
		}
	}
	for i := 0; what == "promote" && i < childPromotes; i++ {
		if _, err := r.Promote(ctx, fmt.Sprintf("all:%d", i%3+1), Note{}); err != nil {
			return err
		}
		if _, err := r.Rollback(ctx, "all", Note{}); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return r.Close()
}

// child returns a process of this test program that runs runChild.
func child(t *testing.T, what string, number int, r *Registry) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d|%s", childEnv, what, number, r.Dir()))
	return cmd
}

// runAll runs processes side by side and returns what they printed.
func runAll(t *testing.T, what string, processes int, r *Registry) []string {
	t.Helper()
	cmds := make([]*exec.Cmd, processes)
	outs := make([]bytes.Buffer, processes)
	errs := make([]bytes.Buffer, processes)
	for i := range cmds {
		cmds[i] = child(t, what, i, r)
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], &errs[i]
		must(t, cmds[i].Start())
	}
	var lines []string
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, errs[i].Bytes())
		}
		lines = append(lines, strings.Split(strings.TrimSpace(outs[i].String()), "\n")...)
	}
	return lines
}

// wantRegistered checks that what processes acknowledged is there.
func wantRegistered(t *testing.T, r *Registry, lines []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, line := range lines {
		ref, hash, _ := strings.Cut(line, " ")
		if seen[ref] {
			t.Errorf("%s was given to two", ref)
		}
		seen[ref] = true
		m := get(t, r, ref)
		if m.WeightsHash.String() != hash {
			t.Errorf("%s has the weights %s, want %s", ref, m.WeightsHash, hash)
		}
		if got := blob.Sum(read(t, m, WeightsFile)); got.String() != hash {
			t.Errorf("%s reads as %s, want %s", ref, got, hash)
		}
	}
}

func wantClean(t *testing.T, r *Registry) {
	t.Helper()
	for _, c := range all(t, r.Verify(t.Context(), "", nil)) {
		if c.Err != nil {
			t.Errorf("%s: %v", c.Digest, c.Err)
		}
	}
}

func TestProcesses(t *testing.T) {
	const processes = 4
	r := newRegistry(t)
	lines := runAll(t, "register", processes, r)
	if len(lines) != processes*childRegisters {
		t.Fatalf("%d registrations were acknowledged, want %d", len(lines), processes*childRegisters)
	}
	wantRegistered(t, r, lines)
	s, err := r.Stats(t.Context())
	must(t, err)
	// Half of the contents are the same in all processes; each of the others
	// has one digit more.
	distinct := childRegisters/2 + processes*childRegisters/2
	if want := int64(distinct*300_000 + processes*childRegisters/2); s.Versions != len(lines) || s.Unique != want || s.Blobs < distinct+len(lines) {
		t.Errorf("%d versions, %d unique bytes in %d blobs, want %d, %d", s.Versions, s.Unique, s.Blobs, len(lines), want)
	}
	wantClean(t, r)

	runAll(t, "promote", processes, r)
	if got := inProduction(t, r, "all"); len(got) != 1 {
		t.Errorf("in production: %v", got)
	}
	inside := ""
	for _, e := range all(t, r.History(t.Context(), "all")) {
		switch {
		case e.To == string(Production) && inside != "":
			t.Fatalf("record %d: %s came into production beside %s", e.Seq, e.Version, inside)
		case e.To == string(Production):
			inside = e.Version
		case e.From == string(Production):
			inside = ""
		}
	}
	wantClean(t, r)
}

func TestProcessKilled(t *testing.T) {
	const kills = 20
	r := newRegistry(t)
	var lines []string
	for i := range kills {
		cmd := child(t, "endless", i, r)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		in := bufio.NewReader(out)
		for range 1 + i%3 {
			line, err := in.ReadString('\n')
			must(t, err)
			lines = append(lines, strings.TrimSpace(line))
		}
		for range i * 4 { // at another moment each time
			_, err := os.ReadDir(filepath.Join(r.Dir(), "tmp"))
			must(t, err)
		}
		must(t, cmd.Process.Kill())
		rest, err := io.ReadAll(in)
		must(t, err)
		for line := range strings.Lines(string(rest)) {
			if text, whole := strings.CutSuffix(line, "\n"); whole {
				lines = append(lines, text)
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
	}
	wantRegistered(t, r, lines)
	wantClean(t, r)
	versions := all(t, r.Versions(t.Context(), "all"))
	if n := len(versions); n < len(lines) || n > len(lines)+kills {
		t.Errorf("%d versions, %d were acknowledged", n, len(lines))
	}
	if versions[0].Version != fmt.Sprint(len(versions)) {
		t.Errorf("the last of %d versions is %s", len(versions), versions[0].Version)
	}
	add(t, r, "all") // nobody holds a lock
}
