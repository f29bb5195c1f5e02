package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

// visible returns a progress that counts, as on a terminal.
func visible(out io.Writer, total int64) *progress {
	return &progress{out: out, label: "testing", total: total, start: time.Now()}
}

func TestProgressFS(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"a": "12345", "sub/b": "678"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p := visible(io.Discard, 8)
	if err := fstest.TestFS(p.fs(root.FS()), "a", "sub/b"); err != nil {
		t.Error(err)
	}
	p.done = 0
	for _, name := range []string{"a", "sub/b"} {
		if _, err := fs.ReadFile(p.fs(root.FS()), name); err != nil {
			t.Error(err)
		}
	}
	if p.done != 8 {
		t.Errorf("counted %d bytes of 8", p.done)
	}
	// A file system whose files can't list folders is counted too.
	if _, err := fs.ReadFile(p.fs(fstest.MapFS{"m": {Data: []byte("12")}}), "m"); err != nil || p.done != 10 {
		t.Errorf("counted %d bytes of 10, %v", p.done, err)
	}
}

func TestProgressReader(t *testing.T) {
	p := visible(io.Discard, 0)
	got, err := io.ReadAll(p.reader(bytes.NewReader([]byte("hello"))))
	if string(got) != "hello" || err != nil || p.done != 5 {
		t.Errorf("read %q, %v; counted %d", got, err, p.done)
	}
}

// TestProgressShows moves the start back instead of waiting.
func TestProgressShows(t *testing.T) {
	for _, total := range []int64{100, 0} {
		var out bytes.Buffer
		p := visible(&out, total)
		p.add(10)
		if p.bar != nil {
			t.Fatal("a bar at once")
		}
		p.start = p.start.Add(-progressDelay)
		p.add(20)
		if p.bar == nil || p.bar.Current() != 30 {
			t.Fatalf("total %d: no bar at 30 bytes", total)
		}
		p.end()
		p.end()
		p.add(1) // after the end: nothing
		if p.bar != nil || p.done != 30 {
			t.Errorf("total %d: the bar is still there", total)
		}
	}
}

func TestProgressHidden(t *testing.T) {
	a := &app{stderr: &bytes.Buffer{}} // a pipe is no terminal
	p := a.progress("testing", 5)
	r := bytes.NewReader([]byte("hello"))
	if p.out != nil || p.reader(r) != io.Reader(r) {
		t.Error("counts what nobody sees")
	}
	p.add(5)
	p.end()
}
