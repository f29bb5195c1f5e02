package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// specimen is a store with a blob that has frames of every kind, and what
// reading it touches.
type specimen struct {
	s       *Store
	m       *durable.Mem
	content []byte
	d       Digest
	files   []Digest // the blob and those that it needs
	rows    []span   // of the plain bytes
	touched map[Digest][]touch
}

// span is a range of bytes.
type span struct{ from, to int64 }

// touch says that reading a row reads a range of a file.
type touch struct {
	span
	row int
}

// newSpecimen makes a blob with tensors of about unit bytes, and fill bytes that
// nothing shrinks.
func newSpecimen(t testing.TB, unit, fill int) *specimen {
	t.Helper()
	sketched := max(unit, 2*minSketch) // so that the cast has a sketch too
	first, second := normals(1, "F32", unit), normals(2, "BF16", unit)
	lent, wide, own := normals(3, "F64", unit), coarse(4, sketched), coarse(5, sketched)
	half := normals(6, "F16", unit)
	x := &specimen{touched: map[Digest][]touch{}}
	x.s, x.m = newMem(t, &Options{Workers: 1})
	// Tensors of one kind would share frames: each is of another than the one before.
	base := put(t, x.s, safetensors(
		tensor{"first", "F32", first}, tensor{"own", "U8", randomBytes(1, unit/4)},
		tensor{"second", "BF16", second}, tensor{"lent", "F64", lent}, tensor{"wide", "F32", wide})).Digest
	list := []tensor{
		{"first", "F32", trained(1, "F32", first, 0.3)},
		{"raw", "U8", randomBytes(2, unit)},
		{"second", "BF16", trained(2, "BF16", second, 1)},
		{"text", "U8", lines(unit)},
		{"lent", "F64", lent},
		{"own", "F32", own},
		{"zeros", "U8", make([]byte, unit)},
		{"wide", "F32", wide},
		{"half", "F16", half},
		{"own cast", "BF16", narrowed("BF16", own)},
		{"again", "F16", half},
		{"wide cast", "BF16", narrowed("BF16", wide)},
	}
	for i := 0; fill > 0; i++ {
		n := min(fill, unit)
		list = append(list, tensor{fmt.Sprint("fill ", i), []string{"U8", "F64"}[i%2], randomBytes(uint64(100+i), n&^7)})
		fill -= n
	}
	x.content = safetensors(list...)
	x.d = putLike(t, x.s, x.content, base).Digest
	places := layout(t, x.s, x.d)
	for _, want := range []string{"H0", "H1", "H2", "H3", "H4", "H5", "B", "R"} {
		if !strings.Contains(places, want) {
			t.Fatalf("layout %s without %s", places, want)
		}
	}
	x.look(t)
	return x
}

