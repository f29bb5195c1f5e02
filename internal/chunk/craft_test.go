package chunk

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// safetensors returns a file with a header and n bytes of data.
func safetensors(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, n)...)
}

// entryJSON returns a member of a safetensors header.
func entryJSON(name, dtype, shape string, from, to int) string {
	return fmt.Sprintf(`%q:{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`, name, dtype, shape, from, to)
}

// npy returns an .npy file of version 1 with n bytes of data.
func npy(dict string, n int) []byte {
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	b = append(b, dict...)
	return append(b, make([]byte, n)...)
}

const npyDict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }     \n"

// ggufFile is written field by field, so that tests can lie.
type ggufFile struct{ b []byte }

func newGGUF(version uint32, tensors, pairs uint64) *ggufFile {
	g := &ggufFile{b: []byte(ggufMagic)}
	return g.u32(version).u64(tensors).u64(pairs)
}

func (g *ggufFile) u32(n uint32) *ggufFile {
	g.b = binary.LittleEndian.AppendUint32(g.b, n)
	return g
}

func (g *ggufFile) u64(n uint64) *ggufFile {
	g.b = binary.LittleEndian.AppendUint64(g.b, n)
	return g
}

func (g *ggufFile) str(s string) *ggufFile {
	g.u64(uint64(len(s)))
	g.b = append(g.b, s...)
	return g
}

func (g *ggufFile) raw(b ...byte) *ggufFile {
	g.b = append(g.b, b...)
	return g
}

func (g *ggufFile) info(name string, kind uint32, off uint64, dims ...uint64) *ggufFile {
	g.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		g.u64(d)
	}
	return g.u32(kind).u64(off)
}

// data pads to the alignment and adds n bytes.
func (g *ggufFile) data(align, n int) []byte {
	for len(g.b)%align != 0 {
		g.b = append(g.b, 0)
	}
	return append(g.b, make([]byte, n)...)
}

// smallGGUF has a pair of each kind and two tensors.
func smallGGUF() []byte {
	g := newGGUF(3, 2, 4)
	g.str("general.architecture").u32(ggufString).str("gpt")
	g.str(alignKey).u32(ggufUint32).u32(64)
	g.str("tokens").u32(ggufArray).u32(ggufString).u64(2).str("a").str("bc")
	g.str("nested").u32(ggufArray).u32(ggufArray).u64(2).u32(0).u64(3).raw(1, 2, 3).u32(12).u64(0)
	g.info("w", 8, 0, 32, 3).info("b", 0, 128, 5)
	return g.data(64, 128+20)
}

type zipMember struct {
	name   string
	method uint16
	data   []byte
}

// archive returns a zip of the members, whose stored data begins at multiples
// of 64 as PyTorch's does.
func archive(t testing.TB, members ...zipMember) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: m.method}
		h.CompressedSize64, h.UncompressedSize64 = uint64(len(m.data)), uint64(len(m.data))
		var w io.Writer
		var err error
		if m.method == zip.Store {
			if err = z.Flush(); err != nil {
				t.Fatal(err)
			}
			pad := (64 - (out.Len()+localLen+len(m.name)+4)%64) % 64
			h.Extra = binary.LittleEndian.AppendUint16([]byte("FB"), uint16(pad))
			h.Extra = append(h.Extra, strings.Repeat("Z", pad)...)
			w, err = z.CreateRaw(h)
		} else {
			w, err = z.CreateHeader(h)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// scan scans b and checks the rules of Layout.
func scan(t testing.TB, b []byte) *Layout {
	t.Helper()
	l, err := Scan(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if l != nil {
		checkLayout(t, l, int64(len(b)))
	}
	return l
}

// checkLayout checks the rules of Layout.
func checkLayout(t testing.TB, l *Layout, size int64) {
	t.Helper()
	var end int64
	names := make(map[string]bool)
	for _, x := range l.Tensors {
		if x.Offset < end || x.Size < 0 || x.Size > size-x.Offset {
			t.Fatalf("tensor %q: %d bytes at %d after %d of %d", x.Name, x.Size, x.Offset, end, size)
		}
		if w := max(x.Kind.Elem.Width(), x.Kind.Stride, 1); x.Kind.Lead < 0 || x.Kind.Lead >= w || w > 512 {
			t.Fatalf("tensor %q: kind %v", x.Name, x.Kind)
		}
		if names[x.Name] {
			t.Fatalf("two tensors %q", x.Name)
		}
		names[x.Name] = true
		end = x.Offset + x.Size
	}
}
