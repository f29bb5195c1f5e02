package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/promise"
)

// acknowledged is what churners said. It is safe for concurrent use.
type acknowledged struct {
	mu    sync.Mutex
	live  map[uuid.UUID]map[string]blob.Digest
	gone  map[uuid.UUID]bool
	maybe map[uuid.UUID]bool // their deletion was under way when a process was killed
	wrong []string
	lacks []string // commits that failed for a blob that was missing
	churned
}

func newAcknowledged() *acknowledged {
	return &acknowledged{live: map[uuid.UUID]map[string]blob.Digest{}, gone: map[uuid.UUID]bool{}, maybe: map[uuid.UUID]bool{}}
}

// hear takes a line, and is told what its process is about to delete.
func (a *acknowledged) hear(line string, deleting map[uuid.UUID]bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind, text, _ := strings.Cut(line, " ")
	switch kind {
	case lineWrong:
		a.wrong = append(a.wrong, text)
		return nil
	case lineMissing:
		a.lacks = append(a.lacks, text)
		return nil
	case lineDone:
		var c churned
		err := json.Unmarshal([]byte(text), &c)
		a.churned.add(c)
		return err
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return fmt.Errorf("a process says %q", line)
	}
	id, err := uuid.Parse(words[0])
	if err != nil {
		return err
	}
	switch kind {
	case lineDeleting:
		deleting[id] = true
	case lineDeleted:
		delete(deleting, id)
		delete(a.live, id)
		a.gone[id] = true
	case lineAdded:
		files := map[string]blob.Digest{}
		for _, word := range words[1:] {
			path, hex, _ := strings.Cut(word, "=")
			if files[path], err = blob.ParseDigest(hex); err != nil {
				return err
			}
		}
		if !a.gone[id] { // another process may have been faster to tell
			a.live[id] = files
		}
	}
	return nil
}

// listen hears all that a process says, and at last what it left open.
func (a *acknowledged) listen(from io.Reader) error {
	deleting := map[uuid.UUID]bool{}
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if err != nil { // a line without an end was not acknowledged
			break
		}
		if err := a.hear(strings.TrimSuffix(line, "\n"), deleting); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(a.maybe, deleting)
	return nil
}

// check reads what was acknowledged: every byte of it, and nothing else may be
// wrong. killed says how many processes had no time to tell of a last change.
func (a *acknowledged) check(t *testing.T, r *Registry, killed int) {
	t.Helper()
	for _, text := range a.wrong {
		t.Error(text)
	}
	ctx := t.Context()
	found, unknown := map[uuid.UUID]bool{}, 0
	for _, m := range all(t, r.Find(ctx, Query{})) {
		found[m.ID] = true
		files, ok := a.live[m.ID]
		if a.gone[m.ID] {
			t.Errorf("%s was deleted and is there", m.Ref())
		}
		if !ok {
			unknown++
			files = map[string]blob.Digest{}
			for _, f := range all(t, m.List(ctx)) {
				files[f.Path] = f.Digest
			}
			a.live[m.ID] = files // it is there, so it has to stay
		}
		for path, want := range files {
			f, err := m.Open(ctx, path)
			if err != nil {
				t.Errorf("lost: %s of %s: %v", path, m.Ref(), err)
				continue
			}
			b, err := io.ReadAll(f)
			if err != nil || blob.Sum(b) != want {
				t.Errorf("lost: %s of %s: %d bytes, %v", path, m.Ref(), len(b), err)
			}
			must(t, f.Close())
		}
	}
	if unknown > 3*killed { // a bulk has three versions
		t.Errorf("%d versions that nobody told of, after %d kills", unknown, killed)
	}
	for id := range a.live {
		switch {
		case found[id]:
		case a.maybe[id]:
			delete(a.live, id)
			a.gone[id] = true
		default:
			t.Errorf("lost: the version %s", id)
		}
	}
	clear(a.maybe)
	wantClean(t, r)
}

// churning starts a process that churns in the store of r.
func churning(t *testing.T, r *Registry, number int, c churn) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := child(t, "churn", number, r)
	b, err := json.Marshal(c)
	must(t, err)
	cmd.Env = append(cmd.Env, churnEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, out
}

