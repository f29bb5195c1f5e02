package index

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
)

var testStore = uuid.MustParse("0e5c0e1c-3f5e-4a51-9d0c-6a4e4e6a9f01")

// journalOf returns a journal of n records besides record 0, the last one of
// the given size of reason.
func journalOf(t testing.TB, n, size int) (text []byte, ends []int64) {
	t.Helper()
	var prev blob.Digest
	for i := range n + 1 {
		r := &Record{Seq: uint64(i), Time: int64(i), Prev: prev, Verb: "status"}
		switch i {
		case 0:
			r.Verb, r.Store = verbCreate, testStore
		case n:
			r.Reason = strings.Repeat("r", size)
		default:
			r.Ops = []Op{{Status: &StatusChange{ID: testStore, From: "a", To: "b"}}}
		}
		line, sum, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		prev = sum
		text = append(text, line...)
		ends = append(ends, int64(len(text)))
	}
	return text, ends
}

// readAll returns the records of a journal, and how many bytes of a torn append
// follow.
func readAll(t testing.TB, text []byte, applied int64) (records []Record, end position, torn int64, err error) {
	t.Helper()
	m := durable.NewMem()
	f, err := m.Create(journalName)
	if err == nil {
		_, err = f.Write(text)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := readJournal(m, testStore, position{}, applied, -1)
	if err != nil {
		return nil, position{}, 0, err
	}
	defer r.close()
	for {
		rec, err := r.next()
		if err == io.EOF {
			return records, r.pos, r.torn, nil
		}
		if err != nil {
			return records, r.pos, 0, err
		}
		records = append(records, *rec)
	}
}

func TestJournalReader(t *testing.T) {
	text, ends := journalOf(t, 4, 2000)
	last := ends[3] // where the last record begins
	edit := func(fn func(b []byte) []byte) []byte { return fn(slices.Clone(text)) }
	zero := func(from, to int64) []byte {
		return edit(func(b []byte) []byte { clear(b[from:to]); return b })
	}
	sectorIn := (last/sector + 1) * sector // the first whole one of the last record
	swapped := slices.Concat(text[:ends[0]], text[ends[1]:ends[2]], text[ends[0]:ends[1]], text[ends[2]:])
	tests := map[string]struct {
		text    []byte
		applied int64
		records int   // that are read
		torn    int64 // bytes; -1: a *JournalError instead
	}{
		"whole":                              {text, 0, 5, 0},
		"whole and applied":                  {text, ends[4], 5, 0},
		"empty":                              {nil, 0, 0, 0},
		"no newline":                         {text[:len(text)-1], 0, 4, ends[4] - last - 1},
		"no newline, applied":                {text[:len(text)-1], last + 1, 4, -1},
		"one byte of a record":               {text[:last+1], 0, 4, 1},
		"cut between records":                {text[:last], 0, 4, 0},
		"cut below what was applied":         {text[:last], last + 1, 0, -1},
		"zeros instead of the record":        {zero(last, ends[4]), 0, 4, ends[4] - last},
		"a zero sector within":               {zero(sectorIn, sectorIn+sector), 0, 4, ends[4] - last},
		"a zero sector, applied":             {zero(sectorIn, sectorIn+sector), ends[4], 4, -1},
		"most of a sector zero":              {zero(sectorIn+1, sectorIn+sector), 0, 4, -1},
		"the record's part of its first":     {zero(last, sectorIn), 0, 4, ends[4] - last},
		"less than its part of the first":    {zero(last, sectorIn-1), 0, 4, -1},
		"its part of the last sector":        {zero(ends[4]/sector*sector, ends[4]), 0, 4, ends[4] - last},
		"a zero sector, a whole record next": {zero(ends[2], ends[3]), 0, 3, -1},
		"a zero sector, junk next":           {append(zero(sectorIn, sectorIn+sector), "junk"...), 0, 4, -1},
		"junk at the end":                    {append(slices.Clone(text), "junk"...), 0, 5, 4},
		"a line of junk at the end":          {append(slices.Clone(text), "junk\n"...), 0, 5, -1},
		"an empty line at the end":           {append(slices.Clone(text), '\n'), 0, 5, -1},
		"a record twice":                     {slices.Concat(text, text[last:]), 0, 5, -1},
		"a record left out":                  {slices.Concat(text[:ends[1]], text[ends[2]:]), 0, 2, -1},
		"records swapped":                    {swapped, 0, 1, -1},
		"the first record left out":          {text[ends[0]:], 0, 0, -1},
		"upper-case hash":                    {edit(func(b []byte) []byte { copy(b, bytes.ToUpper(b[:64])); return b }), 0, 0, -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			records, _, torn, err := readAll(t, test.text, test.applied)
			if len(records) != test.records {
				t.Errorf("%d records, want %d", len(records), test.records)
			}
			je, ok := errors.AsType[*JournalError](err)
			switch {
			case test.torn >= 0 && (err != nil || torn != test.torn):
				t.Errorf("%d bytes torn, error %v; want %d bytes", torn, err, test.torn)
			case test.torn < 0 && !ok:
				t.Errorf("error %v, want a *JournalError", err)
			case ok && int(je.Seq) != test.records:
				t.Errorf("error names record %d, want %d: %v", je.Seq, test.records, err)
			}
		})
	}
}

