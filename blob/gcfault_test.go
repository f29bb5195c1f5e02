package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// littered is a store for a collection: states of a model of which only the last
// is named, as a delta to the ones before, so that it is detached and they go; a
// blob that is thinned; one that nobody names; and one that is named and in the
// trash.
type littered struct {
	m     *durable.Mem
	named [][]byte // in blobs/ at any time
	taken []byte   // named, and in the trash
}

func litter(t testing.TB) *littered {
	t.Helper()
	s, m := newMem(t, nil)
	x := &littered{m: m, taken: lines(3000)}
	wide, frozen := normals(1, "F32", 64<<10), normals(2, "BF16", 64<<10)
	var last []Digest
	var content []byte
	for i := range 3 {
		content = safetensors(tensor{"w", "F32", wide}, tensor{"f", "BF16", frozen}, tensor{"own", "U8", randomBytes(uint64(i), 64<<10)})
		last = []Digest{putLike(t, s, content, last...).Digest}
		wide = trained(uint64(i), "F32", wide, 0.5)
	}
	x.named = [][]byte{content, []byte("small"), randomBytes(7, 5000)}
	for _, c := range x.named[1:] {
		put(t, s, c)
	}
	// One that is not named lends a tensor to two that are: it is thinned.
	shared := tensor{"shared", "U8", randomBytes(20, 64<<10)}
	lender := putLike(t, s, safetensors(shared, tensor{"own", "U8", randomBytes(21, 64<<10)})).Digest
	for i := range 2 {
		content := safetensors(shared, tensor{"own", "U8", randomBytes(uint64(22+i), 64<<10)})
		if info := putLike(t, s, content, lender); info.Parts.Borrowed.Frames == 0 {
			t.Fatalf("nothing is borrowed: %+v", info)
		}
		x.named = append(x.named, content)
	}
	put(t, s, lines(2000)) // nobody names it
	put(t, s, x.taken)
	c := collection(t, s)
	if done, err := c.Trash(t.Context(), Sum(x.taken)); !done || err != nil {
		t.Fatal(done, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	m.Record() // the above is durable
	return x
}

func (x *littered) again() *littered {
	y := *x
	y.m = x.m.Crash(0, rand.New(rand.NewPCG(1, 1)))
	return &y
}

// tidied counts what a collection did.
type tidied struct {
	restored                           bool
	detached, thinned, trashed, purged int
}

// tidy collects as a registry does, until the first error.
func (x *littered) tidy(ctx context.Context, s *Store) (did tidied, err error) {
	if did.restored, err = s.Restore(ctx, Sum(x.taken)); err != nil {
		return did, err
	}
	mark := func() (*Marks, error) {
		m := s.Marks(func(context.Context, Digest) ([]Digest, bool) { return nil, false })
		for _, c := range append(x.named[:len(x.named):len(x.named)], x.taken) {
			if err := m.Add(ctx, Sum(c)); err != nil {
				return nil, err
			}
		}
		if len(m.Unreadable()) > 0 {
			return nil, errors.New("can't be read")
		}
		return m, nil
	}
	m, err := mark()
	if err != nil {
		return did, err
	}
	plan, err := s.Detachable(ctx, m)
	if err != nil {
		return did, err
	}
	for d, rows := range plan.Frames {
		r, err := s.Detach(ctx, d, rows)
		if err != nil {
			return did, err
		}
		done, err := r.Publish(ctx)
		if err != nil {
			return did, err
		}
		if done {
			did.detached++
		}
	}
	if m, err = mark(); err != nil {
		return did, err
	}
	if err := x.collect(ctx, s, m, &did); err != nil {
		return did, err
	}
	for trashed, err := range s.Trash(ctx) {
		if err == nil && slices.Contains(m.Missing(), trashed.Digest) {
			continue // it could not be read when it was to be restored
		}
		if err == nil {
			err = s.Purge(ctx, trashed)
		}
		if err != nil {
			return did, err
		}
		did.purged++
	}
	return did, nil
}

func (x *littered) collect(ctx context.Context, s *Store, m *Marks, did *tidied) (err error) {
	c, err := s.Collect(ctx, 5)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for d, err := range s.All(ctx) {
		done := false
		switch {
		case err != nil:
			return err
		case m.Whole(d):
		case m.Needed(d):
			drop, err := s.Droppable(ctx, d, m)
			if err != nil {
				return err
			}
			if drop == 0 {
				continue
			}
			r, err := s.Thin(ctx, d, m)
			if err != nil {
				return err
			}
			if done, err = c.Replace(ctx, r, m); err != nil {
				return err
			}
			if done {
				did.thinned++
			}
		default:
			if done, err = c.Trash(ctx, d); err != nil {
				return err
			}
			if done {
				did.trashed++
			}
		}
	}
	return nil
}

// whole returns what can't be read of the contents with blobs/ alone.
func whole(t testing.TB, m *durable.Mem, contents ...[]byte) (lost []error) {
	t.Helper()
	s := copyStore(t, m)
	for _, c := range contents {
		got, err := readAll(t.Context(), s, Sum(c))
		if err == nil && !bytes.Equal(got, c) {
			err = fmt.Errorf("%s reads as other bytes", Sum(c).Short())
		}
		if err != nil {
			lost = append(lost, err)
		}
	}
	return lost
}

// settle checks what a collection left that failed or was cut off, and that the
// next one completes it.
func (x *littered) settle(t testing.TB, restored bool, what string) {
	t.Helper()
	named := x.named
	if restored {
		named = append(named[:len(named):len(named)], x.taken)
	}
	for _, err := range whole(t, x.m, named...) {
		t.Errorf("%s: lost: %v", what, err)
	}
	s := openMem(t, x.m, nil)
	did, err := x.tidy(t.Context(), s)
	if err != nil || !did.restored {
		t.Errorf("%s: the next collection: %+v, %v", what, did, err)
		return
	}
	for _, err := range whole(t, x.m, append(x.named[:len(x.named):len(x.named)], x.taken)...) {
		t.Errorf("%s: after the next collection: lost: %v", what, err)
	}
	for _, folder := range []string{"tmp", "trash"} {
		if left := names(x.m, folder); len(left) > 0 {
			t.Errorf("%s: %s has %v", what, folder, left)
		}
	}
}

// TestPromiseGCFailingOperations fails each operation of a collection in turn,
// once or from then on.
func TestPromiseGCFailingOperations(t *testing.T) {
	base := litter(t)
	clean := base.again()
	did, err := clean.tidy(t.Context(), openMem(t, clean.m, nil))
	if err != nil || did.detached == 0 || did.thinned == 0 || did.trashed == 0 || did.purged == 0 || !did.restored {
		t.Fatalf("without a fault: %+v, %v", did, err)
	}
	modes := []struct {
		name   string
		err    error
		sticky bool
	}{
		{"EIO once", syscall.EIO, false},
		{"EIO from then on", syscall.EIO, true},
		{"ENOSPC from then on", syscall.ENOSPC, true},
		{"ENOSPC once after 5 bytes", durable.ShortWrite(5, syscall.ENOSPC), false},
	}
	faults, reported := 0, 0
	for _, mode := range modes {
		for n := 1; ; n += promise.Times(7, 1) {
			x := base.again()
			s := openMem(t, x.m, &Options{Workers: 1})
			seen := failFrom(x.m, n, mode.err, mode.sticky)
			did, err := x.tidy(t.Context(), s)
			x.m.Fail(nil)
			if seen() < n {
				if err != nil {
					t.Fatalf("%s: no operation failed, yet %v", mode.name, err)
				}
				break
			}
			faults++
			if err != nil {
				reported++
			}
			x.settle(t, did.restored, fmt.Sprintf("%s, operation %d", mode.name, n))
			if t.Failed() {
				return
			}
		}
	}
	if reported < faults/2 {
		t.Errorf("only %d of %d faults were reported", reported, faults)
	}
	promise.Kept(t, "%d faults in a collection, 0 named blobs lost, the next one completes it", faults)
}

// TestPromiseGCPowerCuts cuts the power at each operation of a collection.
func TestPromiseGCPowerCuts(t *testing.T) {
	base := litter(t).again()
	base.m.Record()
	x := *base
	s := openMem(t, x.m, &Options{Workers: 1})
	ok, err := s.Restore(t.Context(), Sum(x.taken))
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	restored := x.m.Ops()
	did, err := x.tidy(t.Context(), s)
	if err != nil || did.detached == 0 || did.thinned == 0 {
		t.Fatalf("%+v, %v", did, err)
	}
	states := 0
	for n := range base.m.Ops() + 1 {
		for seed := range uint64(promise.Times(3, 64)) {
			y := x
			y.m = base.m.Crash(n, rand.New(rand.NewPCG(seed, uint64(n))))
			what := fmt.Sprintf("power cut after operation %d of %d, seed %d", n, base.m.Ops(), seed)
			if n < restored {
				// It may be under both names, or under one of them.
				named := y.named
				for _, err := range whole(t, y.m, named...) {
					t.Errorf("%s: lost: %v", what, err)
				}
			} else {
				y.settle(t, true, what)
			}
			states++
		}
		if t.Failed() {
			return
		}
	}
	promise.Kept(t, "%d states after a power cut in a collection, 0 named blobs lost", states)
}

// TestGCPowerCutsFindMissingSyncs shows that the test above can fail.
func TestGCPowerCutsFindMissingSyncs(t *testing.T) {
	for _, c := range []struct {
		name string
		over func(*durable.Mem) durable.FS
	}{
		{"files", func(m *durable.Mem) durable.FS { return unsyncing{m} }},
		{"the folders in blobs", func(m *durable.Mem) durable.FS {
			return &forgetful{m, func(name string) bool { return strings.HasPrefix(name, "blobs/") }}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := litter(t).again()
			x.m.Record()
			if _, err := x.tidy(t.Context(), openMem(t, c.over(x.m), &Options{Workers: 1})); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				if len(whole(t, x.m.Crash(rng.IntN(x.m.Ops()+1), rng), x.named...)) > 0 {
					return
				}
			}
			t.Error("2000 power cuts lost nothing")
		})
	}
}
