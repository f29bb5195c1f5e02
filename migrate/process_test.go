package migrate_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/promise"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/lattice"
	"github.com/heftstore/heft/registry"
	"go.uber.org/goleak"
)

// childEnv makes the test binary import the folder it names into the store that
// stands after it, instead of running tests.
const childEnv = "HEFT_MIGRATE_CHILD"

func TestMain(m *testing.M) {
	from, to, child := strings.Cut(os.Getenv(childEnv), "\n")
	if !child {
		goleak.VerifyTestMain(m) // ends the process
	}
	if err := importTree(context.Background(), from, to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// importTree imports a lattice tree into a store, which is made if need be.
func importTree(ctx context.Context, from, to string) error {
	r, err := registry.Open(ctx, to, nil)
	if err != nil {
		if r, err = registry.Create(ctx, to, nil); err != nil {
			return err
		}
	}
	defer r.Close()
	src, err := lattice.Open(ctx, from, nil)
	if err != nil {
		return err
	}
	defer src.Close()
	for o, err := range migrate.Apply(ctx, r, src, nil) {
		if err != nil {
			return err
		}
		if o.State != migrate.Imported && o.State != migrate.Present {
			return fmt.Errorf("%s is %s: %w", o.From, o.State, o.Why)
		}
	}
	return nil
}

// writeTree makes a tree of versions in lattice's layout, some the parents of
// others.
func writeTree(t *testing.T, dir string, versions int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range versions {
		folder := filepath.Join(dir, fmt.Sprintf("team/m%d", i%3), fmt.Sprint(i))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		parent := ""
		if i >= 3 {
			parent = fmt.Sprintf(`,"parent_id":"6ba7b810-9dad-11d1-80b4-%012d"`, i-3)
		}
		meta := fmt.Sprintf(`{"id":"6ba7b810-9dad-11d1-80b4-%012d","status":"validated","registered_at":"2024-05-06T07:08:%02d.123456789+02:00","updated_at":"2024-06-06T07:08:09.5Z","metadata":{"tags":["t%d"]}%s}`, i, i%60, i, parent)
		weights := make([]byte, 1000+rng.IntN(30000))
		for j := range weights {
			weights[j] = byte(rng.IntN(40))
		}
		for name, content := range map[string][]byte{"metadata.json": []byte(meta), "weights.bin": weights} {
			if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// listing describes all versions of a store with their files, after reading and
// checking every byte.
func listing(t *testing.T, dir string) (lines []string) {
	t.Helper()
	ctx := t.Context()
	r, err := registry.Open(ctx, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for c, err := range r.Verify(ctx, "", nil) {
		if err != nil || c.Err != nil {
			t.Fatal(err, c.Err)
		}
	}
	for m, err := range r.Find(ctx, registry.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %d %d %s %s %v %s", m.Ref(), m.ID, m.Status, m.RegisteredAt, m.UpdatedAt, m.Parent, m.Manifest, m.Metadata.Tags, m.WeightsHash))
	}
	return lines
}

// TestPromiseKilledImports kills an import at random moments; the next one makes
// the store what it would have been.
func TestPromiseKilledImports(t *testing.T) {
	const versions = 24
	kills := promise.Times(20, 200)
	from := filepath.Join(t.TempDir(), "tree")
	writeTree(t, from, versions)
	run := func(to string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+from+"\n"+to)
		return cmd
	}
	whole := filepath.Join(t.TempDir(), "store")
	start := time.Now()
	if out, err := run(whole).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(start)
	want := listing(t, whole)
	if len(want) != versions {
		t.Fatalf("%d versions, want %d", len(want), versions)
	}
	rng := rand.New(rand.NewPCG(5, uint64(start.UnixNano())))
	cut := 0
	for range kills {
		to := filepath.Join(t.TempDir(), "store")
		cmd := run(to)
		cmd.Stderr = io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rng.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			cut++
		}
		kill.Stop()
		if out, err := run(to).CombinedOutput(); err != nil {
			t.Fatalf("after a kill: %v\n%s", err, out)
		}
		if diff := cmp.Diff(want, listing(t, to)); diff != "" {
			t.Fatalf("after a kill the store is another one:\n%s", diff)
		}
		if left, err := filepath.Glob(filepath.Join(to, "tmp", "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
	if cut < kills/2 {
		t.Errorf("only %d of %d imports were killed before their end", cut, kills)
	}
	promise.Kept(t, "%d kills, %d of them before the end: 0 lost, the next import completes it", kills, cut)
}
