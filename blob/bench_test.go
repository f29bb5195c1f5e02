package blob

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// benchSize is enough for the pipeline to run full, and fits the memory of a
// small machine several times.
const benchSize = 64 * mib

// renew changes every frame of b, so that none is known: frames of such content
// have at least 64 KiB.
func renew(b []byte, n int) {
	for at := 0; at+8 <= len(b); at += 64 << 10 {
		binary.LittleEndian.PutUint64(b[at:], uint64(n))
	}
}

func eachCompression(b *testing.B, run func(b *testing.B, s *Store, content []byte)) {
	for c := Auto; c <= Zstd; c++ {
		b.Run(c.String(), func(b *testing.B) {
			s, _ := newMem(b, &Options{Compression: c})
			content := floats(1, benchSize)
			b.SetBytes(int64(len(content)))
			run(b, s, content)
		})
	}
}

// BenchmarkPut stores new weights, in memory: the disk's speed is not ours.
func BenchmarkPut(b *testing.B) {
	eachCompression(b, func(b *testing.B, s *Store, content []byte) {
		n := 0
		for b.Loop() {
			n++
			renew(content, n)
			info, err := s.Put(b.Context(), bytes.NewReader(content))
			if err != nil || info.Known {
				b.Fatal(info, err)
			}
			if err := s.fsys.Remove(blobPath(info.Digest)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPutKnown stores weights again, with hints.
func BenchmarkPutKnown(b *testing.B) {
	eachCompression(b, func(b *testing.B, s *Store, content []byte) {
		h := hints{}
		info, err := s.Put(b.Context(), bytes.NewReader(content))
		if err != nil {
			b.Fatal(err)
		}
		h.learn(b, s, info.Digest)
		s = openMem(b, s.fsys, &Options{Compression: s.opts.Compression, Known: h.known})
		for b.Loop() {
			if info, err := s.Put(b.Context(), bytes.NewReader(content)); err != nil || !info.Known {
				b.Fatal(info, err)
			}
		}
	})
}

// BenchmarkGet reads weights whole and checks every byte.
func BenchmarkGet(b *testing.B) {
	eachCompression(b, func(b *testing.B, s *Store, content []byte) {
		info, err := s.Put(b.Context(), bytes.NewReader(content))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			r, err := s.Open(b.Context(), info.Digest)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := r.WriteTo(io.Discard); err != nil || n != info.Size {
				b.Fatal(n, err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStream puts 2 GiB that are never in memory as a whole into a folder,
// and reports the most memory that the Go runtime had in use and from the
// system meanwhile, sampled every 5 ms.
func BenchmarkStream(b *testing.B) {
	const size = 2 << 30
	for _, workers := range []int{1, 4, maxWorkers} {
		b.Run(fmt.Sprintf("workers %d", workers), func(b *testing.B) {
			s, err := Create(filepath.Join(b.TempDir(), "store"), &Options{Workers: workers})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			block := floats(1, mib)
			b.SetBytes(size)
			var inUse, sys uint64
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					inUse, sys = max(inUse, m.HeapInuse), max(sys, m.Sys)
					select {
					case <-stop:
						return
					case <-tick.C:
					}
				}
			}()
			n := 0
			for b.Loop() {
				left := size
				source := readerFunc(func(p []byte) (int, error) {
					if left == 0 {
						return 0, io.EOF
					}
					n++
					c := copy(p, block[:min(left, len(block))])
					if c >= 8 {
						binary.LittleEndian.PutUint64(p, uint64(n))
					}
					left -= c
					return c, nil
				})
				if _, err := s.Put(b.Context(), source); err != nil {
					b.Fatal(err)
				}
			}
			close(stop)
			<-stopped
			b.ReportMetric(float64(inUse)/mib, "peak-MiB")
			b.ReportMetric(float64(sys)/mib, "peak-sys-MiB")
		})
	}
}
