package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
)

// everyKind returns a journal with every kind of change.
func everyKind(t testing.TB) []byte {
	t.Helper()
	a, b := uuid.MustParse("11111111-1111-4111-8111-111111111111"), uuid.MustParse("22222222-2222-4222-8222-222222222222")
	n, v := parseName(t, "team/model"), parseVersion(t, "1.0.0")
	file := File{Digest: blob.Sum([]byte("weights")), Size: 7}
	version := Version{
		ID: a, Name: n, Version: v, Status: "ready", Manifest: blob.Sum([]byte("manifest")),
		Metadata: []byte(`{"loss":0.10}`), RegisteredAt: 1, UpdatedAt: 2, RegisteredBy: "ada", Description: "é \"<&>\" \n",
		Size: 7, Hash: file.Digest, Files: 1, Parent: b, Seq: 1,
	}
	records := []Record{
		{Verb: verbCreate, Store: testStore},
		{Verb: "register", Actor: "ada", Reason: "new", Ops: []Op{{Register: &Register{Version: version, Files: []File{at(t, file, "model.bin")}}}}},
		{Verb: "promote", Ops: []Op{
			{Status: &StatusChange{ID: a, From: "ready", To: "production"}},
			{Alias: &AliasChange{Name: n, Alias: parseAlias(t, "prod"), To: a}},
			{Alias: &AliasChange{Name: n, Alias: parseAlias(t, "prod"), From: a}},
		}},
		{Verb: "metadata", Ops: []Op{{Metadata: &MetadataChange{ID: a, Metadata: []byte(`[1.0]`), Description: "d"}}}},
		{Verb: "delete", Ops: []Op{{Delete: &Deletion{ID: a, Name: n, Version: v}}}},
		{Verb: "sha256", Ops: []Op{{SHA256: &ContentSHA256{Blob: file.Digest, SHA256: sha256.Sum256([]byte("weights"))}}}},
	}
	var text []byte
	var prev blob.Digest
	for i := range records {
		records[i].Seq, records[i].Prev, records[i].Time = uint64(i), prev, int64(i)-1
		line, sum, err := encodeRecord(&records[i])
		if err != nil {
			t.Fatal(err)
		}
		prev = sum
		text = append(text, line...)
	}
	return text
}

// TestJournalGolden: every later release must write and read these bytes.
func TestJournalGolden(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "journal.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if got := everyKind(t); !bytes.Equal(got, want) {
		t.Errorf("wrote:\n%s\nwant:\n%s", got, want)
	}
	records, _, torn, err := readAll(t, want, int64(len(want)))
	if len(records) != 6 || torn != 0 || err != nil {
		t.Errorf("read %d records, %d bytes torn, %v", len(records), torn, err)
	}
}

// FuzzJournal checks that whatever is read is exactly what would be written, and
// that nothing is dropped but the end of the last line.
func FuzzJournal(f *testing.F) {
	text := everyKind(f)
	f.Add(text)
	f.Add(text[:len(text)-1])
	f.Add(append(slices.Clone(text), make([]byte, 600)...))
	zero := slices.Clone(text)
	clear(zero[len(zero)-90:])
	f.Add(zero)
	// Their hashes are right: only the reading of the record can refuse them.
	last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	record := text[last+hexSize+1 : len(text)-1]
	for old, new := range map[string]string{`"sha256":"`: `"sha256":"0`, `"sha256":{`: `"sha256":{"size":7,`, `"blob":"3e`: `"blob":"3E`} {
		bad := bytes.Replace(record, []byte(old), []byte(new), 1)
		f.Add(slices.Concat(text[:last], []byte(blob.Sum(bad).String()+" "), bad, []byte("\n")))
	}
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, end, torn, err := readAll(t, text, 0)
		if _, ok := errors.AsType[*JournalError](err); err != nil && !ok {
			t.Fatalf("error %v (%T)", err, err)
		}
		var again []byte
		for i := range records {
			line, _, err := encodeRecord(&records[i])
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, line...)
		}
		if !bytes.HasPrefix(text, again) || end.offset != int64(len(again)) {
			t.Fatalf("read something else than what is there")
		}
		if err == nil && end.offset+torn != int64(len(text)) {
			t.Fatalf("%d bytes read, %d torn, of %d", end.offset, torn, len(text))
		}
		if i := bytes.IndexByte(text[end.offset:], '\n'); err == nil && i >= 0 && i != len(text[end.offset:])-1 {
			t.Fatalf("more than one line was dropped")
		}
		if _, _, _, err := readAll(t, text, int64(len(text))); err == nil && torn != 0 {
			t.Fatalf("what was acknowledged was dropped")
		}
	})
}
