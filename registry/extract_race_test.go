package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestExtractPartIsAFile extracts a version that has a file under the name of
// another one's part, as when the rest of an interrupted Extract is registered.
func TestExtractPartIsAFile(t *testing.T) {
	r := newRegistry(t)
	a := weights(1, 3<<20)
	m := addFiles(t, r, "m:1", map[string][]byte{"weights.bin": a, partOf(a): a[:1<<20]})
	dir := t.TempDir()
	done, err := m.Extract(t.Context(), dir, nil)
	must(t, err)
	if done.Written != 2 {
		t.Errorf("%+v", done)
	}
	for name, want := range map[string][]byte{"weights.bin": a, partOf(a): a[:1<<20]} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s has other content", name)
		}
	}
}

// TestExtractFileAppears writes another file under the name while Extract is at
// work: without Replace it stays.
func TestExtractFileAppears(t *testing.T) {
	for _, c := range []struct {
		name    string
		content []byte // nil: the same as is extracted
	}{
		{"another file", []byte("precious")},
		{"the same file", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			own := weights(1, 3<<20)
			m := addFiles(t, r, "m:1", map[string][]byte{WeightsFile: own})
			dir, appeared := t.TempDir(), false
			there := c.content
			if there == nil {
				there = own
			}
			done, err := m.Extract(t.Context(), dir, &ExtractOptions{Progress: func(int64) {
				if !appeared {
					appeared = true
					must(t, os.WriteFile(filepath.Join(dir, WeightsFile), there, 0o600))
				}
			}})
			if c.content != nil {
				wantErr(t, "extract", err, ErrConflict)
			} else if must(t, err); done.Skipped != 1 {
				t.Errorf("%+v", done)
			}
			got, err := os.ReadFile(filepath.Join(dir, WeightsFile))
			must(t, err)
			if !bytes.Equal(got, there) {
				t.Error("the file that was there is lost")
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left in the folder: %v", left)
			}
		})
	}
}

// TestExtractPartIsAHardLink has the part share its bytes with a file outside.
func TestExtractPartIsAHardLink(t *testing.T) {
	r := newRegistry(t)
	a := weights(1, 3<<20)
	m := addFiles(t, r, "m:1", map[string][]byte{WeightsFile: a})
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	must(t, os.Link(victim, filepath.Join(dir, partOf(a))))
	if _, err := m.Extract(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("a file outside the folder was overwritten: %d bytes, %v", len(b), err)
	}
}