// look finds out what reading each row touches.
func (x *specimen) look(t testing.TB) {
	t.Helper()
	r, err := x.s.Open(t.Context(), x.d)
	if err != nil {
		t.Fatal(err)
	}
	x.files = append(x.files, x.d)
	for i := range r.f.table.Rows {
		at, n := r.f.starts[i], int(r.f.table.Rows[i].PlainLen)
		x.rows = append(x.rows, span{at, at + int64(n)})
		again, err := x.s.Open(t.Context(), x.d)
		if err != nil {
			t.Fatal(err)
		}
		x.m.Fail(func(op durable.Op) error {
			if op.Kind == durable.OpRead {
				d, _ := ParseDigest(op.Name[strings.LastIndexByte(op.Name, '/')+1:])
				x.touched[d] = append(x.touched[d], touch{span{op.Off, op.Off + int64(op.Len)}, i})
				if !slices.Contains(x.files, d) {
					x.files = append(x.files, d)
				}
			}
			return nil
		})
		_, err = again.ReadAt(make([]byte, n), at)
		x.m.Fail(nil)
		if err = errors.Join(err, again.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// affected returns the rows whose reading touches a byte of a file, ascending.
func (x *specimen) affected(in Digest, at int64) (rows []int) {
	for _, c := range x.touched[in] {
		if at >= c.from && at < c.to {
			rows = append(rows, c.row)
		}
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// flipper flips bits of a copy of the specimen's files.
type flipper struct {
	*specimen
	ctx   context.Context
	s     *Store
	files map[Digest]durable.File
	buf   []byte
}

func (x *specimen) flipper(t testing.TB) *flipper {
	t.Helper()
	x.m.Record()
	m := x.m.Crash(0, rand.New(rand.NewPCG(1, 1)))
	f := &flipper{specimen: x, ctx: t.Context(), s: openMem(t, m, &Options{Workers: 1}), files: map[Digest]durable.File{}}
	for _, d := range x.files {
		file, err := m.OpenWrite(blobPath(d))
		if err != nil {
			t.Fatal(err)
		}
		f.files[d] = file
	}
	return f
}

// blames returns an error unless err is damage of that file.
func blames(err error, in Digest) error {
	if ce, ok := errors.AsType[*CorruptError](err); !ok || ce.In != in {
		return fmt.Errorf("%w is not said to be damage of %s", cmpNil(err), in.Short())
	}
	return nil
}

func cmpNil(err error) error {
	if err == nil {
		return errors.New("success")
	}
	return err
}

// row reads one row, which has to fail and blame a file, or to be right if in is
// zero.
func (f *flipper) row(r *Reader, i int, in Digest) error {
	at := f.rows[i]
	f.buf = slices.Grow(f.buf[:0], int(at.to-at.from))[:at.to-at.from]
	if in.IsZero() {
		_, err := r.ReadAt(f.buf, at.from)
		if err == nil && !bytes.Equal(f.buf, f.content[at.from:at.to]) {
			err = errors.New("wrong bytes")
		}
		return err
	}
	clear(f.buf)
	n, err := r.ReadAt(f.buf, at.from)
	if n > 0 || bytes.ContainsFunc(f.buf, func(r rune) bool { return r != 0 }) {
		return fmt.Errorf("%d bytes of the damaged frame got out", n)
	}
	return blames(err, in)
}

// try flips one bit: Check has to see it, and reading each row that it affects.
// With thorough so have Verify and reading the whole; another row reads well; and
// when the bit is back, all those do.
func (f *flipper) try(in Digest, at int64, mask byte, thorough int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("byte %d ^ %#x of %s: %w", at, mask, in.Short(), err)
		}
	}()
	var old [1]byte
	if _, err := f.files[in].ReadAt(old[:], at); err != nil {
		return err
	}
	if _, err := f.files[in].WriteAt([]byte{old[0] ^ mask}, at); err != nil {
		return err
	}
	rows := f.affected(in, at)
	if err := f.damaged(in, rows, thorough); err != nil {
		return err
	}
	if _, err := f.files[in].WriteAt(old[:], at); err != nil {
		return err
	}
	if thorough == 0 {
		return nil
	}
	if err := f.s.Check(f.ctx, in); err != nil {
		return fmt.Errorf("mended: %w", err)
	}
	r, err := f.s.Open(f.ctx, f.d)
	if err != nil {
		return fmt.Errorf("mended: %w", err)
	}
	for _, i := range rows {
		if err := f.row(r, i, Digest{}); err != nil {
			return errors.Join(fmt.Errorf("mended: row %d: %w", i, err), r.Close())
		}
	}
	return r.Close()
}

// damaged looks at the blob while a file that it needs is damaged.
func (f *flipper) damaged(in Digest, rows []int, thorough int) error {
	if err := blames(f.s.Check(f.ctx, in), in); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	r, err := f.s.Open(f.ctx, f.d)
	if err != nil {
		if in != f.d {
			return fmt.Errorf("open: %w", err)
		}
		return blames(err, in) // the structure: nothing can be read
	}
	defer r.Close()
	if in == f.d && len(rows) == 0 {
		return errors.New("no row reads that byte, and open did not see it")
	}
	for _, i := range rows {
		if err := f.row(r, i, in); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	if thorough == 0 {
		return nil
	}
	if i := thorough % len(f.rows); !slices.Contains(rows, i) {
		if err := f.row(r, i, Digest{}); err != nil {
			return fmt.Errorf("row %d, which is not affected: %w", i, err)
		}
	}
	if in != f.d {
		if err := f.s.Check(f.ctx, f.d); err != nil { // it looks at no donor
			return fmt.Errorf("check of the borrower: %w", err)
		}
	}
	err = f.s.Verify(f.ctx, f.d)
	got, readErr := readAll(f.ctx, f.s, f.d)
	if len(rows) == 0 {
		if err = errors.Join(err, readErr); err == nil && !bytes.Equal(got, f.content) {
			err = errors.New("wrong bytes")
		}
		return err
	}
	if first := f.rows[rows[0]].from; int64(len(got)) != first || !bytes.Equal(got, f.content[:first]) {
		return fmt.Errorf("read gave %d bytes of the %d before the damage, or wrong ones", len(got), first)
	}
	return errors.Join(blames(err, in), blames(readErr, in))
}

// flips has each CPU try its share of n flips; which says what the i-th is.
func (x *specimen) flips(t *testing.T, n, thorough int, which func(i int) (in Digest, at int64, mask byte)) {
	t.Helper()
	workers := runtime.GOMAXPROCS(0)
	all := make([]*flipper, workers)
	for w := range all {
		all[w] = x.flipper(t)
	}
	var wg sync.WaitGroup
	for w, f := range all {
		wg.Go(func() {
			for i := w; i < n && !t.Failed(); i += workers {
				in, at, mask := which(i)
				more := 0
				if i/workers%thorough == 0 {
					more = i + 1
				}
				if err := f.try(in, at, mask, more); err != nil {
					t.Error(err)
				}
			}
			got, err := readAll(f.ctx, f.s, f.d)
			if err != nil || !bytes.Equal(got, f.content) {
				t.Errorf("with all bits back: %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// TestPromiseEveryBitOfABlobIsChecked flips the bits of a file of 256 KiB, one
// after the other.
func TestPromiseEveryBitOfABlobIsChecked(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	fill := 64 << 10
	x := newSpecimen(t, 12<<10, fill)
	for range 3 {
		fill += size + 64 - len(loadFile(t, x.m, blobPath(x.d)))
		x = newSpecimen(t, 12<<10, fill)
	}
	n := len(loadFile(t, x.m, blobPath(x.d)))
	if n < size || n > size+1000 {
		t.Fatalf("the file has %d bytes", n)
	}
	stride := promise.Times(397, 1)
	bits := (8*n + stride - 1) / stride
	x.flips(t, bits, promise.Times(100, 250), func(i int) (Digest, int64, byte) {
		return x.d, int64(i * stride / 8), 1 << (i * stride % 8)
	})
	promise.Kept(t, "%d of the %d bits of a file of %d bytes flipped one by one: each seen by check and by reading what it affects, 0 wrong bytes, sound when flipped back", bits, 8*n, n)
}

// TestPromiseFlippedBitsOfALargeBlob flips bits of a blob of 10 MiB, and of the
// donors and bases that it needs.
func TestPromiseFlippedBitsOfALargeBlob(t *testing.T) {
	t.Parallel()
	x := newSpecimen(t, mib/2, 10*mib-10*(mib/2))
	if len(x.content) < 10*mib || len(x.files) < 2 {
		t.Fatalf("%d bytes, %d files", len(x.content), len(x.files))
	}
	sizes := map[Digest]int64{}
	for _, d := range x.files {
		sizes[d] = int64(len(loadFile(t, x.m, blobPath(d))))
	}
	n := promise.Times(120, 100_000)
	x.flips(t, n, promise.Times(20, 200), func(i int) (Digest, int64, byte) {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		in := x.d
		if i%3 == 0 {
			in = x.files[1+rng.IntN(len(x.files)-1)]
		}
		return in, rng.Int64N(sizes[in]), 1 << rng.IntN(8)
	})
	promise.Kept(t, "%d random bits of a blob of %d bytes and of what it borrows flipped one by one: each seen by check and by reading what it affects, 0 wrong bytes, sound when flipped back", n, len(x.content))
}
