package blob

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

// trace returns the operations since Record, temporary files numbered in the
// order of their appearance and digests cut. Those on pins are left out: they
// mean nothing after a power cut.
func trace(m *durable.Mem) []string {
	seen := map[string]string{}
	temp := regexp.MustCompile(`tmp/[0-9a-f-]+`)
	digest := regexp.MustCompile(`(blobs/../........)[0-9a-f]{56}`)
	lines := withoutPins(m.Trace())
	for i, line := range lines {
		line = temp.ReplaceAllStringFunc(line, func(name string) string {
			if seen[name] == "" {
				seen[name] = fmt.Sprintf("tmp/%d", len(seen)+1)
			}
			return seen[name]
		})
		lines[i] = digest.ReplaceAllString(line, "$1")
	}
	return lines
}

func withoutPins(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, " pins/") })
}

func wantTrace(t *testing.T, m *durable.Mem, want string) {
	t.Helper()
	got := trace(m)
	if !slices.Equal(got, strings.Split(strings.TrimSpace(want), "\n")) {
		t.Errorf("the operations are\n%s\n\nnot\n%s", strings.Join(got, "\n"), want)
	}
}

// The golden traces fix what a power cut can meet. A sync that is missing in
// one of them is a lost blob; see docs/format.md, "Publishing".

func TestTraceCreate(t *testing.T) {
	m := durable.NewMem()
	m.Record()
	s, err := create(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTrace(t, m, fmt.Sprintf(`
mkdir blobs
mkdir tmp
mkdir trash
mkdir quarantine
mkdir pins
syncdir .
create tmp/1
write tmp/1 0+%d
sync tmp/1
rename tmp/1 heft.json
syncdir .
`, len(loadFile(t, s.fsys, configName))))
}

func TestTracePut(t *testing.T) {
	s, m := newMem(t, &Options{Compression: None})
	m.Record()
	content := randomBytes(7, 1000)
	put(t, s, content)
	wantTrace(t, m, `
create tmp/1
write tmp/1 0+1208
sync tmp/1
mkdir blobs/1e
rename tmp/1 blobs/1e/1e809785
syncdir blobs
syncdir blobs/1e
`)
	// Once more: it is there, and only its name is made sure of.
	m.Record()
	if info := put(t, s, content); !info.Known {
		t.Error("not known")
	}
	wantTrace(t, m, `
create tmp/1
remove tmp/1
syncdir blobs
syncdir blobs/1e
`)
	// And with a hint: no byte is written. A store that was opened syncs its own
	// folder once: who made it may have died before its last sync.
	h := hints{}
	h.learn(t, s, Sum(content))
	m.Record()
	if info := put(t, openMem(t, m, &Options{Known: h.known}), content); !info.Known {
		t.Error("not known")
	}
	wantTrace(t, m, `
syncdir .
syncdir blobs
syncdir blobs/1e
`)
}

// TestTraceOpened puts twice in a store that was opened, and whose folder can't
// be synced at first.
func TestTraceOpened(t *testing.T) {
	_, m := newMem(t, nil)
	s := openMem(t, m, nil)
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpSyncDir && op.Name == "." {
			return syscall.EIO
		}
		return nil
	})
	if _, err := s.Put(t.Context(), strings.NewReader("x")); !errors.Is(err, syscall.EIO) {
		t.Errorf("put: %v", err)
	}
	m.Fail(nil)
	if err := s.Batch().Sync(t.Context()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`
create tmp/1
remove tmp/1
syncdir .
syncdir blobs
syncdir blobs/3a
`, `
create tmp/1
remove tmp/1
syncdir blobs
syncdir blobs/3a
`} {
		m.Record()
		put(t, s, []byte("x"))
		wantTrace(t, m, want)
	}
}

func TestTraceBatch(t *testing.T) {
	s, m := newMem(t, nil)
	m.Record()
	b := s.Batch()
	for i := range 3 {
		if _, err := b.Put(t.Context(), strings.NewReader(strings.Repeat("x", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTrace(t, m, `
create tmp/1
write tmp/1 0+144
sync tmp/1
mkdir blobs/af
rename tmp/1 blobs/af/af1349b9
create tmp/2
write tmp/2 0+209
sync tmp/2
mkdir blobs/3a
rename tmp/2 blobs/3a/3ae7d805
create tmp/3
write tmp/3 0+209
sync tmp/3
mkdir blobs/e0
rename tmp/3 blobs/e0/e0fe5e38
syncdir blobs
syncdir blobs/3a
syncdir blobs/af
syncdir blobs/e0
`)
}

// TestTraceBorrow puts a blob that borrows: its donor's folder is synced too.
func TestTraceBorrow(t *testing.T) {
	h := hints{}
	s, m := newMem(t, &Options{Known: h.known})
	lent := repeated("lent\n", mib)
	donor := put(t, s, lent).Digest
	h.learn(t, s, donor)
	m.Record()
	info := put(t, s, cat(lent, []byte("mine")))
	got := trace(m)
	if n := len(got); n < 3 || got[n-3] != "syncdir blobs" || !slices.Contains(got[n-2:], "syncdir "+blobDir(donor)) || !slices.Contains(got[n-2:], "syncdir "+blobDir(info.Digest)) {
		t.Errorf("the operations are\n%s", strings.Join(got, "\n"))
	}
}
