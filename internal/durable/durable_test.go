package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestWriteFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		must(t, fsys.Mkdir("tmp"))
		for _, data := range []string{"one", "", "three"} {
			must(t, WriteFile(fsys, "tmp/x", "x", []byte(data)))
			if got := get(t, fsys, "x"); got != data {
				t.Errorf("content is %q, want %q", got, data)
			}
		}
		put(t, fsys, "tmp/x", "somebody else's")
		wantErr(t, "tmp exists", WriteFile(fsys, "tmp/x", "x", []byte("four")), fs.ErrExist)
		if got := get(t, fsys, "tmp/x"); got != "somebody else's" {
			t.Errorf("the file in the way now holds %q", got)
		}
		wantErr(t, "no directory", WriteFile(fsys, "y", "none/y", nil), fs.ErrNotExist)
		_, err := fsys.Stat("y")
		wantErr(t, "tmp after a failure", err, fs.ErrNotExist)
		if got := get(t, fsys, "x"); got != "three" {
			t.Errorf("content is %q after failures", got)
		}
	})
}

func TestWriteFileTrace(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("tmp"))
	must(t, m.Mkdir("d"))
	m.Record()
	must(t, WriteFile(m, "tmp/x", "d/x", make([]byte, 4096)))
	want := []string{
		"create tmp/x",
		"write tmp/x 0+4096",
		"sync tmp/x",
		"rename tmp/x d/x",
		"syncdir d",
	}
	if got := m.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace:\n%s", strings.Join(got, "\n"))
	}
	if m.Ops() != len(want) {
		t.Errorf("%d operations", m.Ops())
	}
}

// TestWriteFileFaults fails each operation of WriteFile in turn, in each way.
func TestWriteFileFaults(t *testing.T) {
	errDisk := errors.New("disk on fire")
	for at, done := 1, false; !done; at++ {
		for _, injected := range []error{errDisk, ShortWrite(3, errDisk)} {
			m := NewMem()
			put(t, m, "x", "old")
			var failed OpKind
			m.Fail(func(op Op) error {
				if op.N == at {
					failed = op.Kind
					return injected
				}
				return nil
			})
			err := WriteFile(m, "x.tmp", "x", []byte("new data"))
			m.Fail(nil)
			if failed == "" {
				must(t, err)
				done = true
				continue
			}
			wantErr(t, string(failed), err, errDisk)
			want := "old"
			if failed == OpSyncDir {
				want = "new data"
			}
			if got := get(t, m, "x"); got != want {
				t.Errorf("%s failed: content is %q, want %q", failed, got, want)
			}
			_, err = m.Stat("x.tmp")
			wantErr(t, string(failed)+" failed: Stat of tmp", err, fs.ErrNotExist)
		}
		if at > 100 {
			t.Fatal("WriteFile never ends")
		}
	}
}

func TestReadFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "x", "hello")
		for _, c := range []struct {
			limit int64
			want  error
		}{
			{math.MinInt64, ErrTooLarge}, {-1, ErrTooLarge}, {0, ErrTooLarge}, {4, ErrTooLarge},
			{5, nil}, {6, nil}, {math.MaxInt64, nil},
		} {
			data, err := ReadFile(fsys, "x", c.limit)
			wantErr(t, fmt.Sprintf("limit %d", c.limit), err, c.want)
			if c.want == nil && string(data) != "hello" {
				t.Errorf("limit %d: %q", c.limit, data)
			}
		}
		_, err := ReadFile(fsys, "y", 10)
		wantErr(t, "missing", err, fs.ErrNotExist)
	})
}

// TestReadFileGrowing appends to the file after ReadFile has seen its size.
func TestReadFileGrowing(t *testing.T) {
	m := NewMem()
	put(t, m, "x", "hello")
	w, err := m.OpenWrite("x")
	must(t, err)
	m.Fail(func(op Op) error {
		if op.Kind == OpRead && op.Off == 0 {
			_, err := w.WriteAt([]byte(" world"), 5)
			return err
		}
		return nil
	})
	_, err = ReadFile(m, "x", 5)
	wantErr(t, "ReadFile", err, ErrTooLarge)
}

func TestReadFileFaults(t *testing.T) {
	errDisk := errors.New("disk on fire")
	for _, kind := range []OpKind{OpOpen, OpStat, OpRead, OpClose} {
		m := NewMem()
		put(t, m, "x", "hello")
		m.Fail(func(op Op) error {
			if op.Kind == kind {
				return errDisk
			}
			return nil
		})
		data, err := ReadFile(m, "x", 10)
		wantErr(t, string(kind), err, errDisk)
		if data != nil {
			t.Errorf("%s failed, but there is data: %q", kind, data)
		}
	}
}

func TestParent(t *testing.T) {
	for name, want := range map[string]string{".": ".", "a": ".", "a/b": "a", "a/b/c": "a/b"} {
		if got := Parent(name); got != want {
			t.Errorf("Parent(%q) = %q, want %q", name, got, want)
		}
	}
}
