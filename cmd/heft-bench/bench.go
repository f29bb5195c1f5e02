package main

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/klauspost/compress/zstd"
)

type bench struct {
	work   string
	rounds int
	out    io.Writer
}

// sample is what one way of storing cost in one round.
type sample struct {
	wall, cpu time.Duration
	stored    int64 // bytes; -1 where nothing is stored
}

// way is one way of storing or reading a file. prepare is not measured.
type way struct {
	name    string
	limit   string // CPU seconds a GiB of bf16 that the project promises, or ""
	prepare func(ctx context.Context, dir string) error
	do      func(ctx context.Context, dir string) (stored int64, err error)
}

const gib = 1 << 30

// generated measures every way on generated weights of each kind. Rounds are
// interleaved, so that a slow minute of the machine hits all ways alike.
func (b *bench) generated(ctx context.Context, mib int) error {
	size := int64(mib) << 20
	for _, kind := range []string{"bf16", "fp32"} {
		file, later := filepath.Join(b.work, kind), filepath.Join(b.work, kind+"-later")
		if err := errors.Join(
			writeWeights(file, 1, size, kind == "bf16", 0),
			writeWeights(later, 1, size, kind == "bf16", trainingStep),
		); err != nil {
			return err
		}
		ways := b.ways(file, later)
		runs := make([][]sample, len(ways))
		for range b.rounds {
			for i, w := range ways {
				r, err := b.once(ctx, w, size)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				runs[i] = append(runs[i], r)
			}
		}
		var rows []string
		for i, w := range ways {
			rows = append(rows, row(w, runs[i], size))
		}
		title := fmt.Sprintf("%s of unique generated %s weights", humanize.IBytes(uint64(size)), kind)
		if err := b.table(title, "what\tCPU s/GiB\tleast\tpromised\twall s/GiB\tMB/s\tstored\t", rows); err != nil {
			return err
		}
		if err := errors.Join(os.Remove(file), os.Remove(later)); err != nil {
			return err
		}
	}
	return nil
}

// trainingStep makes the generated later state about as different as the real
// fine-tuned network that sizes are measured on: 28% as a delta.
const trainingStep = 0.015

func row(w way, runs []sample, size int64) string {
	n := float64(size) / gib
	cpu := median(runs, func(r sample) float64 { return r.cpu.Seconds() / n })
	wall := median(runs, func(r sample) float64 { return r.wall.Seconds() / n })
	stored := ""
	if s := runs[0].stored; s >= 0 {
		stored = fmt.Sprintf("%.1f%%", 100*float64(s)/float64(size))
	}
	least := slices.MinFunc(runs, func(a, b sample) int { return cmp.Compare(a.cpu, b.cpu) }).cpu.Seconds() / n
	return fmt.Sprintf("%s\t%.2f\t%.2f\t%s\t%.2f\t%.0f\t%s\t", w.name, cpu, least, w.limit, wall, float64(size)/1e6/(wall*n), stored)
}

