package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// quarantined returns the names of what is in quarantine.
func quarantined(t testing.TB, s *Store) []string {
	t.Helper()
	files := []string{}
	for q, err := range s.Quarantined(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, q.File)
	}
	return files
}

func wantQuarantined(t testing.TB, s *Store, want ...string) {
	t.Helper()
	if got := quarantined(t, s); !slices.Equal(got, want) {
		t.Errorf("quarantine holds %v, not %v", got, want)
	}
}

func mustQuarantine(t testing.TB, s *Store, d Digest) Quarantined {
	t.Helper()
	q, err := s.Quarantine(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func wantErr(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: %v, not %v", what, err, target)
	}
}

// TestQuarantine damages each part of a blob's file, which then moves, and only
// then; its bytes are as they were found.
func TestQuarantine(t *testing.T) {
	x := newBased(t)
	file := loadFile(t, x.m, blobPath(x.blob))
	f, err := format.ParseFooter(file[len(file)-format.FooterSize:], int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func([]byte) []byte{
		"header":    func(b []byte) []byte { b[3] ^= 4; return b },
		"table":     func(b []byte) []byte { b[f.TableOffset+40] ^= 4; return b },
		"footer":    func(b []byte) []byte { b[len(b)-100] ^= 4; return b },
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"empty":     func([]byte) []byte { return nil },
	}
	_, frames, err := x.s.Frames(t.Context(), x.blob)
	if err != nil {
		t.Fatal(err)
	}
	at := format.HeaderSize
	for i, fr := range frames {
		if fr.Held {
			first, last := at, at+int(fr.Stored)-1
			damages[fmt.Sprintf("frame %d, first byte", i)] = func(b []byte) []byte { b[first] ^= 4; return b }
			damages[fmt.Sprintf("frame %d, last byte", i)] = func(b []byte) []byte { b[last] ^= 4; return b }
		}
		at += int(fr.Stored)
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			x := newBased(t)
			_, err := x.s.Quarantine(t.Context(), x.blob)
			wantErr(t, "a sound file", err, ErrSound)
			bad := damage(bytes.Clone(file))
			saveFile(t, x.m, blobPath(x.blob), bad)
			_, err = x.s.Quarantine(t.Context(), x.base)
			wantErr(t, "the donor of a damaged file", err, ErrSound)
			q := mustQuarantine(t, x.s, x.blob)
			if want := (Quarantined{x.blob, x.blob.String() + ".1", int64(len(bad))}); q != want {
				t.Errorf("moved %+v, not %+v", q, want)
			}
			if got := loadFile(t, x.m, "quarantine/"+q.File); !bytes.Equal(got, bad) {
				t.Error("the file changed on its way")
			}
			wantQuarantined(t, x.s, q.File)
			_, err = x.s.Quarantine(t.Context(), x.blob)
			wantErr(t, "once more", err, ErrNotFound)
			wantErr(t, "reading it", x.s.Verify(t.Context(), x.blob), ErrNotFound)
			if err := x.s.Release(t.Context(), q); !isCorrupt(err) {
				t.Errorf("releasing it damaged: %v", err)
			}
			putLike(t, x.s, x.content, x.base)
			wantBlob(t, x.s, x.content)
			wantBlob(t, x.s, x.other)
			wantQuarantined(t, x.s, q.File)
		})
	}
}

// TestQuarantineLooksAtTheFileItself has a damaged donor, which is not the fault of
// what borrows from it; nor is a donor that is missing.
func TestQuarantineLooksAtTheFileItself(t *testing.T) {
	x := newBased(t)
	_, frames, err := x.s.Frames(t.Context(), x.base)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, x.m, blobPath(x.base), format.HeaderSize+frames[0].Stored+1, 1) // of w, behind the header
	for _, what := range []string{"with a damaged donor", "without its donor"} {
		if err := x.s.Verify(t.Context(), x.blob); !isCorrupt(err) {
			t.Errorf("%s: %v", what, err)
		}
		_, err := x.s.Quarantine(t.Context(), x.blob)
		wantErr(t, what, err, ErrSound)
		if what == "with a damaged donor" {
			mustQuarantine(t, x.s, x.base)
		}
	}
	wantCorrupt(t, x.s, x.content, x.base, "the donor is in quarantine")
	// Its own damage is found all the same, in what only its donor would decode.
	_, frames, err = x.s.Frames(t.Context(), x.blob)
	if err != nil || frames[1].Depth == 0 {
		t.Fatalf("frames %+v, %v", frames, err)
	}
	last := format.HeaderSize + frames[0].Stored + frames[1].Stored - 1
	flip(t, x.m, blobPath(x.blob), last, 1)
	if found, err := x.s.findFault(t.Context(), blobPath(x.blob), x.blob); err != nil || found == nil || found.row != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
	flip(t, x.m, blobPath(x.blob), last, 1)
	put(t, x.s, x.other)
	wantBlob(t, x.s, x.content)
	// Hidden damage: each stored byte passes its checksum, but is another one.
	rewrite(t, x.m, x.base, func(t *format.Table, _ *format.Footer) { t.Rows[0].Sum[5] ^= 1 })
	if q := mustQuarantine(t, x.s, x.base); q.File != x.base.String()+".2" {
		t.Errorf("moved to %s", q.File)
	}
}

