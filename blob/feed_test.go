package blob

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// longHead is a safetensors file whose header has 2 MiB.
func longHead() []byte {
	data := normals(1, "BF16", mib+1000)
	head := `{"__metadata__":{"note":"` + string(lines(2*mib)) + `"},"w":{"dtype":"BF16","shape":[524788],"data_offsets":[0,1049576]}}`
	head = strings.ReplaceAll(head, "\n", " ")
	return cat(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), []byte(head), data)
}

// writeIn writes content in pieces of that many bytes and commits it.
func writeIn(t *testing.T, s *Store, content []byte, size int) Info {
	t.Helper()
	w := s.Writer(t.Context())
	defer w.Close()
	for p := range slices.Chunk(content, size) {
		if n, err := w.Write(p); err != nil || n != len(p) {
			t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
		}
	}
	info, err := w.Commit(Sum(content))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestStreamWithLongHead streams headers that have to be held back until their
// end, in pieces of any size.
func TestStreamWithLongHead(t *testing.T) {
	long := longHead()
	for name, content := range map[string][]byte{
		"safetensors":       long,
		"cut in the header": long[:mib],
		"cut in the tensor": long[:2*mib+300<<10],
		"gguf":              ggufFile(100 << 10),
		"gguf, cut":         ggufFile(100 << 10)[:90<<10],
	} {
		t.Run(name, func(t *testing.T) {
			a, am := newMem(t, nil)
			d := put(t, a, content).Digest
			same := !strings.Contains(name, "cut") // what is cut short is no layout to one that sees its end
			for _, size := range []int{1, 7, 64<<10 - 1, mib, len(content)} {
				b, bm := newMem(t, nil)
				writeIn(t, b, content, size)
				if same && !bytes.Equal(loadFile(t, am, blobPath(d)), loadFile(t, bm, blobPath(d))) {
					t.Errorf("in pieces of %d: frames of %v, not %v", size, frameSizes(t, b, d), frameSizes(t, a, d))
				}
				wantBlob(t, b, content)
			}
			b, _ := newMem(t, nil)
			if _, err := b.Put(t.Context(), iotest.HalfReader(stream(content))); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, b, content)
		})
	}
}

// TestManyShortWritesOfAHead writes the header of a GGUF file a value or a token
// at a time, as a program does that makes one: the work must not grow with its
// square.
func TestManyShortWritesOfAHead(t *testing.T) {
	le := binary.LittleEndian
	const many = 100_000
	values := le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte("GGUF"), 3), 0), many)
	value := func(i int) []byte {
		b := fmt.Appendf(le.AppendUint64(nil, 9), "key.%05d", i)
		return le.AppendUint32(le.AppendUint32(b, 4), uint32(i))
	}
	tokens := le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte("GGUF"), 3), 0), 1)
	tokens = append(le.AppendUint64(tokens, 6), "tokens"...)
	tokens = le.AppendUint64(le.AppendUint32(le.AppendUint32(tokens, 9), 8), many)
	token := func(int) []byte { return append(le.AppendUint64(nil, 5), "token"...) }
	writeShort(t, values, many, value)
	writeShort(t, tokens, many, token)
}

// writeShort writes head, then many pieces, in a time that tells of no square.
func writeShort(t *testing.T, head []byte, many int, piece func(int) []byte) {
	t.Helper()
	start := time.Now()
	s, _ := newMem(t, nil)
	w := s.Writer(t.Context())
	defer w.Close()
	content := bytes.Clone(head)
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		p := piece(i)
		content = append(content, p...)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(Sum(content)); err != nil {
		t.Fatal(err)
	}
	// 50 ms on two cores, 46 s when each write parses all.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	wantBlob(t, s, content)
}

// TestReadsOfNothing puts from a reader that now and then returns no bytes.
func TestReadsOfNothing(t *testing.T) {
	content := safetensors(tensor{"w", "BF16", normals(1, "BF16", 200<<10)})
	rest, n := content, 0
	s, _ := newMem(t, nil)
	info, err := s.Put(t.Context(), readerFunc(func(p []byte) (int, error) {
		if n++; n%50 != 0 {
			return 0, nil
		}
		if len(rest) == 0 {
			return 0, io.EOF
		}
		c := copy(p[:min(len(p), 20_000)], rest)
		rest = rest[c:]
		return c, nil
	}))
	if err != nil || info.Digest != Sum(content) {
		t.Errorf("%+v, %v", info, err)
	}
	wantBlob(t, s, content)
}

// shaky is a source whose Seek and ReadAt can fail or lie.
type shaky struct {
	*bytes.Reader
	seek   func(offset int64, whence int) (int64, error)
	readAt func(p []byte, off int64) (int, error)
}

func (r *shaky) Seek(offset int64, whence int) (int64, error) {
	if r.seek != nil {
		return r.seek(offset, whence)
	}
	return r.Reader.Seek(offset, whence)
}

func (r *shaky) ReadAt(p []byte, off int64) (int, error) {
	if r.readAt != nil {
		return r.readAt(p, off)
	}
	return r.Reader.ReadAt(p, off)
}

// TestShakySources puts from sources that can't be looked around in, or are not
// as long as they said.
func TestShakySources(t *testing.T) {
	wide := normals(1, "F32", 2*mib+mib/2)
	content := safetensors(tensor{"w", "F32", wide}, tensor{"n", "BF16", narrowed("BF16", wide)})
	broken := errors.New("bad sector")
	says := func(end int64) func(r *shaky) {
		return func(r *shaky) {
			r.seek = func(offset int64, whence int) (int64, error) {
				if whence == io.SeekEnd {
					_, err := r.Reader.Seek(offset, whence)
					return end, err
				}
				return r.Reader.Seek(offset, whence)
			}
		}
	}
	for _, c := range []struct {
		name  string
		shake func(r *shaky)
		want  error
	}{
		{"no Seek", func(r *shaky) {
			r.seek = func(int64, int) (int64, error) { return 0, errors.New("illegal seek") }
		}, nil},
		{"no Seek to the end", func(r *shaky) {
			r.seek = func(offset int64, whence int) (int64, error) {
				if whence == io.SeekEnd {
					return 0, broken
				}
				return r.Reader.Seek(offset, whence)
			}
		}, nil},
		{"no way back", func(r *shaky) {
			r.seek = func(offset int64, whence int) (int64, error) {
				if whence == io.SeekStart {
					return 0, broken
				}
				return r.Reader.Seek(offset, whence)
			}
		}, broken},
		{"no ReadAt", func(r *shaky) {
			r.readAt = func([]byte, int64) (int, error) { return 0, broken }
		}, broken},
		{"no ReadAt beyond the header", func(r *shaky) {
			r.readAt = func(p []byte, off int64) (int, error) {
				if off >= 2*mib {
					return 0, broken
				}
				return r.Reader.ReadAt(p, off)
			}
		}, nil},
		{"said to be empty", says(0), nil},
		{"said to end before it begins", says(-5), nil},
		{"said to be shorter", says(int64(len(content) - 70<<10)), nil},
		{"said to be one byte shorter", says(int64(len(content) - 1)), nil},
		{"said to end in the header", says(100), nil},
		{"said to be longer", says(int64(len(content) + 5*mib)), nil},
		{"said to be endless", says(1<<63 - 1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := newMem(t, nil)
			r := &shaky{Reader: bytes.NewReader(content)}
			c.shake(r)
			info, err := s.Put(t.Context(), r)
			if c.want != nil {
				if !errors.Is(err, c.want) {
					t.Errorf("%+v, %v", info, err)
				}
				wantEmpty(t, s, m)
				return
			}
			if err != nil || info.Digest != Sum(content) {
				t.Fatalf("%+v, %v", info, err)
			}
			wantBlob(t, s, content)
		})
	}
}

// growing is a file that is appended to, or cut, after it was looked at.
type growing struct {
	*bytes.Reader
	rest io.Reader
}

func (r *growing) Read(p []byte) (int, error) { return r.rest.Read(p) }

// TestSourceOfAnotherLength puts files that are longer or shorter than they were
// when their structure was read.
func TestSourceOfAnotherLength(t *testing.T) {
	wide := normals(1, "F32", mib+mib/2)
	content := safetensors(tensor{"w", "F32", wide}, tensor{"n", "BF16", narrowed("BF16", wide)})
	for _, read := range [][]byte{
		cat(content, randomBytes(1, 2*mib)), content[:len(content)-1], content[:len(content)-300<<10], content[:mib], content[:100], nil,
	} {
		s, _ := newMem(t, nil)
		b := s.Batch()
		info, err := b.PutLike(t.Context(), &growing{bytes.NewReader(content), bytes.NewReader(read)}, []Digest{put(t, s, content).Digest})
		if err != nil || info.Digest != Sum(read) {
			t.Errorf("%d bytes: %+v, %v", len(read), info, err)
			continue
		}
		wantBlob(t, s, read)
	}
}

// TestPutFromTheMiddle puts what is left of a source that was read from before.
func TestPutFromTheMiddle(t *testing.T) {
	wide := normals(1, "F32", 2*mib)
	content := safetensors(tensor{"w", "F32", wide}, tensor{"n", "F16", narrowed("F16", wide)})
	r := bytes.NewReader(cat(randomBytes(1, 1001), content))
	if _, err := r.Seek(1001, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	s, _ := newMem(t, nil)
	info, err := s.Put(t.Context(), r)
	if err != nil || info.Digest != Sum(content) {
		t.Fatalf("%+v, %v", info, err)
	}
	wantBlob(t, s, content)
	if self, _ := castFrames(t, s, info.Digest); self != 1 {
		t.Errorf("%s", layout(t, s, info.Digest))
	}
	// A Writer that has bytes already goes on with what comes.
	w := s.Writer(t.Context())
	defer w.Close()
	if _, err := w.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	if n, err := w.ReadFrom(bytes.NewReader(content)); err != nil || n != int64(len(content)) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := w.Write([]byte("after")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(Sum(cat([]byte("before"), content, []byte("after")))); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, cat([]byte("before"), content, []byte("after")))
}

// TestPutLikeCancelled ends the context in the middle of files and streams, with
// something to be like.
func TestPutLikeCancelled(t *testing.T) {
	cause := errors.New("the user left")
	first := safetensors(tensor{"w", "F32", normals(1, "F32", 4*mib)})
	second := safetensors(tensor{"w", "F32", trained(1, "F32", first[headSize(1):], 1)})
	for after := range 6 {
		s, m := newMem(t, &Options{Workers: 2})
		d := put(t, s, first).Digest
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		rest := bytes.NewReader(second)
		source := &growing{bytes.NewReader(second), readerFunc(func(p []byte) (int, error) {
			if n++; n > after {
				cancel(cause)
			}
			return rest.Read(p)
		})}
		var r io.Reader = source
		if after%2 == 1 {
			r = struct{ io.Reader }{source}
		}
		if info, err := s.Batch().PutLike(ctx, r, []Digest{d}); !errors.Is(err, cause) {
			t.Errorf("after %d reads: %+v, %v", after, info, err)
		}
		if got := checkAll(t, s); got != 1 || len(names(m, "tmp")) != 0 {
			t.Errorf("after %d reads: %d blobs, tmp has %v", after, got, names(m, "tmp"))
		}
		cancel(nil)
	}
}
