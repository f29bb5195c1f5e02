package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
	"github.com/heftstore/heft/internal/promise"
)

// ack says that from the operation at on, content must be there.
type ack struct {
	at      int
	content []byte
}

// outage says that between two operations some blobs may be unreadable, because
// the disk damaged a file that they need.
type outage struct {
	from, to int
	blobs    map[Digest]bool
}

// history is a recorded run of programs on one store, for power cuts at any
// moment of it.
type history struct {
	t     testing.TB
	m     *durable.Mem
	fsys  durable.FS // stands on m
	rng   *rand.Rand
	s     *Store
	after mount // what power cuts leave

	mu      sync.Mutex
	hints   hints
	created int // the store itself is acknowledged from this operation on
	acks    []ack
	tried   [][]byte // all that was put, acknowledged or not
	outages []outage
}

// newHistory makes a store on fsys, which stands on m.
func newHistory(t testing.TB, m *durable.Mem, fsys durable.FS, rng *rand.Rand) *history {
	t.Helper()
	x := &history{t: t, m: m, fsys: fsys, rng: rng, hints: hints{}}
	m.Record()
	s, err := create(fsys, x.options())
	if err != nil {
		t.Fatal(err)
	}
	x.s, x.created = s, m.Ops()
	return x
}

func (x *history) options() *Options { return &Options{Known: x.known, Workers: 1} }

func (x *history) known(_ context.Context, d Digest) (FrameRef, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ref, ok := x.hints[d]
	return ref, ok
}

// learn makes the frames of a blob known.
func (x *history) learn(d Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hints.learn(x.t, x.s, d)
}

// try notes that contents are being put.
func (x *history) try(contents ...[]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range contents {
		if !slices.ContainsFunc(x.tried, func(o []byte) bool { return bytes.Equal(o, c) }) {
			x.tried = append(x.tried, c)
		}
	}
}

// acked notes that contents were acknowledged just now.
func (x *history) acked(contents ...[]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range contents {
		x.acks = append(x.acks, ack{x.m.Ops(), c})
	}
}

// into puts content, as a later state of others, in a batch.
func (x *history) into(b *Batch, content []byte, like ...Digest) Info {
	x.t.Helper()
	x.try(content)
	info, err := b.PutLike(x.t.Context(), bytes.NewReader(content), like)
	if err != nil || info.Digest != Sum(content) {
		x.t.Fatalf("put: %+v, %v", info, err)
	}
	return info
}

