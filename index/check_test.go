package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
)

// differences returns what Check finds, as text, sorted.
func differences(t testing.TB, x *Index) []string {
	t.Helper()
	found := []string{}
	for d, err := range x.Check(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprintf("%s %s %x", d.Kind, d.Bucket, d.Key))
	}
	slices.Sort(found)
	return found
}

// tamper changes index.db behind everybody's back, with links and checksums as
// they should be.
func tamper(t testing.TB, x *Index, fn func(*kv) error) {
	t.Helper()
	db, err := openWriter(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.write(fn), db.close()); err != nil {
		t.Fatal(err)
	}
}

// middle returns an entry of a bucket.
func middle(t testing.TB, x *Index, b bucket) (e entry) {
	t.Helper()
	err := x.View(t.Context(), func(tx *Tx) error {
		es, _, err := tx.page(b, []byte(floor), nil, 10_000)
		if err == nil {
			e = es[len(es)/2]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func noTemporaries(t testing.TB, s *blob.Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("tmp holds %v, %v", left, err)
	}
}

func TestCheckSound(t *testing.T) {
	for _, exclusive := range []string{"shared", "exclusive"} {
		t.Run(exclusive, func(t *testing.T) {
			s := newStore(t)
			x := openIndex(t, s, &Options{Now: clock(), Exclusive: exclusive == "exclusive"})
			if got := differences(t, x); len(got) != 0 {
				t.Errorf("an empty index: %v", got)
			}
			sample(t, s, x)
			put(t, s, "a draft's, which was never committed")
			if got := differences(t, x); len(got) != 0 {
				t.Errorf("differences: %v", got)
			}
			noTemporaries(t, s)
		})
	}
}

// TestCheckFinds changes each bucket in each way, with checksums that are right.
func TestCheckFinds(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	sample(t, s, x)
	for _, b := range allBuckets() {
		if b == bucketMeta || b == bucketFrames || b == bucketSketches {
			continue
		}
		e := middle(t, x, b)
		extra := append(bytes.Clone(e.key), 'x')
		for _, c := range []struct {
			kind     DifferenceKind
			key      []byte
			do, undo func(*kv) error
		}{
			{Missing, e.key, func(s *kv) error { return s.del(b, e.key) }, func(s *kv) error { return s.put(b, e.key, e.value) }},
			{Unexpected, extra, func(s *kv) error { return s.put(b, extra, e.value) }, func(s *kv) error { return s.del(b, extra) }},
			{Changed, e.key, func(s *kv) error { return s.put(b, e.key, append(bytes.Clone(e.value), 1)) }, func(s *kv) error { return s.put(b, e.key, e.value) }},
		} {
			t.Run(fmt.Sprintf("%s/%s", b, c.kind), func(t *testing.T) {
				tamper(t, x, c.do)
				want := []string{fmt.Sprintf("%s %s %x", c.kind, b, c.key)}
				if got := differences(t, x); !slices.Equal(got, want) {
					t.Errorf("found %v, want %v", got, want)
				}
				tamper(t, x, c.undo)
				if got := differences(t, x); len(got) != 0 {
					t.Errorf("undone: %v", got)
				}
			})
		}
	}
	noTemporaries(t, s)
}

// TestCheckBlobs judges what the index keeps of blobs by their files.
func TestCheckBlobs(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	v := version(t, s, "m", "1")
	used := put(t, s, "weights")
	register(t, x, v, used)
	gone := put(t, s, "deleted later")
	old := register(t, x, version(t, s, "m", "2"), gone)
	update(t, x, "delete", func(tx *Tx) error { return tx.Delete(old.ID) })
	hex := func(d blob.Digest) string { return fmt.Sprintf("%x", d[:]) }
	drop := func(d blob.Digest) func(*kv) error { return func(s *kv) error { return s.del(bucketBlobs, d[:]) } }

	tamper(t, x, drop(gone.Digest))
	if got := differences(t, x); len(got) != 0 {
		t.Errorf("a blob of no version that the index does not know: %v", got)
	}
	tamper(t, x, drop(used.Digest))
	if got, want := differences(t, x), []string{"missing blobs " + hex(used.Digest)}; !slices.Equal(got, want) {
		t.Errorf("a file's blob: %v, want %v", got, want)
	}
	tamper(t, x, drop(v.Manifest))
	want := []string{"missing blobs " + hex(used.Digest), "missing blobs " + hex(v.Manifest)}
	slices.Sort(want)
	if got := differences(t, x); !slices.Equal(got, want) {
		t.Errorf("and a manifest: %v, want %v", got, want)
	}
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}

	// A size is told wrongly; how a blob of a healed file was stored is not.
	info, err := s.Stat(t.Context(), used.Digest)
	if err != nil {
		t.Fatal(err)
	}
	set := func(i blob.Info) {
		tamper(t, x, func(s *kv) error { return s.put(bucketBlobs, used.Digest[:], blobValue(i)) })
	}
	healed := info
	healed.Stored++
	healed.Donors = []blob.Digest{gone.Digest}
	set(healed)
	if got := differences(t, x); len(got) != 0 {
		t.Errorf("after healing: %v", got)
	}
	wrong := info
	wrong.Size++
	set(wrong)
	if got, want := differences(t, x), []string{"changed blobs " + hex(used.Digest)}; !slices.Equal(got, want) {
		t.Errorf("a size: %v, want %v", got, want)
	}
	set(info)

	// A file that is not there is not the index's fault.
	d := used.Digest.String()
	if err := os.Remove(filepath.Join(s.Dir(), "blobs", d[:2], d)); err != nil {
		t.Fatal(err)
	}
	if got := differences(t, x); len(got) != 0 {
		t.Errorf("without the file: %v", got)
	}
}

func TestCheckHints(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	one, two := put(t, s, "one"), put(t, s, "two")
	register(t, x, version(t, s, "m", "1"), one)
	register(t, x, version(t, s, "m", "2"), two)
	// A blob of two frames, the second of which is what "one" holds too.
	big := bytes.Repeat([]byte("x"), 1<<20)
	both := put(t, s, string(big)+"one")
	_, frames, err := s.Frames(t.Context(), both.Digest)
	if err != nil {
		t.Fatal(err)
	}
	last := len(frames) - 1
	if frames[last].Digest != one.Digest {
		t.Fatalf("the frames are %v", frames)
	}
	for _, c := range []struct {
		name   string
		bucket bucket
		key    []byte
		ref    blob.FrameRef
		bad    bool
	}{
		{"another frame", bucketFrames, one.Digest[:], blob.FrameRef{Blob: two.Digest}, true},
		{"beyond the last frame", bucketFrames, one.Digest[:], blob.FrameRef{Blob: one.Digest, Frame: 1}, true},
		{"another holder", bucketFrames, one.Digest[:], blob.FrameRef{Blob: both.Digest, Frame: uint32(last)}, false},
		{"the wrong frame of another holder", bucketFrames, one.Digest[:], blob.FrameRef{Blob: both.Digest, Frame: 0}, true},
		{"nowhere", bucketFrames, one.Digest[:], blob.FrameRef{Blob: blob.Sum([]byte("none"))}, false},
		{"a frame that there is not", bucketFrames, bytes.Repeat([]byte{7}, 32), blob.FrameRef{Blob: one.Digest}, true},
		{"a tensor that there is not", bucketSketches, sketchKey(12345, 0), blob.FrameRef{Blob: one.Digest}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tamper(t, x, func(s *kv) error { return s.put(c.bucket, c.key, frameValue(c.ref)) })
			want := []string{}
			if c.bad {
				want = append(want, fmt.Sprintf("misleading %s %x", c.bucket, c.key))
			}
			if got := differences(t, x); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}
			if err := x.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	tamper(t, x, func(s *kv) error { return s.put(bucketFrames, one.Digest[:], []byte("short")) })
	if got := differences(t, x); len(got) != 1 {
		t.Errorf("an entry that makes no sense: %v", got)
	}
}

// TestCheckWhileTheStoreMoves registers versions between one piece and the next:
// only what is really different is found, once.
func TestCheckWhileTheStoreMoves(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	var files []File
	f := put(t, s, "weights")
	for i := range 3*checkPage + 7 { // several pieces
		files = append(files, at(t, f, fmt.Sprintf("%06d.bin", i)))
	}
	v := register(t, x, version(t, s, "big", "1"), files...)
	path := func(i int) []byte { return []byte(folderOf(v) + files[i].Path.String()) }
	bad := []int{0, 1, checkPage - 1, checkPage, checkPage + 1, 2*checkPage + 5, len(files) - 1}
	tamper(t, x, func(s *kv) error {
		for _, i := range bad {
			if err := s.del(bucketPaths, path(i)); err != nil {
				return err
			}
		}
		return nil
	})
	var got, want []string
	for _, i := range bad {
		want = append(want, string(path(i)))
	}
	n := 0
	for d, err := range x.Check(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Bucket != string(bucketPaths) || d.Kind != Missing {
			t.Errorf("found %s", d)
		}
		got = append(got, string(d.Key))
		n++
		// Before, within and behind what was compared.
		for _, name := range []string{"a", "big", "z"} {
			register(t, x, version(t, s, name, fmt.Sprintf("v%d", n)), put(t, s, fmt.Sprintf("%s %d", name, n)))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	noTemporaries(t, s)
}

func TestCheckStopsAndFails(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	sample(t, s, x)
	tamper(t, x, func(s *kv) error {
		for _, b := range []bucket{bucketNames, bucketAliases} {
			if err := s.put(b, []byte("zz\x00zz"), []byte("z")); err != nil {
				return err
			}
		}
		return nil
	})
	for d, err := range x.Check(t.Context()) {
		if err != nil || d.Kind != Unexpected || !strings.Contains(d.Error(), "zz zz") {
			t.Errorf("found %v, %v", d, err)
		}
		break
	}
	noTemporaries(t, s)

	journal := filepath.Join(s.Dir(), journalName)
	raw, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(raw)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(journal, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range x.Check(t.Context()) {
		last = err
	}
	if _, ok := errors.AsType[*JournalError](last); !ok {
		t.Errorf("with a damaged journal: %v", last)
	}
	noTemporaries(t, s)
}

func TestDifferenceText(t *testing.T) {
	d := &Difference{Bucket: "names", Key: []byte("m\x001"), Kind: Missing}
	if got := d.String(); got != "missing entry of bucket names at key m 1" {
		t.Error(got)
	}
	d.Key = binary.BigEndian.AppendUint32(nil, 0xfffe0102)
	if got := d.KeyText(); got != "fffe0102" {
		t.Error(got)
	}
	d.Key = bytes.Repeat([]byte("k"), 1000)
	if got := d.KeyText(); len(got) != 128 {
		t.Error(got)
	}
}