// TestQuarantineWhole moves a file whose frames all have their hashes, and make
// another content.
func TestQuarantineWhole(t *testing.T) {
	s, m := newMem(t, nil)
	content := []byte("other content")
	d := Sum([]byte("the content"))
	plant(t, m, d, &format.Table{Rows: []format.Row{rawRow(content)}}, content)
	found, err := s.findFault(t.Context(), blobPath(d), d)
	if err != nil || found == nil || found.row != badWhole {
		t.Fatalf("found %+v, %v", found, err)
	}
	mustQuarantine(t, s, d)
}

// TestQuarantineNumbers takes the first number that is free, and passes over what
// else is in the folder.
func TestQuarantineNumbers(t *testing.T) {
	s, m := newMem(t, nil)
	content := []byte("some content")
	d := Sum(content)
	for _, other := range []string{"index.db.x", d.String(), d.String() + ".0", d.String() + ".01", d.String() + ".x", d.String() + ".1.2", d.String() + ".-1", "x.1"} {
		saveFile(t, m, "quarantine/"+other, []byte("x"))
	}
	var want []string
	next := func(n int) {
		t.Helper()
		put(t, s, content)
		flip(t, m, blobPath(d), format.HeaderSize, 1)
		want = append(want, quarantineName(d, n))
		slices.Sort(want)
		if q := mustQuarantine(t, s, d); q.File != quarantineName(d, n) {
			t.Errorf("moved to %s, not number %d", q.File, n)
		}
		wantQuarantined(t, s, want...)
	}
	next(1)
	next(2)
	next(3)
	if err := m.Remove("quarantine/" + quarantineName(d, 2)); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 1, 2)
	next(2)
}

// TestHealKeepsCutsOfQuarantine heals a blob whose file is in quarantine: what
// others need of it is where it was.
func TestHealKeepsCutsOfQuarantine(t *testing.T) {
	for _, how := range []string{"put", "stream"} {
		t.Run(how, func(t *testing.T) {
			s, m := newMem(t, nil)
			contents := chained(t, s)
			d := Sum(contents[1])
			cuts := frameSizes(t, s, d)
			flip(t, m, blobPath(d), format.HeaderSize+1000, 1)
			mustQuarantine(t, s, d)
			wantCorrupt(t, s, contents[2], d, "base in quarantine")
			if how == "put" {
				put(t, s, contents[1])
			} else if _, err := s.Put(t.Context(), stream(contents[1])); err != nil {
				t.Fatal(err)
			}
			if got := frameSizes(t, s, d); !slices.Equal(got, cuts) {
				t.Errorf("cut into %v, not %v", got, cuts)
			}
			for _, content := range contents {
				wantBlob(t, s, content)
			}
			if got := depths(t, s, d); slices.ContainsFunc([]byte(got), func(c byte) bool { return c != '0' }) {
				t.Errorf("depths %s", got)
			}
			// And again, now that the file in place can't tell, but both in
			// quarantine can.
			size := int64(len(loadFile(t, m, blobPath(d))))
			flip(t, m, blobPath(d), format.HeaderSize+1000, 1)
			mustQuarantine(t, s, d)
			put(t, s, contents[1])
			flip(t, m, blobPath(d), size-1, 1)
			put(t, s, contents[1])
			if got := frameSizes(t, s, d); !slices.Equal(got, cuts) {
				t.Errorf("cut into %v, not %v, by quarantine alone", got, cuts)
			}
			wantBlob(t, s, contents[2])
		})
	}
}

