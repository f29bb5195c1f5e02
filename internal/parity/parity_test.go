package parity

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// gf multiplies in GF(2^8) as docs/format.md has it, bit by bit.
func gf(a, b byte) byte {
	p, x := 0, int(a)
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			p ^= x
		}
		if x <<= 1; x > 255 {
			x ^= 0x11d
		}
	}
	return byte(p)
}

func gfInverse(a byte) byte {
	for b := 1; b < 256; b++ {
		if gf(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	panic("no inverse of 0")
}

// value returns the value at x of the polynomial of degree below len(y) that
// has the value y[j] at j.
func value(y []byte, x int) (v byte) {
	for j := range y {
		up, down := byte(1), byte(1)
		for i := range y {
			if i != j {
				up, down = gf(up, byte(x^i)), gf(down, byte(j^i))
			}
		}
		v ^= gf(y[j], gf(up, gfInverse(down)))
	}
	return v
}

// TestTheCodeIsTheOneSpecified computes parity from the words of docs/format.md
// alone, and compares.
func TestTheCodeIsTheOneSpecified(t *testing.T) {
	content := randomBytes(1, 40*256+77)
	par := protect(t, content, 10)
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(par[at:])) }
	s, g, k, m, b := int(binary.LittleEndian.Uint32(par[56:])), int(binary.LittleEndian.Uint32(par[60:])), u16(64), u16(66), u16(70)
	if s != 256 || g != 1 || k != 41 || m != 5 || b != 512 {
		t.Fatalf("s %d, g %d, k %d, m %d, b %d", s, g, k, m, b)
	}
	sum := blake3.Sum256(content)
	tail := blake3.Sum256(content[len(content)-128:])
	if !bytes.Equal(par[72:80], tail[:8]) || string(par[:8]) != "\x89HPAR\r\n\x1a" || u16(8) != 1 || u16(10) != 1 || par[68] != 10 ||
		binary.LittleEndian.Uint64(par[16:]) != uint64(len(content)) || !bytes.Equal(par[24:56], sum[:]) {
		t.Fatalf("the first block is % x", par[:80])
	}
	// 46 hashes of 8 bytes are one part of 416: one column of two blocks.
	if len(par) != 2*512+m*s {
		t.Fatalf("%d bytes", len(par))
	}
	rows := make([][]byte, k)
	for i := range rows {
		rows[i] = append(clone(content[i*s:min((i+1)*s, len(content))]), make([]byte, s)...)[:s]
	}
	column := make([]byte, k)
	for p := range m {
		for x := range s {
			for i := range rows {
				column[i] = rows[i][x]
			}
			if got, want := par[512+p*s+x], value(column, k+p); got != want {
				t.Fatalf("parity row %d has %#x at byte %d, not %#x", p, got, x, want)
			}
		}
	}
	list := par[80 : 512-16]
	for i := range k + m {
		shard := par[512+max(0, i-k)*s:][:s]
		if i < k {
			shard = content[i*s : min((i+1)*s, len(content))]
		}
		if sum := blake3.Sum256(shard); !bytes.Equal(list[8*i:8*i+8], sum[:8]) {
			t.Errorf("the hash of shard %d is % x", i, list[8*i:8*i+8])
		}
	}
	last := par[len(par)-512:]
	if !bytes.Equal(last[80:512-16], list) { // with one row the polynomial is a constant
		t.Error("the parity of the list is another one")
	}
	for _, block := range [][]byte{par[:512], last} {
		if sum := blake3.Sum256(block[:496]); !bytes.Equal(block[496:], sum[:16]) {
			t.Error("a block has another checksum")
		}
	}
}

// golden is the content of the file in testdata/vectors.
func golden() []byte {
	b := make([]byte, 3000)
	for i := range b {
		b[i] = byte(i*i>>3 ^ i)
	}
	return b
}

