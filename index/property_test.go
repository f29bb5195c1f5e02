package index

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// TestKVProperty compares a chained bucket with a map.
func TestKVProperty(t *testing.T) {
	dir, err := durable.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	db, err := createDatabase(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	rapid.Check(t, func(t *rapid.T) {
		model := map[string]string{}
		btx, err := db.begin(writing)
		if err != nil {
			t.Fatal(err)
		}
		defer db.rollback(btx)
		s := &kv{btx: btx, db: db}
		keys := rapid.StringMatching(`[a-c]{1,3}`)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := keys.Draw(t, "key"), rapid.String().Draw(t, "value")
				model[k] = v
				if err := s.put(bucketNames, []byte(k), []byte(v)); err != nil {
					t.Fatal(err)
				}
			},
			"del": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				k := rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(t, "key")
				delete(model, k)
				if err := s.del(bucketNames, []byte(k)); err != nil {
					t.Fatal(err)
				}
			},
			"get": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				got, err := s.get(bucketNames, []byte(k))
				want, ok := model[k]
				if err != nil || string(got) != want || (got != nil) != ok {
					t.Fatalf("get %q: %q, %v; want %q, %v", k, got, err, want, ok)
				}
			},
			"scan": func(t *rapid.T) {
				prefix := rapid.StringMatching(`[a-c]{0,2}`).Draw(t, "prefix")
				var got, want []string
				for e, err := range s.scan(bucketNames, []byte(prefix)) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(e.key)+"="+string(e.value))
				}
				for _, k := range slices.Sorted(maps.Keys(model)) {
					if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
						want = append(want, k+"="+model[k])
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("scan %q: %q, want %q", prefix, got, want)
				}
			},
			"": func(t *rapid.T) {
				if err := btx.Bucket([]byte(bucketNames)).ForEach(func(k, v []byte) error {
					_, _, err := unseal(bucketNames, k, v)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// TestIndexProperty makes random changes, and compares what the index holds in
// the end with what a rebuild makes of the journal.
func TestIndexProperty(t *testing.T) {
	s := newStore(t)
	f := put(t, s, "weights")
	version(t, s, "m/0", "0") // stores a manifest
	manifest := version(t, s, "m/0", "0").Manifest
	status := rapid.SampledFrom([]string{"ready", "production", "retired"})
	rapid.Check(t, func(rt *rapid.T) {
		for _, name := range []string{journalName, databaseName, lockName} { // as if never opened
			if err := os.Remove(filepath.Join(s.Dir(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				rt.Fatal(err)
			}
		}
		x, err := Open(t.Context(), s, &Options{Now: clock(), Exclusive: true})
		if err != nil {
			rt.Fatal(err)
		}
		defer x.Close()
		var ids []uuid.UUID
		pick := func() uuid.UUID { return rapid.SampledFrom(append(ids, uuid.Nil)).Draw(rt, "id") }
		// Whatever one change says, the others of its transaction are made.
		for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
			err := x.Update(t.Context(), Change{Verb: "change"}, func(tx *Tx) error {
				for range rapid.IntRange(0, 3).Draw(rt, "changes") {
					n := parseName(t, fmt.Sprintf("m/%d", rapid.IntRange(0, 1).Draw(rt, "name")))
					var err error
					switch rapid.IntRange(0, 5).Draw(rt, "kind") {
					case 0:
						v := &Version{
							ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, len(ids))), Name: n, Manifest: manifest, Parent: pick(),
							Version: parseVersion(t, fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "version"))), Status: status.Draw(rt, "status"),
						}
						if err = tx.Register(v, []File{f}); err == nil {
							ids = append(ids, v.ID)
						}
					case 1:
						err = tx.SetStatus(pick(), status.Draw(rt, "status"))
					case 2:
						err = tx.SetAlias(n, parseAlias(t, "prod"), pick(), pick())
					case 3:
						err = tx.SetMetadata(pick(), []byte(`{"a":1}`), "d")
					case 4:
						err = tx.Delete(pick())
					case 5: // it may be known, or not agree
						d := rapid.SampledFrom([]blob.Digest{f.Digest, manifest}).Draw(rt, "blob")
						err = tx.SetSHA256(d, SHA256{rapid.ByteRange(0, 2).Draw(rt, "sha256")})
					}
					if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrDuplicate) {
						return err
					}
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
		}
		contents := func() map[string]string {
			all := map[string]string{}
			if err := x.View(t.Context(), func(*Tx) error {
				return x.own.bolt.View(func(tx *bolt.Tx) error {
					return tx.ForEach(func(b []byte, bb *bolt.Bucket) error {
						return bb.ForEach(func(k, v []byte) error { all[string(b)+"/"+string(k)] = string(v); return nil })
					})
				})
			}); err != nil {
				rt.Fatal(err)
			}
			// A rebuild knows the blobs of the store, the index those of versions.
			maps.DeleteFunc(all, func(k, _ string) bool { return strings.HasPrefix(k, "blobs/") || strings.HasPrefix(k, "frames/") })
			return all
		}
		want := contents()
		if err := x.Rebuild(t.Context()); err != nil {
			rt.Fatal(err)
		}
		if got := contents(); !maps.Equal(got, want) {
			rt.Fatalf("after a rebuild:\n%q\nbefore:\n%q", got, want)
		}
	})
}
