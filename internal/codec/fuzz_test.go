package codec

import (
	"bytes"
	"errors"
	"testing"

	"github.com/heftstore/heft/internal/format"
)

// stretch returns n bytes that repeat b, or nil if there are none.
func stretch(b []byte, n int) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Repeat(b, n/len(b)+1)[:n]
}

// FuzzDecode feeds hostile frames: the decoder writes into dst alone, and
// returns nothing but the errors that it promises. The base is repeated to the
// length that the codec asks for.
func FuzzDecode(f *testing.F) {
	f.Add(uint32(4), []byte("abcd"), uint8(0), uint8(0), []byte(nil))
	dec := new(Decoder)
	f.Fuzz(func(t *testing.T, n uint32, stored []byte, id, param uint8, base []byte) {
		n = n%format.MaxFrame + 1
		if id == Cast {
			base = stretch(base, 2*int(n))
		} else {
			base = stretch(base, int(n))
		}
		got, err := decode(t, dec, int(n), stored, id, param, base)
		if _, newer := errors.AsType[*format.NewerError](err); newer != (int(id) > newest) {
			t.Fatalf("codec %d: %v", id, err)
		} else if err != nil && !newer && !errors.Is(err, ErrDamaged) {
			t.Fatalf("codec %d: %v", id, err)
		}
		if err != nil {
			return
		}
		// What decodes, decodes to the same with another decoder.
		again, err := decode(t, new(Decoder), int(n), stored, id, param, base)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("codec %d: a fresh decoder disagrees: %v", id, err)
		}
	})
}

// FuzzEncode checks that whatever is encoded decodes to itself, as what was
// chosen and by each codec that has a say in the bytes.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("a"), uint8(0), uint8(0), uint16(0), []byte(nil))
	f.Add(text(1000), uint8(0), uint8(3), uint16(4), []byte(nil))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4}, 100), uint8(F32), uint8(0), uint16(0), []byte("base"))
	encoders := []*Encoder{NewEncoder(Auto), NewEncoder(None), NewEncoder(ZstdOnly)}
	force, dec := NewEncoder(Auto), new(Decoder)
	f.Fuzz(func(t *testing.T, plain []byte, elem, lead uint8, record uint16, base []byte) {
		if len(plain) == 0 || len(plain) > format.MaxFrame {
			return
		}
		base = stretch(base, len(plain))
		k := Kind{Elem: Elem(elem), Lead: int(lead), Stride: int(record)}
		check := func(stored []byte, id ID, param uint8, how string) {
			got, err := decode(t, dec, len(plain), stored, id, param, base)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s, codec %d: %v", how, id, err)
			}
		}
		for _, enc := range encoders {
			stored, id, param := enc.Encode(nil, plain, k, base)
			check(stored, id, param, "chosen")
		}
		if !k.valid() || k.Lead > len(plain) {
			return
		}
		check(force.appendPlanes(nil, plain, k), Planes, elem, "forced")
		if k.Elem != Bytes && base != nil {
			check(force.appendDelta(nil, plain, base, k), Delta, elem, "forced")
		}
	})
}
