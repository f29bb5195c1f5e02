// Package codec encodes single frames.
//
// Every encoding is lossless. It decodes with nothing but the stored bytes, the
// codec's number, its parameter and, for those that have one, the plain bytes
// of a base, as docs/format.md specifies; docs/codec.md explains the choices.
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

// The codecs of docs/format.md. Delta and Cast need a base.
const (
	Raw      ID = 0
	Constant ID = 1
	Zstd     ID = 2
	Planes   ID = 3
	Delta    ID = 4
	Cast     ID = 5

	newest = int(Cast)
)

// Mode says how an Encoder works.
type Mode uint8

const (
	// Auto predicts from a sample what each codec would make of a frame, and
	// takes the least. A frame that would not shrink by a hundredth is raw.
	Auto Mode = iota
	// None stores every frame raw.
	None
	// ZstdOnly uses zstd for every frame that shrinks, at its default level,
	// all literals entropy-coded.
	ZstdOnly
)

// Encoder encodes frames. It keeps buffers between calls and is not safe for
// concurrent use.
type Encoder struct {
	mode   Mode
	enc    *zstd.Encoder // for frames
	quick  *zstd.Encoder // for samples
	dec    Decoder
	back   []byte   // decoded again, to compare
	parts  []byte   // planes
	planes [][]byte // parts of parts
	pairs  *pairs
	delta  *deltaEncoder
	marks  []uint64 // of elements that were seen
}

// NewEncoder returns an encoder for the mode.
func NewEncoder(mode Mode) *Encoder { return &Encoder{mode: mode} }

// Encode encodes plain, 1 to format.MaxFrame bytes of that kind, and proves that
// it decodes to the same bytes. base is nil, or the plain bytes of a frame of
// the same length that may be like it: only if the codec is Delta they were
// used. The stored bytes are plain itself when the codec is Raw, else dst grown
// as needed; they are valid until either changes.
func (e *Encoder) Encode(dst, plain []byte, k Kind, base []byte) (stored []byte, id ID, param uint8) {
	if e.mode == None {
		return plain, Raw, 0
	}
	if w := unit(plain); w > 0 {
		return append(dst[:0], plain[:w]...), Constant, uint8(w)
	}
	// Shorter frames can't repay what any codec begins with.
	if len(plain) < 64 {
		return plain, Raw, 0
	}
	if !k.valid() || k.Lead > len(plain) {
		k = Kind{}
	}
	for _, id := range e.choose(plain, k, base) {
		switch id {
		case Zstd:
			stored, param = e.zstd().EncodeAll(plain, dst[:0]), 0
		case Planes:
			stored, param = e.appendPlanes(dst[:0], plain, k), uint8(k.Elem)
		case Delta:
			stored, param = e.appendDelta(dst[:0], plain, base, k), uint8(k.Elem)
		}
		if len(stored) <= worthwhile(len(plain)) && e.decodes(stored, id, param, plain, base) {
			return stored, id, param
		}
	}
	return plain, Raw, 0
}

// EncodeCast encodes plain as a cast of the floats of wide, which is twice as
// long, if it is one. skip is the offset of wide in the base that a reader will
// have.
func (e *Encoder) EncodeCast(dst, plain, wide []byte, skip uint32) (stored []byte, param uint8, ok bool) {
	if e.mode != Auto {
		return nil, 0, false
	}
	return e.appendCast(dst, plain, wide, skip)
}

// worthwhile returns the most bytes that are accepted for n plain ones.
func worthwhile(n int) int { return n - max(n/100, 1) }

// decodes reports whether stored decodes to plain. A frame that doesn't is
// stored raw: an encoder's bug then costs space, not weights.
func (e *Encoder) decodes(stored []byte, id ID, param uint8, plain, base []byte) bool {
	if cap(e.back) < len(plain) {
		e.back = make([]byte, format.MaxFrame)
	}
	back := e.back[:len(plain)]
	return e.dec.Decode(back, stored, id, param, base) == nil && bytes.Equal(back, plain)
}

func newZstd(level zstd.EncoderLevel, literals bool) *zstd.Encoder {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(level),
		zstd.WithAllLitEntropyCompression(literals),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), // the frame has a BLAKE3 and a CRC
		zstd.WithWindowSize(format.MaxFrame),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
}

func (e *Encoder) zstd() *zstd.Encoder {
	if e.enc == nil {
		// Literals are stored raw where matches are rare unless it is told to
		// entropy-code them all.
		e.enc = newZstd(zstd.SpeedDefault, true)
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
	dec     *zstd.Decoder
	multi   multi
	scratch []byte // runs
	parts   []byte // planes
	delta   *deltaDecoder
}

// HasBase reports whether frames of the codec need a base.
func HasBase(id ID) bool { return id == Delta || id == Cast }

// Decode fills dst, whose length is the frame's plain length, from the stored
// bytes and, if HasBase, the base; neither may overlap dst. It never writes beyond dst and allocates no
// more than a few times format.MaxFrame whatever the stored bytes claim. It
// returns *format.NewerError for a codec that this release does not know, and
// an error that wraps ErrDamaged when the bytes can't be decoded to exactly
// len(dst). It does not check hashes.
func (d *Decoder) Decode(dst, stored []byte, id ID, param uint8, base []byte) error {
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
	case Planes:
		return d.decodePlanes(dst, stored, param)
	case Delta:
		return d.decodeDelta(dst, stored, base, param)
	case Cast:
		return decodeCast(dst, stored, base, param)
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
