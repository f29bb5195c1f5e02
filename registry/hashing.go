package registry

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"
)

const (
	// sumBuffer is what is handed over at once: at a GiB/s a quarter of
	// a millisecond of work, a hundred times what starting a goroutine costs.
	sumBuffer = 256 << 10
	// sumBuffers is how many there are: one is filled, one hashed, and two
	// let either side fall behind for a moment.
	sumBuffers = 4
)

// hasher computes the SHA-256 of what is written to it on a goroutine of its
// own, which runs only while there is something to hash: one that is dropped
// without a sum leaves nothing behind. It is for one writer at a time.
type hasher struct {
	tail []byte // being filled

	mu     sync.Mutex
	idle   sync.Cond // a buffer was hashed
	full   [][]byte  // to be hashed, in order
	free   [][]byte
	made   int  // buffers
	active bool // a goroutine is hashing
	hash   hash.Hash
}

func newHasher() *hasher {
	h := &hasher{hash: sha256.New()}
	h.idle.L = &h.mu
	return h
}

// Write takes all of p and never fails.
func (h *hasher) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if h.tail == nil {
			h.tail = h.buffer()
		}
		n := min(len(rest), cap(h.tail)-len(h.tail))
		h.tail = append(h.tail, rest[:n]...)
		rest = rest[n:]
		if len(h.tail) == cap(h.tail) {
			h.push(h.tail)
			h.tail = nil
		}
	}
	return len(p), nil
}

// buffer returns an empty buffer, for which it may wait.
func (h *hasher) buffer() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.free) == 0 {
		if h.made < sumBuffers {
			h.made++
			return make([]byte, 0, sumBuffer)
		}
		h.idle.Wait()
	}
	b := h.free[len(h.free)-1]
	h.free = h.free[:len(h.free)-1]
	return b[:0]
}

// push has b hashed after those before it.
func (h *hasher) push(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.full = append(h.full, b)
	if !h.active {
		h.active = true
		go h.work()
	}
}

// work hashes until nothing is left.
func (h *hasher) work() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.full) > 0 {
		b := h.full[0]
		h.full = append(h.full[:0], h.full[1:]...)
		h.mu.Unlock()
		_, _ = h.hash.Write(b) // never fails
		h.mu.Lock()
		h.free = append(h.free, b)
		h.idle.Broadcast()
	}
	h.active = false
	h.idle.Broadcast()
}

// sum returns the SHA-256 of all that was written so far, for which it waits.
func (h *hasher) sum() (s SHA256) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.active {
		h.idle.Wait()
	}
	_, _ = h.hash.Write(h.tail) // never fails
	h.tail = h.tail[:0]
	h.hash.Sum(s[:0])
	return s
}

// newHashing returns a reader that hands out exactly what src does, and
// a function that returns the SHA-256 of all that its Read has handed out so
// far. If src is an io.ReaderAt and an io.Seeker, so is the reader: whoever
// stores it may look around, but has to Seek back before it calls Read, because
// only what Read hands out is hashed. The function need not be called.
func newHashing(src io.Reader) (io.Reader, func() SHA256) {
	h := newHasher()
	r := &hashingReader{src, h}
	if s, ok := src.(seekable); ok {
		return &hashingFile{r, s}, h.sum
	}
	return r, h.sum
}

type seekable interface {
	io.ReaderAt
	io.Seeker
}

// hashingReader has no WriteTo, whatever its source has: that would pass it by.
type hashingReader struct {
	src    io.Reader
	hasher *hasher
}

func (r *hashingReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	if n > 0 && n <= len(p) { // of a broken reader there is nothing to hash
		_, _ = r.hasher.Write(p[:n])
	}
	return n, err
}

type hashingFile struct {
	*hashingReader
	seekable
}
