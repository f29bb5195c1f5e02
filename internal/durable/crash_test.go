package durable

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// dump returns the whole tree: directories end in a slash.
func dump(t testing.TB, fsys FS) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	var walk func(dir string)
	walk = func(dir string) {
		list, err := fsys.ReadDir(dir)
		must(t, err)
		for _, e := range list {
			name := path.Join(dir, e.Name())
			if !e.IsDir() {
				tree[name] = get(t, fsys, name)
				continue
			}
			tree[name+"/"] = ""
			walk(name)
		}
	}
	walk(".")
	return tree
}

func random(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

// overwrite opens name, stores data at its beginning and leaves syncing to the
// caller.
func overwrite(t testing.TB, fsys FS, name, data string) File {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	must(t, err)
	_, err = f.WriteAt([]byte(data), 0)
	must(t, err)
	return f
}

func TestCrashKeepsSynced(t *testing.T) {
	m := NewMem()
	m.Record()
	want := strings.Repeat("synced ", 2000)
	must(t, m.Mkdir("d"))
	must(t, m.SyncDir("."))
	put(t, m, "d/x", want)
	f := overwrite(t, m, "d/x", "")
	must(t, f.Sync())
	must(t, f.Close())
	must(t, m.SyncDir("d"))
	synced := m.Ops()

	for i := range 5 { // neighbours come and go
		put(t, m, fmt.Sprintf("d/y%d", i), "noise")
		put(t, m, fmt.Sprintf("z%d", i), "noise")
	}
	must(t, m.Rename("d/y0", "d/y1"))
	must(t, m.Rename("d/y2", "y"))
	must(t, m.Remove("d/y3"))
	must(t, m.Remove("z0"))

	for seed := range 2000 {
		rng := random(seed)
		c := m.Crash(synced+rng.IntN(m.Ops()-synced+1), rng)
		if got := get(t, c, "d/x"); got != want {
			t.Fatalf("seed %d: synced data is lost: %d of %d bytes", seed, len(got), len(want))
		}
	}
}

// TestCrashUnsynced sees every kind of outcome for a file of which neither
// bytes nor name were synced, and for one of which only the name was.
func TestCrashUnsynced(t *testing.T) {
	m := NewMem()
	m.Record()
	data := strings.Repeat("x", 4*sectorSize)
	put(t, m, "named", data)
	must(t, m.SyncDir("."))
	put(t, m, "new", data)
	seen := make(map[string]int)
	for seed := range 2000 {
		tree := dump(t, m.Crash(m.Ops(), random(seed)))
		got, ok := tree["named"]
		if !ok {
			t.Fatalf("seed %d: a synced name is lost", seed)
		}
		switch {
		case got == "":
			seen["named: empty"]++
		case got == data:
			seen["named: whole"]++
		case strings.Trim(got, "x") == "":
			seen["named: short"]++
		case len(got) == len(data):
			seen["named: holes"]++
		}
		for rest := got; len(rest) > 0; rest = rest[min(len(rest), sectorSize):] {
			sector := rest[:min(len(rest), sectorSize)]
			if strings.Trim(sector, "x") != "" && strings.Trim(sector, "\x00") != "" {
				t.Fatalf("seed %d: a sector is torn", seed)
			}
		}
		got, ok = tree["new"]
		switch {
		case !ok:
			seen["new: missing"]++
		case got == "":
			seen["new: empty"]++
		case got == data:
			seen["new: whole"]++
		}
	}
	for _, outcome := range []string{
		"named: empty", "named: whole", "named: short", "named: holes",
		"new: missing", "new: empty", "new: whole",
	} {
		if seen[outcome] < 20 {
			t.Errorf("%s: seen %d times in 2000", outcome, seen[outcome])
		}
	}
}

// TestCrashWriteFile checks that WriteFile never shows a half file, after any
// number of operations, and that the test would notice one.
func TestCrashWriteFile(t *testing.T) {
	writeUnsynced := func(fsys FS, tmp, name string, data []byte) error {
		f, err := fsys.Create(tmp)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close(), fsys.Rename(tmp, name), fsys.SyncDir(Parent(name)))
	}
	halfFiles := func(write func(FS, string, string, []byte) error) (half, lost int) {
		m := NewMem()
		must(t, m.Mkdir("tmp"))
		must(t, m.Mkdir("d"))
		m.Record()
		versions := []string{"", strings.Repeat("1", 3000), strings.Repeat("2", 2000), strings.Repeat("3", 5000)}
		finished := []int{0}
		for _, data := range versions[1:] {
			tmp := fmt.Sprintf("tmp/%d", len(finished))
			must(t, write(m, tmp, "d/x", []byte(data)))
			finished = append(finished, m.Ops())
		}
		for n := range m.Ops() + 1 {
			for seed := range 200 {
				tree := dump(t, m.Crash(n, random(seed)))
				version := slices.Index(versions, tree["d/x"])
				if version < 0 {
					half++
				} else if version+1 < len(finished) && finished[version+1] <= n {
					lost++
				}
			}
		}
		return half, lost
	}
	if half, lost := halfFiles(WriteFile); half+lost > 0 {
		t.Errorf("WriteFile: %d half files, %d acknowledged ones lost", half, lost)
	}
	if half, _ := halfFiles(writeUnsynced); half == 0 {
		t.Error("without the sync: no half file; the test shows nothing")
	}
	unsyncedName := func(fsys FS, tmp, name string, data []byte) error {
		return WriteFile(noDirSync{fsys}, tmp, name, data)
	}
	if half, lost := halfFiles(unsyncedName); half > 0 || lost == 0 {
		t.Errorf("without the directory's sync: %d half files, %d lost", half, lost)
	}
}

