package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// verification begins one, which is closed after the test.
func verification(t testing.TB, r *Registry, refs []string, o *VerifyOptions) *Verification {
	t.Helper()
	v, err := r.BeginVerify(t.Context(), refs, o)
	must(t, err)
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// verified runs one to its end.
func verified(t testing.TB, r *Registry, refs []string, o *VerifyOptions) (map[blob.Digest]Checked, Findings) {
	t.Helper()
	v := verification(t, r, refs, o)
	got := map[blob.Digest]Checked{}
	for _, c := range all(t, v.Run(t.Context())) {
		if _, ok := got[c.Digest]; ok {
			t.Errorf("%s was yielded twice", c.Digest)
		}
		got[c.Digest] = c
	}
	must(t, v.Close())
	return got, v.Findings()
}

// many makes a registry with some dozens of blobs, of versions and of none.
func many(t testing.TB) *Registry {
	t.Helper()
	r := newRegistry(t)
	for i := range 12 {
		addFiles(t, r, fmt.Sprintf("m%d:1", i%5+1)+fmt.Sprint(i), map[string][]byte{"a": weights(uint64(i), 1000*(i+1)), "b": weights(uint64(100+i), 500)})
	}
	d, err := r.Begin(t.Context(), ofRef("draft"))
	must(t, err)
	_, err = d.Put(t.Context(), "w", bytes.NewReader(weights(99, 700)))
	must(t, err)
	must(t, d.Close())
	return r
}

func TestVerifyInOrder(t *testing.T) {
	r := many(t)
	flip(t, r, blob.Sum(weights(3, 4000)))
	var want []Checked
	for _, parallel := range []int{0, 1, 2, 3, 8, 1000} {
		got := all(t, r.Verify(t.Context(), "", &VerifyOptions{Parallel: parallel}))
		if !slices.IsSortedFunc(got, func(a, b Checked) int { return compareDigests(a.Digest, b.Digest) }) {
			t.Errorf("%d at once: not by digest", parallel)
		}
		for i := range got {
			if c := &got[i]; c.Err != nil {
				wantCorrupt(t, "the damaged one", c.Err, "m4:13", "a")
				c.Err = nil
			}
		}
		if want == nil {
			want = got
		}
		same(t, fmt.Sprintf("%d at once", parallel), got, want)
	}
	if len(want) != 3*12+1 {
		t.Errorf("%d blobs", len(want))
	}
}

func TestVerifyRefs(t *testing.T) {
	r := newRegistry(t)
	shared := weights(1, 4000)
	addFiles(t, r, "a:1", map[string][]byte{"w": shared})
	addFiles(t, r, "b:1", map[string][]byte{"w": shared, "x": []byte("x")})
	add(t, r, "c:1")
	got, _ := verified(t, r, []string{"a:1", "b", "a:1"}, nil)
	if len(got) != 4 {
		t.Errorf("%d blobs, want 4", len(got))
	}
	same(t, "uses", got[blob.Sum(shared)].Uses, []string{"a:1/w", "b:1/w"})
	_, err := r.BeginVerify(t.Context(), []string{"a:1", "none"}, nil)
	wantErr(t, "unknown", err, ErrNotFound)
	for _, o := range []VerifyOptions{
		{Sample: -0.1}, {Sample: 1.1}, {Sample: math.NaN()}, {Rate: -1}, {Parallel: -1}, {Quarantine: 3}, {Resume: true, Sample: 0.5},
	} {
		_, err := r.BeginVerify(t.Context(), nil, &o)
		wantErr(t, fmt.Sprintf("%+v", o), err, ErrInvalid)
	}
	_, err = r.BeginVerify(t.Context(), []string{"a:1"}, &VerifyOptions{Resume: true})
	wantErr(t, "to resume versions", err, ErrInvalid)
	v := verification(t, r, nil, nil)
	all(t, v.Run(t.Context()))
	wantErr(t, "a second run", failure(v.Run(t.Context())), ErrInvalid)
}

func TestVerifySample(t *testing.T) {
	r := many(t)
	everything, _ := verified(t, r, nil, nil)
	var total, largest int64
	manifests := 0
	for _, c := range everything {
		if len(c.Uses) > 0 && filepath.Base(c.Uses[0]) == ManifestUse {
			manifests++
			continue
		}
		total += c.Size
		largest = max(largest, c.Size)
	}
	for _, share := range []float64{0.001, 0.05, 0.5, 0.999, 1} {
		chosen := map[blob.Digest]int{}
		for seed := range uint64(40) {
			v := verification(t, r, nil, &VerifyOptions{Sample: share, Seed: seed + 1})
			again := verification(t, r, nil, &VerifyOptions{Sample: share, Seed: seed + 1})
			var bytes int64
			seen := 0
			for i, c := range v.work {
				if len(c.manifests) > 0 {
					seen++
					continue
				}
				bytes += c.Size
				chosen[c.Digest]++
				if again.work[i].Digest != c.Digest {
					t.Fatalf("seed %d chooses differently the second time", seed+1)
				}
			}
			if least := share * float64(total); float64(bytes) < least || float64(bytes) >= least+float64(largest) {
				t.Errorf("share %v, seed %d: %d bytes of %d", share, seed+1, bytes, total)
			}
			if seen != manifests || v.Blobs != len(v.work) || v.Seed != seed+1 {
				t.Errorf("%d manifests of %d, %d blobs of %d, seed %d", seen, manifests, v.Blobs, len(v.work), v.Seed)
			}
		}
		if share == 0.5 {
			for d, c := range everything {
				if n := chosen[d]; filepath.Base(append(c.Uses, "x")[0]) != ManifestUse && (n < 8 || n > 36) {
					t.Errorf("a blob of %d bytes was chosen %d times of 40", c.Size, n)
				}
			}
		}
	}
	if one, two := verification(t, r, nil, &VerifyOptions{Sample: 0.5}), verification(t, r, nil, &VerifyOptions{Sample: 0.5}); one.Seed == 0 || one.Seed == two.Seed {
		t.Errorf("random seeds %d and %d", one.Seed, two.Seed)
	}
	// The journal is looked at whatever is chosen.
	damageJournal(t, r)
	_, f := verified(t, r, nil, &VerifyOptions{Sample: 0.001, Seed: 1})
	if f.Journal == nil {
		t.Error("a sample passes over a damaged journal")
	}
}

// damageJournal flips a bit in the middle.
func damageJournal(t testing.TB, r *Registry) {
	t.Helper()
	file := filepath.Join(r.Dir(), "journal")
	b, err := os.ReadFile(file)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(file, b, 0o600))
}

