package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
)

// app is what all verbs share: where to read and write, and the flags that
// stand before any verb.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	storeDir string        // --store; "" is HEFT_STORE, then defaultStore
	actor    string        // --actor; "" is HEFT_ACTOR, then user@host
	quiet    bool          // --quiet: no progress and no notes
	wait     time.Duration // --wait: for another process; 0 is as long as it takes

	compression blob.Compression // of what this command stores
	sha256      bool             // of what is put
	access      blob.Access      // of a store that this command makes
	parity      int              // percent, of what this command stores; 0 is none
	started     bool             // a verb runs: errors before that are about usage
}

// dir returns the store's folder, which may not exist.
func (a *app) dir() (string, error) {
	if a.storeDir != "" {
		return a.storeDir, nil
	}
	if dir := os.Getenv("HEFT_STORE"); dir != "" {
		return dir, nil
	}
	return defaultStore(runtime.GOOS, os.Getenv)
}

// defaultStore returns the folder for a user's data on that system: the XDG
// Base Directory Specification 0.8 and what Apple and Microsoft name instead.
func defaultStore(goos string, env func(string) string) (string, error) {
	base, below := "", "heft"
	switch goos {
	case "windows":
		base = env("LocalAppData")
	case "darwin", "ios":
		base, below = env("HOME"), "Library/Application Support/heft"
	default:
		// The specification says to ignore a relative path.
		if base = env("XDG_DATA_HOME"); !filepath.IsAbs(base) {
			base, below = env("HOME"), ".local/share/heft"
		}
	}
	if base == "" {
		return "", withHint(errors.New("there is no folder for the store: this user has no home"), "name one with --store or HEFT_STORE")
	}
	return filepath.Join(base, filepath.FromSlash(below)), nil
}

func (a *app) options() *registry.Options {
	actor := a.actor
	if actor == "" {
		actor = os.Getenv("HEFT_ACTOR")
	}
	return &registry.Options{
		Actor: actor, Compression: a.compression, SHA256: a.sha256, Access: a.access, Parity: a.parity,
		Patience: blob.Patience{Tell: a.waiting, Limit: a.wait},
	}
}

// waiting tells, of a wait that lasts, who is waited for.
func (a *app) waiting(w blob.Wait) { a.note("waiting for %s: %s", w.Path, w.Holder) }

// open opens the store, which must exist. The caller closes it.
func (a *app) open(ctx context.Context) (*registry.Registry, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	r, err := registry.Open(ctx, dir, a.options())
	if errors.Is(err, registry.ErrNotFound) {
		return nil, withHint(exitWith(exitNotFound, "%s is not a heft store", dir), "make one with 'heft init', or name another with --store or HEFT_STORE")
	}
	return r, err
}

// openOrCreate opens the store, or makes it and says so. The caller closes it.
func (a *app) openOrCreate(ctx context.Context) (*registry.Registry, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	r, err := registry.Open(ctx, dir, a.options())
	if !errors.Is(err, registry.ErrNotFound) {
		return r, err
	}
	r, err = registry.Create(ctx, dir, a.options())
	if errors.Is(err, fs.ErrExist) { // somebody else was faster, or the folder holds other things
		if r, openErr := registry.Open(ctx, dir, a.options()); !errors.Is(openErr, registry.ErrNotFound) {
			return r, openErr
		}
		return nil, folderTaken(err)
	}
	if err != nil {
		return nil, err
	}
	a.note("created store %s", r.Dir())
	return r, nil
}

// folderTaken makes of Create's error, which says what is in the way,
// a conflict with a next step.
func folderTaken(err error) error {
	return withHint(exitWith(exitConflict, "%s", plain(err)), "'heft stats' tells what a store holds; --store names another folder")
}

// note tells something beside the result, on standard error.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
	}
}

// printJSON writes one JSON value to standard output.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table is rows of text, aligned when they are written. Nothing is written
// for a table without rows.
type table struct {
	w    io.Writer
	rows [][]string // the first is the header
}

// table returns a table with that header on standard output.
func (a *app) table(header ...string) *table {
	return &table{w: a.stdout, rows: [][]string{header}}
}

// row adds a row. Characters that would move the cursor are escaped.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

// flush writes the table, two spaces between columns and none at the end of
// a line.
func (t *table) flush() error {
	if len(t.rows) == 1 {
		return nil
	}
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, c := range row {
			line.WriteString(c)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// printable returns s with each character that a terminal would act upon, and
// each broken one, as a Go escape. A description may hold anything.
func printable(s string) string {
	if strings.IndexFunc(s, unsafeRune) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unsafeRune(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unsafeRune reports what is not shown as itself: control and formatting
// characters (among them those that turn the direction of writing), and
// spaces other than the plain one.
func unsafeRune(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// formatTime returns microseconds since 1970 as local time, to the minute.
func formatTime(us int64) string {
	return time.UnixMicro(us).Format("2006-01-02 15:04")
}

// formatSize returns a number of bytes with a binary unit.
func formatSize(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// plural returns "1 file" or "2 files".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + one + "s"
}
