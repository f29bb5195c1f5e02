package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/durable"
)

func TestConfigRoundTrip(t *testing.T) {
	s, dir := newDir(t, nil)
	if s.ID() == uuid.Nil || s.CreatedAt() < 1_600_000_000_000_000 || s.CreatedAt() > 10_000_000_000_000_000 {
		t.Errorf("id %s, created at %d", s.ID(), s.CreatedAt())
	}
	if s.Dir() != dir {
		t.Errorf("Dir is %s, not %s", s.Dir(), dir)
	}
	again, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.ID() != s.ID() || again.CreatedAt() != s.CreatedAt() {
		t.Errorf("reopened: %s, %d", again.ID(), again.CreatedAt())
	}
	memory, err := NewMemory(nil)
	if err != nil || memory.Dir() != "" || memory.ID() == s.ID() {
		t.Errorf("in memory: %q, %v", memory.Dir(), err)
	}
}

// TestEveryFlippedBitOfConfig allows an error or, where only the spelling
// changed, the same values: never others.
func TestEveryFlippedBitOfConfig(t *testing.T) {
	s, m := newMem(t, nil)
	file := loadFile(t, m, configName)
	opened := 0
	for at := range file {
		for bit := range 8 {
			flip(t, m, configName, int64(at), 1<<bit)
			got, err := open(m, nil)
			switch {
			case err == nil && got.config != s.config:
				t.Errorf("byte %d, bit %d: opened with %+v instead of %+v", at, bit, got.config, s.config)
			case err == nil:
				opened++
			case !strings.Contains(err.Error(), configName):
				t.Errorf("byte %d, bit %d: %v does not name the file", at, bit, err)
			}
			flip(t, m, configName, int64(at), 1<<bit)
		}
	}
	if opened > len(file) {
		t.Errorf("%d of %d flips went unnoticed", opened, 8*len(file))
	}
	for n := range file[:len(file)-1] { // the last byte is the line's end
		saveFile(t, m, configName, file[:n])
		if _, err := open(m, nil); err == nil {
			t.Errorf("opened with %d of %d bytes", n, len(file))
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", "\x00", string(file) + string(file), strings.Repeat(" ", 1<<17)} {
		saveFile(t, m, configName, []byte(text))
		if _, err := open(m, nil); err == nil {
			t.Errorf("opened with %.20q", text)
		}
	}
}

func TestOpenNewerStore(t *testing.T) {
	_, m := newMem(t, nil)
	saveFile(t, m, configName, []byte(`{"features":["unheard of"],"format":7,"min_reader":3}`))
	_, err := open(m, nil)
	ne, ok := errors.AsType[*NewerError](err)
	if !ok || ne.Found != 3 || ne.Supported != 2 {
		t.Errorf("%v is not a NewerError", err)
	}
}

func TestOpenNoStore(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		if _, err := Open(path, nil); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	if got := names(mustDir(t, dir), "."); len(got) != 0 {
		t.Errorf("Open left %v", got)
	}
}

func mustDir(t *testing.T, path string) *durable.Dir {
	t.Helper()
	d, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestCreateOnExisting(t *testing.T) {
	_, dir := newDir(t, nil)
	before := names(mustDir(t, dir), ".")
	if _, err := Create(dir, nil); !errors.Is(err, ErrExist) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a store: %v", err)
	}
	if after := names(mustDir(t, dir), "."); !slices.Equal(before, after) {
		t.Errorf("the store's folder had %v, now %v", before, after)
	}

	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(other, nil); !errors.Is(err, ErrExist) || !strings.Contains(fmt.Sprint(err), "thesis.tex") {
		t.Errorf("over other files: %v", err)
	}
	if got := names(mustDir(t, other), "."); !slices.Equal(got, []string{"thesis.tex"}) {
		t.Errorf("somebody else's folder has %v", got)
	}
	if _, err := Create(filepath.Join(other, "thesis.tex"), nil); err == nil {
		t.Error("created a store in a file")
	}
}

// TestCreateCompletesAnInterruptedOne finds what a creation leaves that was
// interrupted while another process waited.
func TestCreateCompletesAnInterruptedOne(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"blobs", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"publish.lock", "publish.lock.turn", "tmp/6ba7b810-9dad-11d1-80b4-00c04fd430c8"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Create(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, []byte("x"))
	if left := names(s.fsys, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
}