func TestVerifyJournalAndIndex(t *testing.T) {
	r := newRegistry(t)
	m := add(t, r, "m:1")
	add(t, r, "m:2")
	_, f := verified(t, r, nil, nil)
	if !f.Sound() {
		t.Fatalf("found %+v", f)
	}
	weights := blob.Sum([]byte("weights of m:1"))
	must(t, r.index.Update(t.Context(), index.Change{Verb: "test"}, func(tx *index.Tx) error {
		return errors.Join(tx.RemoveBlob(t.Context(), weights), tx.RemoveBlob(t.Context(), m.Manifest))
	}))
	for _, o := range []*VerifyOptions{nil, {Sample: 0.01}} {
		_, f = verified(t, r, nil, o)
		if f.Wrong != 2 || f.Hints != 0 || len(f.Index) != 2 || f.Index[0].Kind != index.Missing || f.Sound() {
			t.Errorf("found %+v", f)
		}
	}
	if _, ok := errors.AsType[*index.Difference](failure(r.Verify(t.Context(), "", nil))); !ok {
		t.Error("Verify ends without a word about the index")
	}
	if _, f = verified(t, r, []string{"m:1"}, nil); !f.Sound() {
		t.Errorf("of a version: %+v", f)
	}
	damageJournal(t, r)
	_, f = verified(t, r, nil, nil)
	if _, ok := errors.AsType[*index.JournalError](f.Journal); !ok || f.Sound() {
		t.Errorf("found %+v", f)
	}
	if _, ok := errors.AsType[*index.JournalError](failure(r.Verify(t.Context(), "", nil))); !ok {
		t.Error("Verify ends without a word about the journal")
	}
}

