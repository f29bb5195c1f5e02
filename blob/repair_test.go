package blob

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
	"github.com/heftstore/heft/internal/parity"
	"github.com/heftstore/heft/internal/promise"
)

// wantRepaired repairs the blob d, whose file then has to be that again.
func wantRepaired(t testing.TB, s *Store, fsys durable.FS, d Digest, file []byte) Repaired {
	t.Helper()
	damaged := false
	if _, err := fsys.Stat(blobPath(d)); err != nil || !bytes.Equal(loadFile(t, fsys, blobPath(d)), file) {
		damaged = true
	}
	r, err := s.RepairFile(t.Context(), d)
	if err != nil {
		t.Fatalf("repair: %v", err)
	}
	if !bytes.Equal(loadFile(t, fsys, blobPath(d)), file) {
		t.Fatal("the repaired file has other bytes")
	}
	if r.File != damaged || r.Size != int64(len(file)) || r.Blob != d {
		t.Fatalf("damaged %v, but %+v", damaged, r)
	}
	if left := names(fsys, "tmp"); len(left) != 0 {
		t.Fatalf("tmp has %v", left)
	}
	return r
}

// TestRepairEveryByte damages each byte of a blob's file, and of its parity
// file.
func TestRepairEveryByte(t *testing.T) {
	t.Parallel()
	x := newMixed(t)
	file := loadFile(t, x.m, blobPath(x.blob))
	addParity(t, x.s, x.blob, 60)
	par := loadFile(t, x.m, parityPath(x.blob))
	for at := range max(len(file), len(par)) {
		if at < len(file) {
			flip(t, x.m, blobPath(x.blob), int64(at), 1<<(at%8))
		}
		if at < len(par) {
			flip(t, x.m, parityPath(x.blob), int64(at), 1<<(at%7))
		}
		r := wantRepaired(t, x.s, x.m, x.blob, file)
		if r.Parity != (at < len(par)) || r.Shards != int64(min(1, max(0, len(file)-at))) {
			t.Fatalf("byte %d: %+v", at, r)
		}
		if !bytes.Equal(loadFile(t, x.m, parityPath(x.blob)), par) {
			t.Fatalf("byte %d: the parity file was not made as it was", at)
		}
	}
	wantBlob(t, x.s, x.content)
	if r := wantRepaired(t, x.s, x.m, x.blob, file); r != (Repaired{Blob: x.blob, Size: int64(len(file))}) {
		t.Errorf("nothing is damaged: %+v", r)
	}
}

func TestRepairLengths(t *testing.T) {
	x := newMixed(t)
	file := loadFile(t, x.m, blobPath(x.blob))
	addParity(t, x.s, x.blob, 100)
	for n := range file {
		saveFile(t, x.m, blobPath(x.blob), file[:n])
		wantRepaired(t, x.s, x.m, x.blob, file)
	}
	for _, more := range [][]byte{{0}, make([]byte, 5000), file, file[len(file)-format.FooterSize:]} {
		saveFile(t, x.m, blobPath(x.blob), cat(file, more))
		wantRepaired(t, x.s, x.m, x.blob, file)
		saveFile(t, x.m, blobPath(x.blob), cat(more, file))
		wantRepaired(t, x.s, x.m, x.blob, file)
	}
	wantBlob(t, x.s, x.content)
}

