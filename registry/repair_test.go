package registry

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
)

// repaired repairs a store, and wants everything healed.
func repaired(t testing.TB, r *Registry, o *RepairOptions) Repaired {
	t.Helper()
	done, err := Repair(t.Context(), r.Dir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Left() > 0 {
		t.Fatalf("left: %+v", done.Findings)
	}
	return done
}

// found is what findings are about.
func found(done Repaired) (all []string) {
	for _, f := range done.Findings {
		all = append(all, strings.TrimSpace(f.What+" "+f.Name))
	}
	return all
}

// change changes a file of a store.
func change(t testing.TB, r *Registry, name string, fn func([]byte) []byte) {
	t.Helper()
	file := filepath.Join(r.Dir(), name)
	b, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, fn(b), 0o600))
}

// flipAt flips a bit of the byte at a share of a file.
func flipAt(share float64) func([]byte) []byte {
	return func(b []byte) []byte {
		b[int(share*float64(len(b)))] ^= 4
		return b
	}
}

// namesOf is the part of a listing that tells nothing of how blobs are stored, nor
// of blobs that no version needs.
func namesOf(t testing.TB, r *Registry) listing {
	t.Helper()
	l := list(t, r)
	l.Stats = Stats{}
	l.Checked = slices.DeleteFunc(l.Checked, func(c Checked) bool { return len(c.Uses) == 0 && c.Err == nil })
	for i := range l.Checked {
		l.Checked[i].Size = 0
	}
	return l
}

func TestRepairNothing(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	before := onDisk(t, r.Dir())
	done := repaired(t, r, nil)
	if len(done.Findings) != 0 || done.Blobs == 0 {
		t.Errorf("%+v", done)
	}
	after := onDisk(t, r.Dir())
	ignoreLocks(before, after)
	same(t, "the folder", after, before)
}

