package blob

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// frameSizes returns the plain lengths of a blob's frames.
func frameSizes(t testing.TB, s *Store, d Digest) (sizes []int64) {
	t.Helper()
	_, frames, err := s.Frames(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		sizes = append(sizes, f.Size)
	}
	return sizes
}

// manyTensors has tensors of every kind of size: with frames of their own, and
// small ones that share them.
func manyTensors() []tensor {
	list := []tensor{
		{"embed", "BF16", normals(1, "BF16", 2*mib+mib/2)},
		{"layer", "F32", normals(2, "F32", mib+400)},
	}
	for i := range 40 {
		list = append(list, tensor{fmt.Sprintf("norm.%d", i), "F32", normals(uint64(10+i), "F32", 4<<10)})
	}
	return append(list,
		tensor{"head", "F16", normals(3, "F16", 300<<10)},
		tensor{"scale", "F64", normals(4, "F64", 800)},
		tensor{"ids", "I64", randomBytes(5, 8000)})
}

// ggufPrefix begins a GGUF file with a key of that many bytes and two tensors.
func ggufPrefix(value int) []byte {
	le := binary.LittleEndian
	str := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(le.AppendUint64(b, 2), 1)
	b = str(le.AppendUint32(str(b, "general.name"), 8), string(repeated("name ", value)))
	for i, name := range []string{"a.weight", "b.weight"} { // fp32, 1 MiB and 400 bytes
		b = le.AppendUint32(str(b, name), 1)
		b = le.AppendUint64(b, []uint64{mib / 4, 100}[i])
		b = le.AppendUint64(le.AppendUint32(b, 0), uint64(i)*mib)
	}
	return append(b, make([]byte, (32-len(b)%32)%32)...)
}

func ggufFile(value int) []byte { return cat(ggufPrefix(value), normals(7, "F32", mib+400)) }

