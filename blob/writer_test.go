package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/heftstore/heft/internal/durable"
)

// wantEmpty checks that nothing was stored and nothing left.
func wantEmpty(t *testing.T, s *Store, m *durable.Mem) {
	t.Helper()
	if n := checkAll(t, s); n != 0 {
		t.Errorf("%d blobs were stored", n)
	}
	if left := names(m, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
}

func TestCommitMismatch(t *testing.T) {
	for _, size := range []int{0, 100, 2*mib + 5} {
		s, m := newMem(t, nil)
		w := s.Writer(t.Context())
		content := lines(size)
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		want := Sum([]byte("something else"))
		_, err := w.Commit(want)
		me, ok := errors.AsType[*MismatchError](err)
		if !ok || me.Want != want || me.Got != Sum(content) {
			t.Errorf("%d bytes: %v", size, err)
		}
		wantEmpty(t, s, m)
	}
}

func TestCloseWithoutCommit(t *testing.T) {
	for _, size := range []int{0, 100, mib, 3*mib + 1} {
		s, m := newMem(t, nil)
		w := s.Writer(t.Context())
		if _, err := w.Write(randomBytes(1, size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		wantEmpty(t, s, m)
		if _, err := w.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if _, err := w.ReadFrom(strings.NewReader("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadFrom after Close: %v", err)
		}
		if _, err := w.Commit(Digest{}); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Commit after Close: %v", err)
		}
		wantEmpty(t, s, m)
	}
}

func TestWriterAfterCommit(t *testing.T) {
	s, _ := newMem(t, nil)
	w := s.Writer(t.Context())
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(Sum([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("y")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Commit: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after Commit: %v", err)
	}
	wantBlob(t, s, []byte("x"))
}

// TestCancelledPut ends the context while the content arrives.
func TestCancelledPut(t *testing.T) {
	cause := errors.New("the user left")
	for _, after := range []int{0, 1, 3} { // frames
		s, m := newMem(t, &Options{Workers: 2})
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		source := readerFunc(func(p []byte) (int, error) {
			if n++; n > after*64 {
				cancel(cause)
			}
			return copy(p, randomBytes(uint64(n), mib/64)), nil
		})
		if _, err := s.Put(ctx, source); !errors.Is(err, cause) {
			t.Errorf("after %d frames: %v", after, err)
		}
		wantEmpty(t, s, m)
	}

	s, m := newMem(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	w := s.Writer(ctx)
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Commit(Digest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	wantEmpty(t, s, m)
	d := put(t, s, []byte("x")).Digest
	if _, err := s.Open(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Verify(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestFailingSources puts from readers that break their word or fail.
func TestFailingSources(t *testing.T) {
	broken := errors.New("the network went away")
	for _, c := range []struct {
		name   string
		source io.Reader
		want   error
	}{
		{"error at once", iotest.ErrReader(broken), broken},
		{"error later", io.MultiReader(bytes.NewReader(randomBytes(1, 2*mib+9)), iotest.ErrReader(broken)), broken},
		{"an end that is none", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{"an error around io.EOF", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(fmt.Errorf("connection: %w", io.EOF))), io.EOF},
		{"no progress", readerFunc(func([]byte) (int, error) { return 0, nil }), io.ErrNoProgress},
		{"count too large", readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), nil},
		{"count below zero", readerFunc(func([]byte) (int, error) { return -1, nil }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			info, err := s.Put(t.Context(), c.source)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%+v, %v", info, err)
			}
			wantEmpty(t, s, m)
		})
	}
	s, _ := newMem(t, nil)
	for _, r := range []io.Reader{iotest.OneByteReader(strings.NewReader("abc")), iotest.DataErrReader(strings.NewReader("abc"))} {
		if info, err := s.Put(t.Context(), r); err != nil || info.Digest != Sum([]byte("abc")) {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// TestSweepMeetsNewFile sweeps tmp in the moment between the making of a file
// and its lock: once so that the file is gone, once so that the sweep still
// holds it.
func TestSweepMeetsNewFile(t *testing.T) {
	for _, holds := range []string{"gone", "held"} {
		s, m := newMem(t, nil)
		other := openMem(t, m, nil)
		var busy atomic.Bool
		var held durable.File
		m.Fail(func(op durable.Op) error {
			if op.Kind != durable.OpLock || busy.Swap(true) {
				return nil
			}
			if holds == "gone" {
				return other.sweepFile(op.Name)
			}
			f, err := m.OpenWrite(op.Name)
			if err != nil {
				return err
			}
			held = f
			_, err = f.TryLock()
			return err
		})
		put(t, s, []byte("x"))
		m.Fail(nil)
		if !busy.Load() {
			t.Fatal("the sweep did not run")
		}
		if held != nil {
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wantBlob(t, s, []byte("x"))
		put(t, openMem(t, m, nil), []byte("y"))
		if left := names(m, "tmp"); len(left) != 0 {
			t.Errorf("%s: tmp has %v", holds, left)
		}
	}
}
