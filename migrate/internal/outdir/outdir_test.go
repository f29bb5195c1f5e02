package outdir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestPublish(t *testing.T) {
	d := openDir(t)
	want := errors.New("no more")
	for _, c := range []struct {
		fill func(io.Writer) error
		err  error
		then string
	}{
		{text("old"), nil, "old"},
		{text("new"), nil, "new"},
		{func(w io.Writer) error { return errors.Join(text("half")(w), want) }, want, "new"},
	} {
		if err := durable.Publish(d, "tmp", "name", c.fill); !errors.Is(err, c.err) {
			t.Errorf("got error %v, want %v", err, c.err)
		}
		if got, err := durable.ReadFile(d, "name", 99); err != nil || string(got) != c.then {
			t.Errorf("got %q, %v, want %q", got, err, c.then)
		}
		if _, err := d.Lstat("tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the temporary file: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.Publish(d, "tmp", "name", text("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a temporary file that exists: got error %v", err)
	}
	if _, err := d.Lstat("tmp"); err != nil {
		t.Errorf("somebody else's file was removed: %v", err)
	}
}

// New files and folders have the modes that os gives them, not those of a store.
func TestModes(t *testing.T) {
	d := openDir(t)
	if err := errors.Join(d.Mkdir("a"), os.Mkdir(filepath.Join(d.Path(), "b"), 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(durable.Publish(d, "tmp", "a/f", text("")), os.WriteFile(filepath.Join(d.Path(), "b", "f"), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/f"} {
		a, errA := d.Lstat("a" + name)
		b, errB := d.Lstat("b" + name)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if a.Mode() != b.Mode() {
			t.Errorf("got mode %v, want %v", a.Mode(), b.Mode())
		}
	}
}

func TestOutside(t *testing.T) {
	d := openDir(t)
	for _, name := range []string{"../x", "/x", "a/../../x", ""} {
		_, err := d.Create(name)
		_, errStat := d.Lstat(name)
		for _, err := range []error{err, errStat, d.Mkdir(name), durable.Publish(d, "tmp", name, text(""))} {
			if err == nil {
				t.Errorf("%q was accepted", name)
			}
		}
	}
}