// zipFile is an archive of stored members.
func zipFile(t testing.TB, members ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, m := range members {
		w, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("model/data/%d", i), Method: zip.Store})
		if err == nil {
			_, err = w.Write(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestStreamsAreCutLikeFiles puts files whose structure is at their beginning
// from a file, from memory and as a stream: the frames are the same ones.
func TestStreamsAreCutLikeFiles(t *testing.T) {
	for name, content := range map[string][]byte{
		"safetensors":      safetensors(manyTensors()...),
		"one tensor":       oneTensor(randomBytes(1, 2*mib)),
		"gguf":             ggufFile(70 << 10),
		"no structure":     randomBytes(1, 3*mib),
		"a short one":      []byte("short"),
		"less than a head": safetensors(tensor{"w", "F32", normals(1, "F32", 16)}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			a, am := newMem(t, nil)
			d := put(t, a, content).Digest
			want := loadFile(t, am, blobPath(d))
			b, bm := newMem(t, nil)
			if _, err := b.Put(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			c, cm := newMem(t, nil)
			if _, err := c.Put(t.Context(), stream(content)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(loadFile(t, bm, blobPath(d)), want) || !bytes.Equal(loadFile(t, cm, blobPath(d)), want) {
				t.Errorf("frames of %v from memory, %v from a file, %v from a stream", frameSizes(t, a, d), frameSizes(t, b, d), frameSizes(t, c, d))
			}
			wantBlob(t, c, content)
		})
	}
	// The tensors begin frames, which the comparison above does not show.
	s, _ := newMem(t, nil)
	sizes := frameSizes(t, s, put(t, s, safetensors(manyTensors()...)).Digest)
	if want := []int64{45 * 256, mib, mib, mib / 2, mib, 400 + 40*4<<10}; len(sizes) < 6 || !slices.Equal(sizes[:4], want[:4]) {
		t.Errorf("frames of %v", sizes)
	}
}

// TestRearrangedTensors puts files that hold the tensors of another one in other
// ways: what is stored is the frames that changed.
func TestRearrangedTensors(t *testing.T) {
	a := tensor{"a", "BF16", normals(1, "BF16", 2*mib+mib/2)}
	b := tensor{"b", "F32", normals(2, "F32", mib+4)}
	c := tensor{"c", "F16", normals(3, "F16", 700<<10)}
	longer := tensor{"a", "BF16", cat(a.data, normals(4, "BF16", 64<<10))} // 64 rows of 512
	renamed := tensor{"another name", "BF16", a.data}
	size := func(ts ...tensor) (n int64) {
		for _, x := range ts {
			n += int64(len(x.data))
		}
		return n
	}
	for _, x := range []struct {
		name     string
		files    [][]tensor
		borrowed int64 // plain bytes
	}{
		{"reordered", [][]tensor{{c, a, b}}, size(a, b, c)},
		{"renamed", [][]tensor{{renamed, b, c}}, size(a, b, c)},
		{"one left out", [][]tensor{{a, c}}, size(a, c)},
		{"in two files", [][]tensor{{a}, {b, c}}, size(a, b, c)},
		{"rows appended", [][]tensor{{longer, b, c}}, 2*mib + size(b, c)},
		{"last bytes changed", [][]tensor{{a, b, {"d", "F16", cat(c.data[:len(c.data)-2], []byte{1, 2})}}}, size(a, b)},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := hints{}
			s, _ := newMem(t, &Options{Known: h.known})
			h.learn(t, s, put(t, s, safetensors(a, b, c)).Digest)
			var borrowed, rest int64
			for _, tensors := range x.files {
				content := safetensors(tensors...)
				info := put(t, s, content)
				wantBlob(t, s, content)
				borrowed += info.Parts.Borrowed.Size
				rest += info.Parts.Raw.Size + info.Parts.Self.Size + info.Parts.Delta.Size - int64(headSize(len(tensors)))
			}
			all := int64(0)
			for _, tensors := range x.files {
				all += size(tensors...)
			}
			if borrowed != x.borrowed || rest != all-x.borrowed {
				t.Errorf("%d bytes are borrowed and %d stored beside the headers, not %d and %d", borrowed, rest, x.borrowed, all-x.borrowed)
			}
		})
	}
}

// TestLyingStructure puts files whose structure is damaged, cut short or a lie,
// as files and as streams: all come back as they were.
func TestLyingStructure(t *testing.T) {
	t.Parallel()
	small := []tensor{{"a", "BF16", normals(1, "BF16", 3000)}, {"b", "F32", normals(2, "F32", 1000)}}
	good := map[string][]byte{
		"safetensors": safetensors(small...),
		"gguf":        ggufFile(10)[:len(ggufPrefix(10))+4000],
		"zip":         zipFile(t, small[0].data, safetensors(small...)),
	}
	heads := map[string]int{"safetensors": headSize(2), "gguf": len(ggufPrefix(10)), "zip": 40}
	s, _ := newMem(t, &Options{Workers: 1})
	check := func(t *testing.T, content []byte) {
		t.Helper()
		put(t, s, content)
		wantBlob(t, s, content)
		other, _ := newMem(t, &Options{Workers: 1})
		if info, err := other.Put(t.Context(), stream(content)); err != nil || info.Digest != Sum(content) {
			t.Errorf("as a stream: %v", err)
		}
		wantBlob(t, other, content)
	}
	for name, file := range good {
		t.Run(name, func(t *testing.T) {
			check(t, file)
			for n := 0; n < heads[name]; n += 5 {
				check(t, file[:n])
			}
			for _, n := range []int{heads[name], len(file) / 2, len(file) - 1} {
				check(t, file[:n])
			}
			check(t, cat(file, []byte("more")))
			check(t, cat(file, file))
			for at := range heads[name] {
				bad := bytes.Clone(file)
				bad[at] ^= 1 << (at % 8)
				check(t, bad)
			}
			for at := max(0, len(file)-200); at < len(file); at += 3 { // the directory of an archive
				bad := bytes.Clone(file)
				bad[at] ^= 0x80
				check(t, bad)
			}
		})
	}
	// Numbers that would be far beyond anything.
	for _, head := range []string{
		`{"w":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}`,
		`{"w":{"dtype":"BF16","shape":[1],"data_offsets":[18446744073709551615,1]}}`,
		`{"w":{"dtype":"BF16","shape":[1152921504606846976,16],"data_offsets":[0,2]}}`,
		`{"w":{"dtype":"BF16","shape":[4294967296],"data_offsets":[0,8589934592]}}`,
		`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`,
	} {
		for _, n := range []uint64{uint64(len(head)), 1 << 20, 99_999_999, 1 << 63, 1<<64 - 1} {
			check(t, cat(binary.LittleEndian.AppendUint64(nil, n), []byte(head), normals(9, "F32", 5000)))
		}
	}
}
