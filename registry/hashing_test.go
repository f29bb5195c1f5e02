package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/heftstore/heft/blob"
)

// reads returns every outcome of reading r with buffers of n bytes until its end
// or its third error.
func reads(r io.Reader, n int) (all []string) {
	p := make([]byte, n)
	for errs := 0; errs < 3; {
		c, err := r.Read(p)
		if err != nil {
			errs++
		}
		if c < 0 || c > n {
			all = append(all, fmt.Sprint(c, err))
			continue
		}
		all = append(all, fmt.Sprintf("%x %v", p[:c], err))
		if err == io.EOF {
			break
		}
	}
	return all
}

// strange returns counts that no reader may return.
type strange struct{ n int }

func (r *strange) Read(p []byte) (int, error) {
	r.n++
	if r.n == 4 {
		return 0, io.EOF
	}
	return []int{-1, len(p) + 1, 0}[r.n-1], nil
}

func TestHashingReadsAlike(t *testing.T) {
	content := weights(1, 3000)
	fail := errors.New("disk")
	for name, source := range map[string]func() io.Reader{
		"plain":         func() io.Reader { return bytes.NewReader(content) },
		"empty":         func() io.Reader { return bytes.NewReader(nil) },
		"one byte":      func() io.Reader { return iotest.OneByteReader(bytes.NewReader(content)) },
		"half":          func() io.Reader { return iotest.HalfReader(bytes.NewReader(content)) },
		"data with EOF": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(content)) },
		"error":         func() io.Reader { return io.MultiReader(bytes.NewReader(content), iotest.ErrReader(fail)) },
		"data and error": func() io.Reader {
			return iotest.DataErrReader(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(fail)))
		},
		"goes on": func() io.Reader { return iotest.TimeoutReader(bytes.NewReader(content)) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 7, 512, 4096} {
				want := reads(source(), n)
				r, sum := newHashing(source())
				same(t, "reads", reads(r, n), want)
				var given []byte
				for _, s := range want {
					var b []byte
					_, _ = fmt.Sscanf(s, "%x", &b)
					given = append(given, b...)
				}
				if got := sum(); got != sha256.Sum256(given) {
					t.Errorf("reads of %d: the SHA-256 of %d bytes is %s", n, len(given), got)
				}
			}
		})
	}
	r, sum := newHashing(&strange{})
	same(t, "strange reads", reads(r, 5), reads(&strange{}, 5))
	if sum() != sha256.Sum256(nil) {
		t.Error("hashed what a strange reader did not give")
	}
}

func TestHashingSizes(t *testing.T) {
	content := weights(2, 3*sumBuffers*sumBuffer+5)
	for _, size := range []int{0, 1, sumBuffer - 1, sumBuffer, sumBuffer + 1, sumBuffers * sumBuffer, (sumBuffers + 1) * sumBuffer, len(content)} {
		for _, step := range []int{1 << 10, sumBuffer, 1 << 20} {
			r, sum := newHashing(bytes.NewReader(content[:size]))
			if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, step)); n != int64(size) || err != nil {
				t.Fatalf("%d bytes of %d, %v", n, size, err)
			}
			for range 2 { // to ask twice changes nothing
				if got := sum(); got != sha256.Sum256(content[:size]) {
					t.Errorf("%d bytes by %d: %s", size, step, got)
				}
			}
		}
	}
	// What comes after a sum counts in the next one.
	r, sum := newHashing(bytes.NewReader(content))
	for _, upTo := range []int{10, sumBuffer + 3, len(content)} {
		have := len(content) - r.(*hashingFile).seekable.(*bytes.Reader).Len()
		_, err := io.ReadFull(r, make([]byte, upTo-have))
		must(t, err)
		if sum() != sha256.Sum256(content[:upTo]) {
			t.Errorf("the sum after %d bytes is wrong", upTo)
		}
	}
}

// TestHashingCopies has the reader's buffer change after each read.
func TestHashingCopies(t *testing.T) {
	content := weights(3, 2<<20)
	r, sum := newHashing(bytes.NewReader(content))
	p := make([]byte, 300_000)
	for {
		n, err := r.Read(p)
		clear(p[:n])
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if sum() != sha256.Sum256(content) {
		t.Error("hashed what was in the buffer later")
	}
}

// TestHashingDropped leaves no goroutine behind when nobody asks for the sum.
func TestHashingDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newHashing(bytes.NewReader(weights(4, 8<<20)))
		_, err := io.CopyN(io.Discard, r, 7<<20)
		must(t, err)
	})
}

func TestHashingInterfaces(t *testing.T) {
	src := bytes.NewReader([]byte("0123456789"))
	for name, tt := range map[string]struct {
		src  io.Reader
		want bool
	}{
		"both":        {src, true},
		"reader only": {struct{ io.Reader }{src}, false},
		"seeker only": {struct {
			io.Reader
			io.Seeker
		}{src, src}, false},
		"reader at only": {struct {
			io.Reader
			io.ReaderAt
		}{src, src}, false},
	} {
		r, _ := newHashing(tt.src)
		_, at := r.(io.ReaderAt)
		_, seeks := r.(io.Seeker)
		_, writes := r.(io.WriterTo)
		if at != tt.want || seeks != tt.want || writes {
			t.Errorf("%s: ReaderAt %v, Seeker %v, WriterTo %v", name, at, seeks, writes)
		}
	}
	// Looking around is not hashed.
	r, sum := newHashing(src)
	file := r.(seekable)
	p := make([]byte, 4)
	if n, err := file.ReadAt(p, 6); n != 4 || err != nil || string(p) != "6789" {
		t.Errorf("ReadAt: %q, %v", p[:n], err)
	}
	for _, whence := range []int{io.SeekEnd, io.SeekStart} {
		_, err := file.Seek(0, whence)
		must(t, err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "0123456789" || err != nil || sum() != sha256.Sum256(got) {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestHashingStored has the store look into files for their structure.
func TestHashingStored(t *testing.T) {
	r := newRegistry(t)
	data := weights(5, 3<<20)
	header := fmt.Sprintf(`{"a":{"dtype":"BF16","shape":[1000000],"data_offsets":[0,2000000]},"b":{"dtype":"U8","shape":[%d],"data_offsets":[2000000,%d]}}`, len(data)-2000000, len(data))
	safetensors := append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
	for name, content := range map[string][]byte{"noise": data, "safetensors": safetensors, "empty": nil, "short": []byte("hi")} {
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, content, 0o600))
		f, err := os.Open(file)
		must(t, err)
		defer f.Close()
		for kind, src := range map[string]io.Reader{"file": f, "stream": struct{ io.Reader }{bytes.NewReader(content)}} {
			read, sum := newHashing(src)
			info, err := r.store.Put(t.Context(), read)
			must(t, err)
			if info.Digest != blob.Sum(content) || sum() != sha256.Sum256(content) {
				t.Errorf("%s of a %s: blob %s, SHA-256 %s", kind, name, info.Digest, sum())
			}
		}
	}
}

// BenchmarkHashing tells what hashing beside a reader costs.
func BenchmarkHashing(b *testing.B) {
	content := slices.Repeat(weights(6, 1<<20), 64)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		r, sum := newHashing(bytes.NewReader(content))
		if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, buf); err != nil {
			b.Fatal(err)
		}
		sum()
	}
}
