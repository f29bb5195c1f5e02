package chunk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/internal/codec"
)

// TestScanZipKinds checks what is made of members that say nothing of
// themselves.
func TestScanZipKinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f32 := codec.Kind{Elem: codec.F32}
	members := []struct {
		name string
		data []byte
		want *codec.Kind // nil: no tensor
	}{
		{"m/data/0", normals(r, codec.F32, 300_000, 0.1), &f32},
		{"m/data/1", normals(r, codec.BF16, 40_000, 0.1), &codec.Kind{Elem: codec.BF16}},
		{"m/data/2", normals(r, codec.F32, 1000, 0.1), &codec.Kind{}},
		{"m/data/3", append(normals(r, codec.F32, 200_000, 0.1), noise(r, 200_000)...), &codec.Kind{}},
		{"m/data/4", noise(r, 200_000), &codec.Kind{}},
		{"m/data/5", append([]byte{1}, normals(r, codec.F32, 100_000, 0.1)...), &codec.Kind{}},
		{"m/data.pkl", bytes.Repeat([]byte("pickle "), 10_000), nil},
		{"m/weights.bin", normals(r, codec.F32, 300_000, 0.1), &f32},
		{"m/counter", counter(10_000), nil},
	}
	var all []zipMember
	want := make(map[string]codec.Kind)
	for _, m := range members {
		all = append(all, zipMember{m.name, 0, m.data})
		if m.want != nil {
			want[m.name] = *m.want
		}
	}
	got := make(map[string]codec.Kind)
	for _, x := range scan(t, archive(t, all...)).Tensors {
		got[x.Name] = x.Kind
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func counter(n int) []byte {
	var b []byte
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
	}
	return b
}

// wide returns file, an archive, with zip64 records at its end and the offset
// of its last member in a zip64 extra field.
func wide(file []byte) []byte {
	end := bytes.LastIndex(file, []byte(zipEnd))
	entries := binary.LittleEndian.Uint16(file[end+10:])
	start := int(binary.LittleEndian.Uint32(file[end+16:]))
	last := bytes.LastIndex(file, []byte(zipEntry))
	dir := bytes.Clone(file[start:end])
	e := dir[last-start:]
	name, extra := int(binary.LittleEndian.Uint16(e[28:])), int(binary.LittleEndian.Uint16(e[30:]))
	field := binary.LittleEndian.AppendUint16(nil, zip64ExtraID)
	field = binary.LittleEndian.AppendUint16(field, 8)
	field = binary.LittleEndian.AppendUint64(field, uint64(binary.LittleEndian.Uint32(e[42:])))
	copy(e[42:], "\xff\xff\xff\xff")
	binary.LittleEndian.PutUint16(e[30:], uint16(extra+len(field)))
	at := last - start + entryLen + name + extra
	dir = append(append(append([]byte{}, dir[:at]...), field...), dir[at:]...)

	out := append(bytes.Clone(file[:start]), dir...)
	at64 := len(out)
	out = append(out, zipEnd64...)
	out = binary.LittleEndian.AppendUint64(out, end64Len-12)
	out = append(out, make([]byte, 12)...)
	for _, n := range []int{int(entries), int(entries), len(dir), start} {
		out = binary.LittleEndian.AppendUint64(out, uint64(n))
	}
	out = append(out, zipEnd64At...)
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint64(out, uint64(at64))
	out = binary.LittleEndian.AppendUint32(out, 1)
	tail := bytes.Clone(file[end:])
	copy(tail[8:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	return append(out, tail...)
}

func TestScanZip64(t *testing.T) {
	file := archive(t, zipMember{"m/data/0", 0, []byte("0123")}, zipMember{"m/data/1", 0, []byte("4567")})
	big := wide(file)
	if diff := cmp.Diff(scan(t, file), scan(t, big)); diff != "" {
		t.Error(diff)
	}
	for i := range big {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(big)
			bad[i] ^= flip
			scan(t, bad)
		}
	}
}

// TestScanZipComment finds the end of an archive before a comment that holds
// the same signature.
func TestScanZipComment(t *testing.T) {
	file := archive(t, zipMember{"m/data/0", 0, []byte("0123")})
	comment := "a comment " + zipEnd + " with a signature in it, and then some more text"
	file = append(file, comment...)
	binary.LittleEndian.PutUint16(file[len(file)-len(comment)-2:], uint16(len(comment)))
	if l := scan(t, file); l == nil || len(l.Tensors) != 1 {
		t.Errorf("got %+v", l)
	}
}

// TestScanLongHeaders scans headers with as many tensors as are allowed, and
// more, and checks how much is allocated on the way.
func TestScanLongHeaders(t *testing.T) {
	for _, n := range []int{maxTensors, maxTensors + 1} {
		var head bytes.Buffer
		for i := range n {
			c := byte(',')
			if i == 0 {
				c = '{'
			}
			head.WriteByte(c)
			head.WriteString(entryJSON(fmt.Sprint(i), "F32", "1,1", 4*i, 4*i+4))
		}
		head.WriteByte('}')
		file := safetensors(head.String(), 4*n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l := scan(t, file)
		runtime.ReadMemStats(&after)
		if found := l != nil; found != (n <= maxTensors) {
			t.Errorf("%d tensors: found %v", n, found)
		}
		t.Logf("header of %d MB, %d MiB allocated in all", head.Len()/1e6, (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

func TestPrefixLongHeader(t *testing.T) {
	g := newGGUF(3, 1, 1).str("tokens").u32(ggufArray).u32(ggufString).u64(100_000)
	for i := range 100_000 {
		g.str(fmt.Sprint("token ", i))
	}
	file := g.info("w", 0, 0, 25).data(32, 100)
	l, _ := prefixOf(t, file)
	if diff := cmp.Diff(scan(t, file), l); diff != "" || l == nil {
		t.Error(diff)
	}
	long := safetensors("{"+string(bytes.Repeat([]byte(" "), maxStream))+"}", 0)
	if l, need := Prefix(long[:100]); l != nil || need != 0 {
		t.Errorf("a header beyond the limit: %v, %d", l, need)
	}
}

func BenchmarkScanSafetensors(b *testing.B) {
	var head bytes.Buffer
	for i := range 100_000 {
		head.WriteString("," + entryJSON(fmt.Sprint("model.layers.", i, ".mlp.experts.weight"), "BF16", "2,1", 4*i, 4*i+4))
	}
	file := safetensors("{"+head.String()[1:]+"}", 400_000)
	b.SetBytes(int64(head.Len()))
	for b.Loop() {
		if _, err := Scan(bytes.NewReader(file), int64(len(file))); err != nil {
			b.Fatal(err)
		}
	}
}