// TestHealQuarantinedHoldsAll puts content whose damaged file is away: others may
// borrow any of its frames, so the new file borrows none.
func TestHealQuarantinedHoldsAll(t *testing.T) {
	x := newMixed(t)
	h := hints{}
	h.learn(t, x.s, x.donor)
	flip(t, x.m, blobPath(x.blob), format.HeaderSize, 1)
	mustQuarantine(t, x.s, x.blob)
	s := openMem(t, x.m, &Options{Known: h.known})
	if info := put(t, s, x.content); info.Known || len(info.Donors) != 0 || layout(t, s, x.blob) != "H2H2H1RH0" {
		t.Errorf("healed: %+v, layout %s", info, layout(t, s, x.blob))
	}
	wantBlob(t, s, x.content)
}

// TestQuarantineRace puts the content again between the check of the damaged file
// and its move, and while the folder is being looked at: the new file stays.
func TestQuarantineRace(t *testing.T) {
	content := repeated("content\n", mib+5)
	for _, where := range []struct {
		name string
		kind durable.OpKind
	}{{"table", durable.OpRead}, {"frame", durable.OpRead}, {"during the put", ""}} {
		t.Run(where.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			d := put(t, s, content).Digest
			at := int64(format.HeaderSize)
			if where.name == "table" {
				at = int64(len(loadFile(t, m, blobPath(d)))) - 1
			}
			flip(t, m, blobPath(d), at, 1)
			other := openMem(t, m, nil)
			if where.name == "during the put" {
				// The damaged file goes away when the put has seen it, and is
				// about to make its own; then another put is faster.
				m.Fail(func(op durable.Op) error {
					if op.Kind == durable.OpReadDir && op.Name == quarantineDir {
						m.Fail(nil)
						mustQuarantine(t, other, d)
					}
					return nil
				})
				if info := put(t, s, content); info.Known {
					t.Error("nothing was written")
				}
				wantQuarantined(t, s, quarantineName(d, 1))
				wantBlob(t, s, content)
				return
			}
			m.Fail(func(op durable.Op) error {
				if op.Kind == durable.OpClose && op.Name == blobPath(d) { // the check is over
					m.Fail(nil)
					put(t, other, content)
				}
				return nil
			})
			_, err := s.Quarantine(t.Context(), d)
			wantErr(t, "healed meanwhile", err, ErrSound)
			wantQuarantined(t, s)
			wantBlob(t, s, content)
		})
	}
}