// TestRepair does each kind of damage for itself, and heals it with a backup.
func TestRepair(t *testing.T) {
	const weightsOf = "weights of other:1.0"
	d := blob.Sum([]byte(weightsOf))
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, r *Registry)
		want   []string
		alone  bool // no backup is needed
	}{
		{"no heft.json", func(t *testing.T, r *Registry) { must(t, os.Remove(filepath.Join(r.Dir(), "heft.json"))) }, []string{"heft.json"}, true},
		{"heft.json", func(t *testing.T, r *Registry) { change(t, r, "heft.json", flipAt(0.5)) }, []string{"heft.json"}, true},
		{"no trash", func(t *testing.T, r *Registry) {
			must(t, os.RemoveAll(filepath.Join(r.Dir(), "trash")))
			must(t, os.RemoveAll(filepath.Join(r.Dir(), "pins")))
		}, []string{"folder trash", "folder pins"}, true},
		{"no index", func(t *testing.T, r *Registry) { must(t, os.Remove(filepath.Join(r.Dir(), "index.db"))) }, []string{"index"}, true},
		{"index", func(t *testing.T, r *Registry) {
			change(t, r, "index.db", func(b []byte) []byte { return bytes.Repeat([]byte("nonsense"), len(b)/8) })
		}, []string{"index"}, true},
		{"journal", func(t *testing.T, r *Registry) { change(t, r, "journal", flipAt(0.5)) }, []string{"journal"}, false},
		{"first record", func(t *testing.T, r *Registry) { change(t, r, "journal", flipAt(0.001)) }, []string{"journal"}, false},
		{"first record and heft.json", func(t *testing.T, r *Registry) {
			change(t, r, "journal", flipAt(0.001))
			must(t, os.Remove(filepath.Join(r.Dir(), "heft.json")))
		}, []string{"heft.json", "journal"}, false},
		{"journal cut", func(t *testing.T, r *Registry) {
			change(t, r, "journal", func(b []byte) []byte { return b[:len(b)*2/3] })
		}, []string{"journal"}, false},
		{"journal cut after a record", func(t *testing.T, r *Registry) {
			change(t, r, "journal", func(b []byte) []byte { return b[:1+bytes.LastIndexByte(b[:len(b)-1], '\n')] })
		}, []string{"journal"}, false},
		{"no journal", func(t *testing.T, r *Registry) { must(t, os.Remove(filepath.Join(r.Dir(), "journal"))) }, []string{"journal"}, false},
		{"blob", func(t *testing.T, r *Registry) { flip(t, r, d) }, []string{"blob " + d.String()}, false},
		{"no blob", func(t *testing.T, r *Registry) { must(t, os.Remove(blobFile(r, d))) }, []string{"blob " + d.String()}, false},
		{"blob in the trash", func(t *testing.T, r *Registry) {
			must(t, os.Rename(blobFile(r, d), filepath.Join(r.Dir(), "trash", "0000000000000001-5-"+d.String())))
		}, []string{"blob " + d.String()}, true},
		{"blob in quarantine", func(t *testing.T, r *Registry) {
			must(t, os.Rename(blobFile(r, d), filepath.Join(r.Dir(), "quarantine", d.String()+".1")))
		}, []string{"blob " + d.String()}, true},
		{"damaged, and sound in the trash", func(t *testing.T, r *Registry) {
			b, err := os.ReadFile(blobFile(r, d))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(r.Dir(), "trash", "0000000000000001-5-"+d.String()), b, 0o600))
			flip(t, r, d)
		}, []string{"blob " + d.String()}, true},
		{"blob with parity", func(t *testing.T, r *Registry) {
			_, err := r.store.AddParity(t.Context(), d, 100)
			must(t, err)
			flip(t, r, d)
		}, []string{"blob " + d.String()}, true},
		{"orphan", func(t *testing.T, r *Registry) {
			info, err := r.store.Put(t.Context(), strings.NewReader("of nobody"))
			must(t, err)
			flip(t, r, info.Digest)
		}, []string{"blob " + blob.Sum([]byte("of nobody")).String()}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			busy(t, r)
			backup := filepath.Join(t.TempDir(), "backup")
			backUp(t, r, backup, nil)
			want := namesOf(t, r)
			tt.damage(t, r)
			broken := onDisk(t, r.Dir())
			dry, err := Repair(t.Context(), r.Dir(), &RepairOptions{DryRun: true, From: backup})
			must(t, err)
			if dry.Left() == 0 && tt.want[0] != "index" || !slices.Equal(found(dry)[:1], tt.want[:1]) {
				t.Errorf("a dry run: %v, %d left", found(dry), dry.Left())
			}
			after := onDisk(t, r.Dir())
			if tt.want[0] != "index" { // opening heals it
				ignoreLocks(broken, after)
				same(t, "the folder after a dry run", after, broken)
			}
			if !tt.alone {
				left, err := Repair(t.Context(), r.Dir(), nil)
				must(t, err)
				if left.Left() == 0 || left.Findings[len(left.Findings)-1].Hint == "" {
					t.Errorf("without a backup: %+v", left.Findings)
				}
			}
			o := &RepairOptions{From: backup}
			if tt.alone {
				o = nil
			}
			done := repaired(t, r, o)
			if got := found(done); !slices.Equal(got, tt.want) && dry.Left() > 0 {
				t.Errorf("found %v, want %v", got, tt.want)
			}
			for _, f := range done.Findings {
				if f.Done == "" || f.Err == nil {
					t.Errorf("%+v", f)
				}
			}
			got := openAt(t, r.Dir())
			if got.ID() != r.ID() {
				t.Errorf("it is %s, was %s", got.ID(), r.ID())
			}
			same(t, "what was repaired", namesOf(t, got), want)
			if again := repaired(t, got, nil); len(again.Findings) != 0 {
				t.Errorf("once more: %+v", again.Findings)
			}
		})
	}
}

// ignoreLocks drops what says who is at work.
func ignoreLocks(files ...map[string]int64) {
	for _, l := range files {
		for name := range l {
			if strings.Contains(name, ".lock") || strings.Contains(name, "pins") {
				delete(l, name)
			}
		}
	}
}

