package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
)

// oddReader gives b in pieces of odd lengths, the last with io.EOF.
type oddReader struct {
	b []byte
	n int
}

func (r *oddReader) Read(p []byte) (int, error) {
	r.n = r.n*5%9973 + 7
	c := copy(p, r.b[:min(len(r.b), r.n)])
	r.b = r.b[c:]
	if len(r.b) == 0 {
		return c, io.EOF
	}
	return c, nil
}

var roundTripSizes = []int{0, 1, 63, 64, 65, mib - 1, mib, mib + 1, 3*mib + mib/2}

var contents = []struct {
	name string
	make func(n int) []byte
}{
	{"random", func(n int) []byte { return randomBytes(1, n) }},
	{"zeros", func(n int) []byte { return make([]byte, n) }},
	{"units of 2", func(n int) []byte { return repeated("\x3f\x80", n) }},
	{"units of 8", func(n int) []byte { return repeated("01234567", n) }},
	{"units of 3", func(n int) []byte { return repeated("abc", n) }},
	{"text", lines},
	{"floats", func(n int) []byte { return floats(1, n) }},
	{"a tensor", func(n int) []byte { return safetensors(tensor{"w", "BF16", floats(2, n&^1)}) }},
	{"a tensor of bytes", func(n int) []byte { return oneTensor(randomBytes(1, n)) }},
}

func TestStoreRoundTrip(t *testing.T) {
	for i := range 2 * (Zstd + 1) {
		c, workers := i/2, int(i%2)+1
		t.Run(fmt.Sprintf("%s, %d workers", c, workers), func(t *testing.T) {
			s, _ := newMem(t, &Options{Compression: c, Workers: workers})
			for _, kind := range contents {
				for _, n := range roundTripSizes {
					t.Run(fmt.Sprintf("%s %d", kind.name, n), func(t *testing.T) {
						content := kind.make(n)
						put(t, s, content)
						checkReads(t, s, content)
					})
				}
			}
		})
	}
}

// checkReads reads content in every way that a Reader has.
func checkReads(t *testing.T, s *Store, content []byte) {
	wantBlob(t, s, content) // Read
	r, err := s.Open(t.Context(), Sum(content))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != int64(len(content)) || r.Digest() != Sum(content) {
		t.Fatalf("size %d, digest %s", r.Size(), r.Digest())
	}

	var whole bytes.Buffer
	if n, err := r.WriteTo(&whole); err != nil || n != int64(len(content)) || !bytes.Equal(whole.Bytes(), content) {
		t.Fatalf("WriteTo: %d bytes, %v", n, err)
	}
	if n, err := r.WriteTo(&whole); n != 0 || err != nil {
		t.Fatalf("WriteTo at the end: %d bytes, %v", n, err)
	}

	rng := rand.New(rand.NewPCG(uint64(len(content)), 1))
	ranges := make([][2]int, 24)
	for i := range ranges {
		from := rng.IntN(len(content) + 1)
		ranges[i] = [2]int{from, from + rng.IntN(min(len(content)-from, 1+rng.IntN(2*mib))+1)}
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < len(ranges); i += 4 {
				from, to := ranges[i][0], ranges[i][1]
				p := make([]byte, to-from)
				if n, err := r.ReadAt(p, int64(from)); err != nil || n != len(p) || !bytes.Equal(p, content[from:to]) {
					t.Errorf("ReadAt %d+%d: %d bytes, %v", from, len(p), n, err)
				}
			}
		})
	}
	wg.Wait()

	for _, at := range []int{len(content) / 2, len(content), 0} {
		if pos, err := r.Seek(int64(at-len(content)), io.SeekEnd); err != nil || pos != int64(at) {
			t.Fatalf("Seek to %d: %d, %v", at, pos, err)
		}
		if got, err := io.ReadAll(struct{ io.Reader }{r}); err != nil || !bytes.Equal(got, content[at:]) {
			t.Fatalf("Read after Seek to %d: %d bytes, %v", at, len(got), err)
		}
	}
	if _, err := r.Seek(int64(len(content)/3), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	whole.Reset()
	if _, err := r.WriteTo(&whole); err != nil || !bytes.Equal(whole.Bytes(), content[len(content)/3:]) {
		t.Fatalf("WriteTo after Seek: %d bytes, %v", whole.Len(), err)
	}
}

