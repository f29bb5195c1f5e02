package blob

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// TestPutKnown puts content again: nothing gets a name, and with hints nothing
// is written at all.
func TestPutKnown(t *testing.T) {
	x := newMixed(t)
	h := hints{}
	h.learn(t, x.s, x.blob)
	h.learn(t, x.s, x.donor)
	before := loadFile(t, x.m, blobPath(x.blob))
	for _, c := range []struct {
		name  string
		known func(context.Context, Digest) (FrameRef, bool)
	}{
		{"without hints", nil},
		{"with hints", h.known},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openMem(t, x.m, &Options{Known: c.known})
			x.m.Record()
			info := put(t, s, x.content)
			if !info.Known || info.Stored != int64(len(before)) || !slices.Equal(info.Donors, []Digest{x.donor}) {
				t.Errorf("put again: %+v", info)
			}
			for _, line := range withoutPins(x.m.Trace()) {
				kind, rest, _ := strings.Cut(line, " ")
				switch {
				case kind == "syncdir": // another process may not have synced them yet
				case c.known == nil && kind != "sync" && kind != "rename" && strings.HasPrefix(rest, "tmp/"):
				default:
					t.Errorf("unexpected operation: %s", line)
				}
			}
			for _, dir := range []string{"blobs", blobDir(x.blob), blobDir(x.donor)} {
				if !slices.Contains(x.m.Trace(), "syncdir "+dir) {
					t.Errorf("%s was not synced", dir)
				}
			}
		})
	}
	if !bytes.Equal(loadFile(t, x.m, blobPath(x.blob)), before) || len(names(x.m, "tmp")) != 0 {
		t.Errorf("the file changed, or tmp has %v", names(x.m, "tmp"))
	}
}

// TestPutHeals damages each part of a blob's file, and of its donor's, and puts
// the content again.
func TestPutHeals(t *testing.T) {
	ref := newMixed(t)
	for _, hinted := range []string{"without hints", "with hints at the donor", "with hints at itself"} {
		for _, victim := range []string{"borrower", "donor"} {
			content, d := ref.content, ref.blob
			if victim == "donor" {
				content, d = ref.other, ref.donor
			}
			file := loadFile(t, ref.m, blobPath(d))
			f, err := format.ParseFooter(file[len(file)-format.FooterSize:], int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			damages := map[string]func([]byte) []byte{
				"header":     func(b []byte) []byte { b[3] ^= 4; return b },
				"table":      func(b []byte) []byte { b[f.TableOffset+40] ^= 4; return b },
				"footer":     func(b []byte) []byte { b[len(b)-100] ^= 4; return b },
				"end magic":  func(b []byte) []byte { b[len(b)-1] ^= 4; return b },
				"cut short":  func(b []byte) []byte { return b[:len(b)/2] },
				"empty":      func([]byte) []byte { return nil },
				"overwrites": func(b []byte) []byte { return make([]byte, len(b)) },
			}
			_, frames, err := ref.s.Frames(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			at := format.HeaderSize
			for i, fr := range frames {
				if fr.Held {
					here := at
					damages[fmt.Sprintf("frame %d", i)] = func(b []byte) []byte { b[here] ^= 4; return b }
				}
				at += int(fr.Stored)
			}
			for name, damage := range damages {
				t.Run(strings.Join([]string{hinted, victim, name}, "/"), func(t *testing.T) {
					x := newMixed(t)
					h := hints{}
					switch hinted {
					case "with hints at the donor":
						h.learn(t, x.s, x.donor)
					case "with hints at itself":
						h.learn(t, x.s, x.donor)
						h.learn(t, x.s, d)
					}
					saveFile(t, x.m, blobPath(d), damage(bytes.Clone(file)))
					if err := x.s.Verify(t.Context(), d); err == nil {
						t.Fatal("the damage is not seen")
					}
					var log bytes.Buffer
					s := openMem(t, x.m, &Options{Known: h.known, Logger: slog.New(slog.NewTextHandler(&log, nil))})
					info := put(t, s, content)
					if info.Known || len(info.Donors) != 0 || strings.Contains(layout(t, s, d), "B") {
						t.Errorf("healed: %+v, layout %s", info, layout(t, s, d))
					}
					wantBlob(t, s, x.content)
					wantBlob(t, s, x.other)
					if got := names(x.m, "tmp"); len(got) != 0 {
						t.Errorf("tmp has %v", got)
					}
					if !strings.Contains(log.String(), "healed a damaged blob") || !strings.Contains(log.String(), d.String()) {
						t.Errorf("the log says %q", log.String())
					}
					if again := put(t, s, content); !again.Known {
						t.Error("healed once more")
					}
				})
			}
		}
	}
}

// TestHealKeepsFrameNumbers heals a donor whose layout changes by it: a frame
// that it held after a borrowed equal one becomes a repeated one. What borrows
// that frame stays sound.
func TestHealKeepsFrameNumbers(t *testing.T) {
	same := repeated("the same\n", mib)
	first, m := newMem(t, nil)
	e := put(t, first, same).Digest
	asked := 0
	s := openMem(t, m, &Options{Workers: 1, Known: func(_ context.Context, d Digest) (FrameRef, bool) {
		asked++
		return FrameRef{e, 0}, d == Sum(same) && asked == 1
	}})
	donor := cat(same, same, []byte("x"))
	d := put(t, s, donor).Digest
	if got := layout(t, s, d); got != "BH2H0" {
		t.Fatalf("layout %s", got)
	}
	s = openMem(t, m, &Options{Known: hint(FrameRef{d, 1})})
	content := cat(same, []byte("y"))
	b := put(t, s, content).Digest
	if got := layout(t, s, b); got != "BH0" {
		t.Fatalf("layout %s", got)
	}

	flip(t, m, blobPath(d), format.HeaderSize, 1)
	wantCorrupt(t, s, content, d, "damaged donor")
	put(t, first, donor)
	if got := layout(t, s, d); got != "H2RH0" {
		t.Fatalf("layout %s after healing", got)
	}
	wantBlob(t, s, donor)
	wantBlob(t, s, content)
	if info := put(t, first, content); !info.Known {
		t.Error("a sound borrower was written again")
	}
	if err := first.Verify(t.Context(), e); err != nil {
		t.Error(err)
	}
}

// TestHealOfADonorTwice damages a donor that is healed, and its borrower with
// it.
func TestHealOfADonorTwice(t *testing.T) {
	x := newMixed(t)
	for range 2 {
		flip(t, x.m, blobPath(x.donor), format.HeaderSize+2, 8)
		flip(t, x.m, blobPath(x.blob), format.HeaderSize+2, 8)
		put(t, x.s, x.content) // first the borrower, whose donor is damaged
		wantBlob(t, x.s, x.content)
		put(t, x.s, x.other)
		wantBlob(t, x.s, x.other)
	}
}

// TestHealsWhatTheDiskCannotRead puts content again whose file can't be read
// beyond its first frame, as with a bad sector.
func TestHealsWhatTheDiskCannotRead(t *testing.T) {
	s, m := newMem(t, nil)
	content := oneTensor(randomBytes(1, format.MaxFrame+100))
	d := put(t, s, content).Digest
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRead && op.Name == blobPath(d) && op.Off > format.HeaderSize && op.Len == 100 {
			return syscall.EIO
		}
		return nil
	})
	if info := put(t, s, content); info.Known {
		t.Error("a file that can't be read passed for sound")
	}
	m.Fail(nil)
	wantBlob(t, s, content)
}
