package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/heftstore/heft/internal/format"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// guard is what a decoder must leave alone around its output.
const guard = 64

// tester is what *testing.T and *rapid.T share.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// decode decodes into the middle of a larger buffer, and checks that nothing
// around it changed.
func decode(t tester, dec *Decoder, n int, stored []byte, id ID, param uint8, base []byte) ([]byte, error) {
	t.Helper()
	buf := bytes.Repeat([]byte{0xA5}, n+2*guard)
	dst := buf[guard : guard+n]
	before, baseBefore := bytes.Clone(stored), bytes.Clone(base)
	err := dec.Decode(dst, stored, id, param, base)
	for i, b := range buf {
		if b != 0xA5 && (i < guard || i >= guard+n) {
			t.Fatalf("codec %d wrote %d bytes from the buffer for %d", id, i-guard, n)
		}
	}
	if !bytes.Equal(before, stored) || !bytes.Equal(baseBefore, base) {
		t.Fatalf("codec %d changed the stored bytes or the base", id)
	}
	return dst, err
}

// frames draws the plain bytes of a frame: random, repetitive, constant, or a
// mixture.
func frames(t *rapid.T) []byte {
	n := rapid.OneOf(
		rapid.IntRange(1, 300),
		rapid.IntRange(1, 70_000),
		rapid.SampledFrom([]int{1, 63, 64, 65, 1 << 16, format.MaxFrame - 1, format.MaxFrame}),
	).Draw(t, "length")
	unit := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "unit")
	b := bytes.Repeat(unit, n/len(unit)+1)[:n]
	noise := rapid.SampledFrom([]int{0, 0, 1, 10, n}).Draw(t, "changed bytes")
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	for range noise {
		b[rng.IntN(n)] = byte(rng.Uint32())
	}
	return b
}

func TestEncodeRoundTrip(t *testing.T) {
	for mode, name := range map[Mode]string{Auto: "auto", None: "none", ZstdOnly: "zstd"} {
		t.Run(name, func(t *testing.T) {
			enc, dec := NewEncoder(mode), &Decoder{}
			var dst []byte
			rapid.Check(t, func(t *rapid.T) {
				plain := frames(t)
				before := bytes.Clone(plain)
				stored, id, param := enc.Encode(dst, plain, Kind{}, nil)
				if id != Raw {
					dst = stored // reused, as a writer does
				}
				if !bytes.Equal(plain, before) {
					t.Fatal("Encode changed the plain bytes")
				}
				if len(stored) == 0 || len(stored) > len(plain) || id == Raw && len(stored) != len(plain) || id != Raw && len(stored) == len(plain) {
					t.Fatalf("codec %d: %d stored bytes for %d", id, len(stored), len(plain))
				}
				if mode == None && id != Raw || id == Raw && &stored[0] != &plain[0] {
					t.Fatalf("codec %d in mode %d", id, mode)
				}
				got, err := decode(t, dec, len(plain), stored, id, param, nil)
				if err != nil || !bytes.Equal(got, before) {
					t.Fatalf("codec %d, parameter %d: %v", id, param, err)
				}
			})
		})
	}
}

func text(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = binary.AppendUvarint(append(b, "some line of text, number "...), uint64(i))
	}
	return b[:n]
}

func TestEncodeChoices(t *testing.T) {
	noise := make([]byte, format.MaxFrame)
	var key [32]byte
	_, _ = rand.NewChaCha8(key).Read(noise) // never fails
	almost := bytes.Repeat([]byte{7}, 4096)
	almost[4000] = 8
	// Zeros in a row: a sixteenth of the bytes, and less than Auto wants to save.
	little, less := bytes.Clone(noise), bytes.Clone(noise)
	clear(little[:len(little)/16])
	clear(less[:len(less)/64])
	for _, c := range []struct {
		name           string
		plain          []byte
		auto, smallest ID
		param          uint8
	}{
		{"noise", noise, Raw, Raw, 0},
		{"one byte", []byte{1}, Raw, Raw, 0},
		{"two equal bytes", []byte{1, 1}, Constant, Constant, 1},
		{"two bytes", []byte{1, 2}, Raw, Raw, 0},
		{"bytes", make([]byte, 1000), Constant, Constant, 1},
		{"bytes, odd length", make([]byte, 1001), Constant, Constant, 1},
		{"units of 2", bytes.Repeat([]byte{1, 2}, 500), Constant, Constant, 2},
		{"units of 4", bytes.Repeat([]byte{1, 1, 1, 2}, 500), Constant, Constant, 4},
		{"units of 8", bytes.Repeat([]byte("8 bytes."), 500), Constant, Constant, 8},
		{"units of 2, odd length", bytes.Repeat([]byte{1, 2}, 500)[:999], Zstd, Zstd, 0},
		{"units of 3", bytes.Repeat([]byte{1, 2, 3}, 500), Zstd, Zstd, 0},
		{"units of 16", bytes.Repeat([]byte("sixteen bytes..."), 500), Zstd, Zstd, 0},
		{"nearly constant", almost, Zstd, Zstd, 0},
		{"short text", text(63), Raw, Raw, 0},
		{"text", text(format.MaxFrame), Zstd, Zstd, 0},
		{"little to save", little, Planes, Zstd, 0}, // zstd sees no zeros in its sample
		{"less to save", less, Raw, Zstd, 0},
	} {
		for mode, want := range map[Mode]ID{Auto: c.auto, ZstdOnly: c.smallest, None: Raw} {
			stored, id, param := NewEncoder(mode).Encode(nil, c.plain, Kind{}, nil)
			if id != want || id == Constant && (param != c.param || len(stored) != int(param)) || id != Constant && param != 0 {
				t.Errorf("%s, mode %d: codec %d, parameter %d, %d stored bytes; want codec %d", c.name, mode, id, param, len(stored), want)
			}
		}
	}
}