// A damaged donor is brought from a backup, with the frames that others borrow; the
// damaged file is kept.
func TestRepairDonor(t *testing.T) {
	r := newRegistry(t)
	w := weights(3, 1<<20)
	first := addFiles(t, r, "m:1", map[string][]byte{"w": w})
	for i := range 3 {
		copy(w[len(w)-1000:], fmt.Sprint("state ", i))
		addFiles(t, r, fmt.Sprint("m:", i+2), map[string][]byte{"w": w})
	}
	backup := t.TempDir()
	backUp(t, r, backup, nil)
	want := namesOf(t, r)
	donor := first.WeightsHash
	flip(t, r, donor)
	bad := 0
	for _, c := range all(t, r.Verify(t.Context(), "", &VerifyOptions{Quarantine: QuarantineNothing})) {
		if c.Err != nil {
			bad++
		}
	}
	if bad < 2 {
		t.Fatalf("%d blobs are damaged", bad)
	}
	done := repaired(t, r, &RepairOptions{From: backup})
	if !slices.Equal(found(done), []string{"blob " + donor.String()}) || len(done.Findings[0].Uses) < 2 {
		t.Errorf("%+v", done.Findings)
	}
	same(t, "what was repaired", namesOf(t, r), want)
	if _, err := os.Stat(filepath.Join(r.Dir(), "quarantine", donor.String()+".1")); err != nil {
		t.Errorf("the damaged file is gone: %v", err)
	}
}

// unpin removes the pins of drafts that are over.
func unpin(t testing.TB, r *Registry) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(r.Dir(), "pins")))
	must(t, os.Mkdir(filepath.Join(r.Dir(), "pins"), 0o700))
}

// A blob that a version has, and of which only some frames are left, is brought as a
// whole.
func TestRepairThinned(t *testing.T) {
	r := newRegistry(t)
	w := weights(3, 1<<20)
	first := addFiles(t, r, "m:1", map[string][]byte{"w": w})
	copy(w[len(w)-1000:], "changed")
	second := addFiles(t, r, "m:2", map[string][]byte{"w": w})
	backup := t.TempDir()
	backUp(t, r, backup, nil)
	want := namesOf(t, r)
	ctx := t.Context()
	marks := r.store.Marks(func(context.Context, blob.Digest) ([]blob.Digest, bool) { return nil, false })
	must(t, marks.Add(ctx, second.WeightsHash))
	x, err := r.store.Thin(ctx, first.WeightsHash, marks)
	must(t, err)
	unpin(t, r)
	c, err := r.store.Collect(ctx, 1)
	must(t, err)
	if done, err := c.Replace(ctx, x, marks); err != nil || !done {
		t.Fatal(done, err)
	}
	must(t, c.Close())
	if done, err := Repair(ctx, r.Dir(), nil); err != nil || done.Left() != 1 {
		t.Errorf("without a backup: %+v, %v", done, err)
	}
	repaired(t, r, &RepairOptions{From: backup})
	same(t, "what was repaired", namesOf(t, r), want)
}

// What nothing else has stays damaged, and is named with who needs it.
func TestRepairLeaves(t *testing.T) {
	r := newRegistry(t)
	busy(t, r)
	backup := t.TempDir()
	backUp(t, r, backup, nil)
	add(t, r, "late:1")
	d := blob.Sum([]byte("weights of late:1"))
	flip(t, r, d)
	before := onDisk(t, r.Dir())
	for _, from := range []string{"", backup} {
		done, err := Repair(t.Context(), r.Dir(), &RepairOptions{From: from})
		must(t, err)
		if done.Left() != 1 || done.Findings[0].Name != d.String() || !slices.Equal(done.Findings[0].Uses, []string{"late:1/" + WeightsFile}) || done.Findings[0].Hint == "" || done.Findings[0].Done != "" {
			t.Errorf("from %q: %+v", from, done.Findings)
		}
	}
	if _, err := os.Stat(blobFile(r, d)); err != nil {
		t.Error(err)
	}
	if len(onDisk(t, r.Dir())) < len(before) {
		t.Error("files are gone")
	}
	addModel(t, r, ofRef("late:2"), "weights of late:1")
	if done := repaired(t, r, nil); len(done.Findings) != 0 {
		t.Errorf("%+v", done)
	}
}