// TestRepairBeyond damages more than the budget: that is said, and nothing is
// changed.
func TestRepairBeyond(t *testing.T) {
	s, m := newMem(t, &Options{Parity: 5})
	content := randomBytes(1, 100_000)
	d := put(t, s, content).Digest
	file := loadFile(t, m, blobPath(d))
	for at := 0; at < 90_000; at += 2000 {
		flip(t, m, blobPath(d), int64(at), 1)
	}
	damaged := loadFile(t, m, blobPath(d))
	par := loadFile(t, m, parityPath(d))
	m.Record()
	_, err := s.RepairFile(t.Context(), d)
	e, ok := errors.AsType[*BeyondError](err)
	if !ok || e.Blob != d || e.Shards != 45 || e.Bad != 45 || e.Budget != 10 || !strings.Contains(err.Error(), d.String()) {
		t.Errorf("%v", err)
	}
	if len(m.Trace()) != 0 {
		t.Errorf("operations: %v", m.Trace())
	}
	if !bytes.Equal(loadFile(t, m, blobPath(d)), damaged) || !bytes.Equal(loadFile(t, m, parityPath(d)), par) {
		t.Error("something changed")
	}
	copy(damaged[20_000:], file[20_000:])
	saveFile(t, m, blobPath(d), damaged) // 10 are left
	if r := wantRepaired(t, s, m, d, file); r.Shards != 10 {
		t.Errorf("%+v", r)
	}

	if err := s.RemoveParity(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RepairFile(t.Context(), d); !errors.Is(err, ErrNoParity) {
		t.Errorf("without parity: %v", err)
	}
	addParity(t, s, d, 5)
	saveFile(t, m, parityPath(d), par[:100])
	if _, err := s.RepairFile(t.Context(), d); !isCorrupt(err) {
		t.Errorf("with a parity file of which nothing is left: %v", err)
	}
}

// TestRepairFromQuarantine has no file in blobs/, and several in quarantine/.
func TestRepairFromQuarantine(t *testing.T) {
	x := newMixed(t)
	file := loadFile(t, x.m, blobPath(x.blob))
	addParity(t, x.s, x.blob, 20)
	if err := x.m.Remove(blobPath(x.blob)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.s.RepairFile(t.Context(), x.blob); !errors.Is(err, ErrNotFound) {
		t.Errorf("no file at all: %v", err)
	}
	saveFile(t, x.m, "quarantine/"+x.donor.String()+".0", file)
	saveFile(t, x.m, "quarantine/"+x.blob.String()+".0", make([]byte, len(file)))
	if _, err := x.s.RepairFile(t.Context(), x.blob); !errors.As(err, new(*BeyondError)) {
		t.Errorf("one that is beyond repair: %v", err)
	}
	damaged := slices.Clone(file)
	damaged[200]++
	saveFile(t, x.m, "quarantine/"+x.blob.String()+".1", damaged)
	if r := wantRepaired(t, x.s, x.m, x.blob, file); r.Shards != 1 {
		t.Errorf("%+v", r)
	}
	if got := names(x.m, "quarantine"); len(got) != 3 {
		t.Errorf("quarantine has %v", got)
	}
	wantBlob(t, x.s, x.content)
}

// TestRepairUnreadable repairs a file of which the disk can't read a part, in
// the frames and in the footer.
func TestRepairUnreadable(t *testing.T) {
	for _, at := range []int64{format.HeaderSize + 500, 3000, -1} {
		s, m := newMem(t, &Options{Parity: 10})
		d := put(t, s, randomBytes(1, 20_000)).Digest
		file := loadFile(t, m, blobPath(d))
		if at < 0 {
			at += int64(len(file))
		}
		m.Fail(func(op durable.Op) error {
			if op.Kind == durable.OpRead && op.Name == blobPath(d) && op.Off <= at && at < op.Off+int64(op.Len) {
				return syscall.EIO
			}
			return nil
		})
		r, err := s.RepairFile(t.Context(), d)
		m.Fail(nil)
		if err != nil || r.Shards != 1 || !bytes.Equal(loadFile(t, m, blobPath(d)), file) {
			t.Errorf("byte %d: %+v, %v", at, r, err)
		}
	}
}

// TestRepairOfAFileThatIsHealed puts the content again while it is repaired: the
// healed file, from which others may borrow, stays.
func TestRepairOfAFileThatIsHealed(t *testing.T) {
	x := newMixed(t)
	addParity(t, x.s, x.blob, 100)
	flip(t, x.m, blobPath(x.blob), format.HeaderSize, 1)
	healed := false
	x.m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpSync && !healed {
			healed = true
			put(t, openMem(t, x.m, nil), x.content)
		}
		return nil
	})
	_, err := x.s.RepairFile(t.Context(), x.blob)
	x.m.Fail(nil)
	if !healed || !errors.Is(err, errReplaced) {
		t.Errorf("healed %v, %v", healed, err)
	}
	if got := layout(t, x.s, x.blob); strings.Contains(got, "B") {
		t.Errorf("the healed file was replaced by one that borrows: %s", got)
	}
	wantBlob(t, x.s, x.content)
	if left := names(x.m, "tmp"); len(left) != 0 {
		t.Errorf("tmp has %v", left)
	}
}