// TestStoredFramesAreAsSpecified reads what Encode made with settings that are
// no more than docs/format.md promises: one frame, no dictionary, a window of at
// most 8 MiB.
func TestStoredFramesAreAsSpecified(t *testing.T) {
	for _, mode := range []Mode{Auto, ZstdOnly} {
		for _, n := range []int{64, 1000, 70_000, format.MaxFrame} {
			plain := text(n)
			stored, id, _ := NewEncoder(mode).Encode(nil, plain, Kind{}, nil)
			if id != Zstd {
				t.Fatalf("mode %d, %d bytes: codec %d", mode, n, id)
			}
			var h zstd.Header
			if err := h.Decode(stored); err != nil {
				t.Fatal(err)
			}
			if h.WindowSize > 8<<20 || h.DictionaryID != 0 || h.Skippable || !h.HasFCS && !h.SingleSegment && n > 1<<20 {
				t.Errorf("mode %d, %d bytes: header %+v", mode, n, h)
			}
		}
	}
}

// zstdOf compresses b with a window of its own.
func zstdOf(t testing.TB, b []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

func TestDecodeDamaged(t *testing.T) {
	good := zstdOf(t, text(1000))
	for _, c := range []struct {
		name   string
		n      int
		stored []byte
		id     ID
		param  uint8
	}{
		{"raw, too short", 5, []byte("abcd"), Raw, 0},
		{"raw, too long", 3, []byte("abcd"), Raw, 0},
		{"raw, empty", 1, nil, Raw, 0},
		{"raw with a parameter", 4, []byte("abcd"), Raw, 1},
		{"constant, width 0", 4, nil, Constant, 0},
		{"constant, width 3", 3, []byte("abc"), Constant, 3},
		{"constant, width 16", 16, make([]byte, 16), Constant, 16},
		{"constant, unit too short", 8, []byte("abc"), Constant, 4},
		{"constant, unit too long", 8, []byte("abcde"), Constant, 4},
		{"constant, unit does not divide", 7, []byte("abcd"), Constant, 4},
		{"zstd with a parameter", 1000, good, Zstd, 1},
		{"zstd, empty", 10, nil, Zstd, 0},
		{"zstd, no magic", 10, []byte("not a zstd frame"), Zstd, 0},
		{"zstd, one byte less", 999, good, Zstd, 0},
		{"zstd, one byte more", 1001, good, Zstd, 0},
		{"zstd, cut", 1000, good[:len(good)-1], Zstd, 0},
		{"zstd, rubbish behind", 1000, append(bytes.Clone(good), "rubbish"...), Zstd, 0},
		{"zstd, two frames", 1000, append(bytes.Clone(good), good...), Zstd, 0},
		{"zstd, unbounded length", 500, zstdOf(t, text(1000), zstd.WithSingleSegment(false)), Zstd, 0},
	} {
		if _, err := decode(t, new(Decoder), c.n, c.stored, c.id, c.param, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDecodeWindows gives a frame with the widest window allowed, and one with a
// wider one, each with one raw block.
func TestDecodeWindows(t *testing.T) {
	frame := func(exponent byte) []byte {
		return append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, exponent << 3, 1 | 4<<3, 0, 0}, "abcd"...)
	}
	if got, err := decode(t, new(Decoder), 4, frame(13), Zstd, 0, nil); err != nil || string(got) != "abcd" { // 8 MiB
		t.Errorf("8 MiB: %q, %v", got, err)
	}
	if _, err := decode(t, new(Decoder), 4, frame(14), Zstd, 0, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("16 MiB: %v", err)
	}
}

func TestDecodeUnknownCodec(t *testing.T) {
	for id := newest + 1; id < 256; id++ {
		_, err := decode(t, new(Decoder), 8, []byte("12345678"), ID(id), 0, nil)
		ne, ok := errors.AsType[*format.NewerError](err)
		if !ok || ne.Found != id || ne.Supported != newest || ne.What != "codec" || errors.Is(err, ErrDamaged) {
			t.Fatalf("codec %d: %v", id, err)
		}
	}
}

// bombs are zstd frames that expand to, or claim, far more than a frame.
func bombs(t testing.TB) map[string][]byte {
	huge := zstdOf(t, make([]byte, 256<<20), zstd.WithWindowSize(8<<20))
	// The same without the length in its header, so that only decoding shows
	// how long it is: magic, descriptor 0, window, then the blocks. 128 KiB of
	// one byte is a block of 4 bytes.
	window := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 13 << 3}
	silent := bytes.Clone(window)
	for i := range 8192 {
		last := uint32(0)
		if i == 8191 {
			last = 1
		}
		h := last | 1<<1 | 128<<10<<3
		silent = append(silent, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	claim := []byte{0x28, 0xB5, 0x2F, 0xFD, 0xE0} // single segment, 8 bytes of length
	claim = binary.LittleEndian.AppendUint64(claim, 1<<40)
	claim = append(claim, 1, 0, 0)
	wide := append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 25 << 3}, 1, 0, 0) // a window of 32 GiB
	return map[string][]byte{"claims and expands": huge, "expands": silent, "claims": claim, "wants a window": wide}
}

func TestDecodeBombs(t *testing.T) {
	for name, bomb := range bombs(t) {
		for _, n := range []int{1, 1000, format.MaxFrame} {
			dec := new(Decoder)
			// The decoder's own tables, which any frame needs.
			good := zstdOf(t, text(n + 1000)[:n])
			if _, err := decode(t, dec, n, good, Zstd, 0, nil); err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := dec.Decode(dst, bomb, Zstd, 0, nil)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("a bomb that %s, into %d bytes: %v", name, n, err)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 4*format.MaxFrame {
				t.Errorf("a bomb that %s, into %d bytes: allocated %d bytes", name, n, spent)
			}
			if _, err := decode(t, dec, n, bomb, Zstd, 0, nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("again: %v", err)
			}
			// The decoder is none the worse.
			if got, err := decode(t, dec, n, good, Zstd, 0, nil); err != nil || !bytes.Equal(got, text(n + 1000)[:n]) {
				t.Errorf("after a bomb that %s: %v", name, err)
			}
		}
	}
}

func TestDecodeFlippedBits(t *testing.T) {
	dec := new(Decoder)
	stored := zstdOf(t, text(2000), zstd.WithEncoderCRC(false))
	for at := range stored {
		for bit := range 8 {
			stored[at] ^= 1 << bit
			// Wrong bytes are for the frame's hash to find; the decoder only has
			// to stay within its buffer and to say no or fill it.
			if _, err := decode(t, dec, 2000, stored, Zstd, 0, nil); err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d, bit %d: %v", at, bit, err)
			}
			stored[at] ^= 1 << bit
		}
	}
}

// TestEncodeSamples encodes frames around the size from which Auto tries
// samples first.
func TestEncodeSamples(t *testing.T) {
	for _, n := range []int{zstdSample - 1, zstdSample, zstdSample + 1, 70000, 3 * zstdSample, 4 * zstdSample, format.MaxFrame} {
		random := make([]byte, n)
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		for i := range random {
			random[i] = byte(rng.Uint32())
		}
		for name, c := range map[string]struct {
			plain []byte
			want  ID
		}{
			"random": {random, Raw},
			"text":   {bytes.Repeat([]byte("a line of text\n"), n/15+1)[:n], Zstd},
		} {
			e := NewEncoder(Auto)
			stored, id, param := e.Encode(nil, c.plain, Kind{}, nil)
			if id != c.want {
				t.Errorf("%s, %d bytes: codec %d", name, n, id)
			}
			back := make([]byte, n)
			if err := new(Decoder).Decode(back, stored, id, param, nil); err != nil || !bytes.Equal(back, c.plain) {
				t.Errorf("%s, %d bytes: decoded to other bytes, %v", name, n, err)
			}
		}
	}
}
