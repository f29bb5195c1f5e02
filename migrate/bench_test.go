package migrate_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/lattice"
	"github.com/heftstore/heft/registry"
)

// BenchmarkImport imports a registry of versions of 64 MiB, and puts the same
// files, which is what it should be measured by. HEFT_BENCH_MIB sets how large
// the registry is; half of the versions are states of the one before.
func BenchmarkImport(b *testing.B) {
	mib := 256
	if s := os.Getenv("HEFT_BENCH_MIB"); s != "" {
		var err error
		if mib, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	const each = 64
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, each<<20)
	for i := range mib / each {
		for j := 0; j < len(data); j += 2 {
			if i%2 == 0 || rng.IntN(8) == 0 {
				bits := math.Float32bits(float32(rng.NormFloat64() * 0.02))
				binary.LittleEndian.PutUint16(data[j:], uint16(bits>>16))
			}
		}
		writeVersion(b, filepath.Join(dir, "m", strconv.Itoa(i)), "", data)
	}
	b.Run("put", func(b *testing.B) {
		b.SetBytes(int64(mib) << 20)
		for b.Loop() {
			r := benchStore(b)
			err := fs.WalkDir(os.DirFS(dir), ".", func(p string, _ fs.DirEntry, err error) error {
				if err != nil || filepath.Base(p) != registry.WeightsFile {
					return err
				}
				f, err := os.Open(filepath.Join(dir, p))
				if err != nil {
					return err
				}
				_, err = r.Register(b.Context(), registry.Model{Name: "m"}, f)
				return errors.Join(err, f.Close())
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("import", func(b *testing.B) {
		b.SetBytes(int64(mib) << 20)
		for b.Loop() {
			benchImport(b, dir, mib/each)
		}
	})
}

// BenchmarkImportSmall imports 10,000 models of 4 KiB.
func BenchmarkImportSmall(b *testing.B) {
	dir := b.TempDir()
	const n = 10_000
	data := make([]byte, 4096)
	for i := range n {
		binary.LittleEndian.PutUint64(data, uint64(i))
		writeVersion(b, filepath.Join(dir, fmt.Sprintf("m%d", i/10), strconv.Itoa(i)), "", data)
	}
	for b.Loop() {
		benchImport(b, dir, n)
	}
}

// writeVersion writes a version of lattice's tree. Its weights' SHA-256 is in
// its record, to be checked, as it is in a registry that is well kept.
func writeVersion(tb testing.TB, dir, extra string, weights []byte) {
	tb.Helper()
	record := fmt.Sprintf(`{"status":"validated","registered_at":"2024-05-06T07:08:09.5Z","metadata":{},"weights_hash":"%x"%s}`, sha256.Sum256(weights), extra)
	err := errors.Join(os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "metadata.json"), []byte(record), 0o600),
		os.WriteFile(filepath.Join(dir, registry.WeightsFile), weights, 0o600))
	if err != nil {
		tb.Fatal(err)
	}
}

func benchStore(b *testing.B) *registry.Registry {
	b.Helper()
	r, err := registry.CreateTemp(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	return r
}

func benchImport(b *testing.B, dir string, want int) {
	b.Helper()
	src, err := lattice.Open(b.Context(), dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	r := benchStore(b)
	var report migrate.Report
	for o, err := range migrate.Apply(b.Context(), r, src, nil) {
		if err != nil {
			b.Fatal(err)
		}
		report.Add(o)
	}
	if report.Imported != want {
		b.Fatalf("%+v", report)
	}
}