func median(runs []sample, value func(sample) float64) float64 {
	var v []float64
	for _, r := range runs {
		v = append(v, value(r))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// once measures a way in a fresh folder.
func (b *bench) once(ctx context.Context, w way, size int64) (r sample, err error) {
	dir, err := os.MkdirTemp(b.work, "round-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if w.prepare != nil {
		if err := w.prepare(ctx, dir); err != nil {
			return r, err
		}
	}
	if err := b.warm(size); err != nil {
		return r, err
	}
	runtime.GC()
	cpu, start := cpuTime(), time.Now()
	r.stored, err = w.do(ctx, dir)
	r.wall, r.cpu = time.Since(start), cpuTime()-cpu
	return r, err
}

// warm has the system touch as much memory as a way may fill with cached
// files. A virtual machine charges the first use of each page to whoever
// touches it, and takes free pages back after seconds: that made a plain copy
// cost 0.4 CPU seconds a GiB or 4, by chance.
func (b *bench) warm(size int64) (err error) {
	f, err := os.CreateTemp(b.work, "warm-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	piece := make([]byte, 1<<20)
	for written := int64(0); written < size+size/4; written += int64(len(piece)) {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) ways(file, later string) []way {
	put := func(c blob.Compression) func(context.Context, string) (int64, error) {
		return func(ctx context.Context, dir string) (int64, error) { return putFile(ctx, dir, file, "1", c) }
	}
	first := func(ctx context.Context, dir string) error {
		_, err := putFile(ctx, dir, file, "1", blob.Auto)
		return err
	}
	both := func(ctx context.Context, dir string) error {
		if err := first(ctx, dir); err != nil {
			return err
		}
		_, err := putFile(ctx, dir, later, "2", blob.Auto)
		return err
	}
	// more puts a file as a second version and returns what that takes.
	more := func(file string) func(context.Context, string) (int64, error) {
		return func(ctx context.Context, dir string) (int64, error) {
			before, err := folderSize(filepath.Join(dir, "store", "blobs"))
			if err != nil {
				return 0, err
			}
			after, err := putFile(ctx, dir, file, "2", blob.Auto)
			return after - before, err
		}
	}
	get := func(ref string) func(context.Context, string) (int64, error) {
		return func(ctx context.Context, dir string) (int64, error) {
			return -1, withRegistry(ctx, dir, blob.Auto, func(r *registry.Registry) error {
				m, err := r.Get(ctx, ref)
				if err != nil {
					return err
				}
				_, err = m.Extract(ctx, filepath.Join(dir, "out"), nil)
				return err
			})
		}
	}
	return []way{
		{name: "copy + fsync", do: func(_ context.Context, dir string) (int64, error) { return plainCopy(dir, file) }},
		{name: "zstd default", do: func(_ context.Context, dir string) (int64, error) { return wholeZstd(dir, file, false) }},
		{name: "zstd, all literals", do: func(_ context.Context, dir string) (int64, error) { return wholeZstd(dir, file, true) }},
		{name: "heft put, none", do: put(blob.None)},
		{name: "heft put: exponent planes, no delta", limit: "2.2", do: put(blob.Auto)},
		{name: "heft put, zstd", do: put(blob.Zstd)},
		{name: "heft put, known", limit: "0.9", prepare: first, do: more(file)},
		{name: "heft get", limit: "1.3", prepare: first, do: get("m:1")},
		{name: "XOR + zstd, all literals, of the later state", do: func(_ context.Context, dir string) (int64, error) { return xorZstd(dir, later, file) }},
		{name: "heft put, delta", limit: "5", prepare: first, do: more(later)},
		{name: "heft get, delta", limit: "2.5", prepare: both, do: get("m:2")},
		{name: "heft verify", prepare: first, do: func(ctx context.Context, dir string) (int64, error) {
			return -1, withRegistry(ctx, dir, blob.Auto, func(r *registry.Registry) error {
				for c, err := range r.Verify(ctx, "m:1", nil) {
					if err := errors.Join(err, c.Err); err != nil {
						return err
					}
				}
				return nil
			})
		}},
	}
}

func withRegistry(ctx context.Context, dir string, c blob.Compression, do func(*registry.Registry) error) (err error) {
	opts := &registry.Options{Compression: c}
	store := filepath.Join(dir, "store")
	r, err := registry.Open(ctx, store, opts)
	if errors.Is(err, registry.ErrNotFound) {
		r, err = registry.Create(ctx, store, opts)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return do(r)
}

// putFile registers a file as that version of m and returns the bytes of all
// blobs.
func putFile(ctx context.Context, dir, file, version string, c blob.Compression) (int64, error) {
	err := withRegistry(ctx, dir, c, func(r *registry.Registry) (err error) {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		_, err = r.Register(ctx, registry.Model{Name: "m", Version: version}, f)
		return err
	})
	if err != nil {
		return 0, err
	}
	return folderSize(filepath.Join(dir, "store", "blobs"))
}

// plainCopy reads and writes: the kernel's own copying would cost no CPU time
// that a process can see, and no store could do it.
func plainCopy(dir, file string) (int64, error) {
	return copyThrough(dir, file, func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil })
}

// xorZstd compresses what differs between the bits of two files of one size.
func xorZstd(dir, file, base string) (_ int64, err error) {
	in, err := os.Open(base)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return copyThrough(dir, file, func(w io.Writer) (io.WriteCloser, error) {
		z, err := zstd.NewWriter(w, zstd.WithAllLitEntropyCompression(true))
		return &xorWriter{WriteCloser: z, base: in}, err
	})
}

type xorWriter struct {
	io.WriteCloser
	base io.Reader
	buf  []byte
}

func (x *xorWriter) Write(p []byte) (int, error) {
	if len(x.buf) < len(p) {
		x.buf = make([]byte, len(p))
	}
	b := x.buf[:len(p)]
	if _, err := io.ReadFull(x.base, b); err != nil {
		return 0, err
	}
	subtle.XORBytes(b, b, p)
	return x.WriteCloser.Write(b)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func wholeZstd(dir, file string, literals bool) (int64, error) {
	return copyThrough(dir, file, func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithAllLitEntropyCompression(literals))
	})
}

func copyThrough(dir, file string, filter func(io.Writer) (io.WriteCloser, error)) (_ int64, err error) {
	in, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	name := filepath.Join(dir, "copy")
	out, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w, err := filter(struct{ io.Writer }{out})
	if err != nil {
		return 0, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	if err := out.Sync(); err != nil {
		return 0, err
	}
	return fileSize(name)
}

// stream puts a long generated stream in a process of its own and reports its
// peak memory.
func (b *bench) stream(ctx context.Context, mib int) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.work, "stream-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.CommandContext(ctx, self, "-stream-child", "-stream-mib", strconv.Itoa(mib), dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	peak, ok := peakMemory(cmd.ProcessState)
	text := "not known on this system"
	if ok {
		text = humanize.IBytes(uint64(peak))
	}
	fmt.Fprintf(b.out, "\npeak memory of putting a stream of %s of bf16: %s (promised: 300 MiB)\n", humanize.IBytes(uint64(mib)<<20), text)
	return nil
}

func streamChild(ctx context.Context, dir string, mib int) error {
	return withRegistry(ctx, dir, blob.Auto, func(r *registry.Registry) error {
		w, err := newWeights(2, int64(mib)<<20, true, 0)
		if err != nil {
			return err
		}
		_, err = r.Register(ctx, registry.Model{Name: "stream", Version: "1"}, w)
		return err
	})
}