// TestQuarantinesAndPuts has many of both at once.
func TestQuarantinesAndPuts(t *testing.T) {
	s, dir := newDir(t, nil)
	content := repeated("content\n", 5000)
	d := put(t, s, content).Digest
	fsys := mustDir(t, dir)
	for range 20 {
		flip(t, fsys, blobPath(d), format.HeaderSize, 1)
		done := make(chan error, 4)
		for i := range cap(done) {
			go func() {
				if i%2 == 0 {
					_, err := s.Put(context.Background(), bytes.NewReader(content))
					done <- err
					return
				}
				_, err := s.Quarantine(context.Background(), d)
				if errors.Is(err, ErrSound) || errors.Is(err, ErrNotFound) {
					err = nil
				}
				done <- err
			}()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		wantBlob(t, s, content)
	}
}

func TestRelease(t *testing.T) {
	x := newBased(t)
	at := int64(format.HeaderSize + 1)
	file := loadFile(t, x.m, blobPath(x.base))
	flip(t, x.m, blobPath(x.base), at, 1)
	q := mustQuarantine(t, x.s, x.base)
	if err := x.s.Release(t.Context(), q); !isCorrupt(err) {
		t.Errorf("damaged: %v", err)
	}
	wantQuarantined(t, x.s, q.File)

	flip(t, x.m, "quarantine/"+q.File, at, 1) // a repair
	for what, bad := range map[string]Quarantined{
		"another digest": {x.blob, q.File, 0},
		"another number": {x.base, q.File + "1", 0},
		"no name":        {x.base, x.base.String(), 0},
		"a path":         {x.base, "../" + blobPath(x.base), 0},
		"nothing":        {},
	} {
		err := x.s.Release(t.Context(), bad)
		if !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := x.s.Release(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	wantQuarantined(t, x.s)
	if got := loadFile(t, x.m, blobPath(x.base)); !bytes.Equal(got, file) {
		t.Error("another file came back")
	}
	wantBlob(t, x.s, x.content)
	wantErr(t, "twice", x.s.Release(t.Context(), q), ErrNotFound)

	// A sound file is in its place by then.
	flip(t, x.m, blobPath(x.base), at, 1)
	q = mustQuarantine(t, x.s, x.base)
	flip(t, x.m, "quarantine/"+q.File, at, 1)
	put(t, x.s, x.other)
	healed := loadFile(t, x.m, blobPath(x.base))
	wantErr(t, "beside a sound one", x.s.Release(t.Context(), q), ErrExist)
	if got := loadFile(t, x.m, blobPath(x.base)); !bytes.Equal(got, healed) {
		t.Error("the sound file was replaced")
	}
	// A damaged one is: it goes where the other one comes from.
	flip(t, x.m, blobPath(x.base), int64(len(healed)-1), 1)
	if err := x.s.Release(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	wantQuarantined(t, x.s, quarantineName(x.base, 2))
	wantBlob(t, x.s, x.content)
	wantBlob(t, x.s, x.other)
}

// TestReleaseRace puts the content again while the file in quarantine is checked.
func TestReleaseRace(t *testing.T) {
	for _, what := range []string{"nothing in place", "a damaged file in place"} {
		t.Run(what, func(t *testing.T) {
			s, m := newMem(t, nil)
			content := repeated("content\n", mib+5)
			d := put(t, s, content).Digest
			flip(t, m, blobPath(d), format.HeaderSize, 1)
			q := mustQuarantine(t, s, d)
			flip(t, m, "quarantine/"+q.File, format.HeaderSize, 1)
			at := "quarantine/" + q.File
			if what != "nothing in place" {
				put(t, s, content)
				flip(t, m, blobPath(d), format.HeaderSize, 1)
				at = blobPath(d)
			}
			other := openMem(t, m, nil)
			looked := false // for a file in place, where there is none
			m.Fail(func(op durable.Op) error {
				if what == "nothing in place" && op.Kind == durable.OpOpen && op.Name == blobPath(d) {
					looked = true
				} else if op.Name == at && (op.Kind == durable.OpClose && what != "nothing in place" || op.Kind == durable.OpStat && looked) {
					m.Fail(nil)
					put(t, other, content)
				}
				return nil
			})
			err := s.Release(t.Context(), q)
			wantErr(t, "healed meanwhile", err, ErrExist)
			wantQuarantined(t, s, q.File)
			wantBlob(t, s, content)
		})
	}
}

// TestQuarantineSurvivesPowerLoss moves a file there and back: each is durable when
// its call returns, and whatever fails, no other content is lost.
func TestQuarantineSurvivesPowerLoss(t *testing.T) {
	content, other := repeated("content\n", 3000), []byte("other")
	start := func(t *testing.T) (*Store, *durable.Mem, Digest) {
		s, m := newMem(t, nil)
		d := put(t, s, content).Digest
		put(t, s, other)
		flip(t, m, blobPath(d), format.HeaderSize, 1)
		// As a store would be from which somebody removed the empty folder.
		if err := m.Remove(quarantineDir); err != nil {
			t.Fatal(err)
		}
		m.Record()
		return s, m, d
	}
	at := func(m durable.FS, name string) bool { _, err := m.Stat(name); return err == nil }
	for seed := range uint64(50) {
		s, m, d := start(t)
		q := mustQuarantine(t, s, d)
		after := m.Crash(m.Ops(), rand.New(rand.NewPCG(seed, 1)))
		if at(after, blobPath(d)) || !at(after, "quarantine/"+q.File) {
			t.Fatalf("seed %d: the move to quarantine was lost", seed)
		}
		flip(t, m, "quarantine/"+q.File, format.HeaderSize, 1)
		m.Record()
		if err := s.Release(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		after = m.Crash(m.Ops(), rand.New(rand.NewPCG(seed, 2)))
		if !at(after, blobPath(d)) || at(after, "quarantine/"+q.File) {
			t.Fatalf("seed %d: the move back was lost", seed)
		}
	}
	for n := 1; ; n++ {
		s, m, d := start(t)
		seen := failFrom(m, n, syscall.EIO, false)
		q, err := s.Quarantine(t.Context(), d)
		m.Fail(nil)
		if seen() < n {
			break
		}
		if err == nil && !at(m, "quarantine/"+q.File) {
			t.Errorf("operation %d: acknowledged, but nothing was moved", n)
		}
		fresh := openMem(t, m, nil)
		put(t, fresh, content)
		wantBlob(t, fresh, content)
		wantBlob(t, fresh, other)
	}
}
