package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
)

// part runs a verification until it has yielded n blobs, and interrupts it so.
func part(t testing.TB, r *Registry, how string, n int, o VerifyOptions) (got []Checked) {
	t.Helper()
	v, err := r.BeginVerify(t.Context(), nil, &o)
	must(t, err)
	defer func() { must(t, v.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for c, err := range v.Run(ctx) {
		if err != nil {
			wantErr(t, "interrupted", err, context.Canceled)
			break
		}
		got = append(got, c)
		if len(got) == n {
			if how == "break" {
				break
			}
			cancel()
		}
	}
	if !v.Resumable() {
		t.Errorf("after %d blobs it can't be resumed", n)
	}
	return got
}

func noted(r *Registry) bool {
	_, err := os.Stat(filepath.Join(r.Dir(), verifyName))
	return err == nil
}

func digestsOf(cs []Checked) (ds []blob.Digest) {
	for _, c := range cs {
		ds = append(ds, c.Digest)
	}
	return ds
}

func TestVerifyResume(t *testing.T) {
	r := many(t)
	want := digestsOf(all(t, r.Verify(t.Context(), "", nil)))
	for _, how := range []string{"break", "cancel"} {
		for n := 1; n < len(want); n += 5 {
			got := digestsOf(part(t, r, how, n, VerifyOptions{Parallel: 3}))
			for step := 2; ; step += 3 { // and again, and again
				if !noted(r) {
					t.Fatal("nothing was noted")
				}
				if len(got)+step >= len(want) {
					break
				}
				got = append(got, digestsOf(part(t, r, how, step, VerifyOptions{Parallel: 2, Resume: true}))...)
			}
			v := verification(t, r, nil, &VerifyOptions{Resume: true})
			if v.EarlierBlobs != len(got) || v.Blobs != len(want)-len(got) {
				t.Errorf("%d blobs before and %d to come, want %d and %d", v.EarlierBlobs, v.Blobs, len(got), len(want)-len(got))
			}
			got = append(got, digestsOf(all(t, v.Run(t.Context())))...)
			must(t, v.Close())
			if !slices.Equal(got, want) {
				t.Fatalf("%s at %d: covered %d blobs, or not once each, want %d", how, n, len(got), len(want))
			}
			if noted(r) || v.Resumable() {
				t.Error("the note is still there")
			}
		}
	}
	// Without anything to resume it begins anew; so it does without being asked.
	v := verification(t, r, nil, &VerifyOptions{Resume: true})
	if v.Blobs != len(want) || v.EarlierBlobs != 0 {
		t.Errorf("%d blobs and %d before", v.Blobs, v.EarlierBlobs)
	}
	must(t, v.Close())
	part(t, r, "break", 3, VerifyOptions{})
	if got := digestsOf(part(t, r, "break", 2, VerifyOptions{})); !slices.Equal(got, want[:2]) {
		t.Error("it did not begin anew")
	}
	if v := verification(t, r, nil, &VerifyOptions{Resume: true}); v.EarlierBlobs != 2 {
		t.Errorf("%d blobs before: the older note was not replaced", v.EarlierBlobs)
	}
}

// TestVerifyResumeAtTheEnd interrupts after the last blob: what is left is the
// journal and the index.
func TestVerifyResumeAtTheEnd(t *testing.T) {
	r := many(t)
	want := all(t, r.Verify(t.Context(), "", nil))
	part(t, r, "break", len(want), VerifyOptions{})
	damageJournal(t, r)
	got, f := verified(t, r, nil, &VerifyOptions{Resume: true})
	if len(got) != 0 || f.Journal == nil || noted(r) {
		t.Errorf("%d blobs, found %+v", len(got), f)
	}
}

// TestVerifyResumeKeepsWhatWasBad finds damage before the interruption: the run
// that goes on finds it again, unless it was healed.
func TestVerifyResumeKeepsWhatWasBad(t *testing.T) {
	r := many(t)
	want := digestsOf(all(t, r.Verify(t.Context(), "", nil)))
	bad := []blob.Digest{want[1], want[3], want[4]}
	for _, d := range bad {
		flip(t, r, d)
	}
	part(t, r, "cancel", 6, VerifyOptions{})
	flip(t, r, bad[1]) // healed
	v := verification(t, r, nil, &VerifyOptions{Resume: true})
	if v.EarlierBlobs != 3 {
		t.Errorf("%d sound ones before", v.EarlierBlobs)
	}
	got := all(t, v.Run(t.Context()))
	must(t, v.Close())
	if ds := digestsOf(got); !slices.Equal(ds, append(slices.Clone(bad), want[6:]...)) {
		t.Errorf("went on with %d blobs", len(ds))
	}
	for i, c := range got {
		if (c.Err != nil) != (i == 0 || i == 2) {
			t.Errorf("blob %d: %v", i, c.Err)
		}
	}
	if f := v.Findings(); len(f.Files) != 2 || f.Files[0].Digest != bad[0] || f.Files[1].Digest != bad[2] {
		t.Errorf("found %+v", f)
	}
}

// TestVerifyResumeSeesWhatCameSince registers versions while the verification is
// interrupted: their blobs are verified wherever they are in the order.
func TestVerifyResumeSeesWhatCameSince(t *testing.T) {
	r := many(t)
	want := digestsOf(all(t, r.Verify(t.Context(), "", nil)))
	half := len(want) / 2
	part(t, r, "break", half, VerifyOptions{})
	var since []blob.Digest
	for i := range 8 {
		m := addFiles(t, r, fmt.Sprintf("new:%d", i), map[string][]byte{"w": weights(uint64(500+i), 300), "old": weights(0, 1000)})
		since = append(since, m.Manifest, blob.Sum(weights(uint64(500+i), 300)))
	}
	if below := slices.ContainsFunc(since, func(d blob.Digest) bool { return compareDigests(d, want[half-1]) < 0 }); !below {
		t.Fatal("nothing new is below what was verified")
	}
	expect := slices.Concat(since, want[half:])
	slices.SortFunc(expect, compareDigests)
	for i := range 2 { // the second time after another interruption
		if i == 0 {
			part(t, r, "break", 1, VerifyOptions{Resume: true})
			continue
		}
		got := digestsOf(all(t, verification(t, r, nil, &VerifyOptions{Resume: true}).Run(t.Context())))
		slices.SortFunc(got, compareDigests)
		if !slices.Equal(got, expect) {
			t.Errorf("%d blobs, want %d", len(got), len(expect))
		}
	}
}

// TestVerifyKeeperIsBounded has more bad blobs than are listed: none is passed
// over.
func TestVerifyKeeperIsBounded(t *testing.T) {
	r := newRegistry(t)
	work := make([]*check, 3*maxDue)
	bad := errors.New("bad")
	for i := range work {
		d := blob.Sum(fmt.Append(nil, i))
		work[i] = &check{Checked: Checked{Digest: d, Size: 10}}
		if i%2 == 0 {
			work[i].Err = bad
		}
	}
	slices.SortFunc(work, byDigest)
	k, err := r.keepVerify(VerifyOptions{})
	must(t, err)
	k.remaining(work, 1)
	for _, c := range work {
		must(t, k.covered(c))
	}
	must(t, k.end(false))
	must(t, k.close())
	info, err := os.Stat(filepath.Join(r.Dir(), verifyName))
	must(t, err)
	if info.Size() > maxVerify {
		t.Errorf("the note has %d bytes", info.Size())
	}
	k, err = r.keepVerify(VerifyOptions{Resume: true})
	must(t, err)
	left := map[blob.Digest]bool{}
	for _, c := range k.remaining(work, 1) {
		if left[c.Digest] {
			t.Fatal("a blob comes twice")
		}
		left[c.Digest] = true
	}
	must(t, k.close())
	sound := 0
	for _, c := range work {
		if c.Err != nil && !left[c.Digest] {
			t.Fatal("a bad blob was passed over")
		}
		if c.Err == nil && !left[c.Digest] {
			sound++
		}
	}
	if sound == 0 || k.state.Blobs != sound || k.state.Bytes != int64(10*sound) {
		t.Errorf("%d sound ones are done, noted are %d and %d bytes", sound, k.state.Blobs, k.state.Bytes)
	}
}

// TestVerifyKeeperNotes has a process that dies: what it noted last is there.
func TestVerifyKeeperNotes(t *testing.T) {
	r := newRegistry(t)
	k, err := r.keepVerify(VerifyOptions{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.Dir(), verifyNew), []byte("left by another one"), 0o600))
	for i := range noteBlobs + 10 {
		d := blob.Digest{byte(i >> 8), byte(i)}
		must(t, k.covered(&check{Checked: Checked{Digest: d, Size: 1}}))
	}
	must(t, k.close())
	k, err = r.keepVerify(VerifyOptions{Resume: true})
	must(t, err)
	if k.state.Blobs != noteBlobs || k.state.After != (blob.Digest{byte((noteBlobs - 1) >> 8), byte((noteBlobs - 1) & 255)}) {
		t.Errorf("noted: %+v", k.state)
	}
	must(t, k.covered(&check{Checked: Checked{Digest: blob.Digest{255}, Size: noteBytes}}))
	must(t, k.close())
	k, err = r.keepVerify(VerifyOptions{Resume: true})
	must(t, err)
	if k.state.Blobs != noteBlobs+1 {
		t.Errorf("noted: %+v", k.state)
	}
	must(t, k.close())
}

func TestVerifyTwoAtOnce(t *testing.T) {
	r := many(t)
	o := again(t, r)
	part(t, r, "break", 4, VerifyOptions{})
	one := verification(t, r, nil, &VerifyOptions{Resume: true})
	_, err := o.BeginVerify(t.Context(), nil, &VerifyOptions{Resume: true})
	wantErr(t, "a second one", err, ErrConflict)
	two := verification(t, o, nil, nil)
	if n := len(all(t, two.Run(t.Context()))); n != 37 || two.Resumable() {
		t.Errorf("a second run saw %d blobs", n)
	}
	if !noted(r) {
		t.Error("the second run removed the first one's note")
	}
	if n := len(all(t, one.Run(t.Context()))); n != 33 {
		t.Errorf("the first run saw %d blobs", n)
	}
}

// TestVerifyHostileNote changes every byte of the note, and more: it is refused,
// and a run that does not resume does not care.
func TestVerifyHostileNote(t *testing.T) {
	r := many(t)
	part(t, r, "break", 4, VerifyOptions{})
	file := filepath.Join(r.Dir(), verifyName)
	raw, err := os.ReadFile(file)
	must(t, err)
	cases := map[string][]byte{
		"empty": nil, "garbage": weights(1, 300), "null": []byte("null\n"), "an array": []byte("[]\n"),
		"cut short": raw[:len(raw)/2], "too long": append(bytes.Clone(raw), make([]byte, maxVerify)...),
		"twice": append(bytes.Clone(raw), raw...), "newer": bytes.Replace(raw, []byte(`"format":1`), []byte(`"format":2`), 1),
	}
	for i := range raw[:len(raw)-1] {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 7)
		cases[fmt.Sprintf("byte %d", i)] = bad
	}
	forge := func(change func(*verifyState)) []byte {
		s, err := parseVerifyState(raw, r.ID())
		must(t, err)
		change(&s)
		out := summedState{verifyState: s}
		out.Sum, err = s.sum()
		must(t, err)
		b, err := canon.Marshal(out)
		must(t, err)
		return b
	}
	cases["another store"] = forge(func(s *verifyState) { s.StoreID = uuid.New() })
	cases["negative"] = forge(func(s *verifyState) { s.Bytes = -1 })
	cases["many due"] = forge(func(s *verifyState) { s.Due = make([]blob.Digest, maxDue+1) })
	for name, b := range cases {
		must(t, os.WriteFile(file, b, 0o600))
		v, err := r.BeginVerify(t.Context(), nil, &VerifyOptions{Resume: true})
		if err == nil {
			must(t, v.Close())
			t.Errorf("%s: taken for a note", name)
		}
	}
	if got := all(t, r.Verify(t.Context(), "", nil)); len(got) != 37 || noted(r) {
		t.Errorf("beginning anew: %d blobs, noted %v", len(got), noted(r))
	}
}