// lending makes three models: a holds a frame that b and c borrow, and c a frame
// of its own that nobody needs. It returns their contents.
func lending(t testing.TB, r *Registry) (a, b, c []byte) {
	t.Helper()
	lent := bytes.Repeat([]byte("lent "), 1<<20/5+1)[:1<<20]
	own := bytes.Repeat([]byte("own "), 1<<20/4)
	a, b, c = slices.Concat(own, lent), slices.Concat(lent, []byte("b")), slices.Concat(lent, []byte("c"))
	addFiles(t, r, "a:1", map[string][]byte{"w": a})
	addFiles(t, r, "b:1", map[string][]byte{"w": b, "other": []byte("other")})
	addFiles(t, r, "c:1", map[string][]byte{"w": c})
	for _, content := range [][]byte{b, c} {
		info, err := r.store.Stat(t.Context(), blob.Sum(content))
		must(t, err)
		same(t, "donors", info.Donors, []blob.Digest{blob.Sum(a)})
	}
	return a, b, c
}

func TestVerifyTouchesThroughDonors(t *testing.T) {
	r := newRegistry(t)
	a, b, c := lending(t, r)
	da := blob.Sum(a)
	touched := []string{"a:1/w", "b:1/w", "c:1/w"}

	// A frame that nobody borrows: only a can't be read, but all may need the file.
	flip(t, r, da)
	got, f := verified(t, r, nil, nil)
	same(t, "files", f.Files, []FileDamage{{Digest: da, State: FileDamaged, Touches: touched}})
	for _, content := range [][]byte{b, c} {
		must(t, got[blob.Sum(content)].Err)
	}
	wantCorrupt(t, "a", got[da].Err, "a:1", "w")
	if got[da].In != da || !got[blob.Sum(b)].In.IsZero() {
		t.Errorf("at fault: %s and %s", got[da].In, got[blob.Sum(b)].In)
	}
	// One version alone tells about the others.
	flip(t, r, da)
	info, frames, err := r.store.Frames(t.Context(), da)
	must(t, err)
	file := blobFile(r, da)
	raw, err := os.ReadFile(file)
	must(t, err)
	at := int64(16)
	for _, fr := range frames[:len(frames)-1] {
		at += fr.Stored
	}
	raw[at] ^= 1 // the last frame, which is lent
	must(t, os.WriteFile(file, raw, 0o600))
	got, f = verified(t, r, []string{"b:1"}, nil)
	same(t, "files, of b alone", f.Files, []FileDamage{{Digest: da, State: FileDamaged, Touches: touched}})
	wantCorrupt(t, "b", got[blob.Sum(b)].Err, "b:1", "w")
	if got[blob.Sum(b)].In != da || got[blob.Sum(b)].Err == nil {
		t.Errorf("b: %+v", got[blob.Sum(b)])
	}
	got, _ = verified(t, r, nil, nil)
	for _, content := range [][]byte{a, b, c} {
		if got[blob.Sum(content)].In != da {
			t.Errorf("%+v", got[blob.Sum(content)])
		}
	}
	must(t, os.Truncate(file, info.Stored-1))
	_, f = verified(t, r, nil, &VerifyOptions{Quarantine: QuarantineNothing})
	same(t, "cut short", f.Files, []FileDamage{{Digest: da, State: FileUnreadable, Touches: touched}})
	must(t, os.Remove(file))
	_, f = verified(t, r, nil, nil)
	same(t, "gone", f.Files, []FileDamage{{Digest: da, State: FileMissing, Touches: touched}})
}

