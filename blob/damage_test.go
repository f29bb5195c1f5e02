package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// mixed is a store with a blob that has a frame of every kind, small on disk,
// and the donor that it borrows one from.
type mixed struct {
	s              *Store
	m              *durable.Mem
	content, other []byte // of the blob and the donor
	blob, donor    Digest
}

func newMixed(t testing.TB) *mixed {
	t.Helper()
	h := hints{}
	x := &mixed{}
	x.s, x.m = newMem(t, &Options{Known: h.known, Workers: 1})
	lent, text := repeated("lent\n", mib), repeated("own zstd\n", mib)
	x.other = cat(lent, randomBytes(1, 5))
	x.donor = put(t, x.s, x.other).Digest
	h.learn(t, x.s, x.donor)
	x.content = cat(text, lent, make([]byte, mib), text, randomBytes(2, 9))
	info := put(t, x.s, x.content)
	x.blob = info.Digest
	if got := layout(t, x.s, x.blob); got != "H2BH1RH0" {
		t.Fatalf("layout %s", got)
	}
	if len(info.Donors) != 1 || info.Donors[0] != x.donor {
		t.Fatalf("donors %v, not %v", info.Donors, x.donor)
	}
	wantBlob(t, x.s, x.content)
	return x
}

// wantCorrupt checks that every way to read all of d fails with a
// *CorruptError that blames in, and that the bytes before are right.
func wantCorrupt(t *testing.T, s *Store, content []byte, in Digest, what string) {
	t.Helper()
	d := Sum(content)
	check := func(how string, err error) {
		t.Helper()
		ce, ok := errors.AsType[*CorruptError](err)
		switch {
		case !ok:
			t.Errorf("%s: %s: %v, not a CorruptError", what, how, err)
		case ce.Blob != d || ce.In != in:
			t.Errorf("%s: %s: blames %s while reading %s", what, how, ce.In, ce.Blob)
		case !strings.Contains(err.Error(), in.String()):
			t.Errorf("%s: %s: %q does not name the damaged file", what, how, err)
		case ce.Offset >= int64(len(content)):
			t.Errorf("%s: %s: offset %d", what, how, ce.Offset)
		}
	}
	check("verify", s.Verify(t.Context(), d))
	got, err := readAll(t.Context(), s, d)
	check("read", err)
	if !bytes.HasPrefix(content, got) || len(got) == len(content) && len(got) > 0 {
		t.Errorf("%s: read gave %d bytes of %d, or other bytes", what, len(got), len(content))
	}
	if ce, ok := errors.AsType[*CorruptError](err); ok && ce.Offset >= 0 && ce.Offset != int64(len(got)) {
		t.Errorf("%s: damage at byte %d, but read gave %d", what, ce.Offset, len(got))
	}
}

// masks returns the flips for the byte at: two inside frames, each bit
// elsewhere.
func masks(file []byte, at int) []byte {
	table := int(binary.LittleEndian.Uint64(file[len(file)-format.FooterSize:]))
	if at >= format.HeaderSize && at < table {
		return []byte{0x01, 0x80}
	}
	return []byte{1, 2, 4, 8, 16, 32, 64, 128}
}

func TestEveryFlippedByteIsSeen(t *testing.T) {
	t.Parallel()
	x := newMixed(t)
	file := loadFile(t, x.m, blobPath(x.blob))
	for at := range file {
		for _, mask := range masks(file, at) {
			flip(t, x.m, blobPath(x.blob), int64(at), mask)
			wantCorrupt(t, x.s, x.content, x.blob, fmt.Sprintf("byte %d ^ %#x", at, mask))
			flip(t, x.m, blobPath(x.blob), int64(at), mask)
		}
		if t.Failed() {
			return
		}
	}
	wantBlob(t, x.s, x.content)
}

func TestEveryFlippedByteOfADonorIsSeen(t *testing.T) {
	t.Parallel()
	x := newMixed(t)
	name := blobPath(x.donor)
	file := loadFile(t, x.m, name)
	_, frames, err := x.s.Frames(t.Context(), x.donor)
	if err != nil {
		t.Fatal(err)
	}
	lent := format.HeaderSize + int(frames[0].Stored)
	tail := lent + int(frames[1].Stored)
	for at := range file {
		mask := byte(1) << (at % 8)
		flip(t, x.m, name, int64(at), mask)
		what := fmt.Sprintf("byte %d ^ %#x of the donor", at, mask)
		wantCorrupt(t, x.s, x.other, x.donor, what)
		if at >= lent && at < tail {
			wantBlob(t, x.s, x.content) // that frame is not borrowed
		} else {
			wantCorrupt(t, x.s, x.content, x.donor, what)
		}
		flip(t, x.m, name, int64(at), mask)
		if t.Failed() {
			return
		}
	}
}