func TestRepairRefuses(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	_, err := Repair(t.Context(), r.Dir(), &RepairOptions{From: r.Dir()})
	wantErr(t, "from itself", err, ErrInvalid)
	_, err = Repair(t.Context(), t.TempDir(), nil)
	wantErr(t, "an empty folder", err, ErrNotFound)
	_, err = Repair(t.Context(), filepath.Join(t.TempDir(), "none"), &RepairOptions{From: r.Dir()})
	wantErr(t, "no folder", err, ErrNotFound)
	_, err = Repair(t.Context(), r.Dir(), &RepairOptions{From: filepath.Join(t.TempDir(), "none")})
	wantErr(t, "from nothing", err, ErrNotFound)

	// Another store's journal is no help, and heft.json is not taken from it.
	other := newRegistry(t)
	add(t, other, "m:1")
	must(t, os.Remove(filepath.Join(r.Dir(), "heft.json")))
	change(t, r, "journal", flipAt(0.001))
	done, err := Repair(t.Context(), r.Dir(), &RepairOptions{From: other.Dir()})
	must(t, err)
	if done.Left() != 1 || !strings.Contains(done.Findings[0].Hint, "restore") {
		t.Errorf("%+v", done.Findings)
	}
}

// A journal that lost a record for good is ended before it, and what the versions
// were is found again.
func TestRepairAcceptsJournalLoss(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, r *Registry)
	}{
		{"the registration of a version", func(t *testing.T, r *Registry) {
			change(t, r, "journal", func(b []byte) []byte {
				b[bytes.Index(b, []byte(`"verb":"register"`))] ^= 4
				return b
			})
		}},
		{"the last record", func(t *testing.T, r *Registry) {
			change(t, r, "journal", func(b []byte) []byte {
				b[bytes.LastIndex(b, []byte(`"verb":"register"`))] ^= 4
				return b
			})
		}},
		{"the first record", func(t *testing.T, r *Registry) { change(t, r, "journal", flipAt(0.0001)) }},
		{"all of it", func(t *testing.T, r *Registry) {
			must(t, os.Remove(filepath.Join(r.Dir(), "journal")))
			must(t, os.Remove(filepath.Join(r.Dir(), "index.db")))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			busy(t, r)
			add(t, r, "last:1")
			want := stated(t, r)
			tt.damage(t, r)
			before := onDisk(t, r.Dir())
			done, err := Repair(t.Context(), r.Dir(), nil)
			must(t, err)
			if done.Left() != 1 || !strings.Contains(done.Findings[0].Hint, "--accept-journal-loss") {
				t.Fatalf("%+v", done.Findings)
			}
			after := onDisk(t, r.Dir())
			ignoreLocks(before, after)
			same(t, "the folder", after, before)

			done = repaired(t, r, &RepairOptions{AcceptJournalLoss: true})
			if len(done.Names.Versions) == 0 {
				t.Errorf("%+v", done.Names)
			}
			got := openAt(t, r.Dir())
			have := stated(t, got)
			for ref, w := range want {
				h, ok := have[ref]
				if !ok || h.Hash != w.Hash {
					t.Errorf("%s is %+v, was %+v", ref, h, w)
				}
				if strings.HasPrefix(tt.name, "all") {
					continue
				}
				same(t, ref, h, w)
			}
			// Where no record tells of the deletion, what was deleted comes back.
			if _, back := have["org/m:1"]; back != strings.HasPrefix(tt.name, "all") || len(have) != len(want) && !back {
				t.Errorf("%d versions, want %d", len(have), len(want))
			}
			wantClean(t, got)
			if again := repaired(t, got, nil); len(again.Findings) != 0 || len(again.Names.Versions) != 0 {
				t.Errorf("once more: %+v", again)
			}
			entries, err := os.ReadDir(filepath.Join(r.Dir(), "quarantine"))
			must(t, err)
			if !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
				return strings.HasPrefix(e.Name(), "journal.") && !strings.HasSuffix(e.Name(), ".pending")
			}) {
				t.Errorf("the damaged journal was not kept: %v", entries)
			}
			add(t, got, "goes:on")
		})
	}
}