func TestVerifyQuarantines(t *testing.T) {
	for _, tt := range []struct {
		rule       QuarantineRule
		frame, all bool // whether a file moves with a damaged frame, or with nothing to be read
	}{{QuarantineUnreadable, false, true}, {QuarantineDamaged, true, true}, {QuarantineNothing, false, false}} {
		t.Run(tt.rule.String(), func(t *testing.T) {
			r := newRegistry(t)
			a, b, _ := lending(t, r)
			da := blob.Sum(a)
			for _, what := range []string{"frame", "all"} {
				moves := tt.frame
				if what == "all" {
					moves = tt.all
				}
				sound, err := os.ReadFile(blobFile(r, da))
				must(t, err)
				bad := bytes.Clone(sound)
				if what == "frame" {
					bad[16] ^= 1
				} else {
					bad[len(bad)-1] ^= 1
				}
				must(t, os.WriteFile(blobFile(r, da), bad, 0o600))
				got, f := verified(t, r, nil, &VerifyOptions{Quarantine: tt.rule})
				if len(f.Files) != 1 || f.Files[0].Err != nil || (f.Files[0].Moved != "") != moves {
					t.Fatalf("%s: found %+v", what, f)
				}
				// What is reported is how it was before.
				if in := got[blob.Sum(b)].In; in.IsZero() != (what == "frame") {
					t.Errorf("%s: b blames %s", what, in)
				}
				_, err = os.Stat(blobFile(r, da))
				if moves != errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: in its place: %v", what, err)
				}
				if moves {
					kept, err := os.ReadFile(filepath.Join(r.Dir(), "quarantine", f.Files[0].Moved))
					must(t, err)
					if !bytes.Equal(kept, bad) {
						t.Errorf("%s: another file is in quarantine", what)
					}
				}
				addFiles(t, r, "again:"+what, map[string][]byte{"w": a})
				if _, f := verified(t, r, nil, nil); !f.Sound() {
					t.Errorf("%s: after healing: %+v", what, f)
				}
			}
		})
	}
}

// TestVerifyHealedMeanwhile heals a file after it was found damaged.
func TestVerifyHealedMeanwhile(t *testing.T) {
	r := newRegistry(t)
	content := weights(1, 3000)
	addFiles(t, r, "m:1", map[string][]byte{"w": content})
	flip(t, r, blob.Sum(content))
	v := verification(t, r, nil, &VerifyOptions{Quarantine: QuarantineDamaged})
	bad := 0
	for c, err := range v.Run(t.Context()) {
		must(t, err)
		if c.Err != nil {
			bad++
			flip(t, r, c.Digest)
		}
	}
	f := v.Findings()
	if bad != 1 || len(f.Files) != 1 || f.Files[0].State != FileSound || f.Files[0].Moved != "" {
		t.Errorf("%d bad, found %+v", bad, f)
	}
	if got := read(t, get(t, r, "m:1"), "w"); !bytes.Equal(got, content) {
		t.Error("other content")
	}
}

// TestVerifyStops leaves the loop, or panics in it: nothing goes on behind it.
func TestVerifyStops(t *testing.T) {
	r := many(t)
	for _, how := range []string{"break", "panic"} {
		calls := 0
		var v *Verification
		func() {
			defer func() { _ = recover() }()
			v = verification(t, r, nil, &VerifyOptions{Parallel: 3, Progress: func(int64) { calls++ }})
			for range v.Run(context.Background()) {
				if how == "panic" {
					panic("x")
				}
				break
			}
		}()
		must(t, v.Close())
		was := calls
		all(t, r.Verify(t.Context(), "", nil)) // gives anything left time to call
		if calls != was {
			t.Errorf("%s: progress was called later on", how)
		}
	}
}
