package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
)

// TestEveryByte flips each byte of a small blob file, weights and manifest:
// get, cat and verify exit with 4, name the model and the file, and get leaves
// nothing that could be taken for it.
func TestEveryByte(t *testing.T) {
	dir := t.TempDir()
	store, weights := filepath.Join(dir, "store"), filepath.Join(dir, "weights.bin")
	content := []byte(strings.Repeat("some weights, ", 20))
	if err := os.WriteFile(weights, content, 0o600); err != nil {
		t.Fatal(err)
	}
	heft := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"--store", store, "--quiet"}, args...), nil, &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, _, stderr := heft("put", "org/m:1", weights); code != exitOK {
		t.Fatal(stderr)
	}
	d := blob.Sum(content).String()
	file := filepath.Join(store, "blobs", d[:2], d)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"get", "org/m:1", filepath.Join(dir, "out")}, {"cat", "org/m:1"}, {"verify"}} {
			code, stdout, stderr := heft(args...)
			if code != exitCorrupt {
				t.Errorf("byte %d: %s exits with %d: %s", i, args[0], code, stderr)
			}
			if all := stdout + stderr; !strings.Contains(all, "org/m:1") || !strings.Contains(all, "weights.bin") {
				t.Errorf("byte %d: %s does not name the model and file: %s", i, args[0], all)
			}
			if args[0] == "cat" && stdout != "" {
				t.Errorf("byte %d: cat printed %d bytes", i, len(stdout))
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "out", "weights.bin")); err == nil {
			t.Errorf("byte %d: get left a file", i)
		}
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := heft("cat", "org/m:1"); code != exitOK || stdout != string(content) {
		t.Errorf("undamaged again: exit %d", code)
	}
}
