package index

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
)

func TestSHA256Text(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sum := SHA256(sha256.Sum256(nil))
	if text, err := sum.MarshalText(); string(text) != empty || sum.String() != empty || err != nil {
		t.Errorf("text %q, string %q, %v", text, sum, err)
	}
	for _, good := range []string{empty, strings.ToUpper(empty)} {
		var got SHA256
		if err := got.UnmarshalText([]byte(good)); err != nil || got != sum {
			t.Errorf("%q is read as %s, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", empty[1:], empty + "0", empty[:63] + "g", "sha256:" + empty, strings.Repeat("é", 32)} {
		got := sum
		if err := got.UnmarshalText([]byte(bad)); !errors.Is(err, fs.ErrInvalid) || got != sum {
			t.Errorf("%q: %v, and the value is %s", bad, err, got)
		}
	}
}

// TestTxSHA256 records a SHA-256 in the transaction that registers its version,
// and finds it after the version is gone and the index was built anew.
func TestTxSHA256(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	f := put(t, s, "one")
	v := version(t, s, "a", "1")
	sum := SHA256(sha256.Sum256([]byte("one")))
	update(t, x, "register", func(tx *Tx) error {
		if _, ok, err := tx.SHA256(f.Digest); ok || err != nil {
			t.Errorf("before: %v, %v", ok, err)
		}
		if err := errors.Join(tx.Register(v, []File{f}), tx.SetSHA256(f.Digest, sum)); err != nil {
			return err
		}
		return tx.SetSHA256(f.Digest, sum) // the transaction sees its own changes
	})
	check := func(when string) {
		t.Helper()
		err := x.View(t.Context(), func(tx *Tx) error {
			if got, ok, err := tx.SHA256(f.Digest); got != sum || !ok || err != nil {
				t.Errorf("%s: SHA256 is %v, %v, %v", when, got, ok, err)
			}
			if got, ok, err := tx.BySHA256(sum); got != f.Digest || !ok || err != nil {
				t.Errorf("%s: BySHA256 is %v, %v, %v", when, got, ok, err)
			}
			// The two directions never answer for each other.
			if got, ok, err := tx.SHA256(blob.Digest(sum)); ok || err != nil {
				t.Errorf("%s: SHA256 of the SHA-256 is %v, %v, %v", when, got, ok, err)
			}
			if got, ok, err := tx.BySHA256(SHA256(f.Digest)); ok || err != nil {
				t.Errorf("%s: BySHA256 of the digest is %v, %v, %v", when, got, ok, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("registered")
	update(t, x, "sha256", func(tx *Tx) error { return tx.SetSHA256(f.Digest, sum) })
	if n, err := x.CheckJournal(t.Context()); n != 2 || err != nil {
		t.Errorf("recording it again left %d records, %v", n, err)
	}
	update(t, x, "delete", func(tx *Tx) error { return tx.Delete(v.ID) })
	check("deleted")
	update(t, x, "gc", func(tx *Tx) error { return tx.RemoveBlob(t.Context(), f.Digest) })
	check("collected")
	replace(t, filepath.Join(s.Dir(), databaseName), nil)
	check("built anew")
}

// TestSHA256Failed has a transaction that fails after it recorded a SHA-256.
func TestSHA256Failed(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	f := put(t, s, "one")
	before := dump(t, s)
	stop := errors.New("stop")
	err := x.Update(t.Context(), Change{Verb: "sha256"}, func(tx *Tx) error {
		return errors.Join(tx.SetSHA256(f.Digest, SHA256{1}), stop)
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), before)

	// A conflict by itself does not spoil what else the transaction does.
	update(t, x, "sha256", func(tx *Tx) error { return tx.SetSHA256(f.Digest, SHA256{1}) })
	update(t, x, "register", func(tx *Tx) error {
		if err := tx.SetSHA256(f.Digest, SHA256{2}); !errors.Is(err, ErrConflict) {
			t.Errorf("another SHA-256: %v", err)
		}
		return tx.Register(version(t, s, "a", "1"), []File{f})
	})
	err = x.View(t.Context(), func(tx *Tx) error {
		if got, _, err := tx.SHA256(f.Digest); got != (SHA256{1}) || err != nil {
			t.Errorf("SHA256 is %v, %v", got, err)
		}
		if _, ok, err := tx.BySHA256(SHA256{2}); ok || err != nil {
			t.Errorf("the refused one is found: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSHA256JournalConflict has a journal in which two records do not agree.
func TestSHA256JournalConflict(t *testing.T) {
	for name, second := range map[string]ContentSHA256{
		"two of one blob": {Blob: blob.Sum([]byte("a")), SHA256: SHA256{2}},
		"one of two":      {Blob: blob.Sum([]byte("b")), SHA256: SHA256{1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			x := openIndex(t, s, nil)
			first := ContentSHA256{Blob: blob.Sum([]byte("a")), SHA256: SHA256{1}}
			records := []Record{
				{Verb: verbCreate, Store: s.ID()},
				{Verb: "sha256", Ops: []Op{{SHA256: &first}, {SHA256: &first}}}, // twice is no contradiction
				{Verb: "sha256", Ops: []Op{{SHA256: &second}}},
			}
			var text []byte
			var prev blob.Digest
			for i := range records {
				records[i].Seq, records[i].Prev = uint64(i), prev
				line, sum, err := encodeRecord(&records[i])
				if err != nil {
					t.Fatal(err)
				}
				prev = sum
				text = append(text, line...)
				if err := os.WriteFile(filepath.Join(s.Dir(), journalName), text, 0o600); err != nil {
					t.Fatal(err)
				}
				replace(t, filepath.Join(s.Dir(), databaseName), nil)
				err = x.View(t.Context(), func(*Tx) error { return nil })
				if je, ok := errors.AsType[*JournalError](err); ok != (i == 2) || ok && (je.Seq != 2 || !errors.Is(err, ErrConflict)) {
					t.Fatalf("with %d records: %v", i+1, err)
				}
			}
		})
	}
}