// TestVerifyLeavesNoteAlone has versions and samples verified meanwhile.
func TestVerifyLeavesNoteAlone(t *testing.T) {
	r := many(t)
	add(t, r, "x:1")
	part(t, r, "break", 4, VerifyOptions{})
	verified(t, r, []string{"x:1"}, nil)
	verified(t, r, nil, &VerifyOptions{Sample: 0.1})
	if !noted(r) {
		t.Error("the note is gone")
	}
}

func FuzzVerifyState(f *testing.F) {
	store := uuid.MustParse("11111111-2222-4333-8444-555555555555")
	for _, s := range []verifyState{
		{Format: 1, StoreID: store},
		{Format: 1, StoreID: store, After: blob.Sum([]byte("x")), Blobs: 7, Bytes: 1 << 40, Versions: 9, Due: []blob.Digest{blob.Sum([]byte("y"))}},
	} {
		sum, err := s.sum()
		must(f, err)
		b, err := canon.Marshal(summedState{s, sum})
		must(f, err)
		f.Add(append(b, '\n'))
	}
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseVerifyState(raw, store)
		if err != nil {
			return
		}
		sum, err := s.sum()
		must(t, err)
		b, err := canon.Marshal(summedState{s, sum})
		must(t, err)
		if again, err := parseVerifyState(b, store); err != nil || !bytes.Equal(b, bytes.TrimSuffix(raw, []byte("\n"))) {
			t.Errorf("read as %+v, written as %s: %+v, %v", s, b, again, err)
		}
	})
}