type noDirSync struct{ FS }

func (noDirSync) SyncDir(string) error { return nil }

func TestCrashFailedSync(t *testing.T) {
	errDisk := errors.New("disk on fire")
	m := NewMem()
	put(t, m, "x", "old old")
	m.Record()
	f := overwrite(t, m, "x", "new")
	m.Fail(func(op Op) error {
		if op.Kind == OpSync {
			return errDisk
		}
		return nil
	})
	wantErr(t, "Sync", f.Sync(), errDisk)
	m.Fail(nil)
	must(t, f.Sync()) // success, but there is nothing dirty any more
	if got := get(t, m, "x"); got != "new old" {
		t.Errorf("the cache reads as %q", got)
	}
	for seed := range 200 {
		if got := get(t, m.Crash(m.Ops(), random(seed)), "x"); got != "old old" {
			t.Fatalf("seed %d: a write before a failed sync persisted: %q", seed, got)
		}
	}
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	must(t, f.Sync())
	if got := get(t, m.Crash(m.Ops(), random(1)), "x"); got != "new old" {
		t.Errorf("written again and synced: %q", got)
	}
	want := []string{"write x 0+3", "sync x failed", "sync x", "write x 0+3", "sync x"}
	if got := m.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace %q", got)
	}
}

func TestCrashTruncate(t *testing.T) {
	m := NewMem()
	put(t, m, "x", "aaaa")
	m.Record()
	f := overwrite(t, m, "x", "")
	must(t, f.Truncate(2))
	_, err := f.WriteAt([]byte("bb"), 2)
	must(t, err)
	seen := make(map[string]bool)
	for seed := range 1000 {
		seen[get(t, m.Crash(m.Ops(), random(seed)), "x")] = true
	}
	// Before the truncation, after it, and after the write: with the data, in
	// full or in part, or without.
	want := map[string]bool{
		"aaaa": true, "aabb": true, "aa": true,
		"aa\x00\x00": true, "aa\x00": true, "aab": true,
	}
	if !maps.Equal(seen, want) {
		t.Errorf("saw %q, want %q", slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(want)))
	}
	must(t, f.Sync())
	if got := get(t, m.Crash(m.Ops(), random(1)), "x"); got != "aabb" {
		t.Errorf("synced: %q", got)
	}
}

// TestCrashTruncateAtOnce checks that a truncation takes effect as a whole: the
// old size comes with the old bytes, or with new ones, but not with zeros.
func TestCrashTruncateAtOnce(t *testing.T) {
	a, b := strings.Repeat("a", sectorSize), strings.Repeat("b", sectorSize)
	m := NewMem()
	put(t, m, "x", a+a)
	m.Record()
	f := overwrite(t, m, "x", "")
	must(t, f.Truncate(0))
	_, err := f.WriteAt([]byte(b), 0)
	must(t, err)
	seen := make(map[string]bool)
	for seed := range 500 {
		got := get(t, m.Crash(m.Ops(), random(seed)), "x")
		seen[got] = true
		if strings.Contains(got, "\x00") && len(got) > sectorSize || strings.Contains(got, "a") && len(got) < 2*sectorSize {
			t.Fatalf("seed %d: half a truncation: %q", seed, got)
		}
	}
	for _, want := range []string{a + a, b + a, b, ""} {
		if !seen[want] {
			t.Errorf("never saw %q", want)
		}
	}
}

