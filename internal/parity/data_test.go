package parity

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// buffer is a file in memory.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if need := int(off) + len(p); need > len(b.b) {
		b.b = append(b.b, make([]byte, need-len(b.b))...)
	}
	return copy(b.b[off:], p), nil
}

func (b *buffer) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(b.b).ReadAt(p, off) }

// sick is a file of which some ranges can't be read.
type sick struct {
	io.ReaderAt
	ranges [][2]int64
}

func (s sick) ReadAt(p []byte, off int64) (int, error) {
	for _, r := range s.ranges {
		if off < r[1] && r[0] < off+int64(len(p)) {
			return 0, syscall.EIO
		}
	}
	return s.ReaderAt.ReadAt(p, off)
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func at(b []byte) io.ReaderAt { return bytes.NewReader(b) }

// protect returns the parity file of content.
func protect(t testing.TB, content []byte, percent int) []byte {
	t.Helper()
	var out buffer
	n, err := Write(t.Context(), &out, at(content), int64(len(content)), percent)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(len(out.b)) {
		t.Fatalf("Write says %d bytes, and wrote %d", n, len(out.b))
	}
	return out.b
}

func open(t testing.TB, par []byte) *File {
	t.Helper()
	f, err := Open(at(par), int64(len(par)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// repair scans and repairs, and returns what it wrote.
func repair(t testing.TB, par, damaged []byte) ([]byte, *Damage, error) {
	t.Helper()
	return repairFrom(t, open(t, par), at(damaged), int64(len(damaged)))
}

func repairFrom(t testing.TB, f *File, src io.ReaderAt, size int64) ([]byte, *Damage, error) {
	t.Helper()
	d, err := f.Scan(t.Context(), src, size)
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	err = f.Repair(t.Context(), &out, src, d)
	return out.b, d, err
}

// spoil changes at least one byte of each piece [i*size, (i+1)*size) of b.
func spoil(b []byte, i int64, size int, rng *rand.Rand) {
	from := i * int64(size)
	p := b[from:min(from+int64(size), int64(len(b)))]
	before := clone(p)
	for range 1 + rng.IntN(4) {
		p[rng.IntN(len(p))] ^= byte(1 + rng.IntN(255))
	}
	if slices.Equal(p, before) { // they have cancelled out
		p[0] ^= 0x55
	}
}

func clone(b []byte) []byte { return slices.Clone(b) }
