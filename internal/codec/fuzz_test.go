package codec

import (
	"bytes"
	"errors"
	"testing"

	"github.com/heftstore/heft/internal/format"
)

// FuzzDecode feeds hostile frames: the decoder writes into dst alone, and
// returns nothing but the errors that it promises.
func FuzzDecode(f *testing.F) {
	f.Add(uint32(4), []byte("abcd"), uint8(0), uint8(0))
	dec := new(Decoder)
	f.Fuzz(func(t *testing.T, n uint32, stored []byte, id, param uint8) {
		n = n%format.MaxFrame + 1
		got, err := decode(t, dec, int(n), stored, id, param)
		if _, newer := errors.AsType[*format.NewerError](err); newer != (int(id) > newest) {
			t.Fatalf("codec %d: %v", id, err)
		} else if err != nil && !newer && !errors.Is(err, ErrDamaged) {
			t.Fatalf("codec %d: %v", id, err)
		}
		if err != nil {
			return
		}
		// What decodes, decodes to the same with another decoder.
		again, err := decode(t, new(Decoder), int(n), stored, id, param)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("codec %d: a fresh decoder disagrees: %v", id, err)
		}
	})
}

// FuzzEncode checks that whatever is encoded decodes to itself.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("a"))
	f.Add(text(1000))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4}, 100))
	encoders := []*Encoder{NewEncoder(Auto), NewEncoder(None), NewEncoder(ZstdOnly)}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) == 0 || len(plain) > format.MaxFrame {
			return
		}
		for mode, enc := range encoders {
			stored, id, param := enc.Encode(nil, plain, Kind{}, nil)
			got, err := decode(t, new(Decoder), len(plain), stored, id, param)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("mode %d, codec %d: %v", mode, id, err)
			}
		}
	})
}
