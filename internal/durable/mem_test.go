package durable

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// TestContent compares with a plain slice, clones included.
func TestContent(t *testing.T) {
	type pair struct {
		c     content
		plain []byte
	}
	rapid.Check(t, func(rt *rapid.T) {
		all := []*pair{{}}
		size := rapid.OneOf(rapid.IntRange(0, 600), rapid.IntRange(0, 3*chunkSize),
			rapid.SampledFrom([]int{chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize}))
		for i := range rapid.IntRange(1, 30).Draw(rt, "ops") {
			p := all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
			switch rapid.IntRange(0, 5).Draw(rt, "kind") {
			case 0:
				if len(all) < 4 {
					all = append(all, &pair{p.c.clone(), bytes.Clone(p.plain)})
				}
			case 1:
				n := size.Draw(rt, "size")
				p.c.truncate(int64(n))
				p.plain = append(p.plain[:min(n, len(p.plain))], make([]byte, max(0, n-len(p.plain)))...)
			default:
				off, data := size.Draw(rt, "off"), bytes.Repeat([]byte{byte(i + 1)}, size.Draw(rt, "len"))
				p.c.writeAt(data, int64(off))
				if end := off + len(data); len(data) > 0 && end > len(p.plain) {
					p.plain = append(p.plain, make([]byte, end-len(p.plain))...)
				}
				copy(p.plain[min(off, len(p.plain)):], data)
			}
			for j, p := range all {
				// Filled, because readAt has to write the zeros too.
				got := bytes.Repeat([]byte{0xff}, len(p.plain)+10)
				n := p.c.readAt(got, 0)
				if int64(len(p.plain)) != p.c.size || !bytes.Equal(got[:n], p.plain) {
					rt.Fatalf("content %d differs after step %d", j, i)
				}
				off := min(size.Draw(rt, "from"), len(p.plain))
				n = p.c.readAt(got[:min(100, len(got))], int64(off))
				if !bytes.Equal(got[:n], p.plain[off:min(len(p.plain), off+100)]) {
					rt.Fatalf("content %d differs from %d on after step %d", j, off, i)
				}
			}
		}
	})
}

func TestMemTooLarge(t *testing.T) {
	m := NewMem()
	f, err := m.Create("x")
	must(t, err)
	_, err = f.WriteAt([]byte("x"), maxContent)
	wantErr(t, "WriteAt", err, syscall.EFBIG)
	_, err = f.WriteAt([]byte("x"), 1<<63-1)
	wantErr(t, "WriteAt of the last byte there is", err, syscall.EFBIG)
	wantErr(t, "Truncate", f.Truncate(maxContent+1), syscall.EFBIG)
	must(t, f.Truncate(maxContent))
	if info, err := f.Stat(); err != nil || info.Size() != maxContent {
		t.Errorf("Stat: %v, %v", info, err)
	}
}

// TestMemFail refuses each kind of operation once, and sees it happen after.
func TestMemFail(t *testing.T) {
	errDisk := errors.New("disk on fire")
	m := NewMem()
	put(t, m, "x", "hello")
	put(t, m, "o", "")
	put(t, m, "r", "")
	f, err := m.OpenWrite("x")
	must(t, err)
	for kind, call := range map[OpKind]func() error{
		OpCreate:    func() error { _, err := m.Create("new"); return err },
		OpWrite:     func() error { _, err := f.WriteAt([]byte("J"), 0); return err },
		OpTruncate:  func() error { return f.Truncate(4) },
		OpRename:    func() error { return m.Rename("x", "y") },
		OpRemove:    func() error { return m.Remove("r") },
		OpMkdir:     func() error { return m.Mkdir("d") },
		OpSync:      func() error { return f.Sync() },
		OpSyncDir:   func() error { return m.SyncDir(".") },
		OpOpen:      func() error { _, err := m.Open("o"); return err },
		OpOpenWrite: func() error { _, err := m.OpenWrite("o"); return err },
		OpRead:      func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		OpStat:      func() error { _, err := m.Stat("."); return err },
		OpReadDir:   func() error { _, err := m.ReadDir("."); return err },
		OpLock:      func() error { _, err := f.TryLock(); return err },
	} {
		called := 0
		m.Fail(func(op Op) error {
			if op.Kind != kind {
				return nil
			}
			if called++; called == 1 {
				return ShortWrite(0, errDisk)
			}
			return nil
		})
		if err := call(); err != errDisk { //nolint:errorlint // it must not be wrapped
			t.Errorf("%s: got %v, want the error of the hook itself", kind, err)
		}
		must(t, call()) // which would fail if the first call had done something
		if called != 2 {
			t.Errorf("%s: the hook was called %d times", kind, called)
		}
	}
}

