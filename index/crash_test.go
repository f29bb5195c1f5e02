package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

// journalState is what a process that appends knows: where the journal ends.
type journalState struct {
	pos     position
	reasons []string
}

// open does with the journal what a process without an index does.
func openCrashed(fsys durable.FS) (st journalState, err error) {
	if _, err := fsys.Stat(journalName); errors.Is(err, fs.ErrNotExist) {
		if err := createJournal(fsys, testStore, 0); err != nil {
			return st, err
		}
	}
	r, err := readJournal(fsys, testStore, position{}, 0, -1)
	if err != nil {
		return st, err
	}
	defer r.close()
	for {
		rec, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return st, err
		}
		st.reasons = append(st.reasons, rec.Reason)
	}
	st.pos = r.pos
	if err := settleJournal(fsys, r.last, r.pos.offset); err != nil {
		return st, err
	}
	return st, fsys.SyncDir(".")
}

func (st *journalState) append(fsys durable.FS, reason string) error {
	line, sum, err := encodeRecord(&Record{Seq: st.pos.next, Time: 1, Prev: st.pos.prev, Verb: "x", Reason: reason})
	if err != nil {
		return err
	}
	if err := appendRecord(fsys, st.pos.offset, line); err != nil {
		return err
	}
	st.pos = position{st.pos.next + 1, st.pos.offset + int64(len(line)), sum}
	st.reasons = append(st.reasons, reason)
	return nil
}

// TestJournalCrash cuts the power at every moment of a run of appends, some of
// which fail, and opens what is left.
func TestJournalCrash(t *testing.T) {
	const runs, states = 8, 250
	for run := range uint64(runs) {
		rng := rand.New(rand.NewPCG(run, 1))
		m := durable.NewMem()
		m.Record()
		type ack struct {
			ops     int // when the record was acknowledged
			reasons int
		}
		var acks []ack
		st, err := openCrashed(m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			acks = append(acks, ack{m.Ops(), len(st.reasons)})
			failing := rng.IntN(4) == 0
			if failing {
				left, cut := rng.IntN(5), rng.IntN(2) == 0
				m.Fail(func(op durable.Op) error {
					if left--; left >= 0 || cut && op.Kind == durable.OpTruncate {
						return nil
					}
					if op.Kind == durable.OpTruncate {
						// The record stays, whole but perhaps never synced.
						return errors.New("disk")
					}
					if op.Kind == durable.OpWrite {
						return durable.ShortWrite(rng.IntN(op.Len), errors.New("disk"))
					}
					if op.Kind == durable.OpSync {
						return errors.New("disk")
					}
					return nil
				})
			}
			err := st.append(m, fmt.Sprintf("%d %s", i, strings.Repeat("r", rng.IntN(1500))))
			m.Fail(nil)
			if err != nil && !failing {
				t.Fatal(err)
			}
			if err != nil {
				// What a process does that finds the journal longer than the index.
				have := st.reasons
				if st, err = openCrashed(m); err != nil {
					t.Fatal(err)
				}
				if !hasPrefix(st.reasons, have) {
					t.Fatalf("run %d: a failed append lost a record", run)
				}
			}
		}
		acks = append(acks, ack{m.Ops(), len(st.reasons)})
		for i := range states {
			n := i * (m.Ops() + 1) / states
			crashed := m.Crash(n, rng)
			want := 0
			for _, a := range acks {
				if a.ops <= n {
					want = a.reasons
				}
			}
			got, err := openCrashed(crashed)
			if err != nil {
				t.Fatalf("run %d, power cut after %d operations: %v", run, n, err)
			}
			if len(got.reasons) < want || !hasPrefix(append(st.reasons[:len(st.reasons):len(st.reasons)], got.reasons[min(len(got.reasons), len(st.reasons)):]...), got.reasons[:want]) {
				t.Fatalf("run %d, power cut after %d operations: %d records, want %d", run, n, len(got.reasons), want)
			}
			if err := got.append(crashed, "after"); err != nil {
				t.Fatal(err)
			}
			again, err := openCrashed(crashed)
			if err != nil || len(again.reasons) != len(got.reasons) {
				t.Fatalf("run %d, power cut after %d operations: append after it: %d records, want %d; %v", run, n, len(again.reasons), len(got.reasons), err)
			}
		}
	}
}

func hasPrefix(s, prefix []string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range prefix {
		if s[i] != prefix[i] {
			return false
		}
	}
	return true
}

// TestJournalAppendFails fails every operation of an append in turn.
func TestJournalAppendFails(t *testing.T) {
	disk := errors.New("disk")
	for n := 1; ; n++ {
		m := durable.NewMem()
		st, err := openCrashed(m)
		if err != nil {
			t.Fatal(err)
		}
		before, err := durable.ReadFile(m, journalName, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		fired := false
		m.Fail(func(op durable.Op) error {
			if op.N == n {
				fired = true
				return disk
			}
			return nil
		})
		err = st.append(m, "x")
		m.Fail(nil)
		if !fired {
			if n < 5 || err != nil {
				t.Fatalf("%d operations, %v", n-1, err)
			}
			return
		}
		if !errors.Is(err, disk) {
			t.Errorf("operation %d: error %v", n, err)
		}
		if after, err := durable.ReadFile(m, journalName, 1<<20); err != nil || string(after) != string(before) {
			t.Errorf("operation %d: the journal changed: %v", n, err)
		}
	}
}
