package lattice

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// meddler does something whenever it is asked for its error.
type meddler struct {
	context.Context
	do func()
}

func (m meddler) Err() error {
	m.do()
	return nil
}

// TestStamps changes a database while it is copied.
func TestStamps(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		change func(path string) error
		want   error
	}{
		"nothing": {func(string) error { return nil }, nil},
		"counter": {func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{9}, atCounter)
			return errors.Join(err, f.Close(), os.Chtimes(path, past, past)) // only the header tells
		}, errChanged},
		"time": {func(path string) error { return os.Chtimes(path, past, past.Add(time.Second)) }, errChanged},
		"size": {func(path string) error { return errors.Join(os.Truncate(path, 9000), os.Chtimes(path, past, past)) }, errChanged},
		"new":  {func(path string) error { return os.Chtimes(path, past, time.Now()) }, errChanged},
		"log":  {func(path string) error { return os.WriteFile(path+walSuffix, []byte("x"), 0o600) }, errChanged},
		"replaced": {func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			other := path + ".other"
			return errors.Join(os.WriteFile(other, raw, 0o600), os.Chtimes(other, past, past), os.Rename(other, path))
		}, errChanged},
	} {
		t.Run(name, func(t *testing.T) {
			path := newDatabase(t, schemaCurrent, row{})
			if err := os.Chtimes(path, past, past); err != nil {
				t.Fatal(err)
			}
			o := &original{path, map[string]*os.File{}}
			if err := o.add(""); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = o.close() }()
			ctx := meddler{t.Context(), func() {
				if err := tt.change(path); err != nil {
					t.Error(err)
				}
			}}
			if err := o.copy(ctx, filepath.Join(t.TempDir(), "copy.db")); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestCopyOfWhatChanges has a database that changes in each attempt to copy it.
func TestCopyOfWhatChanges(t *testing.T) {
	path := newDatabase(t, schemaCurrent, row{})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[atWriteVersion], raw[atReadVersion] = 2, 2 // nothing locks one with a log
	write(t, path, string(raw))
	changes := 0
	ctx := meddler{t.Context(), func() {
		changes++
		now := time.Now().Add(time.Duration(changes) * -time.Hour)
		if err := os.Chtimes(path, now, now); err != nil {
			t.Error(err)
		}
	}}
	err = copyDatabase(ctx, path, filepath.Join(t.TempDir(), "copy.db"))
	if le, ok := errors.AsType[*LockedError](err); !ok || le.Path != path || !errors.Is(err, errChanged) {
		t.Errorf("%v", err)
	}
	if changes < attempts-1 {
		t.Errorf("given up after %d changes", changes)
	}
}