func TestTruncatedAndExtendedFiles(t *testing.T) {
	x := newMixed(t)
	name := blobPath(x.blob)
	file := loadFile(t, x.m, name)
	for n := range file {
		saveFile(t, x.m, name, file[:n])
		wantCorrupt(t, x.s, x.content, x.blob, fmt.Sprintf("cut to %d bytes", n))
	}
	for _, more := range [][]byte{{0}, make([]byte, 128), make([]byte, 4096), file, file[len(file)-128:]} {
		saveFile(t, x.m, name, cat(file, more))
		wantCorrupt(t, x.s, x.content, x.blob, fmt.Sprintf("%d bytes appended", len(more)))
		saveFile(t, x.m, name, cat(more, file))
		wantCorrupt(t, x.s, x.content, x.blob, fmt.Sprintf("%d bytes put before", len(more)))
	}
	saveFile(t, x.m, name, loadFile(t, x.m, blobPath(x.donor)))
	wantCorrupt(t, x.s, x.content, x.blob, "another blob under the name")
	saveFile(t, x.m, name, file)
	wantBlob(t, x.s, x.content)
}

// TestDamageElsewhereLeavesOtherRangesReadable reads the frames around a
// damaged one.
func TestDamageElsewhereLeavesOtherRangesReadable(t *testing.T) {
	x := newMixed(t)
	flip(t, x.m, blobPath(x.donor), format.HeaderSize, 1)
	r, err := x.s.Open(t.Context(), x.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, from := range []int{0, mib, 2 * mib, 3 * mib, 4 * mib} {
		to := min(from+mib, len(x.content))
		p := make([]byte, to-from)
		n, err := r.ReadAt(p, int64(from))
		if i != 1 {
			if err != nil || !bytes.Equal(p, x.content[from:to]) {
				t.Errorf("frame %d: %d bytes, %v", i, n, err)
			}
			continue
		}
		ce, ok := errors.AsType[*CorruptError](err)
		if !ok || n != 0 || ce.In != x.donor || ce.Offset != int64(from) {
			t.Errorf("the damaged frame: %d bytes, %v", n, err)
		}
		if !bytes.Equal(p, make([]byte, len(p))) {
			t.Error("bytes of the damaged frame got out")
		}
	}
}

// TestFileCutWhileOpen shortens a blob under a Reader: that must not look like
// its end.
func TestFileCutWhileOpen(t *testing.T) {
	s, m := newMem(t, nil)
	content := oneTensor(randomBytes(6, 2*mib))
	d := put(t, s, content).Digest
	r, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	saveFile(t, m, blobPath(d), loadFile(t, m, blobPath(d))[:mib+mib/2])
	other, _ := newMem(t, nil)
	info, err := other.Put(t.Context(), struct{ io.Reader }{r})
	if err == nil {
		t.Fatalf("stored %d bytes of a blob of %d", info.Size, len(content))
	}
	if ce, ok := errors.AsType[*CorruptError](err); !ok || ce.Offset != int64(headSize(1)+mib) {
		t.Errorf("%v is not a CorruptError at the last frame", err)
	}
}

// rewrite replaces a blob's table and footer by ones with right checksums.
func rewrite(t *testing.T, fsys durable.FS, d Digest, change func(*format.Table, *format.Footer)) {
	t.Helper()
	file := loadFile(t, fsys, blobPath(d))
	f, err := format.ParseFooter(file[len(file)-format.FooterSize:], int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := format.ParseTable(file[f.TableOffset:f.TableOffset+f.TableLen], f)
	if err != nil {
		t.Fatal(err)
	}
	change(table, f)
	raw := format.AppendTable(nil, table)
	f.TableLen, f.TableSum = uint64(len(raw)), blake3.Sum256(raw)
	f.Rows, f.Donors, f.Sketches = uint32(len(table.Rows)), uint32(len(table.Donors)), uint32(len(table.Sketches))
	saveFile(t, fsys, blobPath(d), format.AppendFooter(cat(file[:f.TableOffset], raw), f))
}

// TestForgedTables gives files whose checksums are all right, but which say
// something wrong: only the hashes of the plain bytes show it.
func TestForgedTables(t *testing.T) {
	a, b := randomBytes(1, mib), randomBytes(2, mib)
	for _, c := range []struct {
		name   string
		change func(*format.Table, *format.Footer)
		newer  bool
	}{
		{"a frame twice, the other never", func(t *format.Table, f *format.Footer) {
			t.Rows[2] = format.Row{Sum: t.Rows[1].Sum, PlainLen: mib, Place: format.Repeated, Frame: 1}
			f.TableOffset -= mib // the last frame's bytes are cut off
		}, false},
		{"wrong frame hash", func(t *format.Table, _ *format.Footer) { t.Rows[2].Sum[0] ^= 1 }, false},
		{"hashes exchanged", func(t *format.Table, _ *format.Footer) {
			t.Rows[1].Sum, t.Rows[2].Sum = t.Rows[2].Sum, t.Rows[1].Sum
		}, false},
		{"raw frame said to be zstd", func(t *format.Table, _ *format.Footer) { t.Rows[2].Codec = 2 }, false},
		{"raw frame said to be constant", func(t *format.Table, _ *format.Footer) { t.Rows[2].Codec, t.Rows[2].Param = 1, 8 }, false},
		{"unknown codec", func(t *format.Table, _ *format.Footer) { t.Rows[2].Codec = 77 }, true},
		{"unknown codec with a base", func(t *format.Table, _ *format.Footer) {
			t.Rows[2].Codec, t.Rows[2].Depth, t.Rows[2].Base = 77, 1, format.SelfBase
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			content := oneTensor(cat(a, b))
			d := put(t, s, content).Digest
			rewrite(t, m, d, c.change)
			if c.newer {
				err := s.Verify(t.Context(), d)
				if ne, ok := errors.AsType[*NewerError](err); !ok || ne.Found != 77 {
					t.Errorf("verify: %v is not a NewerError", err)
				}
				return
			}
			err := s.Verify(t.Context(), d)
			if _, ok := errors.AsType[*CorruptError](err); !ok {
				t.Errorf("verify: %v", err)
			}
			got, err := readAll(t.Context(), s, d)
			if _, ok := errors.AsType[*CorruptError](err); !ok || len(got) >= len(content) {
				t.Errorf("read: %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestEmptyFileUnderAnotherName is the one forgery without a frame.
func TestEmptyFileUnderAnotherName(t *testing.T) {
	s, m := newMem(t, nil)
	d := put(t, s, nil).Digest
	other := put(t, s, []byte("x")).Digest
	saveFile(t, m, blobPath(other), loadFile(t, m, blobPath(d)))
	rewrite(t, m, other, func(_ *format.Table, f *format.Footer) { f.Digest = other })
	wantCorrupt(t, s, []byte("x"), other, "no bytes under the digest of one")
}

// newer makes version and minimum reader version of a blob's file 3.
func newer(file []byte) []byte {
	file = bytes.Clone(file)
	foot := file[len(file)-format.FooterSize:]
	for _, v := range [][]byte{file[8:12], foot[96:100]} {
		copy(v, []byte{4, 0, 4, 0})
	}
	sum := blake3.Sum256(foot[:104])
	copy(foot[104:120], sum[:16])
	return file
}

// TestNewerReaderWanted patches the minimum reader version of a blob.
func TestNewerReaderWanted(t *testing.T) {
	s, m := newMem(t, nil)
	content := lines(100)
	d := put(t, s, content).Digest
	file := newer(loadFile(t, m, blobPath(d)))
	saveFile(t, m, blobPath(d), file)
	err := s.Verify(t.Context(), d)
	ne, ok := errors.AsType[*NewerError](err)
	if !ok || ne.Found != 4 || ne.Supported != 3 {
		t.Fatalf("%v is not a NewerError for version 4", err)
	}
	if _, ok := errors.AsType[*CorruptError](err); ok {
		t.Errorf("%v calls a newer file damaged", err)
	}
	// It must not be healed away by an older release either.
	if _, err := s.Put(t.Context(), bytes.NewReader(content)); err == nil {
		t.Error("put replaced a blob that a newer heft wrote")
	}
	if !bytes.Equal(loadFile(t, m, blobPath(d)), file) {
		t.Error("the newer file changed")
	}
}
