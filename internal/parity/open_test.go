package parity

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
)

// TestForgedBlocks reads blocks with a right checksum that say what can't be.
func TestForgedBlocks(t *testing.T) {
	par := protect(t, randomBytes(11, 5000), 10)
	for name, change := range map[string]func(b []byte){
		"size 0":           func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 0) },
		"huge size":        func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 1<<63) },
		"larger size":      func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 1<<40) },
		"odd shard":        func(b []byte) { binary.LittleEndian.PutUint32(b[56:], 300) },
		"tiny shard":       func(b []byte) { binary.LittleEndian.PutUint32(b[56:], 1) },
		"huge shard":       func(b []byte) { binary.LittleEndian.PutUint32(b[56:], 1<<31) },
		"no column":        func(b []byte) { binary.LittleEndian.PutUint32(b[60:], 0) },
		"many columns":     func(b []byte) { binary.LittleEndian.PutUint32(b[60:], 1<<32-1) },
		"no row":           func(b []byte) { binary.LittleEndian.PutUint16(b[64:], 0) },
		"many rows":        func(b []byte) { binary.LittleEndian.PutUint16(b[64:], 255) },
		"no parity":        func(b []byte) { binary.LittleEndian.PutUint16(b[66:], 0) },
		"more parity":      func(b []byte) { binary.LittleEndian.PutUint16(b[66:], 21) },
		"percent 0":        func(b []byte) { b[68] = 0 },
		"percent 101":      func(b []byte) { b[68] = 101 },
		"not zero":         func(b []byte) { b[69] = 1 },
		"other block size": func(b []byte) { binary.LittleEndian.PutUint16(b[70:], 4096) },
		"number":           func(b []byte) { binary.LittleEndian.PutUint32(b[12:], 1<<31) },
	} {
		b := clone(par[:512])
		change(b)
		sum := blake3.Sum256(b[:496])
		copy(b[496:], sum[:])
		_, _, err := parseBlock(b)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A list that the file has no room for is not allocated.
	s := shape{size: 128 * (1<<32 - 1) * maxShard, shard: maxShard, columns: 1<<32 - 1, rows: 128, extra: 128, percent: 100, block: largeBlock}
	b := s.appendBlock(nil, 0, make([]byte, s.list().part))
	if _, _, err := parseBlock(b); err != nil {
		t.Fatal(err)
	}
	_, err := Open(at(b), int64(len(b)))
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("a block of a huge file: %v", err)
	}
}

// TestFindsAnyBlock leaves one good block, which is enough where the list has
// one column of two.
func TestFindsAnyBlock(t *testing.T) {
	content := randomBytes(12, 5<<20)
	par := protect(t, content, 5)
	f := open(t, par)
	l := f.list()
	for number := range 2 * l.blocks() {
		broken := clone(par)
		for i := range 2 * l.blocks() {
			if i != number {
				clear(broken[f.blockAt(i):][:f.block])
			}
		}
		s, err := find(at(broken), int64(len(broken)))
		if err != nil || s != f.shape {
			t.Fatalf("block %d alone: %v", number, err)
		}
	}
	// Half of the blocks: every other one, so that each has to be computed.
	broken := clone(par)
	for i := int64(0); i < 2*l.blocks(); i += 2 {
		clear(broken[f.blockAt(i):][:f.block])
	}
	if g, err := Open(at(broken), int64(len(broken))); err != nil || !slices.Equal(g.sums, f.sums) {
		t.Fatalf("half of the blocks: %v", err)
	}
	clear(broken[f.blockAt(1):][:f.block])
	_, err := Open(at(broken), int64(len(broken)))
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("less than half of the blocks: %v", err)
	}
}

// TestMisplacedBlocks has whole blocks where they don't belong: of another place
// in the list, and of another file.
func TestMisplacedBlocks(t *testing.T) {
	content := randomBytes(13, 60_000)
	par, other := protect(t, content, 5), protect(t, randomBytes(14, 60_000), 5)
	f := open(t, par)
	if l := f.list(); l.rows < 4 || len(other) != len(par) {
		t.Fatalf("%+v", l)
	}
	for name, change := range map[string]func(b []byte){
		"exchanged":  func(b []byte) { copy(b[512:1024], par[1024:]); copy(b[1024:1536], par[512:]) },
		"of another": func(b []byte) { copy(b[512:1024], other[512:]) },
	} {
		broken := clone(par)
		change(broken)
		g := open(t, broken)
		if g.Whole() || !slices.Equal(g.sums, f.sums) {
			t.Errorf("%s: %+v", name, g.blocks)
		}
	}
}
