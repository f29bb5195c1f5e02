package blob

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// plant writes a blob file whose checksums all fit, whatever its rows say.
func plant(t *testing.T, m *durable.Mem, d Digest, tab *format.Table, stored []byte) {
	t.Helper()
	raw := format.AppendTable(nil, tab)
	b := append(format.AppendHeader(nil, format.Version), stored...)
	f := &format.Footer{TableOffset: uint64(len(b)), TableLen: uint64(len(raw)), Rows: uint32(len(tab.Rows)), Donors: uint32(len(tab.Donors)), Sketches: uint32(len(tab.Sketches)), Digest: d, TableSum: blake3.Sum256(raw), Version: format.Version, MinReader: format.Version}
	for _, r := range tab.Rows {
		f.PlainSize += uint64(r.PlainLen)
	}
	if err := m.Mkdir(blobDir(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	saveFile(t, m, blobPath(d), format.AppendFooter(append(b, raw...), f))
}

// rawRow describes plain as stored raw.
func rawRow(plain []byte) format.Row {
	return format.Row{Sum: Sum(plain), PlainLen: uint32(len(plain)), StoredLen: uint32(len(plain)), CRC: crc32.Checksum(plain, castagnoli)}
}

// TestHealsWhatOnlyTheHashFinds puts content again whose stored bytes changed
// before their checksum was computed, as by a bit of memory.
func TestHealsWhatOnlyTheHashFinds(t *testing.T) {
	s, m := newMem(t, nil)
	content := oneTensor(randomBytes(1, mib))
	head, data := content[:headSize(1)], content[headSize(1):]
	bad := bytes.Clone(data)
	bad[77] ^= 1
	row := rawRow(bad)
	row.Sum = Sum(data)
	plant(t, m, Sum(content), &format.Table{Rows: []format.Row{rawRow(head), row}}, cat(head, bad))
	if info := put(t, s, content); info.Known {
		t.Error("a blob that can't be read passed for known")
	}
	wantBlob(t, s, content)
}

// TestPutReplacesALie puts content whose name a file of other content has.
func TestPutReplacesALie(t *testing.T) {
	s, m := newMem(t, nil)
	content, other := oneTensor(randomBytes(1, mib)), randomBytes(2, mib)
	head := content[:headSize(1)]
	plant(t, m, Sum(content), &format.Table{Rows: []format.Row{rawRow(head), rawRow(other)}}, cat(head, other))
	if info := put(t, s, content); info.Known {
		t.Error("other content passed for known")
	}
	wantBlob(t, s, content)
}

// TestDepthWithoutBaseIsRefused reads and borrows from a file with a frame that
// has a base by its depth, but not by its codec.
func TestDepthWithoutBaseIsRefused(t *testing.T) {
	content := randomBytes(1, mib)
	evil := Digest{1, 2, 3}
	s, m := newMem(t, &Options{Known: hint(FrameRef{evil, 0})})
	row := rawRow(content)
	row.Depth = 1
	plant(t, m, evil, &format.Table{Donors: []format.Digest{{7}}, Rows: []format.Row{row}}, content)
	if err := s.Verify(t.Context(), evil); !isCorrupt(err) {
		t.Errorf("%v is not a *CorruptError", err)
	}
	if info := put(t, s, content); len(info.Donors) != 0 {
		t.Error("it was borrowed")
	}
	wantBlob(t, s, content)
}

// TestSparseFile reads a file that claims a table of 256 GiB and takes no room.
func TestSparseFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Create(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := Digest{5}
	const rows = 1<<32 - 1
	footer := format.AppendFooter(nil, &format.Footer{TableOffset: format.HeaderSize, TableLen: rows * format.RowSize, PlainSize: rows, Rows: rows, Digest: d, Version: format.Version, MinReader: format.Version})
	name := filepath.Join(dir, filepath.FromSlash(blobPath(d)))
	if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(format.AppendHeader(nil, format.Version)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(footer, format.HeaderSize+rows*format.RowSize); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), d); !isCorrupt(err) {
		t.Errorf("%v is not a *CorruptError", err)
	}
}

// TestPutWaitsNoLongerThanItsContext holds the lock for renames, as a stopped
// process would, and puts twice at once.
func TestPutWaitsNoLongerThanItsContext(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	unlock, err := s.lockPublish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.lockPublish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the lock was had, or not for the reason: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	put(t, s, []byte("after all"))
}
