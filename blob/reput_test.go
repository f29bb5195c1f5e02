package blob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// family is a store of blobs that need each other in every way.
type family struct {
	m        *durable.Mem
	hints    hints
	contents [][]byte
	like     [][]Digest // what each was put as a later state of
	lends    int        // how many are needed by others
}

func newFamily(t testing.TB) *family {
	t.Helper()
	x := &family{hints: hints{}}
	s, m := newMem(t, &Options{Known: x.hints.known, Workers: 1})
	x.m = m
	add := func(content []byte, like ...Digest) Digest {
		d := putLike(t, s, content, like...).Digest
		x.hints.learn(t, s, d)
		x.contents, x.like = append(x.contents, content), append(x.like, like)
		return d
	}
	wide, lent, w := coarse(1, 2*minSketch), normals(2, "F64", 6<<10), normals(3, "F32", 8<<10)
	text := lines(3000)
	add(text)
	first := add(safetensors(tensor{"w", "F32", w}, tensor{"text", "U8", text}, tensor{"lent", "F64", lent}, tensor{"step 0", "U8", []byte{0}}, tensor{"wide", "F32", wide}))
	last := first
	for i := range uint64(5) { // deltas, and in the end one that stands alone
		w = trained(i, "F32", w, 0.3)
		last = add(safetensors(tensor{"w", "F32", w}, tensor{fmt.Sprint("step ", i), "U8", []byte{byte(i)}}, tensor{"lent", "F64", lent}), last)
	}
	add(safetensors(tensor{"wide", "F32", wide}, tensor{"own", "U8", text[:100]}, tensor{"narrow", "BF16", narrowed("BF16", wide)}), first)
	add(safetensors(tensor{"w", "F32", w}, tensor{"twice", "U8", text}, tensor{"again", "F32", w}), last)
	// Frames that are lent by one blob and held by another too: one that is healed
	// must not borrow from that, since others look for the frames in it.
	plain := safetensors(tensor{"text", "U8", text}, tensor{"lent", "F64", lent}, tensor{"apart", "U8", []byte{1}}, tensor{"wide", "F32", wide})
	x.contents, x.like = append(x.contents, plain), append(x.like, nil)
	x.hints.learn(t, s, put(t, openMem(t, m, nil), plain).Digest)
	add(randomBytes(4, 150<<10))
	add(cat(randomBytes(4, 150<<10), text))
	add(nil)
	needed := map[Digest]bool{}
	for _, c := range x.contents {
		info, err := s.Stat(t.Context(), Sum(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range info.Donors {
			needed[d] = true
		}
	}
	if x.lends = len(needed); x.lends < 6 {
		t.Fatalf("only %d blobs are needed by others", x.lends)
	}
	m.Record()
	return x
}

// harm returns a file with some damage, which is never none.
func harm(rng *rand.Rand, file []byte, other []byte) (kind string, damaged []byte) {
	b := bytes.Clone(file)
	at := rng.IntN(len(b))
	switch rng.IntN(9) {
	case 0:
		return "cut short", b[:at]
	case 1:
		return "longer", append(b, make([]byte, 1+rng.IntN(5000))...)
	case 2:
		if !bytes.Equal(other, file) {
			return "another file", other
		}
		fallthrough
	case 3:
		return "empty", nil
	case 4: // a sector that was never written
		to := min(len(b), at|511+1)
		if clear(b[at:to]); !bytes.Equal(b, file) {
			return "zeros", b
		}
		fallthrough
	case 5:
		for i := at; i < min(len(b), at+1+rng.IntN(4096)); i++ {
			b[i] ^= byte(1 + rng.IntN(255))
		}
		return "noise", b
	case 6: // the end: footer and table
		b[len(b)-1-rng.IntN(min(len(b), 300))] ^= 1 << rng.IntN(8)
		return "a bit near the end", b
	}
	b[at] ^= 1 << rng.IntN(8)
	return "a bit", b
}

// again puts content in one of the ways that there are.
func (x *family) again(ctx context.Context, s *Store, rng *rand.Rand, i int) (how string, err error) {
	var r io.Reader = bytes.NewReader(x.contents[i])
	like := x.like[i]
	switch rng.IntN(4) {
	case 0:
		how, like = "alone", nil
	case 1:
		how, r = "as a stream", stream(x.contents[i])
	case 2:
		how, like = "like itself", append([]Digest{Sum(x.contents[i])}, like...)
	case 3:
		how = "as before"
	}
	b := s.Batch()
	info, err := b.PutLike(ctx, r, like)
	if err == nil {
		err = b.Sync(ctx)
	}
	if err == nil && info.Known {
		err = fmt.Errorf("put %s: a damaged blob passed for known", how)
	}
	return how, err
}

// trial damages up to three files, and puts what they hold again.
func (x *family) trial(ctx context.Context, mounted *mount, rng *rand.Rand) error {
	m := x.m.Crash(0, rng)
	opts := &Options{Workers: 1}
	if rng.IntN(2) == 0 {
		opts.Known = x.hints.known
	}
	s, err := mounted.open(m, opts)
	if err != nil {
		return err
	}
	var log []string
	victims := rng.Perm(len(x.contents))[:1+rng.IntN(3)]
	for _, i := range victims {
		name := blobPath(Sum(x.contents[i]))
		file, err := durable.ReadFile(m, name, 1<<20)
		if err != nil {
			return err
		}
		other, err := durable.ReadFile(m, blobPath(Sum(x.contents[rng.IntN(len(x.contents))])), 1<<20)
		if err != nil {
			return err
		}
		kind, damaged := harm(rng, file, other)
		if err := replace(m, name, damaged); err != nil {
			return err
		}
		log = append(log, fmt.Sprintf("%d: %s", i, kind))
	}
	for _, i := range victims {
		if err := s.Verify(ctx, Sum(x.contents[i])); !isCorrupt(err) {
			return fmt.Errorf("%v: verify says %w", log, cmpNil(err))
		}
	}
	for _, c := range x.contents { // right or an error
		if got, err := readAll(ctx, s, Sum(c)); err == nil && !bytes.Equal(got, c) || err != nil && !isCorrupt(err) {
			return fmt.Errorf("%v: read %d bytes of %d: %w", log, len(got), len(c), cmpNil(err))
		}
	}
	for _, i := range victims {
		how, err := x.again(ctx, s, rng, i)
		if log = append(log, how); err != nil {
			return fmt.Errorf("%v: %w", log, err)
		}
	}
	for i, c := range x.contents {
		got, err := readAll(ctx, s, Sum(c))
		if err != nil || !bytes.Equal(got, c) {
			return fmt.Errorf("%v: blob %d then: %d bytes, %w", log, i, len(got), cmpNil(err))
		}
		if err := s.Check(ctx, Sum(c)); err != nil {
			return fmt.Errorf("%v: blob %d then: %w", log, i, err)
		}
	}
	if left := names(m, "tmp"); len(left) > 0 {
		return fmt.Errorf("%v: tmp holds %v", log, left)
	}
	return nil
}

// replace changes what a file holds, in place.
func replace(m *durable.Mem, name string, data []byte) error {
	f, err := m.OpenWrite(name)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Close()
}

// TestPromisePutHeals damages files that others need, in every way, and puts what
// they held again: all can be read, what needs them too.
func TestPromisePutHeals(t *testing.T) {
	t.Parallel()
	x := newFamily(t)
	trials := promise.Times(100, 5000)
	workers := runtime.GOMAXPROCS(0)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var mounted mount
			for i := next.Add(1); i <= int64(trials) && !t.Failed(); i = next.Add(1) {
				if err := x.trial(t.Context(), &mounted, rand.New(rand.NewPCG(uint64(i), 6))); err != nil {
					t.Errorf("trial %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	promise.Kept(t, "%d times up to three damaged files of %d, of which %d are needed by others, put again: all healed, what needs them reads too, 0 wrong bytes", trials, len(x.contents), x.lends)
}
