package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// faultCase is something to do while the disk fails.
type faultCase struct {
	name    string
	mode    Options
	opened  bool                   // the index is open before the disk fails
	prepare func(dir string) error // of the store's folder, before that
	do      func(ctx context.Context, x *Index, v *Version, f File) error
}

func addVersion(ctx context.Context, x *Index, v *Version, f File) error {
	return x.Update(ctx, Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, []File{f}) })
}

func lookAt(ctx context.Context, x *Index, _ *Version, _ File) error {
	return x.View(ctx, func(tx *Tx) error {
		for _, err := range tx.All() {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func faultCases() []faultCase {
	garbage := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, databaseName), []byte(strings.Repeat("garbage ", 5000)), 0o600)
	}
	missing := func(dir string) error { return os.Remove(filepath.Join(dir, databaseName)) }
	fresh := func(dir string) error {
		return errors.Join(missing(dir), os.Remove(filepath.Join(dir, journalName)), os.Remove(filepath.Join(dir, lockName)))
	}
	torn := func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, journalName), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("0123456789abcdef")
			err = errors.Join(err, f.Close())
		}
		return err
	}
	rebuild := func(ctx context.Context, x *Index, _ *Version, _ File) error { return x.Rebuild(ctx) }
	return []faultCase{
		{name: "creating", prepare: fresh, do: addVersion},
		{name: "opening", do: lookAt},
		{name: "updating", opened: true, do: addVersion},
		{name: "updating exclusively", opened: true, mode: Options{Exclusive: true}, do: addVersion},
		{name: "viewing", opened: true, do: lookAt},
		{name: "rebuilding", opened: true, do: rebuild},
		{name: "building", prepare: missing, do: addVersion},
		{name: "healing", prepare: garbage, do: addVersion},
		{name: "healing exclusively", prepare: garbage, mode: Options{Exclusive: true}, do: addVersion},
		{name: "dropping a torn record", prepare: torn, do: addVersion},
	}
}

// faultTemplate returns the folder of a store with some versions.
func faultTemplate(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(fastDir(t), "template")
	s, err := blob.Create(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := openIndex(t, s, &Options{Now: clock()})
	for i := range 4 {
		register(t, x, version(t, s, "a", fmt.Sprint(i)), put(t, s, "weights"))
	}
	version(t, s, "b", "0") // its manifest
	version(t, s, "b", "1")
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inject fails the nth operation, and those after it if sticky.
func inject(m *durable.Mem, n int, err error, sticky bool) (fired func() bool) {
	hit := false
	m.Fail(func(op durable.Op) error {
		if op.N == n || sticky && op.N > n {
			hit = true
			return err
		}
		return nil
	})
	return func() bool { return hit }
}

// try runs c with one fault. It returns false if c has fewer operations.
func (c *faultCase) try(t *testing.T, template, dir string, n int, disk error, sticky bool, rng *rand.Rand) (bool, error) {
	ctx := t.Context()
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if c.prepare != nil {
		if err := c.prepare(dir); err != nil {
			return false, err
		}
	}
	s, err := blob.Open(dir, nil)
	if err != nil {
		return false, err
	}
	defer s.Close()
	v, f := version(t, s, "b", "0"), put(t, s, "weights")
	d := trace(t, dir)
	o := c.mode
	o.Now = clock()
	var x *Index
	var fired func() bool
	if c.opened {
		if x, err = openIn(ctx, d, s, o); err != nil {
			return false, err
		}
		fired = inject(d.mem, n, disk, sticky)
	} else {
		fired = inject(d.mem, n, disk, sticky)
		x, err = openIn(ctx, d, s, o)
	}
	if err == nil {
		err = c.do(ctx, x, v, f)
	}
	more := fired()
	d.mem.Fail(nil)
	if err != nil && !errors.Is(err, errors.Unwrap(disk)) && !errors.Is(err, disk) {
		return more, fmt.Errorf("an error that does not tell what happened: %w", err)
	}
	acked := err == nil
	// Whoever had it open goes on when the disk is well again.
	if x == nil {
		if x, err = openIn(ctx, trace2(t, d), s, o); err != nil {
			return more, fmt.Errorf("opening afterwards: %w", err)
		}
	}
	registered, err := hasVersion(ctx, x, v)
	writes := !slices.Contains([]string{"opening", "viewing", "rebuilding"}, c.name)
	if err != nil || acked && writes && !registered {
		return more, fmt.Errorf("acknowledged %v, but shown %v: %w", acked, registered, err)
	}
	// What was acknowledged survives a power cut now.
	if acked && writes {
		for range 2 {
			if err := c.afterPowerCut(t, d.mem.Crash(d.mem.Ops(), rng), dir+".cut", v); err != nil {
				return more, err
			}
		}
	}
	err = addVersion(ctx, x, version(t, s, "b", "1"), f)
	if err != nil {
		return more, fmt.Errorf("a change afterwards: %w", err)
	}
	if _, err := x.CheckJournal(ctx); err != nil {
		return more, err
	}
	return more, x.Close()
}

// trace2 is another process's view of the folder of d.
func trace2(t *testing.T, d *traced) *traced {
	own, err := durable.OpenDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	return &traced{Dir: own, mem: d.mem, sites: map[string]bool{}}
}

func hasVersion(ctx context.Context, x *Index, v *Version) (ok bool, err error) {
	err = x.View(ctx, func(tx *Tx) error {
		got, err := tx.Version(v.ID)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && (got.Files != 1 || got.Name != v.Name) {
			return errors.New("half of a version")
		}
		ok = err == nil
		return err
	})
	return ok, err
}

func (c *faultCase) afterPowerCut(t *testing.T, left *durable.Mem, dir string, v *Version) error {
	defer os.RemoveAll(dir)
	materialize(t, left, dir, ".")
	s, err := blob.Open(dir, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	x, err := Open(t.Context(), s, nil)
	if err != nil {
		return fmt.Errorf("opening after a power cut: %w", err)
	}
	defer x.Close()
	if ok, err := hasVersion(t.Context(), x, v); err != nil || !ok {
		return fmt.Errorf("acknowledged, but gone after a power cut: %w", err)
	}
	return nil
}

// TestPromiseIndexIOErrors fails every operation of everything that an Index
// does, bbolt's writes and syncs included.
func TestPromiseIndexIOErrors(t *testing.T) {
	faults := []struct {
		name string
		err  error
	}{
		{"EIO", syscall.EIO},
		{"ENOSPC after 5 bytes", durable.ShortWrite(5, syscall.ENOSPC)},
		{"ENOSPC after all bytes", durable.ShortWrite(1<<20, syscall.ENOSPC)},
		{"EINTR", syscall.EINTR},
	}
	template, tries := faultTemplate(t), 0
	stride := promise.Times(11, 1)
	turn := 0
	for _, c := range faultCases() {
		for _, fault := range faults {
			for _, sticky := range []bool{false, true} {
				// In the quick form every fault meets other operations.
				turn++
				for n := 1 + turn%stride; ; n += stride {
					rng := rand.New(rand.NewPCG(uint64(n), uint64(turn)))
					dir := filepath.Join(filepath.Dir(template), fmt.Sprintf("%d.%d", turn, n))
					more, err := c.try(t, template, dir, n, fault.err, sticky, rng)
					if err != nil {
						t.Fatalf("%s: %s at operation %d, sticky %v: %v", c.name, fault.name, n, sticky, err)
					}
					if !more {
						break
					}
					tries++
				}
			}
		}
	}
	promise.Kept(t, "%d faults, 0 false acknowledgements, 0 damaged", tries)
}
