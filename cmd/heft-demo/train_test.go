package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

// smallConfig trains an epoch in some milliseconds.
func smallConfig(seed uint64) config {
	return config{
		dims: dims{context: 8, vocab: len(alphabet), embed: 32, hidden: 16},
		seed: seed, train: 1500, heldOut: 300, batch: 32, rate: 4e-3,
	}
}

// epochs trains the run and returns the loss of each epoch.
func epochs(t *testing.T, run *trainer, n int) []float64 {
	t.Helper()
	var losses []float64
	for range n {
		loss, err := run.runEpoch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, loss)
	}
	return losses
}

// kept returns the run's checkpoint.
func kept(t *testing.T, run *trainer) checkpoint {
	t.Helper()
	c, err := run.checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTrainerLearns(t *testing.T) {
	run := newTrainer(smallConfig(1), 2)
	before := run.accuracy()
	losses := epochs(t, run, 4)
	for i := 1; i < len(losses); i++ {
		if losses[i] >= losses[i-1] {
			t.Errorf("losses %v don't fall", losses)
		}
	}
	if after := run.accuracy(); before > 0.1 || after < 0.5 {
		t.Errorf("held-out accuracy went from %.3f to %.3f, want from at most 0.1 to at least 0.5", before, after)
	}
}

func TestTrainerResumeIdentical(t *testing.T) {
	through := newTrainer(smallConfig(1), 2)
	epochs(t, through, 2)

	first := newTrainer(smallConfig(1), 2)
	epochs(t, first, 1)
	second, err := resume(smallConfig(1), 2, kept(t, first))
	if err != nil {
		t.Fatal(err)
	}
	if !kept(t, second).equal(kept(t, first)) {
		t.Error("a resumed run has another state than the one that was kept")
	}
	epochs(t, second, 1)
	if !kept(t, second).equal(kept(t, through)) {
		t.Error("one epoch, resumed for another, differs from two epochs")
	}
}

func TestTrainerWorkersDontMatter(t *testing.T) {
	one := newTrainer(smallConfig(1), 1)
	epochs(t, one, 1)
	for _, workers := range []int{2, 3, 16} {
		many := newTrainer(smallConfig(1), workers)
		epochs(t, many, 1)
		if !kept(t, many).equal(kept(t, one)) {
			t.Errorf("%d goroutines give other weights than one", workers)
		}
	}
}

// TestTrainerSameOnEveryMachine fails if a change, a compiler or a processor
// moves a single bit of the weights.
func TestTrainerSameOnEveryMachine(t *testing.T) {
	run := newTrainer(smallConfig(1), 2)
	epochs(t, run, 2)
	c := kept(t, run)
	const want = "74f4329b0313b9b734cb23a5e51c3ff7314c1d9cd6949e2ceb269aff6a78c7ea"
	if got := fmt.Sprintf("%x", blake3.Sum256(append(c.model, c.optimizer...))); got != want {
		t.Errorf("checkpoint of two epochs has BLAKE3 %s, want %s", got, want)
	}
}

func TestTrainerSeedMatters(t *testing.T) {
	if kept(t, newTrainer(smallConfig(1), 1)).equal(kept(t, newTrainer(smallConfig(2), 1))) {
		t.Error("two seeds give the same weights")
	}
}

func TestTrainerCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newTrainer(smallConfig(1), 1).runEpoch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("runEpoch after cancel: error %v, want %v", err, context.Canceled)
	}
}

