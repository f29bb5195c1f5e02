package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// chainStore is a store with a journal of several records, whose lines it
// returns.
func chainStore(t *testing.T) (open func() *Index, path string, lines [][]byte) {
	t.Helper()
	s := newStore(t)
	x := openIndex(t, s, nil)
	for i := range 12 {
		v := version(t, s, "m", fmt.Sprint(i))
		v.Metadata = []byte(`{"prev":"0000000000000000000000000000000000000000000000000000000000000000"}`)
		register(t, x, v)
	}
	path = filepath.Join(s.Dir(), journalName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines = bytes.SplitAfter(text, []byte("\n"))
	return func() *Index { return openIndex(t, s, nil) }, path, lines[:len(lines)-1]
}

func write(t *testing.T, path string, lines [][]byte) {
	t.Helper()
	if err := os.WriteFile(path, slices.Concat(lines...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func reason(x *Index, t *testing.T) error {
	return x.Update(t.Context(), Change{Verb: "reason"}, func(tx *Tx) error {
		id, err := tx.Lookup(parseName(t, "m"), parseVersion(t, "0"))
		if err != nil {
			return err
		}
		return tx.SetMetadata(id, nil, "d")
	})
}

// TestUpdateChecksChain: the first change of a process is not made on top of a
// journal that is damaged anywhere.
func TestUpdateChecksChain(t *testing.T) {
	open, path, good := chainStore(t)
	tests := map[string]func() [][]byte{
		"a flipped bit": func() [][]byte {
			bad := slices.Clone(good)
			bad[5] = bytes.Clone(bad[5])
			bad[5][80] ^= 1
			return bad
		},
		"two records swapped": func() [][]byte {
			bad := slices.Clone(good)
			bad[4], bad[5] = bad[5], bad[4]
			return bad
		},
		"a record twice, another gone": func() [][]byte {
			bad := slices.Clone(good)
			bad[6] = bad[5]
			return bad
		},
		"another last record": func() [][]byte {
			last := good[len(good)-1]
			bad := slices.Clone(good)
			// As long as the one that was applied.
			for n := range len(last) {
				line, _, err := encodeRecord(&Record{Seq: uint64(len(good) - 1), Verb: "x", Reason: strings.Repeat("r", n)})
				if err == nil && len(line) == len(last) {
					bad[len(bad)-1] = line
				}
			}
			return bad
		},
	}
	for name, damaged := range tests {
		t.Run(name, func(t *testing.T) {
			bad := damaged()
			write(t, path, bad)
			err := reason(open(), t)
			if _, ok := errors.AsType[*JournalError](err); !ok {
				t.Errorf("an update on top of it: %v", err)
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, slices.Concat(bad...)) {
				t.Errorf("the journal was written: %v", err)
			}
			write(t, path, good)
			if _, err := open().CheckJournal(t.Context()); err != nil {
				t.Errorf("put back: %v", err)
			}
		})
	}
	if err := reason(open(), t); err != nil {
		t.Error(err)
	}
}

// TestUpdateChecksChainInTurn has a journal of which each process checks a part:
// some process soon comes to the damage.
func TestUpdateChecksChainInTurn(t *testing.T) {
	for _, at := range []int{1, 6, 11} {
		t.Run(fmt.Sprint("record ", at), func(t *testing.T) {
			open, path, good := chainStore(t)
			part := int64(len(good[0]) + len(good[1]) + len(good[2]))
			first := open()
			first.chainSize = part
			if err := reason(first, t); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			offset := int64(len(slices.Concat(good[:at]...)))
			_, err = f.WriteAt([]byte{good[at][0] ^ 1}, offset)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			const turns = 8
			for n := range turns {
				x := open()
				x.chainSize = part
				err := reason(x, t)
				if je, ok := errors.AsType[*JournalError](err); ok {
					if je.Offset != offset || je.Seq != uint64(at) {
						t.Errorf("found at byte %d, record %d; it is at byte %d, record %d", je.Offset, je.Seq, offset, at)
					}
					if again := reason(x, t); again == nil {
						t.Error("the second change was made")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					continue
				}
				// Once is enough for a process: the next part is another one's.
				if err := reason(x, t); err != nil {
					t.Errorf("the second change: %v", err)
				}
			}
			t.Errorf("%d processes did not find it", turns)
		})
	}
}

// TestJournalOlder: a journal of the past, such as a backup's, is told from a
// damaged one.
func TestJournalOlder(t *testing.T) {
	open, path, good := chainStore(t)
	x := open()
	write(t, path, good[:5])
	view := func() error { return x.View(t.Context(), func(*Tx) error { return nil }) }
	for name, err := range map[string]error{"View": view(), "Update": reason(x, t), "Rebuild": x.Rebuild(t.Context())} {
		je, ok := errors.AsType[*JournalError](err)
		if !ok || !errors.Is(err, ErrLostRecords) || je.Offset != int64(len(slices.Concat(good[:5]...))) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), "heft repair") {
			t.Errorf("%s does not say what to do next: %v", name, err)
		}
	}
	write(t, path, good)
	if err := reason(x, t); err != nil {
		t.Errorf("put back: %v", err)
	}
}
