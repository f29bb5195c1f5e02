package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/heftstore/heft/blob"
)

// clock returns times that differ, a millisecond apart.
func clock() func() int64 {
	var now atomic.Int64
	now.Store(1_700_000_000_000_000)
	return func() int64 { return now.Add(1000) }
}

// newRegistry makes a store that is gone after the test.
func newRegistry(t testing.TB) *Registry {
	t.Helper()
	r, err := CreateTemp(t.Context(), &Options{Actor: "tester", Now: clock()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

// again opens the store of r once more, as another process would.
func again(t testing.TB, r *Registry) *Registry {
	t.Helper()
	o, err := Open(t.Context(), r.Dir(), &Options{Actor: "other", Now: r.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, o.Close()) })
	return o
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr fails unless err is target.
func wantErr(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want %v", what, err, target)
	}
}

func weights(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// ofRef is the Model to register for a reference, name or name:version.
func ofRef(ref string) Model {
	n, v, _ := strings.Cut(ref, ":")
	return Model{Name: n, Version: v}
}

// add registers a version whose weights are its reference's text.
func add(t testing.TB, r *Registry, ref string) *Model {
	t.Helper()
	return addModel(t, r, ofRef(ref), "weights of "+ref)
}

func addModel(t testing.TB, r *Registry, m Model, content string) *Model {
	t.Helper()
	got, err := r.Register(t.Context(), m, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// addFiles registers a version with files by path.
func addFiles(t testing.TB, r *Registry, ref string, files map[string][]byte) *Model {
	t.Helper()
	m, err := putFiles(t.Context(), r, ofRef(ref), files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func putFiles(ctx context.Context, r *Registry, m Model, files map[string][]byte) (*Model, error) {
	d, err := r.Begin(ctx, m)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if _, err := d.Put(ctx, p, bytes.NewReader(files[p])); err != nil {
			return nil, err
		}
	}
	return d.Commit(ctx)
}

func get(t testing.TB, r *Registry, ref string) *Model {
	t.Helper()
	m, err := r.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, m *Model, path string) []byte {
	t.Helper()
	f, err := m.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func all[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var got []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	return got
}

// failure returns the error that ends a list.
func failure[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func refs(models []*Model) []string {
	var s []string
	for _, m := range models {
		s = append(s, m.Ref())
	}
	return s
}

// same fails if the two differ; Models are compared by their exported fields.
func same(t failer, what string, got, want any) {
	t.Helper()
	if d := diff(got, want); d != "" {
		t.Fatalf("%s: got + want -\n%s", what, d)
	}
}

func diff(got, want any) string {
	return cmp.Diff(want, got, cmpopts.IgnoreUnexported(Model{}), cmpopts.EquateEmpty(), cmpopts.EquateErrors())
}

// listing is every answer that a registry gives of what it holds.
type listing struct {
	Names        []Summary
	Versions     map[string][]*Model
	Files        map[string][]File
	Ancestors    map[string][]string
	Descendants  map[string][]string
	Aliases      []Alias
	Paths        []Entry
	Found        []*Model
	ByStatus     map[Status][]string
	History      []Event
	NameHistory  map[string][]Event
	Stats        Stats
	Checked      []Checked
	ManifestRefs map[string]string
}

func list(t testing.TB, r *Registry) listing {
	t.Helper()
	ctx := t.Context()
	l := listing{
		Names: all(t, r.Names(ctx, "")), Aliases: all(t, r.Aliases(ctx, "")), Paths: all(t, r.List(ctx, "")),
		Found: all(t, r.Find(ctx, Query{Sort: []Sort{{Field: "updated"}}})), History: all(t, r.History(ctx, "")),
		Versions: map[string][]*Model{}, Files: map[string][]File{}, Ancestors: map[string][]string{}, Descendants: map[string][]string{},
		ByStatus: map[Status][]string{}, NameHistory: map[string][]Event{}, ManifestRefs: map[string]string{},
		Checked: all(t, r.Verify(ctx, "", nil)),
	}
	for _, s := range Statuses() {
		l.ByStatus[s] = refs(all(t, r.Find(ctx, Query{Status: []Status{s}})))
	}
	for _, n := range l.Names {
		l.Versions[n.Name] = all(t, r.Versions(ctx, n.Name))
		l.NameHistory[n.Name] = all(t, r.History(ctx, n.Name))
		for _, m := range l.Versions[n.Name] {
			l.Files[m.Ref()] = all(t, m.List(ctx))
			l.Ancestors[m.Ref()] = refs(all(t, r.Ancestors(ctx, m.Ref())))
			for _, d := range all(t, r.Descendants(ctx, m.Ref())) {
				l.Descendants[m.Ref()] = append(l.Descendants[m.Ref()], d.Ref())
			}
			l.ManifestRefs[m.Ref()] = get(t, r, "b3:"+m.Manifest.String()).Ref()
		}
	}
	var err error
	if l.Stats, err = r.Stats(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

// onDisk returns the paths below a folder, with the sizes of files.
func onDisk(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		got[p] = 0
		if !e.IsDir() {
			got[p] = info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func blobFile(r *Registry, d blob.Digest) string {
	hex := d.String()
	return filepath.Join(r.Dir(), "blobs", hex[:2], hex)
}

// flip damages the first stored byte of a blob.
func flip(t testing.TB, r *Registry, d blob.Digest) {
	t.Helper()
	file := blobFile(r, d)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[16] ^= 1 // the first byte after the header
	must(t, os.WriteFile(file, b, 0o600))
}
