// Package codec encodes single frames.
//
// Every encoding is lossless and decodes with nothing but the stored bytes,
// the codec's number and its parameter, as docs/format.md specifies.
package codec

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/heftstore/heft/internal/format"
	"github.com/klauspost/compress/zstd"
)

// ID is a codec's number on disk.
type ID = uint8

// The codecs of docs/format.md.
const (
	Raw      ID = 0
	Constant ID = 1
	Zstd     ID = 2

	newest = int(Zstd)
)

// Mode says how hard an Encoder tries.
type Mode uint8

const (
	// Auto stores a frame raw unless a fast search for repeats saves at
	// least an eighth of it. Float weights stay raw: entropy-coding them as
	// bytes costs 2 to 3 CPU seconds a GiB to write and 1 to read, for 7 to
	// 22% (docs/decisions/0003-auto-leaves-floats-raw.md).
	Auto Mode = iota
	// None stores every frame raw.
	None
	// Smallest spends what zstd can use: default level, all literals
	// entropy-coded. A frame that does not shrink is raw.
	Smallest
)

// Encoder encodes frames. It keeps buffers between calls and is not safe for
// concurrent use.
type Encoder struct {
	mode Mode
	enc  *zstd.Encoder
	dec  Decoder
	back []byte // decoded again, to compare
}

// NewEncoder returns an encoder for the mode.
func NewEncoder(mode Mode) *Encoder { return &Encoder{mode: mode} }

// Encode encodes plain, 1 to format.MaxFrame bytes, and proves that it decodes
// to the same bytes. The stored bytes are plain itself when the codec is Raw,
// else dst grown as needed; they are valid until either changes.
func (e *Encoder) Encode(dst, plain []byte) (stored []byte, id ID, param uint8) {
	if e.mode == None {
		return plain, Raw, 0
	}
	if w := unit(plain); w > 0 {
		return append(dst[:0], plain[:w]...), Constant, uint8(w)
	}
	limit := len(plain) - 1
	if e.mode == Auto {
		limit = worthwhile(len(plain))
	}
	// Shorter frames can't repay zstd's own header.
	if len(plain) < 64 || e.mode == Auto && !e.promising(dst, plain) {
		return plain, Raw, 0
	}
	stored = e.zstd().EncodeAll(plain, dst[:0])
	if len(stored) > limit || !e.decodes(stored, Zstd, 0, plain) {
		return plain, Raw, 0
	}
	return stored, Zstd, 0
}

// worthwhile returns the most bytes that Auto accepts for n plain ones.
func worthwhile(n int) int { return n - n/8 }

// samples and sampleSize are how much of a frame Auto tries before all of it:
// a sixteenth. On float weights, which hold no repeats, the search through
// whole frames cost 0.8 CPU seconds a GiB, a third of a put (measured).
const (
	samples    = 2
	sampleSize = 32 << 10
)

// promising reports whether one of the samples of a frame shrinks enough.
// Repeats that lie further apart than a sample are not seen.
func (e *Encoder) promising(dst, plain []byte) bool {
	if len(plain) <= samples*sampleSize {
		return true // as cheap to try
	}
	for i := range samples {
		at := (2*i + 1) * (len(plain) - sampleSize) / (2 * samples)
		if len(e.zstd().EncodeAll(plain[at:at+sampleSize], dst[:0])) <= worthwhile(sampleSize) {
			return true
		}
	}
	return false
}

// decodes reports whether stored decodes to plain. A frame that doesn't is
// stored raw: an encoder's bug then costs space, not weights.
func (e *Encoder) decodes(stored []byte, id ID, param uint8, plain []byte) bool {
	if cap(e.back) < len(plain) {
		e.back = make([]byte, format.MaxFrame)
	}
	back := e.back[:len(plain)]
	return e.dec.Decode(back, stored, id, param) == nil && bytes.Equal(back, plain)
}

func (e *Encoder) zstd() *zstd.Encoder {
	if e.enc == nil {
		// The two fastest levels store literals raw where matches are rare,
		// which is everywhere in float weights, unless told to entropy-code
		// them all.
		level, literals := zstd.SpeedDefault, true
		if e.mode == Auto {
			level, literals = zstd.SpeedFastest, false
		}
		var err error
		e.enc, err = zstd.NewWriter(nil,
			zstd.WithEncoderLevel(level),
			zstd.WithAllLitEntropyCompression(literals),
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), // the frame has a BLAKE3 and a CRC
			zstd.WithWindowSize(format.MaxFrame),
			zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
	}
	return e.enc
}

// unit returns the width of the shortest unit of 1, 2, 4 or 8 bytes that
// repeats through all of b, or 0. It gives up at the first difference, so
// that it costs nothing on ordinary frames.
func unit(b []byte) int {
	for _, w := range [...]int{1, 2, 4, 8} {
		if len(b) > w && len(b)%w == 0 && bytes.Equal(b[w:], b[:len(b)-w]) {
			return w
		}
	}
	return 0
}

// ErrDamaged is wrapped by what Decode returns for stored bytes that can't be
// decoded.
var ErrDamaged = errors.New("codec: damaged frame")

// Decoder decodes frames. The zero Decoder is ready; it keeps buffers between
// calls and is not safe for concurrent use.
type Decoder struct {
	dec *zstd.Decoder
}

// Decode fills dst, whose length is the frame's plain length, from the stored
// bytes. It never writes beyond dst and allocates no more than a few times
// format.MaxFrame whatever the stored bytes claim. It returns
// *format.NewerError for a codec that this release does not know, and an error
// that wraps ErrDamaged when the bytes can't be decoded to exactly len(dst).
// It does not check hashes.
func (d *Decoder) Decode(dst, stored []byte, id ID, param uint8) error {
	switch id {
	case Raw:
		if param != 0 || len(stored) != len(dst) {
			return damaged("raw: %d stored bytes for %d plain ones, parameter %d", len(stored), len(dst), param)
		}
		copy(dst, stored)
		return nil
	case Constant:
		w := int(param)
		if w != 1 && w != 2 && w != 4 && w != 8 || w != len(stored) || len(dst)%w != 0 {
			return damaged("constant: a unit of %d bytes, %d stored, for %d plain ones", w, len(stored), len(dst))
		}
		// Doubling copies fill dst at memory speed.
		for n := copy(dst, stored); n < len(dst); {
			n += copy(dst[n:], dst[:n])
		}
		return nil
	case Zstd:
		if param != 0 {
			return damaged("zstd: parameter %d", param)
		}
		return d.zstd(dst, stored)
	}
	return &format.NewerError{What: "codec", Found: int(id), Supported: newest}
}

func (d *Decoder) zstd(dst, stored []byte) error {
	if d.dec == nil {
		var err error
		d.dec, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(8<<20),
			zstd.WithDecodeAllCapLimit(true)) // never beyond dst's capacity
		if err != nil {
			panic(err) // the options are constants
		}
	}
	out, err := d.dec.DecodeAll(stored, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("%w: zstd: %w", ErrDamaged, err)
	}
	if len(out) != len(dst) || len(out) > 0 && &out[0] != &dst[0] {
		return damaged("zstd: %d plain bytes, not %d", len(out), len(dst))
	}
	return nil
}

func damaged(reason string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(reason, args...))
}