// churnAll runs processes side by side, to their end.
func churnAll(t *testing.T, r *Registry, processes int, c churn) *acknowledged {
	t.Helper()
	a := newAcknowledged()
	var wg sync.WaitGroup
	for i := range processes {
		own := c
		own.Seed = c.Seed*1000 + uint64(i)
		cmd, out := churning(t, r, i, own)
		wg.Go(func() {
			if err := a.listen(out); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	clear(a.maybe) // they all ended by themselves
	return a
}

// wantSwept collects, and looks for what dead processes left.
func wantSwept(t *testing.T, r *Registry) {
	t.Helper()
	if c := gc(t, r); c.Lost.Count != 0 || c.Pinned.Count != 0 || c.Held.Count != 0 || c.Waiting.Count != 0 {
		t.Errorf("at last: %+v", c)
	}
	for folder, most := range map[string]int{"tmp": 0, "trash": 0, "quarantine": 0, "pins": 2} { // those of the generation, and of what was replaced
		if n := files(t, r, folder); n > most {
			t.Errorf("%s has %d files", folder, n)
		}
	}
	known := []string{"blobs", "heft.json", "index.db", "index.lock", "index.lock.turn", "journal", "journal.lock", "verify.lock", "pins", "publish.lock", "publish.lock.turn", "quarantine", "tmp", "trash"}
	entries, err := os.ReadDir(r.Dir())
	must(t, err)
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// TestPromiseGCKeepsWhatIsNamed has processes put, delete, prune, collect, adopt
// and read at once, with drafts and readers that stay open for a while.
func TestPromiseGCKeepsWhatIsNamed(t *testing.T) {
	const processes = 8
	r := newRegistry(t)
	a := churnAll(t, r, processes, churn{Ops: promise.Times(320, 100_000) / processes, Seed: 1, Live: 60})
	a.check(t, r, 0)
	if a.Missing > 0 {
		t.Errorf("%d commits failed for a missing blob: %q", a.Missing, a.lacks)
	}
	// What is rare may not come up in some hundred operations.
	rare := a.Thinned > 0 && a.Detached > 0 && a.Adopts > 0
	if a.Trashed == 0 || a.Delta == 0 || a.Borrowed == 0 || a.Reads == 0 || promise.Full() && !rare {
		t.Errorf("not everything was tried: %+v", a.churned)
	}
	wantSwept(t, r)
	a.check(t, r, 0)
	promise.Kept(t, "%d operations in %d processes, %d commits and %d collections with %d trashed, %d thinned, %d detached; 0 lost, %d readers read to the end, %d stopped at a deleted version",
		a.Done, processes, a.Commits, a.GCs, a.Trashed, a.Thinned, a.Detached, a.Reads, a.Cut)
}

// TestPromiseNaiveGCIsCaught shows that the test above can fail: it has the same
// processes collect without the index's lock, pins and trash.
func TestPromiseNaiveGCIsCaught(t *testing.T) {
	const processes, rounds = 4, 10
	for round := range rounds {
		r := newRegistry(t)
		a := churnAll(t, r, processes, churn{Ops: 40, Seed: uint64(100 + round), Live: 30, Naive: true})
		lost := 0
		for _, m := range all(t, r.Find(t.Context(), Query{})) {
			for path := range a.live[m.ID] {
				if f, err := m.Open(t.Context(), path); err != nil {
					lost++
				} else {
					if _, err := io.Copy(io.Discard, f); err != nil {
						lost++
					}
					must(t, f.Close())
				}
			}
		}
		if lost > 0 {
			promise.Kept(t, "%d files lost, and %d commits that failed for a missing blob, after %d operations", lost, a.Missing, (round+1)*a.Done)
			return
		}
	}
	t.Errorf("nothing was lost in %d rounds", rounds)
}

// TestPromiseKilledProcesses kills processes that put, commit, delete, prune,
// collect, adopt and import in bulk, at random moments.
func TestPromiseKilledProcesses(t *testing.T) {
	const processes = 2
	r := newRegistry(t)
	a := newAcknowledged()
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	kills, most := promise.Times(10, 1000), int64(0)
	for n := 0; n < kills; n += processes {
		var wg sync.WaitGroup
		for i := range processes {
			cmd, out := churning(t, r, n+i, churn{Seed: rng.Uint64N(1 << 40), Live: 12})
			lines, pause := rng.IntN(12), time.Duration(rng.Int64N(int64(20*time.Millisecond)))
			wg.Go(func() {
				var said bytes.Buffer
				in := bufio.NewReader(io.TeeReader(out, &said))
				for range lines {
					if _, err := in.ReadString('\n'); err != nil {
						break
					}
				}
				kill := time.AfterFunc(pause, func() { _ = cmd.Process.Kill() })
				defer kill.Stop()
				if _, err := io.Copy(io.Discard, in); err != nil {
					t.Error(err)
				}
				if err := a.listen(&said); err != nil {
					t.Error(err)
				}
				if err := cmd.Wait(); err == nil {
					t.Error("a process ended by itself")
				}
			})
		}
		wg.Wait()
		o, err := Open(t.Context(), r.Dir(), nil) // the next one to come
		must(t, err)
		a.check(t, o, processes)
		wantSwept(t, o)
		a.check(t, o, 0)
		must(t, o.Close())
		s, err := r.Stats(t.Context())
		must(t, err)
		most = max(most, s.Stored)
		if t.Failed() {
			t.Fatalf("after %d kills", n+processes)
		}
	}
	if len(a.gone) == 0 {
		t.Error("nothing was deleted")
	}
	// A collection that is killed after it has thinned a donor, and before it finds
	// that somebody has pinned that meanwhile, can't bring the frames back: the
	// commit tells, and nothing was acknowledged.
	if len(a.lacks) > 1+kills/100 {
		t.Errorf("%d commits failed for a missing blob: %q", len(a.lacks), a.lacks)
	}
	promise.Kept(t, "%d kills, %d versions acknowledged, 0 lost, nothing left behind, at most %d MB at once, %d commits to be repeated", kills, len(a.live)+len(a.gone), most>>20, len(a.lacks))
}

// TestPromiseNoClockIsNeeded has processes whose clocks are wrong by up to ten
// years, each time anew.
func TestPromiseNoClockIsNeeded(t *testing.T) {
	const processes, decade = 4, 10 * 365 * 24 * 3600 * 1_000_000
	r := newRegistry(t)
	a := churnAll(t, r, processes, churn{Ops: promise.Times(160, 10_000) / processes, Seed: 2, Live: 30, Skew: decade})
	a.check(t, r, 0)
	if a.Missing > 0 || a.GCs == 0 {
		t.Errorf("%+v", a.churned)
	}
	// The order is that of the journal.
	events := all(t, r.History(t.Context(), ""))
	back := 0
	for i := 1; i < len(events); i++ {
		if events[i].Seq < events[i-1].Seq {
			t.Errorf("record %d comes after %d", events[i].Seq, events[i-1].Seq)
		}
		if events[i].Time < events[i-1].Time {
			back++
		}
	}
	if back == 0 {
		t.Error("no clock went back")
	}
	wantSwept(t, r)
	a.check(t, r, 0)
	promise.Kept(t, "%d operations in %d processes with clocks up to 10 years wrong, which went back %d times in %d events: 0 lost, in the journal's order", a.Done, processes, back, len(events))
}

// TestPromiseWritersWait has many processes commit at once.
func TestPromiseWritersWait(t *testing.T) {
	const processes = 8
	r := newRegistry(t)
	each := promise.Times(15, 500)
	alone := waits(t, runAll(t, fmt.Sprintf("commit %d alone", each), 1, r), each)
	took := waits(t, runAll(t, fmt.Sprintf("commit %d shared", each), processes, r), processes*each)
	own := alone[len(alone)/2]
	longest := took[len(took)-1] - own
	versions := all(t, r.Find(t.Context(), Query{}))
	if want := (processes + 1) * each; len(versions) != want {
		t.Errorf("%d versions, want %d", len(versions), want)
	}
	for _, m := range versions {
		seed, err := strconv.ParseUint(m.Description, 10, 64)
		must(t, err)
		if got := m.content(t, WeightsFile); !bytes.Equal(got, weights(seed, commitSize)) {
			t.Errorf("lost: %s", m.Ref())
		}
	}
	wantClean(t, r)
	if promise.Full() && longest >= time.Second {
		t.Errorf("a commit waited for %v", longest)
	}
	promise.Kept(t, "%d processes, %d commits each, half of them of the same bytes: 0 lost, 0 timeouts, the longest wait %v beside %v for a commit alone, half of them below %v",
		processes, each, longest.Round(time.Millisecond), own.Round(100*time.Microsecond), (took[len(took)/2] - own).Round(time.Millisecond))
}

// commitSize is of each version that commits makes.
const commitSize = 20_000

// commits registers versions and prints how many microseconds each Commit took.
func commits(ctx context.Context, r *Registry, what, number string, out io.Writer) error {
	var each int
	var how string
	if _, err := fmt.Sscanf(what, "commit %d %s", &each, &how); err != nil {
		return err
	}
	for i := range each {
		seed := uint64(i) // half of the contents are the same in all processes
		if i%2 == 1 {
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return err
			}
			seed += (n + 1) << 32
		}
		took, err := commitOne(ctx, r, Model{Name: how + number, Description: strconv.FormatUint(seed, 10)}, weights(seed, commitSize))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, took.Microseconds()); err != nil {
			return err
		}
	}
	return nil
}

func commitOne(ctx context.Context, r *Registry, m Model, content []byte) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d, err := r.Begin(ctx, m)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if _, err := d.Put(ctx, WeightsFile, bytes.NewReader(content)); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = d.Commit(ctx)
	return time.Since(start), err
}

// waits returns what commits printed, the shortest first.
func waits(t *testing.T, lines []string, want int) (took []time.Duration) {
	t.Helper()
	for _, line := range lines {
		us, err := strconv.ParseInt(line, 10, 64)
		must(t, err)
		took = append(took, time.Duration(us)*time.Microsecond)
	}
	if len(took) != want {
		t.Fatalf("%d commits were acknowledged, want %d", len(took), want)
	}
	slices.Sort(took)
	return took
}
