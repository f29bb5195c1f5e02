package blob

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// ack says that from the operation at on, content must be there.
type ack struct {
	at      int
	content []byte
}

// history is a recorded run, for power cuts at any moment of it.
type history struct {
	m       *durable.Mem
	created int // the store itself is acknowledged from this operation on
	acks    []ack
	damaged [2]int // between these operations one blob may be damaged
}

// record runs puts of each kind on fsys, which stands on m.
func record(t testing.TB, m *durable.Mem, fsys durable.FS) *history {
	t.Helper()
	h := hints{}
	hist := &history{m: m}
	m.Record()
	s, err := create(fsys, &Options{Known: h.known, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	hist.created = m.Ops()
	acked := func(contents ...[]byte) {
		for _, c := range contents {
			hist.acks = append(hist.acks, ack{m.Ops(), c})
		}
	}
	do := func(content []byte) {
		t.Helper()
		put(t, s, content)
		acked(content)
	}
	do([]byte("first"))
	do(randomBytes(1, 3000))
	do([]byte("first")) // known
	do(nil)

	// A batch that has not synced yet, of which one blob is put again and one
	// is borrowed from: whoever acknowledges has to sync.
	lent := lines(2000)
	waiting := s.Batch()
	batch := [][]byte{[]byte("put by the batch, then alone"), []byte("put by the batch only"), lent}
	for _, c := range batch {
		if _, err := waiting.Put(t.Context(), bytes.NewReader(c)); err != nil {
			t.Fatal(err)
		}
	}
	do(batch[0])
	h.learn(t, s, Sum(lent))
	do(cat(make([]byte, mib), lent))
	if err := waiting.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	acked(batch...)

	// A chain of states that are based on each other, the first of them in a batch
	// that has not synced yet.
	chain := chain()
	waiting = s.Batch()
	if _, err := waiting.Put(t.Context(), bytes.NewReader(chain[0])); err != nil {
		t.Fatal(err)
	}
	for i, content := range chain[1:] {
		if info := putLike(t, s, content, Sum(chain[i])); info.Parts.Delta.Frames == 0 {
			t.Fatalf("%+v", info)
		}
		acked(content)
	}
	if err := waiting.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	acked(chain[0])

	// A blob that is damaged and healed, and lends a frame.
	weak := lines(1500)
	put(t, s, weak)
	h.learn(t, s, Sum(weak))
	do(cat(repeated("x", mib), weak))
	hist.damaged[0] = m.Ops()
	flip(t, m, blobPath(Sum(weak)), format.HeaderSize+3, 1)
	do(weak)
	hist.damaged[1] = m.Ops()
	do([]byte("last"))
	return hist
}

// chain returns states of a small model.
func chain() [][]byte {
	w := normals(1, "F32", 6<<10)
	states := [][]byte{safetensors(tensor{"w", "F32", w})}
	for i := range 2 {
		w = trained(uint64(i), "F32", w, 0.1)
		states = append(states, safetensors(tensor{"w", "F32", w}))
	}
	return states
}

// check cuts the power after n operations and returns what is then missing or
// wrong of what was acknowledged.
func (hist *history) check(ctx context.Context, n int, rng *rand.Rand) (lost []error) {
	after := hist.m.Crash(n, rng)
	s, err := open(after, nil)
	if err != nil {
		if n >= hist.created {
			return []error{err}
		}
		if s, err = create(after, nil); err != nil {
			return []error{err}
		}
	}
	damaged := n > hist.damaged[0] && n < hist.damaged[1]
	for _, a := range hist.acks {
		if n < a.at || damaged && len(a.content) > mib {
			continue
		}
		if err := s.Verify(ctx, Sum(a.content)); err != nil {
			lost = append(lost, err)
		}
	}
	if !damaged {
		// Nothing has a name that is not whole.
		for d, err := range s.All(ctx) {
			if err == nil {
				_, err = s.Stat(ctx, d)
			}
			if err != nil {
				lost = append(lost, err)
			}
		}
	}
	if _, err := s.Put(ctx, strings.NewReader("after")); err != nil {
		lost = append(lost, err)
	} else if err := s.Verify(ctx, Sum([]byte("after"))); err != nil {
		lost = append(lost, err)
	}
	if left := names(after, "tmp"); len(left) > 0 {
		lost = append(lost, errors.New("tmp holds "+left[0]))
	}
	return lost
}

func TestPowerCuts(t *testing.T) {
	m := durable.NewMem()
	hist := record(t, m, m)
	const seeds = 32
	states := 0
	for n := range m.Ops() + 1 {
		for seed := range uint64(seeds) {
			states++
			for _, err := range hist.check(t.Context(), n, rand.New(rand.NewPCG(seed, uint64(n)))) {
				t.Errorf("power cut after operation %d of %d, seed %d: %v", n, m.Ops(), seed, err)
			}
		}
		if t.Failed() {
			break
		}
	}
	if !t.Failed() && states < 3000 {
		t.Errorf("only %d states", states)
	}
}

// forgetful is a file system that skips some syncs and says that they worked.
type forgetful struct {
	durable.FS
	file bool                   // skip the syncs of files
	dir  func(name string) bool // skip the syncs of these folders
}

func (f *forgetful) Create(name string) (durable.File, error) {
	file, err := f.FS.Create(name)
	if err != nil || !f.file {
		return file, err
	}
	return forgetfulFile{file}, nil
}

func (f *forgetful) SyncDir(name string) error {
	if f.dir != nil && f.dir(name) {
		return nil
	}
	return f.FS.SyncDir(name)
}

type forgetfulFile struct{ durable.File }

func (forgetfulFile) Sync() error { return nil }

// TestPowerCutsFindMissingSyncs shows that TestPowerCuts can fail: each sync
// that is left out loses something acknowledged.
func TestPowerCutsFindMissingSyncs(t *testing.T) {
	donor, base := blobDir(Sum(lines(2000))), blobDir(Sum(chain()[0]))
	for _, c := range []struct {
		name string
		fs   forgetful
	}{
		{"files", forgetful{file: true}},
		{"all folders", forgetful{dir: func(string) bool { return true }}},
		{"the root", forgetful{dir: func(name string) bool { return name == "." }}},
		{"blobs", forgetful{dir: func(name string) bool { return name == "blobs" }}},
		{"the folders in blobs", forgetful{dir: func(name string) bool { return strings.HasPrefix(name, "blobs/") }}},
		{"the folder of a donor", forgetful{dir: func(name string) bool { return name == donor }}},
		{"the folder of a base", forgetful{dir: func(name string) bool { return name == base }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := durable.NewMem()
			c.fs.FS = m
			hist := record(t, m, &c.fs)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				if len(hist.check(t.Context(), rng.IntN(m.Ops()+1), rng)) > 0 {
					return
				}
			}
			t.Error("2000 power cuts lost nothing")
		})
	}
}
