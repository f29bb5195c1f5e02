package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
)

func TestDefaultStore(t *testing.T) {
	abs, err := filepath.Abs("data")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		goos string
		env  map[string]string
		want string // with slashes; "" for an error
	}{
		{"linux", map[string]string{"HOME": "/h"}, "/h/.local/share/heft"},
		{"linux", map[string]string{"HOME": "/h", "XDG_DATA_HOME": abs}, abs + "/heft"},
		{"linux", map[string]string{"HOME": "/h", "XDG_DATA_HOME": "relative"}, "/h/.local/share/heft"},
		{"freebsd", map[string]string{"HOME": "/h"}, "/h/.local/share/heft"},
		{"darwin", map[string]string{"HOME": "/h", "XDG_DATA_HOME": abs}, "/h/Library/Application Support/heft"},
		{"windows", map[string]string{"LocalAppData": "/l", "HOME": "/h"}, "/l/heft"},
		{"linux", nil, ""},
		{"windows", map[string]string{"HOME": "/h"}, ""},
	}
	for _, tt := range tests {
		got, err := defaultStore(tt.goos, func(key string) string { return tt.env[key] })
		if (err != nil) != (tt.want == "") || filepath.ToSlash(got) != filepath.ToSlash(tt.want) {
			t.Errorf("defaultStore(%s, %v) = %q, %v; want %q", tt.goos, tt.env, got, err, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out}
	tab := a.table("NAME", "SIZE", "NOTE")
	if err := tab.flush(); err != nil || out.Len() != 0 {
		t.Fatalf("a table without rows gives %q, %v", out.String(), err)
	}
	tab.row("é", "1 B", "")
	tab.row("a longer name", "10 KiB", "\x1b[31mred\nline")
	if err := tab.flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME           SIZE    NOTE\n" +
		"é              1 B\n" +
		"a longer name  10 KiB  \\x1b[31mred\\nline\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, 日本 é":        "plain, 日本 é",
		"tab\tline\nesc\x1b": `tab\tline\nesc\x1b`,
		"turned \u202eround": `turned \u202eround`,
		"broken \xff":        `broken \ufffd`,
		"":                   "",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJSONTime(t *testing.T) {
	us := time.Date(2026, 1, 2, 3, 4, 5, 60_000, time.FixedZone("", 3600)).UnixMicro()
	if got, want := jsonTime(us), "2026-01-02T02:04:05.000060Z"; got != want {
		t.Errorf("jsonTime = %q, want %q", got, want)
	}
}

func TestFormat(t *testing.T) {
	for got, want := range map[string]string{
		formatSize(-1):         "0 B",
		formatSize(1536):       "1.5 KiB",
		plural(1, "file"):      "1 file",
		plural(0, "file"):      "0 files",
		plural(12345, "blob"):  "12,345 blobs",
		formatRatio(10, 0):     "-",
		formatRatio(30, 20):    "1.50",
		formatRatio(1, 3000):   "0.00",
		formatRatio(0, 100):    "0.00",
		formatSize(10_000_000): "9.5 MiB",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReport(t *testing.T) {
	live := t.Context()
	cancelled, cancel := context.WithCancelCause(t.Context())
	errSignal := errors.New("interrupt signal received")
	cancel(errSignal)
	corruptFile := &registry.CorruptError{Ref: "m:1", Path: "w.bin", Err: &blob.CorruptError{Err: errors.New("bad sum")}}
	tests := []struct {
		name string
		ctx  context.Context
		err  error
		code int
		text string // the beginning
		hint string // a part; "" for no hint
	}{
		{"nothing", live, nil, exitOK, "", ""},
		{"any", live, errors.New("disk full"), exitError, "heft: disk full\n", ""},
		{"usage", live, usageError("%d is odd", 3), exitUsage, "heft: 3 is odd\n", ""},
		{"hint", live, withHint(errors.New("a"), "do %s", "b"), exitError, "heft: a\n", "hint: do b\n"},
		{"prefixes", live, fmt.Errorf("registry: index: blob: disk full"), exitError, "heft: disk full\n", ""},
		{"not found", live, fmt.Errorf("%w: there is no model m", registry.ErrNotFound), exitNotFound, "heft: there is no model m\n", "heft ls"},
		{"own hint wins", live, withHint(fmt.Errorf("%w: x", registry.ErrNotFound), "look"), exitNotFound, "heft: x\n", "hint: look\n"},
		{"missing input", live, &fs.PathError{Op: "open", Path: "f", Err: fs.ErrNotExist}, exitError, "heft: open f: file does not exist\n", ""},
		{"invalid", live, fmt.Errorf("%w: unknown status", registry.ErrInvalid), exitUsage, "heft: unknown status\n", ""},
		{"corrupt", live, corruptFile, exitCorrupt, "heft: w.bin of m:1: ", ""},
		{"journal", live, fmt.Errorf("registry: %w", &index.JournalError{Err: errors.New("x")}), exitCorrupt, "heft: journal is damaged", ""},
		{"corrupt wins over not found", live, errors.Join(corruptFile, registry.ErrNotFound), exitCorrupt, "heft: w.bin", ""},
		{"index", live, &index.CorruptError{Err: errors.New("x")}, exitCorrupt, "heft: index.db is damaged", ""},
		{"duplicate", live, fmt.Errorf("registry: %w", &index.DuplicateError{}), exitConflict, "heft: : exists already", "next number"},
		{"path", live, &index.PathConflictError{Path: "a", Other: "a"}, exitConflict, `heft: file "a" exists`, ""},
		{"in use", live, &registry.InUseError{Ref: "m:1", Production: true}, exitConflict, "heft: m:1 was not deleted", "--force"},
		{"exists", live, &registry.ExistsError{Path: "p"}, exitConflict, "heft: p exists", "--force"},
		{"alias moved", live, &index.AliasConflictError{}, exitConflict, "heft: alias", ""},
		{"interrupted", cancelled, fmt.Errorf("storing: %w", context.Canceled), exitInterrupted, "heft: interrupted\n", "nothing was changed"},
		{"interrupted by cause", cancelled, resumable(errSignal, "go on"), exitInterrupted, "heft: interrupted\n", "hint: go on\n"},
		{"another error at the same time", cancelled, resumable(errors.New("disk full"), "go on"), exitError, "heft: disk full\n", ""},
		{"cancelled without a signal", live, context.Canceled, exitError, "heft: context canceled\n", ""},
		{"terminal", live, errors.New("open \x1b[31m\nsecond"), exitError, "heft: open \\x1b[31m\n      second\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if code := report(tt.ctx, &out, tt.err); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			text, hint, _ := strings.Cut(out.String(), "hint: ")
			if !strings.HasPrefix(text, tt.text) || tt.text == "" && text != "" {
				t.Errorf("printed %q, want %q", text, tt.text)
			}
			if (hint == "") != (tt.hint == "") || !strings.Contains("hint: "+hint, tt.hint) {
				t.Errorf("hint %q, want %q", hint, tt.hint)
			}
		})
	}
}

func TestRunInterrupted(t *testing.T) {
	stdin, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "store")
	var stdout, stderr bytes.Buffer
	go func() {
		// The second part is taken only when the first one is being stored.
		if _, err := w.Write(make([]byte, 2*pipeBuffer)); err != nil {
			t.Error(err)
		}
		cancel()
	}()
	code := run(ctx, []string{"--store", dir, "put", "m:1", "-"}, stdin, &stdout, &stderr)
	if code != exitInterrupted || stdout.Len() > 0 || !strings.Contains(stderr.String(), "heft: interrupted\nhint: no version was made") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	stderr.Reset()
	if code := run(t.Context(), []string{"--store", dir, "cat", "m:1"}, nil, &stdout, &stderr); code != exitNotFound {
		t.Errorf("after the interrupt, cat has the exit code %d: %s", code, stderr.String())
	}
}

func TestInterruptible(t *testing.T) {
	stdin, w := io.Pipe() // nothing comes
	ctx, cancel := context.WithCancel(t.Context())
	r := interruptible(ctx, stdin)
	stuck := time.AfterFunc(10*time.Second, func() { w.CloseWithError(io.EOF) })
	defer stuck.Stop()
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("the read ended with %v", err)
	}
	want := bytes.Repeat([]byte("0123456789"), pipeBuffer/8)
	got, err := io.ReadAll(interruptible(t.Context(), bytes.NewReader(want)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(want), err)
	}
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestCatInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	const size = 8 << 20
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--store", dir, "put", "m:1", "-"}, io.LimitReader(rand.NewChaCha8([32]byte{}), size), io.Discard, &stderr); code != exitOK {
		t.Fatal(stderr.String())
	}
	for _, args := range [][]string{{"cat", "m:1"}, {"cat", "m:1", "--offset", "1"}} {
		ctx, cancel := context.WithCancel(t.Context())
		written := 0
		stderr.Reset()
		code := run(ctx, append([]string{"--store", dir}, args...), nil, writerFunc(func(b []byte) (int, error) {
			cancel()
			written += len(b)
			return len(b), nil
		}), &stderr)
		if code != exitInterrupted || written == 0 || written >= size-1 || !strings.Contains(stderr.String(), "not complete") {
			t.Errorf("%v: exit code %d after %d bytes: %s", args, code, written, stderr.String())
		}
	}
}

