package blob

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

const mib = 1 << 20

// Contents, each the same for the same size in every release: golden files are
// compared with them.

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func repeated(unit string, n int) []byte {
	return bytes.Repeat([]byte(unit), n/len(unit)+1)[:n]
}

// lines is text that every general compressor shrinks.
func lines(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "step %d: loss %d, learning rate 0.0001\n", i/7, i%11)
	}
	return b.Bytes()[:n]
}

// floats looks like bf16 weights: normally distributed, so that the exponents
// repeat and the mantissas don't.
func floats(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 16))
	b := make([]byte, n+1)
	for i := 0; i < n; i += 2 {
		bits := math.Float32bits(float32(rng.NormFloat64() * 0.02))
		binary.LittleEndian.PutUint16(b[i:], uint16(bits>>16))
	}
	return b[:n]
}

// tree opens or creates the store in a Mem.

func newMem(t testing.TB, opts *Options) (*Store, *durable.Mem) {
	t.Helper()
	m := durable.NewMem()
	s, err := create(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

func openMem(t testing.TB, m durable.FS, opts *Options) *Store {
	t.Helper()
	s, err := open(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mount opens one store after the other with the same buffers: making them anew
// takes most of the time of a test that opens thousands. A store that it returns
// must not be used any more when the next one is opened.
type mount struct{ s *Store }

func (m *mount) open(fsys durable.FS, opts *Options) (*Store, error) {
	s, err := open(fsys, opts)
	return m.use(s), err
}

func (m *mount) create(fsys durable.FS, opts *Options) (*Store, error) {
	s, err := create(fsys, opts)
	return m.use(s), err
}

func (m *mount) use(s *Store) *Store {
	if s == nil || m.s == nil {
		m.s = s
		return s
	}
	m.s.fsys, m.s.opts, m.s.config = s.fsys, s.opts, s.config
	m.s.sweep = sync.Once{}
	m.s.rooted.Store(s.rooted.Load())
	return m.s
}

func put(t testing.TB, s *Store, content []byte) Info {
	t.Helper()
	info, err := s.Put(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if info.Digest != Sum(content) || info.Size != int64(len(content)) {
		t.Fatalf("put of %d bytes returned %+v", len(content), info)
	}
	return info
}

// readAll reads the whole blob through Read alone.
func readAll(ctx context.Context, s *Store, d Digest) ([]byte, error) {
	r, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := bytes.NewBuffer(make([]byte, 0, r.Size()+bytes.MinRead))
	_, err = b.ReadFrom(struct{ io.Reader }{r})
	return b.Bytes(), err
}

// wantBlob fails the test unless s has content, undamaged.
func wantBlob(t testing.TB, s *Store, content []byte) {
	t.Helper()
	got, err := readAll(t.Context(), s, Sum(content))
	if err != nil {
		t.Fatalf("reading %s: %v", Sum(content).Short(), err)
	}
	if !bytes.Equal(got, content) {
		t.Fatalf("read %d bytes that differ from the %d that were put", len(got), len(content))
	}
	if err := s.Verify(t.Context(), Sum(content)); err != nil {
		t.Fatalf("verify: %v", err)
	}
}

// Files under a store, below its back.

func loadFile(t testing.TB, fsys durable.FS, name string) []byte {
	t.Helper()
	b, err := durable.ReadFile(fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// saveFile replaces the bytes of a file in place, or makes it.
func saveFile(t testing.TB, fsys durable.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		if f, err = fsys.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// flip changes the bits of mask in one byte of a file.
func flip(t testing.TB, fsys durable.FS, name string, at int64, mask byte) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= mask
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// names lists a folder; none if it is missing.
func names(fsys durable.FS, dir string) []string {
	var out []string
	entries, _ := fsys.ReadDir(dir)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// layout returns the places of a blob's frames, one letter a frame: H, B or R,
// and the codec of each held one.
func layout(t testing.TB, s *Store, d Digest) string {
	t.Helper()
	f, err := s.openFile(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var b strings.Builder
	for _, r := range f.table.Rows {
		b.WriteByte("HBR"[r.Place])
		if r.Place == format.Held {
			b.WriteByte('0' + r.Codec)
		}
	}
	return b.String()
}

// hints is a map of frames for Options.Known, filled from blobs.
type hints map[Digest]FrameRef

func (h hints) known(_ context.Context, d Digest) (FrameRef, bool) {
	ref, ok := h[d]
	return ref, ok
}

// learn adds the frames of a stored blob.
func (h hints) learn(t testing.TB, s *Store, d Digest) {
	t.Helper()
	_, frames, err := s.Frames(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		if f.Held {
			h[f.Digest] = FrameRef{Blob: d, Frame: uint32(i)}
		}
	}
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }
