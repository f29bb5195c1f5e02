package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// Files of weights, and what training does to them. Like the contents of
// data_test.go they are the same in every release.

// tensor is one of a generated file.
type tensor struct {
	name, dtype string
	data        []byte
}

// shape returns the tensor's one dimension.
func (x tensor) shape() int {
	switch x.dtype {
	case "BF16", "F16":
		return len(x.data) / 2
	case "F32", "I32":
		return len(x.data) / 4
	case "F64", "I64":
		return len(x.data) / 8
	}
	return len(x.data)
}

// safetensors returns a file of tensors in the order given. Its header has 256
// bytes a tensor, so that files with as many tensors have them at the same
// place.
func safetensors(tensors ...tensor) []byte {
	var head strings.Builder
	at := 0
	for i, x := range tensors {
		head.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&head, `%q:{"dtype":%q,"shape":[%d],"data_offsets":[%d,%d]}`, x.name, x.dtype, x.shape(), at, at+len(x.data))
		at += len(x.data)
	}
	head.WriteByte('}')
	text := head.String() + strings.Repeat(" ", 256*len(tensors)-8-head.Len())
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	file = append(file, text...)
	for _, x := range tensors {
		file = append(file, x.data...)
	}
	return file
}

// headSize is the length of what comes before the first of n tensors.
func headSize(n int) int { return 256 * n }

// oneTensor returns a file that is cut every 1 MiB behind its first headSize(1)
// bytes: opaque bytes are cut by their content.
func oneTensor(data []byte) []byte { return safetensors(tensor{"w", "U8", data}) }

// appendFloat appends x as an element of the type.
func appendFloat(b []byte, dtype string, x float64) []byte {
	bits := math.Float32bits(float32(x))
	switch dtype {
	case "F64":
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	case "F32":
		return binary.LittleEndian.AppendUint32(b, bits)
	case "F16":
		return binary.LittleEndian.AppendUint16(b, codec.Narrow(bits, codec.F16))
	}
	return binary.LittleEndian.AppendUint16(b, codec.Narrow(bits, codec.BF16))
}

// floatAt returns the element that p begins with.
func floatAt(p []byte, dtype string) (x float64, width int) {
	switch dtype {
	case "F64":
		return math.Float64frombits(binary.LittleEndian.Uint64(p)), 8
	case "F32":
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p))), 4
	case "F16":
		h := binary.LittleEndian.Uint16(p)
		m, e := float64(h&0x3ff), int(h>>10&0x1f)
		if e > 0 {
			m, e = m+1024, e-1
		}
		return math.Ldexp(m, e-24) * float64(1-int(h>>15)*2), 2
	}
	return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(p)) << 16)), 2
}

// normals returns n bytes of weights.
func normals(seed uint64, dtype string, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 17))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = appendFloat(b, dtype, rng.NormFloat64()*0.02)
	}
	return b[:n]
}

// trained returns the weights after a small step that changes the part of them.
func trained(seed uint64, dtype string, w []byte, part float64) []byte {
	rng := rand.New(rand.NewPCG(seed, 18))
	b := make([]byte, 0, len(w))
	for len(w) > 0 {
		x, width := floatAt(w, dtype)
		if rng.Float64() < part {
			x *= 1 + float64(rng.NormFloat64()*0.004) // the same with and without fused multiplication
			b = appendFloat(b, dtype, x)
		} else {
			b = append(b, w[:width]...)
		}
		w = w[width:]
	}
	return b
}

// narrowed returns fp32 weights in a narrower type, rounded.
func narrowed(dtype string, w []byte) []byte {
	to := codec.BF16
	if dtype == "F16" {
		to = codec.F16
	}
	b := make([]byte, 0, len(w)/2)
	for at := 0; at+4 <= len(w); at += 4 {
		b = binary.LittleEndian.AppendUint16(b, codec.Narrow(binary.LittleEndian.Uint32(w[at:]), to))
	}
	return b
}

// truncated returns fp32 weights as bf16 without rounding.
func truncated(w []byte) []byte {
	b := make([]byte, 0, len(w)/2)
	for at := 0; at+4 <= len(w); at += 4 {
		b = append(b, w[at+2:at+4]...)
	}
	return b
}

// stream hides everything but Read.
func stream(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// putLike stores content as a later state of others, and checks that it can be
// read.
func putLike(t testing.TB, s *Store, content []byte, like ...Digest) Info {
	t.Helper()
	b := s.Batch()
	info, err := b.PutLike(t.Context(), bytes.NewReader(content), like)
	if err == nil {
		err = b.Sync(t.Context())
	}
	if err = errors.Join(err, b.Release()); err != nil {
		t.Fatalf("put: %v", err)
	}
	if info.Digest != Sum(content) || info.Size != int64(len(content)) {
		t.Fatalf("put of %d bytes returned %+v", len(content), info)
	}
	wantBlob(t, s, content)
	return info
}

// rowsOf returns a blob's table.
func rowsOf(t testing.TB, s *Store, d Digest) *format.Table {
	t.Helper()
	f, err := s.openFile(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	return f.table
}

// depths returns the depth of each row.
func depths(t testing.TB, s *Store, d Digest) string {
	t.Helper()
	var b strings.Builder
	for _, r := range rowsOf(t, s, d).Rows {
		b.WriteByte('0' + r.Depth)
	}
	return b.String()
}

// reach returns how many frames decoding row i of the blob d takes, that one
// included. It goes by the tables alone.
func reach(t testing.TB, s *Store, d Digest, i uint32) int {
	t.Helper()
	tab := rowsOf(t, s, d)
	r := tab.Rows[i]
	switch r.Place {
	case format.Borrowed:
		return reach(t, s, Digest(tab.Donors[r.Donor]), r.Frame)
	case format.Repeated:
		return reach(t, s, d, r.Frame)
	}
	n := 1
	if r.Depth == 0 {
		return n
	}
	base := d
	if r.Base != format.SelfBase {
		base = Digest(tab.Donors[r.Base])
	}
	need := int(r.PlainLen)
	if r.Codec == codec.Cast {
		f, err := s.openFile(d)
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		stored, err := f.stored(i, make([]byte, format.MaxFrame))
		if err != nil {
			t.Fatal(err)
		}
		skip, size, err := codec.CastBase(stored, need)
		if err != nil {
			t.Fatal(err)
		}
		need = skip + size
	}
	for k := r.BaseFrame; need > 0; k++ {
		n += reach(t, s, base, k)
		need -= int(rowsOf(t, s, base).Rows[k].PlainLen)
	}
	return n
}

// wantReach fails the test if a frame of the blob takes more than 5 frames, or
// than its depth says.
func wantReach(t testing.TB, s *Store, d Digest) {
	t.Helper()
	for i, r := range rowsOf(t, s, d).Rows {
		n := reach(t, s, d, uint32(i))
		if n > 1+format.MaxDepth || r.Place == format.Held && n > 1+int(r.Depth) {
			t.Errorf("frame %d of %s, of depth %d, needs %d frames", i, d.Short(), r.Depth, n)
		}
	}
}
