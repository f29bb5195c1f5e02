package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
	bolt "go.etcd.io/bbolt"
)

func newStore(t testing.TB) *blob.Store {
	t.Helper()
	return newStoreIn(t, t.TempDir())
}

func newStoreIn(t testing.TB, dir string) *blob.Store {
	t.Helper()
	s, err := blob.Create(filepath.Join(dir, "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openIndex(t testing.TB, s *blob.Store, o *Options) *Index {
	t.Helper()
	x, err := Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return x
}

// clock returns times that differ: 1, 2, 3, …
func clock() func() int64 {
	var now int64
	return func() int64 { now++; return now }
}

func put(t testing.TB, s *blob.Store, text string) File {
	t.Helper()
	info, err := s.Put(t.Context(), bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := name.ParsePath("model.bin")
	if err != nil {
		t.Fatal(err)
	}
	return File{Path: p, Digest: info.Digest, Size: info.Size}
}

func at(t testing.TB, f File, path string) File {
	t.Helper()
	p, err := name.ParsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Path = p
	return f
}

func parseName(t testing.TB, s string) name.Name {
	t.Helper()
	n, err := name.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func parseVersion(t testing.TB, s string) name.Version {
	t.Helper()
	v, err := name.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func parseAlias(t testing.TB, s string) name.Alias {
	t.Helper()
	a, err := name.ParseAlias(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// version returns one that can be registered; its manifest is stored.
func version(t testing.TB, s *blob.Store, n, v string) *Version {
	t.Helper()
	return &Version{
		ID: uuid.NewSHA1(uuid.Nil, []byte(n+":"+v)), Name: parseName(t, n), Version: parseVersion(t, v),
		Status: "ready", Manifest: put(t, s, "manifest of "+n+":"+v).Digest,
	}
}

func update(t testing.TB, x *Index, verb string, fn func(*Tx) error) {
	t.Helper()
	if err := x.Update(t.Context(), Change{Verb: verb, Actor: "test"}, fn); err != nil {
		t.Fatal(err)
	}
}

func register(t testing.TB, x *Index, v *Version, files ...File) *Version {
	t.Helper()
	update(t, x, "register", func(tx *Tx) error { return tx.Register(v, files) })
	return v
}

func collect[T any](t testing.TB, seq func(func(T, error) bool)) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// sample fills an index with every kind of change, over several pages.
func sample(t testing.TB, s *blob.Store, x *Index) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var last *Version
	for i := range 60 {
		v := version(t, s, fmt.Sprintf("team%d/model-%d", i%3, i%7), fmt.Sprintf("%d", i))
		if last != nil && i%4 == 0 {
			v.Parent = last.ID
		}
		v.Metadata = fmt.Appendf(nil, `{"loss": 0.%d, "note": %q}`, i, bytes.Repeat([]byte("x"), rng.IntN(300)))
		f := put(t, s, fmt.Sprintf("weights %d", i/2))
		last = register(t, x, v, at(t, f, "a/model.bin"), at(t, f, "b.bin"))
		if i%3 == 0 {
			update(t, x, "sha256", func(tx *Tx) error { return tx.SetSHA256(f.Digest, sha256.Sum256(fmt.Appendf(nil, "weights %d", i/2))) })
		}
		if i%5 == 0 {
			update(t, x, "promote", func(tx *Tx) error {
				have, err := tx.Alias(v.Name, parseAlias(t, "production"))
				if err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				return errors.Join(
					tx.SetStatus(v.ID, "production"),
					tx.SetAlias(v.Name, parseAlias(t, "production"), have, v.ID),
				)
			})
		}
		if i%9 == 0 {
			update(t, x, "metadata", func(tx *Tx) error { return tx.SetMetadata(v.ID, nil, "none") })
		}
		if i%11 == 3 {
			update(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.ID) })
			last = nil
		}
		if i%16 == 0 && v.Parent != uuid.Nil {
			update(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.Parent) })
		}
	}
}

// dump returns all that index.db holds.
func dump(t testing.TB, s *blob.Store) map[string]string {
	t.Helper()
	db, err := bolt.Open(filepath.Join(s.Dir(), databaseName), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(b []byte, bb *bolt.Bucket) error {
			return bb.ForEach(func(k, v []byte) error {
				all[string(b)+"/"+string(k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameDump(t testing.TB, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("entry %q: got %q, want %q", k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			t.Errorf("entry %q should not be there", k)
		}
	}
}

// answers returns what every reading method says.
func answers(t testing.TB, x *Index) []string {
	t.Helper()
	out, err := allAnswers(t, x)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func allAnswers(t testing.TB, x *Index) (out []string, err error) {
	t.Helper()
	err = x.View(t.Context(), func(tx *Tx) error {
		out = nil
		add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
		add("applied %d", tx.Applied())
		for v, err := range tx.All() {
			if err != nil {
				return err
			}
			add("version %+v", *v)
			for f, err := range tx.Files(v.ID) {
				if err != nil {
					return err
				}
				add("file %v", f)
			}
			for c, err := range tx.Children(v.ID) {
				if err != nil {
					return err
				}
				add("child %v", c)
			}
			id, err := tx.Lookup(v.Name, v.Version)
			if err != nil {
				return err
			}
			add("lookup %v", id)
			if _, err := tx.Lookup(v.Name, parseVersion(t, v.Version.String()+"-none")); !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		for n, err := range tx.Names("") {
			if err != nil {
				return err
			}
			add("name %v", n)
			for a, err := range tx.Aliases(n) {
				if err != nil {
					return err
				}
				add("alias %v", a)
			}
		}
		for _, status := range []string{"ready", "production"} {
			for v, err := range tx.ByStatus(status) {
				if err != nil {
					return err
				}
				add("%s %v", status, v.ID)
			}
		}
		for f, err := range tx.Paths("") {
			if err != nil {
				return err
			}
			add("path %v", f)
		}
		for v, err := range tx.ByManifest("") {
			if err != nil {
				return err
			}
			add("manifest %v", v.ID)
		}
		for b, err := range tx.Blobs() {
			if err != nil {
				return err
			}
			add("blob %v", b)
			sum, ok, err := tx.SHA256(b.Digest)
			if err != nil {
				return err
			}
			back, found, err := tx.BySHA256(sum)
			if err != nil {
				return err
			}
			add("sha256 %v %v, back %v %v", sum, ok, back, found)
			// A hint may be lost, but never wrong. These blobs have one frame.
			if ref, ok := tx.Frame(b.Digest); ok && ref != (blob.FrameRef{Blob: b.Digest}) {
				add("frame %v of %v", ref, b.Digest)
			}
		}
		return nil
	})
	return out, err
}