func TestResumeRefuses(t *testing.T) {
	good := kept(t, newTrainer(smallConfig(1), 1))
	wider := smallConfig(1)
	wider.embed++
	slower := smallConfig(1)
	slower.rate /= 2
	for _, test := range []struct {
		name   string
		config config
		from   checkpoint
		want   error
	}{
		{"other seed", smallConfig(2), good, errOtherRun},
		{"other sizes", wider, good, errOtherRun},
		{"other rate", slower, good, errOtherRun},
		{"files swapped", smallConfig(1), checkpoint{good.optimizer, good.model}, errOtherRun},
		{"cut model", smallConfig(1), checkpoint{good.model[:len(good.model)-1], good.optimizer}, errFormat},
		{"no optimizer", smallConfig(1), checkpoint{good.model, nil}, errFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := resume(test.config, 1, test.from); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestTrainFolder(t *testing.T) {
	dir := t.TempDir()
	var whole, split bytes.Buffer
	if err := train(t.Context(), smallConfig(1), 2, "", filepath.Join(dir, "whole"), &whole, &whole); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		if err := train(t.Context(), smallConfig(1), n, "", filepath.Join(dir, "split"), &split, &split); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(split.String(), "going on from epoch 1\n") {
		t.Errorf("the second call doesn't go on:\n%s", &split)
	}
	last := hashes(&whole)
	if got := hashes(&split); len(last) != 1 || len(got) != 2 || got[1] != last[0] || got[0] == got[1] {
		t.Errorf("weights in two calls:\n%q\nin one:\n%q", got, last)
	}
	err := train(t.Context(), smallConfig(2), 3, "", filepath.Join(dir, "split"), &split, &split)
	if !errors.Is(err, errOtherRun) {
		t.Errorf("another seed in the same folder: error %v, want %v", err, errOtherRun)
	}
}

// hashes returns the lines of the output that tell the hash of the weights.
func hashes(out *bytes.Buffer) []string {
	var found []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "blake3 ") {
			found = append(found, line)
		}
	}
	return found
}

// forgetful is a keeper that gives back something else than it was given.
type forgetful struct{ *folder }

func (f forgetful) load(ctx context.Context, epoch int) (checkpoint, error) {
	c, err := f.folder.load(ctx, epoch)
	c.model[len(c.model)-1] ^= 1
	return c, err
}

func TestProveNotices(t *testing.T) {
	dir, err := openFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	run := newTrainer(smallConfig(1), 1)
	var out bytes.Buffer
	if err := prove(t.Context(), run, []keeper{dir}, &out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing kept: error %v, want %v", err, fs.ErrNotExist)
	}
	if err := dir.save(t.Context(), run, kept(t, run), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := prove(t.Context(), run, []keeper{forgetful{dir}}, &out); !errors.Is(err, errDiffers) || run.opt.steps > 0 {
		t.Errorf("one bit changed: error %v, want %v", err, errDiffers)
	}
	run.opt.rate *= 2 // which no checkpoint holds
	if err := prove(t.Context(), run, []keeper{dir}, &out); !errors.Is(err, errDiffers) {
		t.Errorf("the run goes on otherwise than its checkpoint: error %v, want %v", err, errDiffers)
	}
	if out.Len() > 0 {
		t.Errorf("prove failed, yet printed %q", &out)
	}
}

func TestBeginApart(t *testing.T) {
	var keepers []keeper
	for range 2 {
		k, err := openFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		keepers = append(keepers, k)
	}
	run := newTrainer(smallConfig(1), 1)
	epochs(t, run, 1)
	if err := keepers[0].save(t.Context(), run, kept(t, run), 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := begin(t.Context(), smallConfig(1), keepers); !errors.Is(err, errApart) {
		t.Errorf("one epoch and none: error %v, want %v", err, errApart)
	}
	if err := keepers[1].save(t.Context(), run, kept(t, run), 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := begin(t.Context(), smallConfig(1), keepers); err != nil {
		t.Errorf("the same epoch in both: error %v", err)
	}
}

func TestRunUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want int
	}{
		{nil, 2},
		{[]string{"-out", "x", "-epochs", "0"}, 2},
		{[]string{"-out", "x", "more"}, 2},
		{[]string{"-seed", "-1"}, 2},
		{[]string{"-h"}, 0},
	} {
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), test.args, &stdout, &stderr)
		if got != test.want || stdout.Len() > 0 || !strings.Contains(stderr.String(), "-store DIR") {
			t.Errorf("run(%q) = %d, want %d; stdout %q, stderr %q", test.args, got, test.want, &stdout, &stderr)
		}
	}
}

func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	got := run(ctx, []string{"-out", t.TempDir()}, &stdout, &stderr)
	if got != 1 || !strings.Contains(stderr.String(), "epoch 1: context canceled\nhint: ") {
		t.Errorf("run = %d, stderr %q; want 1 and a hint", got, &stderr)
	}
}