// sync makes a batch durable that has contents.
func (x *history) sync(b *Batch, contents ...[]byte) {
	x.t.Helper()
	if err := b.Sync(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	x.acked(contents...)
}

// do puts content on its own.
func (x *history) do(content []byte, like ...Digest) Info {
	x.t.Helper()
	b := x.s.Batch()
	info := x.into(b, content, like...)
	x.sync(b, content)
	return info
}

// damage flips a bit of the blob d's file, and then puts all content again that
// can't be read any more: the damaged blob first, or last.
func (x *history) damage(d Digest, at int64, order func([][]byte)) {
	x.t.Helper()
	sp := outage{from: x.m.Ops(), blobs: map[Digest]bool{}}
	flip(x.t, x.m, blobPath(d), at, 1)
	var again [][]byte
	for _, c := range x.tried {
		if err := x.s.Verify(x.t.Context(), Sum(c)); err != nil {
			again = append(again, c)
			sp.blobs[Sum(c)] = true
		}
	}
	if !sp.blobs[d] {
		x.t.Fatalf("a flipped bit at byte %d of %s is not seen", at, d.Short())
	}
	order(again)
	for _, c := range again {
		x.do(c)
	}
	sp.to = x.m.Ops()
	x.outages = append(x.outages, sp)
}

// chain returns states of a small model, which share no frame: all but the first
// one are deltas to the one before and to nothing else.
func chain() [][]byte {
	w := normals(1, "F32", 6<<10)
	var states [][]byte
	for i := range 4 {
		states = append(states, state(i, w))
		w = trained(uint64(i), "F32", w, 0.1)
	}
	return states
}

// state is a model with a header of its own.
func state(i int, w []byte) []byte {
	return safetensors(tensor{"w", "F32", w}, tensor{fmt.Sprintf("state %d", i), "U8", []byte{byte(i)}})
}

// around is a file with content in a frame of its own.
func around(content []byte) []byte {
	return safetensors(tensor{"of " + Sum(content).Short(), "U8", []byte{1}}, tensor{"content", "F32", content})
}

// script is a history of puts of each kind.
func script(t testing.TB, m *durable.Mem, fsys durable.FS) *history {
	t.Helper()
	x := newHistory(t, m, fsys, rand.New(rand.NewPCG(1, 1)))
	borrows := func(info Info) {
		if info.Parts.Borrowed.Frames == 0 {
			t.Fatalf("%+v", info)
		}
	}
	delta := func(info Info) {
		if info.Parts.Delta.Frames == 0 {
			t.Fatalf("%+v", info)
		}
	}
	x.do([]byte("first"))
	x.do(randomBytes(1, 3000))
	x.do([]byte("first")) // known
	x.do(nil)

	// A batch that has not synced yet, of which one blob is put again and one
	// is borrowed from: whoever acknowledges has to sync.
	lent := lines(2000)
	waiting := x.s.Batch()
	batch := [][]byte{[]byte("put by the batch, then alone"), []byte("put by the batch only"), lent}
	for _, c := range batch {
		x.into(waiting, c)
	}
	x.do(batch[0])
	x.learn(Sum(lent))
	borrows(x.do(around(lent)))
	x.sync(waiting, batch...)

	// A chain of states that are based on each other, the first two of them in a
	// batch that has not synced yet: the third needs them both.
	chain := chain()
	waiting = x.s.Batch()
	x.into(waiting, chain[0])
	delta(x.into(waiting, chain[1], Sum(chain[0])))
	delta(x.do(chain[2], Sum(chain[1])))
	x.sync(waiting, chain[:2]...)

	// The same, but the program with the batch dies. Another one puts and adopts
	// the last state, which is there.
	dead := x.s.Batch()
	w := normals(5, "F32", 6<<10)
	tail := [][]byte{state(10, w)}
	x.into(dead, tail[0])
	for i := range 3 {
		w = trained(uint64(i), "F32", w, 0.1)
		tail = append(tail, state(11+i, w))
		delta(x.into(dead, tail[i+1], Sum(tail[i])))
	}
	other := openMem(t, fsys, x.options())
	adopting := other.Batch()
	if _, err := adopting.Adopt(t.Context(), Sum(tail[2])); err != nil {
		t.Fatal(err)
	}
	x.sync(adopting, tail[2])
	x.s = other
	if info := x.do(tail[3], Sum(tail[2])); !info.Known {
		t.Fatalf("%+v", info)
	}

	// A blob that is damaged and healed, and lends a frame.
	weak := lines(1500)
	x.do(weak)
	x.learn(Sum(weak))
	borrows(x.do(around(weak)))
	x.damage(Sum(weak), format.HeaderSize+3, func([][]byte) {})
	x.do([]byte("last"))
	return x
}

// interrupted is the history of a store whose creation was cut off before its last
// sync, and which another program opened then.
func interrupted(t testing.TB, m *durable.Mem, fsys durable.FS) *history {
	t.Helper()
	x := &history{t: t, m: m, fsys: fsys, hints: hints{}, created: math.MaxInt}
	m.Record()
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpSyncDir && m.Ops() > len(folders)+1 {
			return syscall.EIO
		}
		return nil
	})
	if _, err := create(fsys, nil); !errors.Is(err, syscall.EIO) {
		t.Fatalf("create: %v", err)
	}
	m.Fail(nil)
	x.s = openMem(t, fsys, x.options())
	x.do([]byte("put where the creation was interrupted"))
	x.created = m.Ops()
	x.do([]byte("and another one"))
	return x
}

// workload is a history of random puts by programs that come, wait and die.
type workload struct {
	*history
	model   []tensor
	batches []*Batch
	waiting [][][]byte // what the batches have
}

// next returns new content, and what it may be like.
func (w *workload) next() (content []byte, like []Digest) {
	rng := w.rng
	if rng.IntN(3) == 0 {
		return randomBytes(rng.Uint64(), rng.IntN(3000)), nil
	}
	if w.model == nil || rng.IntN(12) == 0 {
		wide := coarse(rng.Uint64(), 64<<10)
		w.model = []tensor{
			{"a", "BF16", normals(rng.Uint64(), "BF16", 3<<10)},
			{"b", "F32", normals(rng.Uint64(), "F32", 5<<10)},
			{"wide", "F32", wide},
			{"c", "F16", normals(rng.Uint64(), "F16", 2<<10)},
			{"narrow", "BF16", narrowed("BF16", wide)},
		}
	}
	next := slices.Clone(w.model)
	for _, i := range []int{0, 1, 3} {
		if rng.IntN(2) == 0 {
			next[i].data = trained(rng.Uint64(), next[i].dtype, next[i].data, 0.2)
		}
	}
	if w.model = next; rng.IntN(4) == 0 { // only the cast
		next = next[3:]
	}
	next = append(next, tensor{fmt.Sprint("state ", len(w.tried)), "U8", []byte{byte(rng.IntN(256))}})
	for range rng.IntN(3) {
		if n := len(w.tried); n > 0 {
			like = append(like, Sum(w.tried[n-1-rng.IntN(min(n, 5))]))
		}
	}
	return safetensors(next...), like
}

