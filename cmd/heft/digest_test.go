package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestChecksumLine(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := []struct{ path, want string }{
		{"a.txt", sum + "  a.txt\n"},
		{"dir/größe 1.txt", sum + "  dir/größe 1.txt\n"},
		{`a\b`, `\` + sum + `  a\\b` + "\n"},
		{"a\nb", `\` + sum + `  a\nb` + "\n"},
		{"a\rb", `\` + sum + `  a\rb` + "\n"},
		{"\\n\n", `\` + sum + `  \\n\n` + "\n"},
	}
	for _, tt := range tests {
		if got := checksumLine(sum, tt.path); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.path, got, tt.want)
		}
	}
}

// TestChecksumLineAccepted has sha256sum check the lines.
func TestChecksumLineAccepted(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("there is no sha256sum")
	}
	dir := t.TempDir()
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	var lines strings.Builder
	for _, path := range []string{"a.txt", "größe 1.txt", `a\b`, "a\nb", "-c", " x", "*x"} {
		if err := os.WriteFile(filepath.Join(dir, path), nil, 0o600); err != nil {
			t.Skipf("this file system takes no %q: %v", path, err)
		}
		lines.WriteString(checksumLine(sum, path))
	}
	cmd := exec.CommandContext(t.Context(), tool, "-c", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Count(out, []byte("OK")) != 7 {
		t.Errorf("%v\n%s", err, out)
	}
}
