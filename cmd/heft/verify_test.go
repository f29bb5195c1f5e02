package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// damage is a command of TestScript.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: damage PATH [OFFSET]")
	}
	file, at := ts.MkAbs(args[0]), 16 // the first byte of the first frame: docs/format.md, "A blob file"
	if len(args) == 2 {
		var err error
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	info, err := os.Stat(file)
	ts.Check(err)
	if info.IsDir() {
		file = largestBlob(ts, file)
	}
	b, err := os.ReadFile(file)
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(file, b, 0o600))
}

func largestBlob(ts *testscript.TestScript, store string) (largest string) {
	files, err := filepath.Glob(filepath.Join(store, "blobs", "*", "*"))
	ts.Check(err)
	size := int64(-1)
	for _, f := range files {
		info, err := os.Stat(f)
		ts.Check(err)
		if info.Size() > size {
			largest, size = f, info.Size()
		}
	}
	if largest == "" {
		ts.Fatalf("no blob in %s", store)
	}
	return largest
}

// heftIn returns a function that runs the command on a store.
func heftIn(t *testing.T, store string) func(args ...string) (code int, stdout, stderr string) {
	return func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"--store", store}, args...), strings.NewReader("weights of "+strings.Join(args, " ")), &out, &errs)
		return code, out.String(), errs.String()
	}
}

// TestVerifyResumes interrupts a verification of which a damaged blob was seen, and
// goes on with it.
func TestVerifyResumes(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	heft := heftIn(t, store)
	for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
		if code, _, stderr := heft("put", ref, "-"); code != exitOK {
			t.Fatal(stderr)
		}
	}
	r, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.BeginVerify(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for c, err := range v.Run(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			hex := c.Digest.String()
			if err := os.Truncate(filepath.Join(store, "blobs", hex[:2], hex), 20); err != nil {
				t.Fatal(err)
			}
		}
		if seen == 3 {
			break
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := heft("verify", "--resume")
	if code != exitOK || !strings.HasSuffix(stdout, "5 blobs, "+strings.SplitN(strings.SplitN(stdout, ", ", 2)[1], ":", 2)[0]+": all sound (and 3 sound blobs before the interruption)\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	// The note is gone, and what was cut short after it was seen is found now.
	code, stdout, _ = heft("verify", "--resume")
	if code != exitCorrupt || !strings.Contains(stdout, "8 blobs") || !strings.Contains(stdout, "moved to quarantine/") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// TestVerifyInterruptedTells has a verification end after damage was found: it is
// told.
func TestVerifyInterruptedTells(t *testing.T) {
	var stdout bytes.Buffer
	a := &app{stdout: &stdout}
	v := &verified{Blobs: 3, Bad: []badBlob{{Error: "is damaged"}}}
	if err := a.printVerify(v); err != nil || !strings.Contains(stdout.String(), "3 blobs, 0 B: 1 damaged until it was interrupted\n") {
		t.Errorf("%v: %s", err, stdout.String())
	}
	stdout.Reset()
	if err := a.printJSON(v); err != nil || !strings.Contains(stdout.String(), `"complete": false`) {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

// TestVerifyIndexWrong has an index that lacks a blob.
func TestVerifyIndexWrong(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	heft := heftIn(t, store)
	if code, _, stderr := heft("put", "m:1", "-"); code != exitOK {
		t.Fatal(stderr)
	}
	s, err := blob.Open(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x, err := index.Open(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	d := blob.Sum([]byte("weights of put m:1 -"))
	if err := x.Update(t.Context(), index.Change{Verb: "test"}, func(tx *index.Tx) error { return tx.RemoveBlob(t.Context(), d) }); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := heft("verify")
	if code != exitCorrupt || !strings.Contains(stdout, "index  missing in blobs: "+d.String()) || !strings.Contains(stdout, "all sound, but the index is wrong") || !strings.Contains(stderr, "hint: remove the file index.db") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if err := os.Remove(filepath.Join(store, "index.db")); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := heft("verify"); code != exitOK {
		t.Errorf("with a new index: exit code %d: %s%s", code, stdout, stderr)
	}
}
