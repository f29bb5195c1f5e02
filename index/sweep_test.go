package index

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSweep(t *testing.T) {
	for name, o := range map[string]*Options{"shared": nil, "exclusive": {Exclusive: true}} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			x := openIndex(t, s, o)
			for _, left := range []string{databaseNew, journalNew} {
				path := filepath.Join(s.Dir(), left)
				if err := os.WriteFile(path, []byte("left"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := x.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is still there: %v", left, err)
				}
			}
			if err := x.Sweep(t.Context()); err != nil {
				t.Errorf("with nothing there: %v", err)
			}
		})
	}
}