// TestJournalReaderContent has records whose hash is right but whose content
// is not.
func TestJournalReaderContent(t *testing.T) {
	_, first, err := encodeRecord(&Record{Verb: verbCreate, Store: testStore})
	if err != nil {
		t.Fatal(err)
	}
	valid := func() *Record { return &Record{Seq: 1, Prev: first, Verb: "status"} }
	line := func(edit func(*Record)) []byte {
		r := valid()
		edit(r)
		b, _, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := func(text string) []byte { return []byte(blob.Sum([]byte(text)).String() + " " + text + "\n") }
	good := string(bytes.TrimSpace(line(func(*Record) {})[hexSize+1:]))
	sha := string(bytes.TrimSpace(line(func(r *Record) { r.Ops = []Op{{SHA256: &ContentSHA256{Blob: blob.Sum(nil), SHA256: SHA256{0xab}}}} })[hexSize+1:]))
	zero, _, err := encodeRecord(&Record{Verb: verbCreate, Store: testStore})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]byte{
		"sequence number": line(func(r *Record) { r.Seq = 2 }),
		"previous hash":   line(func(r *Record) { r.Prev[0]++ }),
		"no verb":         line(func(r *Record) { r.Verb = "" }),
		"second creation": line(func(r *Record) { r.Verb = verbCreate }),
		"store id":        line(func(r *Record) { r.Store = testStore }),
		"empty op":        line(func(r *Record) { r.Ops = []Op{{}} }),
		"two kinds":       line(func(r *Record) { r.Ops = []Op{{Status: &StatusChange{}, Delete: deletion(t)}} }),
		"short sha256":    raw(strings.Replace(sha, "00", "", 1)),
		"long sha256":     raw(strings.Replace(sha, "00", "0000", 1)),
		"sha256 no hex":   raw(strings.Replace(sha, "00", "0g", 1)),
		"sha256 in caps":  raw(strings.Replace(sha, "ab", "AB", 1)),
		"no sha256":       raw(strings.Replace(sha, `,"sha256":"ab`+strings.Repeat("00", 31)+`"`, "", 1)),
		"two facts":       line(func(r *Record) { r.Ops = []Op{{SHA256: &ContentSHA256{}, Delete: deletion(t)}} }),
		"unknown key":     raw(strings.Replace(good, `"verb"`, `"later":1,"verb"`, 1)),
		"white space":     raw(" " + good),
		"key order":       raw(`{"verb":"status",` + strings.TrimPrefix(strings.Replace(good, `,"verb":"status"`, "", 1), "{")),
		"letter case":     raw(strings.Replace(good, `"verb"`, `"verB"`, 1)),
		"not json":        raw("hello"),
		"null":            raw("null"),
	}
	for _, valid := range []string{good, sha} {
		if records, _, _, err := readAll(t, slices.Concat(zero, raw(valid)), 0); err != nil || len(records) != 2 {
			t.Fatalf("a valid record: %d records, %v", len(records), err)
		}
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := readAll(t, slices.Concat(zero, bad), 0)
			if je, ok := errors.AsType[*JournalError](err); !ok || je.Offset != int64(len(zero)) {
				t.Errorf("error %v, want a *JournalError at byte %d", err, len(zero))
			}
		})
	}
	other, _, err := encodeRecord(&Record{Verb: verbCreate, Store: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := readAll(t, other, 0); err == nil {
		t.Errorf("the journal of another store was read")
	}
}

func deletion(t testing.TB) *Deletion {
	return &Deletion{ID: testStore, Name: parseName(t, "a"), Version: parseVersion(t, "1")}
}

// TestJournalFlips damages each byte of a journal in turn.
func TestJournalFlips(t *testing.T) {
	text, ends := journalOf(t, 3, 600)
	want, _, _, err := readAll(t, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	last := ends[2]
	for i := range text {
		for _, flip := range []byte{0x01, 0x20, 0x80, text[i], text[i] ^ '\n'} {
			if flip == 0 {
				continue
			}
			bad := slices.Clone(text)
			bad[i] ^= flip
			if _, _, _, err := readAll(t, bad, int64(len(bad))); err == nil {
				t.Fatalf("byte %d ^ %#x: not seen, though all was applied", i, flip)
			}
			records, _, torn, err := readAll(t, bad, 0)
			if err == nil && (torn == 0 || int64(i) < last || !reflect.DeepEqual(records, want[:3])) {
				t.Fatalf("byte %d ^ %#x: %d records, %d bytes torn", i, flip, len(records), torn)
			}
		}
	}
}

// TestIndexJournalDamage damages the journal of a real store.
func TestIndexJournalDamage(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	v := register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	update(t, x, "status", func(tx *Tx) error { return tx.SetStatus(v.ID, "retired") })
	path := filepath.Join(s.Dir(), journalName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(good[:len(good)-1], '\n') + 1
	index := dump(t, s)
	isJournal := func(what string, at int, err error) {
		t.Helper()
		if _, ok := errors.AsType[*JournalError](err); !ok {
			t.Fatalf("byte %d: %s: error %v, want a *JournalError", at, what, err)
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := x.CheckJournal(t.Context())
		isJournal("CheckJournal", i, err)
		isJournal("Rebuild", i, x.Rebuild(t.Context()))
		err = nil
		for _, e := range x.Records(t.Context(), 0) {
			err = e
		}
		isJournal("Records", i, err)
		if i%16 != 0 && i < len(good)-2 {
			continue
		}
		// Without the index only a torn end is dropped.
		kept, err := os.ReadFile(filepath.Join(s.Dir(), databaseName))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(s.Dir(), databaseName), nil)
		err = x.View(t.Context(), func(tx *Tx) error {
			if i < last || tx.Applied() != 1 {
				t.Errorf("byte %d: unseen; %d records applied", i, tx.Applied())
			}
			return nil
		})
		if err != nil {
			isJournal("View", i, err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir(), databaseName), kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), index)

	for name, bad := range map[string][]byte{"cut": good[:last], "missing": nil} {
		t.Run(name, func(t *testing.T) {
			replace(t, path, bad)
			isJournal("View", 0, x.View(t.Context(), func(*Tx) error { return nil }))
			isJournal("Update", 0, x.Update(t.Context(), Change{Verb: "x"}, func(*Tx) error { return nil }))
			_, err := Open(t.Context(), s, nil)
			isJournal("Open", 0, err)
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := x.CheckJournal(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestIndexTornAppend has the beginning of a record at the journal's end.
func TestIndexTornAppend(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	v := register(t, x, version(t, s, "a", "1"), put(t, s, "one"))
	path := filepath.Join(s.Dir(), journalName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(slices.Clone(good), good[:100]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := x.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err }); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("the torn end is still there, or more was changed: %v", err)
	}
	register(t, x, version(t, s, "a", "2"), put(t, s, "one"))
	if n, err := x.CheckJournal(t.Context()); n != 3 || err != nil {
		t.Errorf("CheckJournal: %d, %v", n, err)
	}
}