// any returns content that was put already.
func (w *workload) any() []byte { return w.tried[w.rng.IntN(len(w.tried))] }

// step does one thing.
func (w *workload) step() {
	rng, ctx := w.rng, w.t.Context()
	content, like := w.next()
	if len(w.tried) == 0 {
		w.do(content)
		return
	}
	switch rng.IntN(12) {
	case 0, 1:
		w.do(content, like...)
	case 2, 3: // what others may not have synced
		w.do(w.any())
	case 4:
		w.batches, w.waiting = append(w.batches, w.s.Batch()), append(w.waiting, nil)
		fallthrough
	case 5, 6:
		if len(w.batches) == 0 {
			return
		}
		i := rng.IntN(len(w.batches))
		w.into(w.batches[i], content, like...)
		w.waiting[i] = append(w.waiting[i], content)
	case 7, 8:
		if len(w.batches) == 0 {
			return
		}
		i := rng.IntN(len(w.batches))
		if rng.IntN(3) > 0 { // otherwise its program dies
			w.sync(w.batches[i], w.waiting[i]...)
		}
		w.batches, w.waiting = slices.Delete(w.batches, i, i+1), slices.Delete(w.waiting, i, i+1)
	case 9:
		w.s = openMem(w.t, w.fsys, w.options())
		b, c := w.s.Batch(), w.any()
		if _, err := b.Adopt(ctx, Sum(c)); err != nil {
			w.t.Fatal(err)
		}
		w.sync(b, c)
	case 10:
		w.together()
	case 11:
		d := Sum(w.any())
		info, err := w.s.Stat(ctx, d)
		if err != nil {
			w.t.Fatal(err)
		}
		w.damage(d, rng.Int64N(info.Stored), func(again [][]byte) {
			rng.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		})
	}
	if rng.IntN(4) == 0 {
		w.learn(Sum(w.any()))
	}
	if rng.IntN(8) == 0 { // killed while it writes
		writer := w.s.Writer(ctx)
		if _, err := writer.Write(randomBytes(rng.Uint64(), mib+100)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// together has three programs put the same new and known content at once, each
// of them in another order.
func (w *workload) together() {
	all := [][]byte{w.any(), w.any()}
	for range 2 {
		content, _ := w.next()
		all = append(all, content)
	}
	var wg sync.WaitGroup
	for range 3 {
		s, own := openMem(w.t, w.fsys, w.options()), slices.Clone(all)
		w.rng.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
		wg.Go(func() {
			for _, c := range own {
				w.try(c)
				if _, err := s.Put(w.t.Context(), bytes.NewReader(c)); err != nil {
					w.t.Error(err)
					return
				}
				w.acked(c)
			}
		})
	}
	wg.Wait()
}

// anyHistory is a history of that many steps.
func anyHistory(t testing.TB, m *durable.Mem, rng *rand.Rand, steps int) *history {
	t.Helper()
	w := &workload{history: newHistory(t, m, m, rng)}
	for range steps {
		if w.step(); t.Failed() {
			t.FailNow()
		}
	}
	return w.history
}

// due returns what has to be there after n operations.
func (x *history) due(n int) (contents [][]byte) {
	for _, a := range x.acks {
		if n >= a.at && !x.excused(n, Sum(a.content)) {
			contents = append(contents, a.content)
		}
	}
	return contents
}

// excused reports whether the disk may have damaged the blob d, or what it needs,
// by the operation n, and nobody has been told yet that it is healed.
func (x *history) excused(n int, d Digest) bool {
	return slices.ContainsFunc(x.outages, func(sp outage) bool { return n > sp.from && n < sp.to && sp.blobs[d] })
}

// cut cuts the power after n operations. It returns the disk then, and what is
// missing or wrong on it.
func (x *history) cut(ctx context.Context, n int, rng *rand.Rand) (after *durable.Mem, lost []error) {
	after = x.m.Crash(n, rng)
	after.Record()
	s, err := x.after.open(after, nil)
	if err != nil {
		if n >= x.created {
			return after, []error{err}
		}
		if s, err = x.after.create(after, nil); err != nil {
			return after, []error{err}
		}
	}
	lost = missing(ctx, s, x.due(n), x.tried)
	// What has a name is whole.
	for d, err := range s.All(ctx) {
		if err == nil && !x.excused(n, d) {
			err = s.Check(ctx, d)
		}
		if err != nil {
			lost = append(lost, err)
		}
	}
	// What is there can be used.
	if _, err := s.Put(ctx, strings.NewReader("after")); err != nil {
		lost = append(lost, err)
	}
	return after, lost
}

// missing reads all that was tried: what is due of it has to be there, and nothing
// may be wrong.
func missing(ctx context.Context, s *Store, due, tried [][]byte) (lost []error) {
	is := map[Digest]bool{}
	for _, c := range due {
		is[Sum(c)] = true
	}
	for _, c := range tried {
		got, err := readAll(ctx, s, Sum(c))
		switch {
		case err == nil && !bytes.Equal(got, c):
			lost = append(lost, fmt.Errorf("%s reads as %d other bytes", Sum(c).Short(), len(got)))
		case err != nil && (is[Sum(c)] || !isCorrupt(err) && !errors.Is(err, ErrNotFound)):
			lost = append(lost, err)
		}
	}
	return lost
}

// goOn puts everything again on a disk that cut returned, and cuts the power once
// more, while that goes on or after it.
func (x *history) goOn(ctx context.Context, n int, disk *durable.Mem, rng *rand.Rand) (lost []error) {
	s, err := x.after.open(disk, nil)
	if err != nil {
		return []error{err}
	}
	type acked struct{ at, count int }
	var acks []acked
	for i, c := range x.tried {
		if _, err := s.Put(ctx, bytes.NewReader(c)); err != nil {
			return []error{err}
		}
		acks = append(acks, acked{disk.Ops(), i + 1})
	}
	lost = missing(ctx, s, x.tried, x.tried)
	if left := names(disk, "tmp"); len(left) > 0 {
		lost = append(lost, fmt.Errorf("tmp holds %s", left[0]))
	}
	again := rng.IntN(disk.Ops() + 1)
	due := x.due(n)
	for _, a := range acks {
		if a.at <= again {
			due = append(due, x.tried[a.count-1])
		}
	}
	after := disk.Crash(again, rng)
	if s, err = x.after.open(after, nil); err != nil && n < x.created {
		s, err = x.after.create(after, nil) // it was created anew, and perhaps no more than that
	}
	if err != nil {
		return append(lost, err)
	}
	return append(lost, missing(ctx, s, due, x.tried)...)
}

// TestPromiseBlobsSurvivePowerLoss cuts the power after each operation of
// histories that have blobs of every kind, and then again while everything is put
// once more.
func TestPromiseBlobsSurvivePowerLoss(t *testing.T) {
	histories, cuts, stride := promise.Times(5, 18), promise.Times(1, 2), promise.Times(3, 1)
	var states, blobs atomic.Int64
	t.Run("histories", func(t *testing.T) {
		for seed := range uint64(histories) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				m := durable.NewMem()
				var x *history
				switch seed {
				case 0:
					x = script(t, m, m)
				case 1:
					x = interrupted(t, m, m)
				case 2:
					x = withCollections(t, m, m)
				case 3:
					x = brought(t, m, m)
				default:
					x = anyHistory(t, m, rand.New(rand.NewPCG(seed, 31)), 40)
				}
				blobs.Add(int64(len(x.tried)))
				for n := 0; n <= m.Ops() && !t.Failed(); n += stride {
					for c := range uint64(cuts) {
						rng := rand.New(rand.NewPCG(seed<<8|c, uint64(n)))
						disk, lost := x.cut(t.Context(), n, rng)
						states.Add(1)
						if len(lost) == 0 && rng.IntN(4) == 0 {
							lost = x.goOn(t.Context(), n, disk, rng)
							states.Add(1)
						}
						for _, err := range lost {
							t.Errorf("power cut %d after operation %d of %d: %v", c, n, m.Ops(), err)
						}
					}
				}
			})
		}
	})
	if least := int64(promise.Times(150, 10_000)); states.Load() < least {
		t.Errorf("only %d states, not %d", states.Load(), least)
	}
	promise.Kept(t, "%d states of the disk after power cuts in %d histories of %d blobs: 0 acknowledged blobs lost, 0 wrong bytes", states.Load(), histories, blobs.Load())
}
