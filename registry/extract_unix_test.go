//go:build unix

package registry

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The umask is the process's: no other test may run beside this one.
func TestExtractPermissions(t *testing.T) {
	r := newRegistry(t)
	m := addFiles(t, r, "m:1", map[string][]byte{"sub/w.bin": []byte("x")})
	for _, mask := range []int{0o022, 0o077, 0o007} {
		dir := filepath.Join(t.TempDir(), "new")
		old := syscall.Umask(mask)
		_, err := m.Extract(t.Context(), dir, nil)
		syscall.Umask(old)
		must(t, err)
		for p, want := range map[string]os.FileMode{"": 0o777, "sub": 0o777, "sub/w.bin": 0o666} {
			info, err := os.Stat(filepath.Join(dir, p))
			must(t, err)
			if got := info.Mode().Perm(); got != want&^os.FileMode(mask) {
				t.Errorf("umask %03o: %q has mode %03o", mask, p, got)
			}
		}
	}
}
