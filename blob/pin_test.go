package blob

import (
	"errors"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

// shortFile is on a disk that is full after a part of each write.
type shortFile struct{ durable.File }

func (f shortFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p[:min(len(p), 10)], off)
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f shortFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p[:min(len(p), 10)])
	return n, errors.Join(err, syscall.ENOSPC)
}

// TestPinAfterFullDisk pins blobs, of which the first could be written in part only
// at first.
func TestPinAfterFullDisk(t *testing.T) {
	s, _ := newMem(t, nil)
	p, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	one, two := Sum([]byte("one")), Sum([]byte("two"))
	whole := p.f
	p.f = shortFile{whole}
	for range 2 { // and is not taken for written
		if err := p.Add(one); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
	}
	p.f = whole
	if err := errors.Join(p.Add(two), p.Add(one, two)); err != nil {
		t.Fatal(err)
	}
	pinned, err := s.Pinned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Digest{one, two} {
		if _, ok := pinned.Blobs[d]; !ok {
			t.Errorf("%s is not pinned", d.Short())
		}
	}
}