func TestCrashIndependent(t *testing.T) {
	m := NewMem()
	put(t, m, "x", "base")
	m.Record()
	f := overwrite(t, m, "x", "live")
	must(t, f.Sync())
	if a, b := dump(t, m.Crash(2, random(7))), dump(t, m.Crash(2, random(7))); !maps.Equal(a, b) {
		t.Errorf("the same seed gave %q and %q", a, b)
	}
	c := m.Crash(2, random(1))
	d := m.Crash(2, random(1))
	cf := overwrite(t, c, "x", "copy")
	if locked, err := cf.TryLock(); err != nil || !locked {
		t.Errorf("TryLock after a crash: %v, %v", locked, err)
	}
	if c.Ops() != 0 || c.Trace() != nil {
		t.Error("the new tree records")
	}
	for name, fsys := range map[string]FS{"crashed": c, "other crash": d, "live": m, "before": m.Crash(0, random(1))} {
		want := map[string]string{"crashed": "copy", "before": "base"}[name]
		if want == "" {
			want = "live"
		}
		if got := get(t, fsys, "x"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestCrashReusedBuffer writes twice from one buffer, as a copy loop does.
func TestCrashReusedBuffer(t *testing.T) {
	m := NewMem()
	m.Record()
	f, err := m.Create("x")
	must(t, err)
	buf := []byte("one ")
	_, err = f.Write(buf)
	must(t, err)
	copy(buf, "two ")
	_, err = f.Write(buf)
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	if got := get(t, m.Crash(m.Ops(), random(1)), "x"); got != "one two " {
		t.Errorf("content is %q", got)
	}
}

// TestCrashBackwards asks for an earlier crash after a later one.
func TestCrashBackwards(t *testing.T) {
	m := NewMem()
	m.Record()
	must(t, m.Mkdir("d"))
	must(t, m.SyncDir("."))
	for _, n := range []int{2, 0, 2} {
		if _, got := dump(t, m.Crash(n, random(1)))["d/"]; got != (n == 2) {
			t.Errorf("directory after %d operations: %v", n, got)
		}
	}
}

func TestCrashPanics(t *testing.T) {
	panics := func(m *Mem, n int) (msg any) {
		defer func() { msg = recover() }()
		m.Crash(n, random(1))
		return nil
	}
	m := NewMem()
	if panics(m, 0) == nil {
		t.Error("Crash without Record returned")
	}
	m.Record()
	put(t, m, "x", "")
	for _, n := range []int{-1, 2} {
		if panics(m, n) == nil {
			t.Errorf("Crash(%d) of 1 operation returned", n)
		}
	}
	if msg := panics(m, 1); msg != nil {
		t.Errorf("Crash(1) of 1 operation: %v", msg)
	}
	m.Record()
	if m.Ops() != 0 {
		t.Error("Record again did not begin anew")
	}
}

// TestCrashAllSynced does anything at all, then syncs everything: now no crash
// may change a thing. Before that, any crash must leave a tree that works.
func TestCrashAllSynced(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMem()
		names := rapid.SampledFrom([]string{"a", "b", "d", "e", "d/a", "d/b", "e/d", "e/d/a"})
		if rapid.Bool().Draw(rt, "late") {
			must(t, m.Mkdir("d"))
			put(t, m, "d/a", strings.Repeat("base", 400))
		}
		m.Record()
		for range rapid.IntRange(1, 40).Draw(rt, "ops") {
			name := names.Draw(rt, "name")
			data := bytes.Repeat([]byte{byte(m.Ops())}, rapid.IntRange(0, 2000).Draw(rt, "len"))
			off := rapid.Int64Range(0, 3000).Draw(rt, "off")
			// Errors are part of the game: names are missing, or in the way.
			switch rapid.IntRange(0, 6).Draw(rt, "kind") {
			case 0:
				_, _ = m.Create(name)
			case 1:
				_ = m.Mkdir(name)
			case 2:
				_ = m.Rename(name, names.Draw(rt, "to"))
			case 3:
				_ = m.Remove(name)
			case 4:
				_ = m.SyncDir(name)
			default:
				f, err := m.OpenWrite(name)
				if err != nil {
					continue
				}
				_, err = f.WriteAt(data, off)
				must(t, err)
				if off%3 == 0 {
					must(t, f.Truncate(off/2))
				}
				if off%5 == 0 {
					must(t, f.Sync())
				}
			}
		}
		seed := rapid.IntRange(0, 1<<30).Draw(rt, "seed")
		dump(t, m.Crash(m.Ops()/2, random(seed)))
		want := dump(t, m)
		must(t, m.SyncDir("."))
		for name := range want {
			if dir, ok := strings.CutSuffix(name, "/"); ok {
				must(t, m.SyncDir(dir))
			} else {
				must(t, overwrite(t, m, name, "").Sync())
			}
		}
		for i := range 20 {
			if got := dump(t, m.Crash(m.Ops(), random(seed+i))); !maps.Equal(got, want) {
				rt.Fatalf("seed %d: crashed tree differs: %v", seed+i, m.Trace())
			}
		}
	})
}
