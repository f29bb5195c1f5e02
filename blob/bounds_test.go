package blob

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/heftstore/heft/internal/promise"
	"github.com/klauspost/compress/zstd"
)

// maxDecode bounds, in bytes, what may be allocated to read a hostile blob of at
// most two frames: buffers of frames and of a base, a decoder of zstd with its
// window of 8 MiB at most.
const maxDecode = 32 << 20

// allocated returns how many bytes fn allocates.
func allocated(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// bomb returns a zstd frame of n zeros.
func bomb(t *testing.T, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// told returns a zstd frame whose header claims n bytes and the block b.
func told(n uint64, b []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0b11_1_00000} // single segment, 8 bytes of size
	for i := range 8 {
		out = append(out, byte(n>>(8*i)))
	}
	head := uint32(len(b))<<3 | 1 // the last block, raw
	return append(append(out, byte(head), byte(head>>8), byte(head>>16)), b...)
}

// hostileRow describes stored bytes as a frame of size bytes.
func hostileRow(rng *rand.Rand, stored []byte, c, param uint8, size int) format.Row {
	r := format.Row{PlainLen: uint32(size), StoredLen: uint32(len(stored)), CRC: crc32.Checksum(stored, castagnoli), Codec: c, Param: param}
	for i := range r.Sum {
		r.Sum[i] = byte(rng.Uint32())
	}
	if codec.HasBase(c) {
		r.Depth, r.Base, r.BaseFrame = 1, format.SelfBase, 0
	}
	return r
}

// TestPromiseDecodingIsBounded reads blobs whose frames claim more than there
// is, or are made of chance, in every codec.
func TestPromiseDecodingIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var worst int64
	blobs := 0
	read := func(what string, rows []format.Row, stored []byte) {
		t.Helper()
		s, m := newMem(t, nil) // no pool is warm
		d := Digest{byte(blobs), byte(blobs >> 8), 1}
		plant(t, m, d, &format.Table{Rows: rows}, stored)
		blobs++
		var err error
		n := allocated(func() { err = s.Verify(t.Context(), d) })
		if !isCorrupt(err) {
			t.Errorf("%s: %v is no *CorruptError", what, err)
		}
		if worst = max(worst, n); n > maxDecode {
			t.Errorf("%s: %d bytes were allocated, more than %d", what, n, maxDecode)
		}
	}

	gib := bomb(t, 1<<30)
	small := bomb(t, 1<<20)
	for _, b := range []struct {
		what   string
		stored []byte
	}{
		{fmt.Sprintf("a frame of %d bytes that holds 1 GiB", len(gib)), gib},
		{"a frame that says it holds 1 GiB", told(1<<30, small)},
		{"a frame that says it holds 2^63 bytes", told(1<<63, small)},
		{"a window of 2^41 bytes", append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xff}, small[6:]...)},
	} {
		for _, size := range []int{min(len(b.stored)+1, format.MaxFrame), format.MaxFrame} {
			read(b.what, []format.Row{hostileRow(rng, b.stored, codec.Zstd, 0, size)}, b.stored)
		}
	}

	base := randomBytes(3, format.MaxFrame)
	for i := range promise.Times(100, 20_000) {
		c := uint8(1 + i%5) // constant to cast
		param := uint8(rng.IntN(5))
		n := 1 + rng.IntN(200_000)
		if i%7 == 0 {
			n = 1 + rng.IntN(16)
		}
		stored := randomBytes(uint64(i), n)
		for j := range min(n, 40) { // plausible heads
			stored[j] &= byte(rng.Uint32())
		}
		size := min(format.MaxFrame, n+rng.IntN(format.MaxFrame))
		rows := []format.Row{rawRow(base), hostileRow(rng, stored, c, param, size)}
		if codec.HasBase(c) && i%2 == 0 {
			rows[1].PlainLen = format.MaxFrame
		}
		read(fmt.Sprintf("codec %d, parameter %d, %d bytes for %d", c, param, n, rows[1].PlainLen), rows, cat(base, stored))
	}
	promise.Kept(t, "%d hostile blobs in every codec: all refused, at most %.1f MiB allocated for one; %d bytes of zstd that hold 1 GiB are an error", blobs, float64(worst)/(1<<20), len(gib))
}