// TestVector compares with a file that every later release has to read, and
// this one to write.
func TestVector(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "vectors", "1.parity"))
	if err != nil {
		t.Fatal(err)
	}
	if got := protect(t, golden(), 20); !bytes.Equal(got, want) {
		t.Error("the bytes of a parity file changed")
	}
	damaged := golden()
	copy(damaged[500:1000], "nothing of what was here is left")
	if got, _, err := repair(t, want, damaged); err != nil || !bytes.Equal(got, golden()) {
		t.Errorf("repaired with the old file: %v", err)
	}
}

// TestEveryByte damages each byte of a small file, and each of its parity file,
// and both at once.
func TestEveryByte(t *testing.T) {
	content := randomBytes(2, 900)
	par := protect(t, content, 40)
	if f := open(t, par); f.Size() != 900 || f.Percent() != 40 || !f.Whole() || f.Sum() != blake3.Sum256(content) {
		t.Fatalf("%+v", f)
	}
	for i := range max(len(content), len(par)) {
		damaged, broken := clone(content), clone(par)
		if i < len(content) {
			damaged[i] ^= 1
		}
		if i < len(par) {
			broken[i] ^= 1
		}
		for _, p := range [][]byte{par, broken} {
			for _, c := range [][]byte{content, damaged} {
				got, d, err := repair(t, p, c)
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("byte %d: %v", i, err)
				}
				if d.Any() != !bytes.Equal(c, content) {
					t.Fatalf("byte %d: %+v", i, d)
				}
				if seen := d.Parity > 0 || !open(t, p).Whole(); seen != !bytes.Equal(p, par) {
					t.Fatalf("byte %d of the parity file: seen %v, %+v", i, seen, d)
				}
			}
		}
	}
}

// TestLengths cuts both files to every length, and makes them longer.
func TestLengths(t *testing.T) {
	content := randomBytes(3, 1300)
	par := protect(t, content, 100)
	more := randomBytes(4, 700)
	for n := range len(content) + len(more) {
		damaged := append(clone(content), more...)[:n]
		got, d, err := repair(t, par, damaged)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of the file: %v", n, err)
		}
		if d.Size != (n != len(content)) {
			t.Errorf("%d bytes: %+v", n, d)
		}
	}
	for n := range len(par) + len(more) {
		broken := append(clone(par), more...)[:n]
		f, err := Open(at(broken), int64(n))
		if n < 512 { // not one block
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%d bytes of the parity file: %v", n, err)
			}
			continue
		}
		if err != nil || f.Whole() != (n == len(par)) {
			t.Fatalf("%d bytes of the parity file: %v", n, err)
		}
		if got, d, err := repairFrom(t, f, at(content), int64(len(content))); err != nil || !bytes.Equal(got, content) || d.Any() {
			t.Fatalf("%d bytes of the parity file: %+v, %v", n, d, err)
		}
	}
}

// TestRuns damages runs of the largest length that is promised, in a file of
// several columns, and longer ones.
func TestRuns(t *testing.T) {
	content := randomBytes(5, 5<<20+123)
	par := protect(t, content, 10)
	f := open(t, par)
	if f.columns < 5 {
		t.Fatalf("%d columns", f.columns)
	}
	most := int(f.columns) * f.extra // shards
	for _, from := range []int64{0, 1, f.shards() / 2, f.shards() - int64(most)} {
		damaged := clone(content)
		clear(damaged[from*4096 : min((from+int64(most))*4096, int64(len(damaged)))])
		got, d, err := repair(t, par, damaged)
		if err != nil || !bytes.Equal(got, content) || d.Worst != f.extra {
			t.Errorf("a run from shard %d: %+v, %v", from, d, err)
		}
	}
	damaged := clone(content)
	clear(damaged[:(most+1)*4096])
	if out, _, err := repair(t, par, damaged); out != nil || !beyond(err, f.extra+1, f.extra) {
		t.Errorf("a run that is too long: wrote %d bytes, %v", len(out), err)
	}
	// The front of the parity file with half of its list, and some shards.
	broken := clone(par)
	clear(broken[:f.front()+f.body()/2])
	damaged = clone(content)
	clear(damaged[:most/2*4096-1])
	if got, _, err := repair(t, broken, damaged); err != nil || !bytes.Equal(got, content) {
		t.Errorf("half of the parity file is lost: %v", err)
	}
}