// countdown is a context that ends when it has been asked n times.
type countdown struct {
	context.Context
	n *atomic.Int64
}

func (c countdown) Err() error {
	if c.n.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func TestVerifyInterrupted(t *testing.T) {
	a := &app{storeDir: filepath.Join(t.TempDir(), "store"), stdin: strings.NewReader("weights"), stdout: io.Discard, stderr: io.Discard}
	if err := a.put(t.Context(), "m:1", []string{"-"}, putFlags{compression: "auto"}); err != nil {
		t.Fatal(err)
	}
	for n := int64(0); ; n++ {
		ctx := countdown{t.Context(), new(atomic.Int64)}
		ctx.n.Store(n)
		err := a.verify(ctx, []string{"m:1"}, &registry.VerifyOptions{}, false)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("ended at question %d: %v", n, err)
		}
	}
}

// failingWriter is a full disk.
type failingWriter struct{}

var errFull = errors.New("disk full")

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestRunOutputFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--store", dir, "put", "m:1", "-"}, strings.NewReader("x"), io.Discard, &stderr); code != exitOK {
		t.Fatal(stderr.String())
	}
	for _, args := range []string{"cat m:1", "stats", "stats --json", "verify", "version", "show m:1", "ls", "ls --json", "log"} {
		stderr.Reset()
		code := run(t.Context(), append([]string{"--store", dir}, strings.Fields(args)...), nil, failingWriter{}, &stderr)
		if code != exitError || !strings.Contains(stderr.String(), errFull.Error()) {
			t.Errorf("heft %s: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}

func TestBuildVersion(t *testing.T) {
	if v := buildVersion(nil, false); v.Version != "devel" || v.Go == "" || v.Format == 0 {
		t.Errorf("without build information: %+v", v)
	}
	v := buildVersion(&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "0123456789abcdef"},
	}}, true)
	if v.Version != "v1.2.3" || v.Revision != "0123456789ab+dirty" {
		t.Errorf("got %+v", v)
	}
}
