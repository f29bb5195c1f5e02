package index

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
)

// journalIn reads the journal in a folder.
func journalIn(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func setJournal(t testing.TB, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, journalName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// history makes a store with some records and returns its lines.
func history(t testing.TB) (s *blob.Store, lines [][]byte) {
	t.Helper()
	s = newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	v := register(t, x, version(t, s, "org/m", "1"), put(t, s, "weights"))
	for _, status := range []string{"staged", "production", "archived", "pending", "staged", "validated"} {
		update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(v.ID, status) })
	}
	all := journalIn(t, s.Dir())
	for line := range bytes.Lines(all) {
		lines = append(lines, line)
	}
	if len(lines) < 6 {
		t.Fatalf("only %d records", len(lines))
	}
	return s, lines
}

// TestMendJournal damages a journal at random and mends it from a backup of an
// earlier state, or of the same. What is mended is the journal that was, byte for
// byte; what can't be mended is told and left as it is.
func TestMendJournal(t *testing.T) {
	s, lines := history(t)
	want := bytes.Join(lines, nil)
	from := t.TempDir()
	mended, lost := 0, 0
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		known := rng.IntN(len(lines) + 1) // records that the backup has
		setJournal(t, from, bytes.Join(lines[:known], nil))
		bad := bytes.Clone(want)
		worst := 0 // the last record that is damaged
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(lines))
			at := len(bytes.Join(lines[:i], nil))
			if at >= len(bad) {
				continue
			}
			switch rng.IntN(4) {
			case 0: // cut, also at the border of a record
				if rng.IntN(2) == 0 {
					at += rng.IntN(len(lines[i]))
				}
				bad = bad[:min(at, len(bad))]
				worst = len(lines) - 1
			case 1: // zeros
				clear(bad[at:min(at+len(lines[i]), len(bad))])
			default:
				bad[min(at+rng.IntN(len(lines[i])), len(bad)-1)] ^= 1 << rng.IntN(8)
			}
			worst = max(worst, i)
		}
		if bytes.Equal(bad, want) {
			continue
		}
		setJournal(t, s.Dir(), bad)
		if _, ok := errors.AsType[*JournalError](InspectJournal(t.Context(), s.Dir(), s.ID())); !ok {
			t.Fatalf("seed %d: the damage is not seen", seed)
		}
		m, err := MendJournal(t.Context(), s.Dir(), s.ID(), from)
		got := journalIn(t, s.Dir())
		if _, ok := errors.AsType[*JournalLossError](err); ok {
			lost++
			if !bytes.Equal(got, bad) {
				t.Fatalf("seed %d: the journal was changed in vain", seed)
			}
			if known > worst {
				t.Fatalf("seed %d: the backup has %d records, record %d is damaged: %v", seed, known, worst, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		mended++
		if !bytes.Equal(got, want) || m.Records != uint64(len(lines)) || m.Taken > uint64(known) {
			t.Fatalf("seed %d: %+v, and the journal is\n%s", seed, m, got)
		}
		kept, err := os.ReadFile(filepath.Join(s.Dir(), "quarantine", m.Aside))
		if err != nil || !bytes.Equal(kept, bad) {
			t.Fatalf("seed %d: what was damaged is %q, %v", seed, kept, err)
		}
	}
	if mended < 100 || lost < 100 {
		t.Errorf("%d were mended, %d lost", mended, lost)
	}
}

// TestMendJournalOfAnother takes no record of another store, nor of another history.
func TestMendJournalOfAnother(t *testing.T) {
	s, lines := history(t)
	want := bytes.Join(lines, nil)
	other, _ := history(t)
	bad := bytes.Clone(want)
	bad[len(lines[0])+100] ^= 1
	setJournal(t, s.Dir(), bad)
	if _, err := MendJournal(t.Context(), s.Dir(), s.ID(), other.Dir()); err == nil {
		t.Error("mended from another store")
	}
	// A history that parted from this one in the record that is lost.
	fork := t.TempDir()
	rec := Record{Seq: 1, Time: 5, Verb: "status", Ops: []Op{}}
	if err := rec.Prev.UnmarshalText(lines[0][:hexSize]); err != nil {
		t.Fatal(err)
	}
	line, _, err := encodeRecord(&rec)
	if err != nil {
		t.Fatal(err)
	}
	setJournal(t, fork, append(bytes.Clone(lines[0]), line...))
	_, err = MendJournal(t.Context(), s.Dir(), s.ID(), fork)
	if _, ok := errors.AsType[*JournalLossError](err); !ok {
		t.Errorf("from another history: %v", err)
	}
	if !bytes.Equal(journalIn(t, s.Dir()), bad) {
		t.Error("the journal was changed")
	}
	// Nor when no index tells, and the other one is longer.
	if err := os.Remove(filepath.Join(s.Dir(), databaseName)); err != nil {
		t.Fatal(err)
	}
	rec.Reason = strings.Repeat("long", len(bad))
	if line, _, err = encodeRecord(&rec); err != nil {
		t.Fatal(err)
	}
	setJournal(t, fork, append(bytes.Clone(lines[0]), line...))
	_, err = MendJournal(t.Context(), s.Dir(), s.ID(), fork)
	if _, ok := errors.AsType[*JournalLossError](err); !ok || !bytes.Equal(journalIn(t, s.Dir()), bad) {
		t.Errorf("from a longer one: %v", err)
	}
}

// TestCutJournal ends a journal before what is lost, and tells of what is behind it
// until that is settled.
func TestCutJournal(t *testing.T) {
	s, lines := history(t)
	bad := bytes.Join(lines, nil)
	bad[len(lines[0])+len(lines[1])+100] ^= 1
	setJournal(t, s.Dir(), bad)
	m, err := CutJournal(t.Context(), s.Dir(), s.ID(), s.CreatedAt(), "")
	if err != nil || m.Records != 2 || !strings.HasSuffix(m.Aside, pendingSuffix) {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := journalIn(t, s.Dir()); !bytes.Equal(got, bytes.Join(lines[:2], nil)) {
		t.Errorf("the journal is\n%s", got)
	}
	x := openIndex(t, s, nil)
	for range 2 {
		later, pending, err := x.LaterRecords(t.Context())
		if err != nil || !pending || len(later) != len(lines)-3 || later[0].Seq != 3 {
			t.Fatalf("%d later records, %v, %v", len(later), pending, err)
		}
	}
	if err := x.ForgetLater(); err != nil {
		t.Fatal(err)
	}
	if later, pending, err := x.LaterRecords(t.Context()); err != nil || pending || len(later) != 0 {
		t.Errorf("once forgotten: %d, %v, %v", len(later), pending, err)
	}
	if err := InspectJournal(t.Context(), s.Dir(), s.ID()); err != nil {
		t.Error(err)
	}
}

// TestCopyJournalPrefix brings a backup's journal up to a position, and refuses one
// that is not its beginning.
func TestCopyJournalPrefix(t *testing.T) {
	s, lines := history(t)
	x := openIndex(t, s, nil)
	var end Position
	if err := x.View(t.Context(), func(tx *Tx) error { end = tx.Position(); return nil }); err != nil {
		t.Fatal(err)
	}
	if end.Records != uint64(len(lines)) || end.Bytes != int64(len(bytes.Join(lines, nil))) {
		t.Fatalf("%+v", end)
	}
	dir := t.TempDir()
	for n := range len(lines) + 1 {
		if n > 0 {
			setJournal(t, dir, append(bytes.Join(lines[:n], nil), "torn"[:n%5]...))
		}
		if err := x.CheckBackup(t.Context(), dir, end); err != nil {
			t.Fatalf("%d records: %v", n, err)
		}
		if err := x.CopyJournal(t.Context(), dir, end); err != nil {
			t.Fatalf("%d records: %v", n, err)
		}
		if got := journalIn(t, dir); !bytes.Equal(got, bytes.Join(lines, nil)) {
			t.Fatalf("%d records: the journal is\n%s", n, got)
		}
	}
	rec := Record{Seq: 1, Time: 5, Verb: "status", Ops: []Op{}}
	if err := rec.Prev.UnmarshalText(lines[0][:hexSize]); err != nil {
		t.Fatal(err)
	}
	line, _, err := encodeRecord(&rec)
	if err != nil {
		t.Fatal(err)
	}
	other := append(bytes.Clone(lines[0]), line...)
	setJournal(t, dir, other)
	for _, err := range []error{x.CheckBackup(t.Context(), dir, end), x.CopyJournal(t.Context(), dir, end)} {
		if _, ok := errors.AsType[*OtherHistoryError](err); !ok {
			t.Errorf("another history: %v", err)
		}
	}
	if !bytes.Equal(journalIn(t, dir), other) {
		t.Error("it was changed")
	}
}
