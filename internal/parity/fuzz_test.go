package parity

import (
	"bytes"
	"testing"

	"github.com/zeebo/blake3"
)

// FuzzOpen reads any bytes as a parity file, and repairs a file with it. What is
// accepted has the hash that the parity file says.
func FuzzOpen(f *testing.F) {
	content := randomBytes(1, 700)
	par := protect(f, content, 50)
	f.Add(par, content)
	f.Add(par[:600], content[100:])
	f.Add(par[300:], content)
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, par, src []byte) { tryFile(t, par, src) })
}

// FuzzForged makes blocks with right checksums from any words.
func FuzzForged(f *testing.F) {
	f.Add(int64(700), uint32(256), uint32(1), uint16(3), uint16(2), byte(50), false, []byte("list"))
	f.Add(int64(1<<40), uint32(65536), uint32(1<<16), uint16(128), uint16(128), byte(100), true, []byte(nil))
	f.Fuzz(func(t *testing.T, size int64, shard, columns uint32, rows, extra uint16, percent byte, large bool, sums []byte) {
		s := shape{size: size, sum: blake3.Sum256(sums), shard: int(shard), columns: int64(columns), rows: int(rows), extra: int(extra), percent: int(percent), block: smallBlock}
		if large {
			s.block = largeBlock
		}
		part := make([]byte, s.block-headSize-checkSize)
		copy(part, sums)
		var par []byte
		for number := range int64(6) {
			par = s.appendBlock(par, number, part)
		}
		tryFile(t, par, sums)
	})
}

func tryFile(t *testing.T, par, src []byte) {
	f, err := Open(at(par), int64(len(par)))
	if err != nil {
		return
	}
	if len(f.sums) > len(par) {
		t.Fatalf("a list of %d bytes in a file of %d", len(f.sums), len(par))
	}
	if f.columns > int64(len(par)+len(src)) {
		return // far beyond any budget, and slow to find so
	}
	d, err := f.Scan(t.Context(), at(src), int64(len(src)))
	if err != nil {
		t.Fatal(err) // bytes in memory can be read
	}
	var out buffer
	err = f.Repair(t.Context(), &out, at(src), d)
	if err == nil && blake3.Sum256(out.b) != f.Sum() {
		t.Fatal("other bytes passed for the file")
	}
	if len(out.b) > len(par)+len(src)+maxShard {
		t.Fatalf("%d bytes of %d", len(out.b), len(par)+len(src))
	}
	if _, ok := isBeyond(err); ok && !bytes.Equal(out.b, nil) {
		t.Fatal("wrote before it gave up")
	}
}
