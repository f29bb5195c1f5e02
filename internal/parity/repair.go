package parity

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/reedsolomon"
)

// Damage is what [File.Scan] found.
type Damage struct {
	Shards int64 // of the file that are bad
	Parity int64 // shards of the parity file that are bad
	Size   bool  // the file has another length than it had
	Budget int   // shards that may be bad in each column
	Worst  int   // shards that are bad in the worst column

	bad []uint64 // a bit a shard
}

// Any reports whether the file has to be repaired.
func (d *Damage) Any() bool { return d.Shards > 0 || d.Size }

// Err returns a *BeyondError if the damage is more than the budget repairs.
func (d *Damage) Err() error {
	if d.Shards == 0 || d.Worst <= d.Budget {
		return nil
	}
	return &BeyondError{Bad: d.Worst, Budget: d.Budget}
}

func (d *Damage) has(i int64) bool { return d.bad[i/64]>>(i%64)&1 == 1 }

// Scan compares each shard of src, of length bytes, and of the parity file with
// its hash. What can't be read is bad; other errors of reading end it.
func (f *File) Scan(ctx context.Context, src io.ReaderAt, length int64) (*Damage, error) {
	d := &Damage{Budget: f.extra, Size: length != f.size, bad: make([]uint64, (f.all()+63)/64)}
	columns := make([]uint16, f.columns)
	note := func(i int64) {
		d.bad[i/64] |= 1 << (i % 64)
		column := i % f.columns
		if n := f.shards(); i < n {
			d.Shards++
		} else {
			d.Parity++
			column = (i - n) % f.columns
		}
		columns[column]++
	}
	if err := f.scan(ctx, src, 0, f.size, 0, note); err != nil {
		return nil, err
	}
	if err := f.scan(ctx, f.src, f.front(), f.body(), f.shards(), note); err != nil {
		return nil, err
	}
	d.Worst = int(slices.Max(columns))
	return d, nil
}

// scan hashes the size bytes of src at off, which are shards from number first
// on, and calls bad for each that is not right.
func (f *File) scan(ctx context.Context, src io.ReaderAt, off, size, first int64, bad func(i int64)) error {
	buf := make([]byte, min(copyBytes, size))
	missing := map[int]bool{}
	for at := int64(0); at < size; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), size-at)] // whole shards, until the end
		clear(missing)
		if err := readRange(src, p, off+at, f.shard, func(gap int) { missing[gap] = true }); err != nil {
			return err
		}
		for i := 0; i < len(p); i += f.shard {
			number := first + (at+int64(i))/int64(f.shard)
			if missing[i] || !f.good(number, p[i:min(i+f.shard, len(p))]) {
				bad(number)
			}
		}
		at += int64(len(p))
	}
	return nil
}

// ReaderWriterAt is where a file is rebuilt.
type ReaderWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Repair writes the file as it was to dst, from what is good of src and what
// the parity file has, and reads it back: it returns nil if dst then has the
// BLAKE3 that the file had. d comes from [File.Scan] of the same src. Damage
// beyond the budget is a *BeyondError, before anything is written. After any
// other error dst is worth nothing. It needs at most 64 MiB of memory beside the
// list.
func (f *File) Repair(ctx context.Context, dst ReaderWriterAt, src io.ReaderAt, d *Damage) error {
	if err := d.Err(); err != nil {
		return err
	}
	if err := f.copyGood(ctx, dst, src, d); err != nil {
		return err
	}
	if err := f.rebuild(ctx, dst, src, d); err != nil {
		return err
	}
	sum, err := sumOf(ctx, dst, f.size)
	if err == nil && sum != f.sum {
		err = &Error{"what was rebuilt is not the file that it was made of"}
	}
	return err
}

// copyGood copies the good shards.
func (f *File) copyGood(ctx context.Context, dst io.WriterAt, src io.ReaderAt, d *Damage) error {
	buf := make([]byte, min(copyBytes, f.size))
	for i := int64(0); i < f.shards(); {
		if d.has(i) {
			i++
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, end := 0, i
		for ; end < f.shards() && !d.has(end) && n+f.shardLen(end) <= len(buf); end++ {
			n += f.shardLen(end)
		}
		at := i * int64(f.shard)
		if err := readAll(src, buf[:n], at); err != nil {
			return err
		}
		if _, err := dst.WriteAt(buf[:n], at); err != nil {
			return fmt.Errorf("parity: writing: %w", err)
		}
		i = end
	}
	return nil
}

// rebuild computes the bad shards of the file, for as many neighbouring columns
// at once as lack the same rows: damage in a run has few patterns, and inverting
// a matrix for each costs more than the rest.
func (f *File) rebuild(ctx context.Context, dst io.WriterAt, src io.ReaderAt, d *Damage) error {
	if d.Shards == 0 {
		return nil
	}
	code, err := coder(f.rows, f.extra)
	if err != nil {
		return fmt.Errorf("parity: %w", err)
	}
	b := newBand(&f.shape)
	most := int64(b.count)
	for c := int64(0); c < f.columns; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		lacks, needed := f.pattern(d, c)
		if !needed {
			c++
			continue
		}
		end := c + 1
		for ; end < f.columns && end-c < most; end++ {
			if next, _ := f.pattern(d, end); next != lacks {
				break
			}
		}
		b.move(c, int(end-c))
		if err := f.rebuildBand(dst, src, b, code, lacks); err != nil {
			return err
		}
		c = end
	}
	return nil
}

// pattern returns which rows column c lacks, and whether one of them is the
// file's.
func (f *File) pattern(d *Damage, c int64) (lacks [maxRows]bool, needed bool) {
	for r := range f.rows {
		if i := int64(r)*f.columns + c; i < f.shards() && d.has(i) {
			lacks[r], needed = true, true
		}
	}
	for r := range f.extra {
		lacks[f.rows+r] = d.has(f.shards() + int64(r)*f.columns + c)
	}
	return lacks, needed
}

func (f *File) rebuildBand(dst io.WriterAt, src io.ReaderAt, b *band, code reedsolomon.Encoder, lacks [maxRows]bool) error {
	for i := range b.shards {
		if lacks[i] {
			b.shards[i] = b.shards[i][:0]
			continue
		}
		from := src
		if i >= f.rows {
			from = f.src
		}
		at, n := b.row(i)
		if n > 0 {
			if err := readAll(from, b.shards[i][:n], at); err != nil {
				return err
			}
		}
		clear(b.shards[i][n:])
	}
	if err := code.ReconstructData(b.shards); err != nil {
		return fmt.Errorf("parity: %w", err)
	}
	for i := range f.rows {
		if !lacks[i] {
			continue
		}
		at, n := b.row(i)
		if _, err := dst.WriteAt(b.shards[i][:n], at); err != nil {
			return fmt.Errorf("parity: writing: %w", err)
		}
	}
	return nil
}