func TestMemFailClose(t *testing.T) {
	errDisk := errors.New("disk on fire")
	m := NewMem()
	f, err := m.Create("x")
	must(t, err)
	_, err = f.TryLock()
	must(t, err)
	m.Fail(func(op Op) error { return errDisk })
	wantErr(t, "Close", f.Close(), errDisk)
	m.Fail(nil)
	g, err := m.Open("x")
	must(t, err)
	if ok, err := g.TryLock(); err != nil || !ok {
		t.Errorf("the failed Close kept the lock: %v, %v", ok, err)
	}
}

func TestMemShortWrite(t *testing.T) {
	errDisk := errors.New("disk full")
	m := NewMem()
	m.Record()
	f, err := m.Create("x")
	must(t, err)
	var ops []Op
	m.Fail(func(op Op) error {
		ops = append(ops, op)
		return ShortWrite(3, errDisk)
	})
	n, err := f.Write([]byte("hello"))
	if n != 3 || !errors.Is(err, errDisk) {
		t.Errorf("Write: %d, %v", n, err)
	}
	n, err = f.Write([]byte("ab"))
	if n != 2 || !errors.Is(err, errDisk) {
		t.Errorf("Write of less: %d, %v", n, err)
	}
	m.Fail(nil)
	if got := get(t, m, "x"); got != "helab" {
		t.Errorf("content is %q", got)
	}
	want := []Op{{Kind: OpWrite, Name: "x", Len: 5, N: 1}, {Kind: OpWrite, Name: "x", Off: 3, Len: 2, N: 2}}
	if len(ops) != 2 || ops[0] != want[0] || ops[1] != want[1] {
		t.Errorf("the hook saw %v", ops)
	}
	if trace := m.Trace(); len(trace) != 3 || trace[1] != "write x 0+3" || trace[2] != "write x 3+2" {
		t.Errorf("trace %q", trace)
	}
}

func TestOpString(t *testing.T) {
	for _, c := range []struct {
		op   Op
		want string
	}{
		{Op{Kind: OpCreate, Name: "a/b"}, "create a/b"},
		{Op{Kind: OpWrite, Name: "a", Off: 7, Len: 9}, "write a 7+9"},
		{Op{Kind: OpRead, Name: "a", Len: 9}, "read a 0+9"},
		{Op{Kind: OpTruncate, Name: "a", Off: 5}, "truncate a 5"},
		{Op{Kind: OpRename, Name: "a", To: "b"}, "rename a b"},
		{Op{Kind: OpSyncDir, Name: "."}, "syncdir ."},
	} {
		if got := c.op.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestMemConcurrent is for the race detector, with and without the log.
func TestMemConcurrent(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("d"))
	shared, err := m.Create("shared")
	must(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		name := string(rune('A' + i))
		wg.Go(func() {
			for j := range 50 {
				data := bytes.Repeat([]byte{byte(j)}, 1000)
				if err := WriteFile(m, name, "d/"+name, data); err != nil {
					t.Error(err)
				}
				if got, err := ReadFile(m, "d/"+name, 1000); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read back %d bytes, %v", len(got), err)
				}
				_, _ = shared.Write(data[:1])
				_, _ = shared.ReadAt(data, 0)
				_, _ = m.ReadDir("d")
				_, _ = m.Stat("d")
				if i == 0 && j == 25 {
					m.Record()
				}
				if i == 1 && m.Ops() > 0 {
					m.Crash(m.Ops()/2, random(j))
				}
			}
		})
	}
	wg.Wait()
	if info, err := shared.Stat(); err != nil || info.Size() != 8*50 {
		t.Errorf("shared file: %v, %v", info.Size(), err)
	}
}

func BenchmarkMemWrite(b *testing.B) {
	data := make([]byte, 1<<20)
	m := NewMem()
	f, err := m.Create("x")
	must(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := f.WriteAt(data, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMemAppend(b *testing.B) {
	data := make([]byte, 4<<10)
	m := NewMem()
	f, err := m.Create("x")
	must(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if off, err := f.Seek(0, io.SeekCurrent); err != nil || off > 64<<20 {
			must(b, f.Truncate(0))
			_, err = f.Seek(0, io.SeekStart)
			must(b, err)
		}
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
	}
}