func isBeyond(err error) (*BeyondError, bool) { return errors.AsType[*BeyondError](err) }

func beyond(err error, bad, budget int) bool {
	e, ok := errors.AsType[*BeyondError](err)
	return ok && e.Bad == bad && e.Budget == budget
}

// TestUnreadable has files of which the disk can't read a part.
func TestUnreadable(t *testing.T) {
	content := randomBytes(6, 3<<20)
	par := protect(t, content, 5)
	f, err := Open(sick{at(par), [][2]int64{{0, 5000}, {100_000, 100_001}}}, int64(len(par)))
	if err != nil {
		t.Fatal(err)
	}
	src := sick{at(content), [][2]int64{{4096, 4097}, {2 << 20, 2<<20 + 8192}, {int64(len(content)) - 1, int64(len(content))}}}
	got, d, err := repairFrom(t, f, src, int64(len(content)))
	if err != nil || !bytes.Equal(got, content) || d.Shards != 4 || d.Parity != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Write(t.Context(), &buffer{}, src, int64(len(content)), 5); err == nil {
		t.Error("made parity of a file that can't be read")
	}
}

func TestEnds(t *testing.T) {
	content := randomBytes(7, 100_000)
	f := open(t, protect(t, content, 5))
	change := func(i int) []byte {
		b := clone(content)
		b[i]++
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"the file", content, true}, {"the first byte", change(0), true}, {"before the last 128", change(len(content) - 129), true},
		{"the first of the last 128", change(len(content) - 128), false}, {"the last byte", change(len(content) - 1), false},
		{"shorter", content[1:], false}, {"longer", append(clone(content), 0), false},
	} {
		if got, err := f.Ends(at(c.b), int64(len(c.b))); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	tiny := open(t, protect(t, content[:3], 5))
	if got, err := tiny.Ends(at(content[:3]), 3); err != nil || !got {
		t.Errorf("a file of 3 bytes: %v, %v", got, err)
	}
	if got, err := f.Ends(sick{at(content), [][2]int64{{99_999, 100_000}}}, 100_000); err == nil || got {
		t.Errorf("a file whose end can't be read: %v, %v", got, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		size    int64
		percent int
	}{{0, 5}, {-1, 5}, {10, 0}, {10, 101}, {10, -1}, {11, 5}} {
		var out buffer
		if _, err := Write(t.Context(), &out, at(make([]byte, 10)), c.size, c.percent); err == nil || out.b != nil {
			t.Errorf("%+v: wrote %d bytes, %v", c, len(out.b), err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := Write(ctx, &buffer{}, at(make([]byte, 10)), 10, 5); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	full := errors.New("disk full")
	for n := range 4 {
		if _, err := Write(t.Context(), &limited{n: n, err: full}, at(make([]byte, 10)), 10, 5); errors.Is(err, full) != (n < 3) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}

// limited fails after n writes.
type limited struct {
	buffer
	n   int
	err error
}

func (l *limited) WriteAt(p []byte, off int64) (int, error) {
	if l.n--; l.n < 0 {
		return 0, l.err
	}
	return l.buffer.WriteAt(p, off)
}

// TestBeyond damages one shard more than can be rebuilt, in one column.
func TestBeyond(t *testing.T) {
	content := randomBytes(8, 3<<20)
	par := protect(t, content, 3)
	f := open(t, par)
	rng := rand.New(rand.NewPCG(1, 1))
	damaged, broken := clone(content), clone(par)
	for r := range f.extra { // one a row of parity, and below one more of the file
		if r%2 == 0 {
			spoil(damaged, int64(r)*f.columns+1, f.shard, rng)
		} else {
			spoil(broken[f.front():], int64(r)*f.columns+1, f.shard, rng)
		}
	}
	if got, d, err := repair(t, broken, damaged); err != nil || !bytes.Equal(got, content) || d.Worst != f.extra {
		t.Fatalf("the budget: %+v, %v", d, err)
	}
	spoil(damaged, int64(f.extra+3)*f.columns+1, f.shard, rng)
	if got, _, err := repair(t, broken, damaged); got != nil || !beyond(err, f.extra+1, f.extra) {
		t.Errorf("beyond the budget: wrote %d bytes, %v", len(got), err)
	}
	if got, d, err := repair(t, broken, content); err != nil || !bytes.Equal(got, content) || d.Any() {
		t.Errorf("a sound file beside a damaged parity file: %+v, %v", d, err)
	}
}

// TestRepairNeverVouchesForOtherBytes has a list that accepts a bad shard.
func TestRepairNeverVouchesForOtherBytes(t *testing.T) {
	content := randomBytes(9, 10_000)
	f := open(t, protect(t, content, 20))
	damaged := clone(content)
	damaged[300]++
	sum := shardSum(damaged[256:512])
	copy(f.sums[sumSize:], sum[:])
	_, d, err := repairFrom(t, f, at(damaged), int64(len(damaged)))
	if _, ok := errors.AsType[*Error](err); !ok || d.Any() {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestNewer(t *testing.T) {
	par := protect(t, randomBytes(10, 100), 5)
	for _, block := range [][]byte{par[:512], par[len(par)-512:]} {
		binary.LittleEndian.PutUint16(block[8:], 7)
		binary.LittleEndian.PutUint16(block[10:], 6)
		sum := blake3.Sum256(block[:496])
		copy(block[496:], sum[:])
	}
	_, err := Open(at(par), int64(len(par)))
	if e, ok := errors.AsType[*format.NewerError](err); !ok || e.Found != 6 {
		t.Errorf("%v", err)
	}
}

// TestShapes checks what is chosen for many sizes against the rules, and that
// memory stays within what is promised.
func TestShapes(t *testing.T) {
	sizes := []int64{1, 144, 255, 256, 257, 4096, 65536, 1 << 20, 1<<20 + 1, 10 << 30, 128 << 30, 1 << 42}
	for _, size := range sizes {
		for percent := MinPercent; percent <= MaxPercent; percent++ {
			s := shapeOf(size, percent)
			b := s.appendBlock(nil, 1, make([]byte, s.list().part))
			if got, number, err := parseBlock(b); err != nil || number != 1 || got != s {
				t.Fatalf("%d bytes, %d%%: %+v is read as %+v, %v", size, percent, s, got, err)
			}
			if s.extra*100 < s.rows*percent || s.rows+s.extra > maxRows {
				t.Fatalf("%d bytes, %d%%: %+v", size, percent, s)
			}
			memory := s.all()*sumSize + int64(s.rows+s.extra)*int64(s.shard)*min(s.columns, max(1, bandBytes/int64((s.rows+s.extra)*s.shard)))
			if size <= 128<<30 && memory > 56<<20 {
				t.Errorf("%d bytes, %d%%: needs %d MiB", size, percent, memory>>20)
			}
			if over := s.total() - size*int64(percent)/100; size >= 8<<20 && over > size/100+int64(s.columns)*4096 {
				t.Errorf("%d bytes, %d%%: takes %d more", size, percent, over)
			}
		}
	}
	for _, c := range []struct {
		size    int64
		percent int
		want    int64
	}{{144, 5, 1280}, {64 << 10, 5, 6656}} {
		s := shapeOf(c.size, c.percent)
		if s.total() != c.want {
			t.Errorf("%d bytes at %d%%: a parity file of %d, not %d", c.size, c.percent, s.total(), c.want)
		}
	}
}

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
	s := shapeOf(1<<40, 100)
	b := s.appendBlock(nil, 0, make([]byte, s.list().part))
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

var _ io.WriterAt = (*limited)(nil)