// TestReaderKeepsReaderRules has the standard library check Read, ReadAt and
// Seek, in a blob with a frame boundary.
func TestReaderKeepsReaderRules(t *testing.T) {
	s, _ := newMem(t, nil)
	for _, content := range [][]byte{nil, lines(5000), cat(make([]byte, mib), randomBytes(2, 1000))} {
		d := put(t, s, content).Digest
		r, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		// TestReader reads three times a byte at a time.
		if err := iotest.TestReader(r, content); err != nil {
			t.Errorf("%d bytes: %v", len(content), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReaderRefusesBadOffsets(t *testing.T) {
	s, _ := newMem(t, nil)
	r, err := s.Open(t.Context(), put(t, s, lines(100)).Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.ReadAt(make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadAt -1: %v", err)
	}
	if _, err := r.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Seek -1: %v", err)
	}
	if _, err := r.Seek(0, 3); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Seek with whence 3: %v", err)
	}
	if n, err := r.ReadAt(make([]byte, 10), 95); n != 5 || err != io.EOF {
		t.Errorf("ReadAt beyond the end: %d, %v", n, err)
	}
	if n, err := r.ReadAt(make([]byte, 10), 100); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
}

// TestWriterOddWrites checks that how the bytes arrive changes nothing on
// disk.
func TestWriterOddWrites(t *testing.T) {
	for _, n := range []int{0, 1, 64, mib - 1, mib, mib + 1, 2*mib + 17} {
		content := cat(lines(n/2), randomBytes(4, n-n/2))
		a, am := newMem(t, nil)
		put(t, a, content)
		for _, size := range []int{13, 4099, mib, mib + 3} {
			if size == 13 && n > 2*mib {
				continue // the same as for the shorter ones
			}
			b, bm := newMem(t, nil)
			w := b.Writer(t.Context())
			for rest := content; len(rest) > 0; {
				c, err := w.Write(rest[:min(size, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[c:]
			}
			info, err := w.Commit(Sum(content))
			if err != nil {
				t.Fatal(err)
			}
			name := blobPath(info.Digest)
			if !bytes.Equal(loadFile(t, am, name), loadFile(t, bm, name)) {
				t.Errorf("%d bytes in writes of %d: the file differs from that of Put", n, size)
			}
		}
	}
}

// TestInfoAgrees checks that Put, Stat, Frames and the file agree.
func TestInfoAgrees(t *testing.T) {
	s, m := newMem(t, nil)
	content := oneTensor(cat(lines(mib), make([]byte, mib), lines(mib), randomBytes(5, 100)))
	info := put(t, s, content)
	if got := layout(t, s, info.Digest); got != "H2H2H1RH0" {
		t.Fatalf("layout %s", got)
	}
	st, frames, err := s.Frames(t.Context(), info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(loadFile(t, m, blobPath(info.Digest))))
	if info.Stored != size || st.Stored != size || st.Size != info.Size || info.Known {
		t.Errorf("put says %+v, stat %+v, the file has %d bytes", info, st, size)
	}
	var plain, stored int64
	for _, f := range frames {
		plain += f.Size
		stored += f.Stored
		if f.Held != (f.Stored > 0) {
			t.Errorf("frame %+v", f)
		}
	}
	if plain != info.Size || stored != size-16-128-5*64 {
		t.Errorf("the frames hold %d plain and %d stored bytes of %d and %d", plain, stored, info.Size, size)
	}
	if _, err := s.Stat(t.Context(), Sum([]byte("other"))); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of an unknown blob: %v", err)
	}
	if _, err := s.Open(t.Context(), Sum([]byte("other"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open of an unknown blob: %v", err)
	}
}