// TestRepairChecksTheBlob has a parity file that is right for a file which is
// not a sound blob.
func TestRepairChecksTheBlob(t *testing.T) {
	s, m := newMem(t, nil)
	d := put(t, s, randomBytes(1, 5000)).Digest
	for _, at := range []int64{format.HeaderSize + 9, 5200} { // a frame, the footer
		file := loadFile(t, m, blobPath(d))
		file[at]++
		var par bufferAt
		if _, err := parity.Write(t.Context(), &par, bytes.NewReader(file), int64(len(file)), 50); err != nil {
			t.Fatal(err)
		}
		addParity(t, s, d, 50)
		saveFile(t, m, parityPath(d), par.b)
		before := loadFile(t, m, blobPath(d))
		if r, err := s.RepairFile(t.Context(), d); err == nil {
			t.Errorf("made a damaged file of a sound one: %+v", r)
		}
		if !bytes.Equal(loadFile(t, m, blobPath(d)), before) || len(names(m, "tmp")) != 0 {
			t.Error("the file changed")
		}
		if err := s.RemoveParity(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

// bufferAt is a file in memory.
type bufferAt struct{ b []byte }

func (b *bufferAt) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(b.b) {
		b.b = append(b.b, make([]byte, need-len(b.b))...)
	}
	return copy(b.b[off:], p), nil
}

// TestPromiseParityRepairs damages blobs of every kind within the budget of
// their parity, at random, in one run or scattered, in both files, and repairs
// them; and beyond it, which is said and changes nothing.
func TestPromiseParityRepairs(t *testing.T) {
	t.Parallel()
	times := promise.Times(60, 2000)
	rng := rand.New(rand.NewPCG(8, 8))
	repaired, beyond := 0, 0
	for i := range times {
		s, m := newMem(t, nil)
		percent := 1 + rng.IntN(100)
		content := randomContent(rng, i)
		d := put(t, s, content).Digest
		addParity(t, s, d, percent)
		file, par := loadFile(t, m, blobPath(d)), loadFile(t, m, parityPath(d))
		g := geometry(par)
		what := fmt.Sprintf("blob %d of %d bytes, %d%%", i, len(file), percent)

		damaged, broken := slices.Clone(file), slices.Clone(par)
		if rng.IntN(2) == 0 { // in one run
			victim, from := damaged, 0
			if rng.IntN(4) == 0 {
				victim, from = broken, g.front
			}
			n := max(1, (g.columns*g.extra-1)*g.shard) // touches one shard more than it fills
			n = 1 + rng.IntN(n)
			end := min(len(victim), max(len(file), from+g.extra*g.columns*g.shard))
			at := from + rng.IntN(max(1, end-from-n))
			for j := at; j < min(end, at+n); j++ {
				victim[j] = byte(rng.Uint32())
			}
		} else {
			for c := range g.columns {
				for _, r := range rng.Perm(g.rows + g.extra)[:rng.IntN(g.extra+1)] {
					g.spoil(rng, damaged, broken, r, c)
				}
			}
		}
		saveFile(t, m, blobPath(d), damaged)
		saveFile(t, m, parityPath(d), broken)
		wantRepaired(t, s, m, d, file)
		if !bytes.Equal(loadFile(t, m, parityPath(d)), par) {
			t.Fatalf("%s: the parity is not as it was", what)
		}
		if err := s.Verify(t.Context(), d); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		repaired++

		// One shard more, in one column that is full.
		c := rng.IntN(g.columns)
		hit := map[int]bool{}
		for _, r := range rng.Perm(g.rows + g.extra) {
			if len(hit) <= g.extra && g.spoil(rng, damaged, broken, r, c) {
				hit[r] = true
			}
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(hit)), func(r int) bool { return r < g.rows }) {
			continue // of the parity alone
		}
		saveFile(t, m, blobPath(d), damaged)
		saveFile(t, m, parityPath(d), broken)
		if _, err := s.RepairFile(t.Context(), d); !errors.As(err, new(*BeyondError)) {
			t.Fatalf("%s: beyond the budget: %v", what, err)
		}
		if !bytes.Equal(loadFile(t, m, blobPath(d)), damaged) || !bytes.Equal(loadFile(t, m, parityPath(d)), broken) {
			t.Fatalf("%s: beyond the budget something changed", what)
		}
		beyond++
	}
	promise.Kept(t, "%d of %d blobs damaged within the budget repaired byte for byte, %d of %d beyond it refused and left alone", repaired, times, beyond, beyond)
}

// randomContent returns content of every kind that is stored differently.
func randomContent(rng *rand.Rand, i int) []byte {
	n := 1 + rng.IntN(30_000)
	if i%8 == 0 {
		n = mib + rng.IntN(4*mib) // several columns
	}
	switch rng.IntN(4) {
	case 0:
		return randomBytes(rng.Uint64(), n)
	case 1:
		return cat(lines(n), make([]byte, n), lines(n))
	case 2:
		return oneTensor(normals(rng.Uint64(), "F32", n/4))
	}
	return floats(rng.Uint64(), n)
}

// shards says where the shards of a blob's file and its parity file are.
type shards struct{ shard, columns, rows, extra, front int }

// geometry reads that from a parity file.
func geometry(par []byte) (g shards) {
	u := func(at, n int) (v int) {
		for i := range n {
			v |= int(par[at+i]) << (8 * i)
		}
		return v
	}
	g = shards{shard: u(56, 4), columns: u(60, 4), rows: u(64, 2), extra: u(66, 2)}
	g.front = (len(par) - g.extra*g.columns*g.shard) / 2
	return g
}

// spoil damages the shard in a row and column, if there is one.
func (g *shards) spoil(rng *rand.Rand, file, par []byte, row, column int) bool {
	b, at := file, (row*g.columns+column)*g.shard
	if row >= g.rows {
		b, at = par, g.front+((row-g.rows)*g.columns+column)*g.shard
	}
	if at >= len(b) {
		return false
	}
	p := b[at:min(at+g.shard, len(b))]
	old := slices.Clone(p)
	for bytes.Equal(p, old) {
		for range 1 + rng.IntN(8) {
			p[rng.IntN(len(p))] ^= byte(1 + rng.IntN(255))
		}
	}
	return true
}
