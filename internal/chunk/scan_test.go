package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/codec"
)

func samples(t testing.TB) map[string][]byte {
	f32 := entryJSON("a", "F32", "2,3", 0, 24)
	return map[string][]byte{
		"safetensors": safetensors("{"+f32+`,"__metadata__":{"k":"v"},`+entryJSON("b", "BF16", "4", 24, 32)+"}  ", 32),
		"gguf":        smallGGUF(),
		"npy":         npy(npyDict, 24),
		"npz":         archive(t, zipMember{"x.npy", 0, npy(npyDict, 24)}, zipMember{"y.npy", 0, npy(npyDict, 24)}),
		"torch": archive(t, zipMember{"m/data/0", 0, []byte("0123")}, zipMember{"m/data/1", 0, nil},
			zipMember{"m/data.pkl", 8, []byte("pickle")}, zipMember{"m/version", 0, []byte("3\n")}),
	}
}

func TestScanFormats(t *testing.T) {
	f32, q8 := codec.Kind{Elem: codec.F32}, codec.Kind{Stride: 34}
	files := samples(t)
	want := map[string]*Layout{
		"safetensors": {"safetensors", []Tensor{
			{"a", "F32", []uint64{2, 3}, int64(len(files["safetensors"])) - 32, 24, f32},
			{"b", "BF16", []uint64{4}, int64(len(files["safetensors"])) - 8, 8, codec.Kind{Elem: codec.BF16}},
		}},
		"gguf": {"gguf", []Tensor{
			{"w", "Q8_0", []uint64{32, 3}, int64(len(files["gguf"])) - 148, 102, q8},
			{"b", "F32", []uint64{5}, int64(len(files["gguf"])) - 20, 20, f32},
		}},
		"npy": {"npy", []Tensor{{"", "F32", []uint64{3, 2}, int64(len(files["npy"])) - 24, 24, f32}}},
		"npz": {"zip", []Tensor{
			{"x", "F32", []uint64{3, 2}, 64 + 10 + int64(len(npyDict)), 24, f32},
			{"y", "F32", []uint64{3, 2}, 256 + 10 + int64(len(npyDict)), 24, f32},
		}},
		"torch": {"zip", []Tensor{{Name: "m/data/0", Offset: 64, Size: 4}, {Name: "m/data/1", Offset: 128}}},
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want[name], scan(t, file)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrefixAgreesWithScan(t *testing.T) {
	for name, file := range samples(t) {
		t.Run(name, func(t *testing.T) {
			l, need := prefixOf(t, file)
			if name == "npz" || name == "torch" {
				if l != nil || need != 0 {
					t.Fatalf("recognised an archive: %v, %d", l, need)
				}
				return
			}
			if diff := cmp.Diff(scan(t, file), l); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// prefixOf asks Prefix as a writer does, a byte more than it needs each time.
func prefixOf(t testing.TB, file []byte) (*Layout, int) {
	t.Helper()
	for have := 0; ; {
		l, need := Prefix(file[:have])
		if l != nil && need != 0 {
			t.Fatalf("a layout and a need of %d", need)
		}
		if l != nil || need == 0 || have == len(file) {
			return l, need
		}
		if need <= have || need > maxStream {
			t.Fatalf("needs %d with %d", need, have)
		}
		have = min(need, len(file))
	}
}

// TestScanTruncated cuts and flips every byte of small files.
func TestScanTruncated(t *testing.T) {
	for name, file := range samples(t) {
		t.Run(name, func(t *testing.T) {
			for i := range file {
				if l := scan(t, file[:i]); l != nil {
					t.Errorf("a layout from %d of %d bytes", i, len(file))
				}
				prefixOf(t, file[:i])
				for _, flip := range []byte{1, 0x80, 0xff} {
					bad := bytes.Clone(file)
					bad[i] ^= flip
					scan(t, bad)
					prefixOf(t, bad)
				}
			}
		})
	}
}

func TestScanHostile(t *testing.T) {
	a := entryJSON("a", "U8", "4", 0, 4)
	deep := strings.Repeat("[", 200_000)
	gguf := func(g *ggufFile) []byte { return g.data(32, 64) }
	one := func() *ggufFile { return newGGUF(3, 1, 0) }
	tests := []struct {
		name string
		file []byte
	}{
		{"empty", nil},
		{"text", []byte(strings.Repeat("text ", 100))},
		{"length beyond the file", safetensors("{}", 0)[:9]},
		{"length near 2^64", append(bytes.Repeat([]byte{0xff}, 8), "{}"...)},
		{"header not an object", safetensors("[]", 0)},
		{"header of spaces first", safetensors(" {}", 0)},
		{"header goes on", safetensors("{}{}", 0)},
		{"header unfinished", safetensors("{"+a, 4)},
		{"data without tensors", safetensors("{}", 4)},
		{"tensor twice", safetensors("{"+a+","+entryJSON("a", "U8", "4", 4, 8)+"}", 8)},
		{"empty tensor twice", safetensors("{"+entryJSON("a", "U8", "0", 0, 0)+","+entryJSON("a", "U8", "0", 0, 0)+"}", 0)},
		{"tensor twice by an escape", safetensors(`{`+a+`,"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}`, 4)},
		{"key twice", safetensors(`{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4)},
		{"key missing", safetensors(`{"a":{"dtype":"U8","data_offsets":[0,4]}}`, 4)},
		{"key unknown", safetensors(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}`, 4)},
		{"metadata twice", safetensors(`{"__metadata__":{},"__metadata__":{}}`, 0)},
		{"offsets reversed", safetensors("{"+entryJSON("a", "U8", "4", 4, 0)+"}", 4)},
		{"offsets beyond the file", safetensors("{"+entryJSON("a", "X", "4", 0, 5)+"}", 4)},
		{"three offsets", safetensors(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}`, 4)},
		{"a gap", safetensors("{"+a+","+entryJSON("b", "U8", "3", 5, 8)+"}", 8)},
		{"a gap at the beginning", safetensors("{"+entryJSON("b", "U8", "3", 1, 4)+"}", 4)},
		{"an overlap", safetensors("{"+a+","+entryJSON("b", "U8", "5", 3, 8)+"}", 8)},
		{"data behind the last", safetensors("{"+a+"}", 5)},
		{"shape too small", safetensors("{"+entryJSON("a", "F32", "4", 0, 4)+"}", 4)},
		{"shape overflows", safetensors("{"+entryJSON("a", "F32", "4294967296,4294967296,1", 0, 0)+"}", 0)},
		{"shape overflows before a zero", safetensors("{"+entryJSON("a", "U8", "18446744073709551615,2,0", 0, 0)+"}", 0)},
		{"number beyond 64 bits", safetensors("{"+entryJSON("a", "U8", "18446744073709551616", 0, 0)+"}", 0)},
		{"number with a zero before", safetensors("{"+entryJSON("a", "U8", "04", 0, 4)+"}", 4)},
		{"number with a sign", safetensors("{"+entryJSON("a", "U8", "-4", 0, 4)+"}", 4)},
		{"half a byte", safetensors("{"+entryJSON("a", "F4", "7", 0, 4)+"}", 4)},
		{"deep metadata", safetensors(`{"__metadata__":`+deep+`}`, 0)},
		{"deep shape", safetensors(`{"a":{"shape":`+deep+`}}`, 0)},
		{"name not utf-8", safetensors("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4)},
		{"rank too high", safetensors("{"+entryJSON("a", "U8", strings.Repeat("1,", 64)+"1", 0, 1)+"}", 1)},

		{"gguf version 1", gguf(newGGUF(1, 0, 0))},
		{"gguf big-endian", gguf(newGGUF(0x03000000, 0, 0))},
		{"gguf tensors beyond the file", gguf(newGGUF(3, 1000, 0))},
		{"gguf wild tensor count", gguf(newGGUF(3, math.MaxUint64, 0))},
		{"gguf wild pair count", gguf(newGGUF(3, 0, math.MaxUint64))},
		{"gguf wild key length", gguf(newGGUF(3, 0, 1).u64(math.MaxUint64))},
		{"gguf wild string", gguf(newGGUF(3, 0, 1).str("k").u32(ggufString).u64(1 << 63))},
		{"gguf wild array", gguf(newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(10).u64(1 << 61))},
		{"gguf wild array of strings", gguf(newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(ggufString).u64(1 << 61))},
		{"gguf wild array of arrays", gguf(newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(ggufArray).u64(1 << 61))},
		{"gguf unknown value", gguf(newGGUF(3, 0, 1).str("k").u32(13).u64(0))},
		{"gguf deep arrays", func() []byte {
			g := newGGUF(3, 0, 1).str("k").u32(ggufArray)
			for range 100_000 {
				g.u32(ggufArray).u64(1)
			}
			return gguf(g)
		}()},
		{"gguf alignment 0", gguf(newGGUF(3, 0, 1).str(alignKey).u32(ggufUint32).u32(0))},
		{"gguf alignment 48", gguf(newGGUF(3, 0, 1).str(alignKey).u32(ggufUint32).u32(48))},
		{"gguf alignment 2^21", gguf(newGGUF(3, 0, 1).str(alignKey).u32(ggufUint32).u32(1 << 21))},
		{"gguf alignment of 64 bits", gguf(newGGUF(3, 0, 1).str(alignKey).u32(10).u64(32))},
		{"gguf alignment twice", gguf(newGGUF(3, 0, 2).str(alignKey).u32(4).u32(32).str(alignKey).u32(4).u32(32))},
		{"gguf unknown type", gguf(one().info("a", 4, 0, 4))},
		{"gguf part of a block", gguf(one().info("a", 8, 0, 33))},
		{"gguf blocks across rows", gguf(one().info("a", 8, 0, 16, 2))},
		{"gguf scalar of a block type", gguf(one().info("a", 8, 0))},
		{"gguf rank 9", gguf(one().info("a", 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1))},
		{"gguf shape overflows", gguf(one().info("a", 0, 0, 1<<32, 1<<32))},
		{"gguf size overflows", gguf(one().info("a", 0, 0, 1<<62))},
		{"gguf offset not aligned", gguf(one().info("a", 0, 4, 4))},
		{"gguf offset beyond the file", gguf(one().info("a", 0, 64, 4))},
		{"gguf wild offset", gguf(one().info("a", 0, 1<<63, 4))},
		{"gguf offset near 2^63", gguf(one().info("a", 0, 1<<63-32, 4))},
		{"gguf end beyond the file", gguf(one().info("a", 0, 32, 9))},
		{"gguf overlap", gguf(newGGUF(3, 2, 0).info("a", 0, 0, 16).info("b", 0, 32, 4))},
		{"gguf tensor twice", gguf(newGGUF(3, 2, 0).info("a", 0, 0, 4).info("a", 0, 32, 4))},
		{"gguf name not utf-8", gguf(one().info("\xff", 0, 0, 4))},

		{"npy version 4", append([]byte(npyMagic+"\x04\x00"), npy(npyDict, 24)[8:]...)},
		{"npy too short", npy(npyDict, 23)},
		{"npy objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n", 24)},
		{"npy record", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }\n", 24)},
		{"npy key twice", npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", 24)},
		{"npy key missing", npy("{'descr': '<f4', 'shape': (3,), }\n", 24)},
		{"npy key unknown", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 'y', }\n", 24)},
		{"npy shape a number", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3), }\n", 24)},
		{"npy shape without commas", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3 2), }\n", 24)},
		{"npy shape overflows", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n", 24)},
		{"npy more behind", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }x\n", 24)},
		{"npy code", npy("__import__('os')\n", 24)},

		{"zip without members", archive(t)},
		{"zip without tensors", archive(t, zipMember{"a.txt", 0, []byte("text")}, zipMember{"m/data/0", 8, []byte("0123")})},
		{"zip end only", []byte(zipMagic + zipEnd + strings.Repeat("\x00", 18))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if l := scan(t, tt.file); l != nil {
				t.Errorf("a layout: %+v", l)
			}
			prefixOf(t, tt.file)
		})
	}
}

func TestScanAccepts(t *testing.T) {
	var many strings.Builder
	for i := range 20_000 {
		many.WriteString("," + entryJSON(fmt.Sprint("layers.", 20_000-i), "U8", "1", i, i+1))
	}
	tests := []struct {
		name string
		file []byte
		want int // tensors
	}{
		{"no tensors", safetensors("{}", 0), 0},
		{"white space", safetensors("{ \"a\" : {\n\"shape\":[ ] ,\t\"dtype\":\"U8\",\"data_offsets\":[0 , 1]} }  ", 1), 1},
		{"unknown dtype", safetensors("{"+entryJSON("a", "F3_X", "7", 0, 5)+"}", 5), 1},
		{"half bytes", safetensors("{"+entryJSON("a", "F4", "2,3", 0, 3)+"}", 3), 1},
		{"six bits", safetensors("{"+entryJSON("a", "F6_E2M3", "4", 0, 3)+"}", 3), 1},
		{"empty tensors between", safetensors("{"+entryJSON("b", "U8", "4", 0, 4)+","+entryJSON("c", "F32", "0,9", 4, 4)+","+entryJSON("a", "F32", "0", 0, 0)+"}", 4), 3},
		{"name with escapes", safetensors(`{"\u00e9\n\ud83d\ude00":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), 1},
		{"metadata of other things", safetensors(`{"__metadata__":{"a":[1,-2.5e+3,{"b":null}],"c":true}}`, 0), 0},
		{"many tensors", safetensors("{"+many.String()[1:]+"}", 20_000), 20_000},
		{"gguf without tensors", newGGUF(2, 0, 1).str("k").u32(7).raw(1).b, 0},
		{"gguf scalar", newGGUF(2, 1, 0).info("a", 0, 0).data(32, 4), 1},
		{"gguf gap", newGGUF(3, 2, 0).info("a", 0, 4096, 8).info("b", 0, 0, 8).data(32, 4096+32), 2},
		{"npy big-endian", npy("{'descr': '>f8', 'fortran_order': True, 'shape': (3,), }\n", 24), 1},
		{"npy scalar", npy("{'shape': (), 'descr': '|b1', 'fortran_order': False}\n", 1), 1},
		{"safetensors in a zip", archive(t, zipMember{"m.safetensors", 0, samples(t)["safetensors"]}), 2},
		{"gguf in a zip", archive(t, zipMember{"m.gguf", 0, samples(t)["gguf"]}), 2},
		{"zip in a zip", archive(t, zipMember{"m.npz", 0, samples(t)["npz"]}), 2},
		{"zip in a zip in a zip", archive(t, zipMember{"a.zip", 0, archive(t, zipMember{"m.npz", 0, samples(t)["npz"]})},
			zipMember{"data/data/x", 0, []byte("x")}), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if l := scan(t, tt.file); l == nil || len(l.Tensors) != tt.want {
				t.Errorf("got %+v, want %d tensors", l, tt.want)
			}
		})
	}
}

func TestScanNamesOfMembers(t *testing.T) {
	inner := samples(t)
	file := archive(t, zipMember{"m.safetensors", 0, inner["safetensors"]}, zipMember{"n/arrays.npz", 0, inner["npz"]}, zipMember{"z.npy", 0, inner["npy"]})
	var got []string
	for _, x := range scan(t, file).Tensors {
		got = append(got, x.Name)
	}
	want := []string{"m.safetensors/a", "m.safetensors/b", "n/arrays.npz/x", "n/arrays.npz/y", "z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestScanZipOverlap points two entries of a directory at one member.
func TestScanZipOverlap(t *testing.T) {
	file := archive(t, zipMember{"m/data/0", 0, []byte("0123")}, zipMember{"m/data/1", 0, []byte("0123")})
	if scan(t, file) == nil {
		t.Fatal("no layout before")
	}
	second := bytes.LastIndex(file, []byte(zipEntry))
	copy(file[second+42:second+46], []byte{0, 0, 0, 0})
	if l := scan(t, file); l != nil {
		t.Errorf("a layout: %+v", l)
	}
}

// failing fails at an offset with an error of its own.
type failing struct {
	io.ReaderAt
	at  int64
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		n, _ := f.ReaderAt.ReadAt(p[:f.at-off], off)
		return n, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestScanReadError(t *testing.T) {
	broken := errors.New("broken disk")
	for name, file := range samples(t) {
		t.Run(name, func(t *testing.T) {
			if _, err := Scan(failing{bytes.NewReader(file), 0, broken}, int64(len(file))); !errors.Is(err, broken) {
				t.Errorf("first byte: got %v, want %v", err, broken)
			}
			for i := range file {
				_, err := Scan(failing{bytes.NewReader(file), int64(i), broken}, int64(len(file)))
				if err != nil && !errors.Is(err, broken) {
					t.Errorf("byte %d: got %v", i, err)
				}
			}
			// A file that is shorter than was said has no structure.
			if l, err := Scan(bytes.NewReader(file), int64(len(file))+1<<40); err != nil || l != nil && name != "gguf" && name != "npy" {
				t.Errorf("size that lies: %v, %v", l, err)
			}
		})
	}
}

// hollow is a file that a few bytes begin and zeros fill.
type hollow struct {
	head []byte
	fill string
}

func (h hollow) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		if at := off + int64(i); at < int64(len(h.head)) {
			p[i] = h.head[at]
		} else {
			p[i] = h.fill[(at-int64(len(h.head)))%int64(len(h.fill))]
		}
	}
	return len(p), nil
}

// TestScanMemory scans files that claim as much as they can.
func TestScanMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 64 MiB")
	}
	const size = 1 << 40
	tests := []struct {
		name string
		file hollow
	}{
		{"gguf pairs", hollow{newGGUF(3, maxTensors, maxGGUF/minPair-100).b, "\x00"}},
		{"gguf infos", hollow{newGGUF(3, maxTensors, 0).b, "\x00"}},
		{"gguf strings", hollow{newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(ggufString).u64(maxGGUF/8 - 100).b, "\x00"}},
		{"gguf arrays", hollow{newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(ggufArray).u64(maxGGUF/12 - 100).b, "\x00"}},
		{"gguf arrays of arrays", hollow{newGGUF(3, 0, 1).str("k").u32(ggufArray).u32(ggufArray).u64(2).u32(ggufArray).u64(maxGGUF / 24).b, "\x00"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Scan(tt.file, size); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			// All allocations, not only those that live at one time.
			if n := after.TotalAlloc - before.TotalAlloc; n > 150<<20 {
				t.Errorf("%d MiB allocated", n>>20)
			}
		})
	}
}
