// Command heft-demo trains a small language model and keeps each epoch in a
// heft store.
//
// Usage:
//
//	heft-demo [-store DIR] [-out DIR] [-epochs N] [-seed N]
//
// The text that it learns from it writes itself. The same seed gives the same
// weights, to the last bit, on any machine and any number of processors. A
// second call with more epochs goes on from the last one kept.
//
// It exits with 0 when all is kept and proven to be resumable, 1 when something
// failed, 2 when the arguments make no sense.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// keeper keeps checkpoints: a heft store or a plain folder.
type keeper interface {
	// latest returns the last epoch that is kept, zero when there is none.
	latest(ctx context.Context) (int, error)
	save(ctx context.Context, t *trainer, c checkpoint, loss, accuracy float64) error
	load(ctx context.Context, epoch int) (checkpoint, error)
	Close() error
}

// demoConfig is the run of the command: 1.1 million weights, of which nine in
// ten are in the lookup layer and cost little to train. Measured: 2.5 CPU
// seconds an epoch, portable Go on amd64.
func demoConfig(seed uint64) config {
	return config{
		dims:    dims{context: 24, vocab: len(alphabet), embed: 1024, hidden: 64},
		seed:    seed,
		train:   14_000,
		heldOut: 3_000,
		batch:   128,
		rate:    1e-3,
	}
}

// run is main with its surroundings as arguments. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("heft-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	storeDir := flags.String("store", "", "keep each epoch in the heft store at `DIR`, made if there is none")
	outDir := flags.String("out", "", "keep each epoch as plain files in `DIR`, for comparison")
	epochs := flags.Int("epochs", 6, "train until `N` epochs are kept")
	seed := flags.Uint64("seed", 1, "choose text, first weights and order by `N`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || *epochs < 1 || *storeDir == "" && *outDir == "" {
		fmt.Fprintln(stderr, "heft-demo: need -store DIR or -out DIR, at least one epoch, and no other arguments")
		flags.Usage()
		return 2
	}
	err := train(ctx, demoConfig(*seed), *epochs, *storeDir, *outDir, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "heft-demo:", err)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "hint: finished epochs are kept; the same command goes on from the last")
	case errors.Is(err, errApart):
		fmt.Fprintln(stderr, "hint: give two new directories, or -store or -out alone to go on with one")
	case errors.Is(err, errOtherRun):
		fmt.Fprintln(stderr, "hint: give another directory, or the seed of the run that is kept there")
	}
	return 1
}

// train opens the keepers, trains until that many epochs are kept, and proves
// what was kept.
func train(ctx context.Context, c config, epochs int, storeDir, outDir string, stdout, stderr io.Writer) (err error) {
	var keepers []keeper
	defer func() {
		for _, k := range keepers {
			err = errors.Join(err, k.Close())
		}
	}()
	if storeDir != "" {
		k, err := openStore(ctx, storeDir)
		if err != nil {
			return err
		}
		keepers = append(keepers, k)
	}
	if outDir != "" {
		k, err := openFolder(outDir)
		if err != nil {
			return err
		}
		keepers = append(keepers, k)
	}
	began := time.Now()
	t, err := begin(ctx, c, keepers)
	if err != nil {
		return err
	}
	if err := trainEpochs(ctx, t, epochs, keepers, stdout); err != nil {
		return err
	}
	if err := prove(ctx, t, keepers, stdout); err != nil {
		return err
	}
	const prompt = "the two old foxes "
	fmt.Fprintf(stderr, "after %q the model writes %q; %.1f s in all\n",
		prompt, t.complete(prompt, 40), time.Since(began).Seconds())
	return nil
}

// errApart is for keepers that don't hold the same epochs: to go on, one would
// get a gap, or lose what it has.
var errApart = errors.New("the directories hold different epochs")

// begin returns a run at its start, or at the last epoch that is kept. The
// keepers must agree on which that is, else the error is errApart.
func begin(ctx context.Context, c config, keepers []keeper) (*trainer, error) {
	workers := runtime.GOMAXPROCS(0)
	var kept []int
	for _, k := range keepers {
		epoch, err := k.latest(ctx)
		if err != nil {
			return nil, err
		}
		kept = append(kept, epoch)
	}
	if slices.Min(kept) != slices.Max(kept) {
		return nil, fmt.Errorf("%w: up to %d", errApart, kept)
	}
	if kept[0] == 0 {
		return newTrainer(c, workers), nil
	}
	from, err := keepers[0].load(ctx, kept[0])
	if err != nil {
		return nil, err
	}
	t, err := resume(c, workers, from)
	if err != nil {
		return nil, fmt.Errorf("resume from epoch %d: %w", kept[0], err)
	}
	return t, nil
}

// trainEpochs trains until that many epochs are done, keeps each, and prints a
// line for each and a summary.
func trainEpochs(ctx context.Context, t *trainer, epochs int, keepers []keeper, stdout io.Writer) error {
	first := t.epoch + 1
	if first > 1 {
		fmt.Fprintf(stdout, "going on from epoch %d\n", t.epoch)
	}
	if first > epochs {
		return nil
	}
	fmt.Fprintf(stdout, "%d weights, %d characters to learn from, %d held out\n",
		t.model.size(), len(t.text.train), len(t.text.heldOut))
	fmt.Fprintln(stdout, "epoch    loss  held-out accuracy     bytes")
	var curve []string
	total := 0
	for t.epoch < epochs {
		loss, err := t.runEpoch(ctx)
		if err != nil {
			return fmt.Errorf("epoch %d: %w", t.epoch+1, err)
		}
		accuracy := t.accuracy()
		c, err := t.checkpoint()
		if err != nil {
			return err
		}
		for _, k := range keepers {
			if err := k.save(ctx, t, c, loss, accuracy); err != nil {
				return fmt.Errorf("keep epoch %d: %w", t.epoch, err)
			}
		}
		size := len(c.model) + len(c.optimizer)
		total += size
		curve = append(curve, fmt.Sprintf("%.3f", loss))
		fmt.Fprintf(stdout, "%5d  %6.4f  %16.1f%%  %8d\n", t.epoch, loss, 100*accuracy, size)
	}
	fmt.Fprintf(stdout, "epochs %d to %d: loss %s, %d bytes saved\n",
		first, t.epoch, strings.Join(curve, " > "), total)
	return nil
}

// errDiffers is for a run that, resumed, doesn't have the weights of the one
// that went on: what was kept was not what was given.
var errDiffers = errors.New("the resumed run has other weights")

// proofSteps is how far prove goes on: enough that a lost moment or step count
// would show in most weights, too few to notice the time.
const proofSteps = 4

// prove reads the last checkpoint back from each keeper, compares it with the
// run, and lets both go on for some steps: they must not differ in a single
// bit. It leaves t beyond its last checkpoint.
func prove(ctx context.Context, t *trainer, keepers []keeper, stdout io.Writer) error {
	want, err := t.checkpoint()
	if err != nil {
		return err
	}
	var resumed []*trainer
	for _, k := range keepers {
		got, err := k.load(ctx, t.epoch)
		if err != nil {
			return err
		}
		if !got.equal(want) {
			return fmt.Errorf("%w: epoch %d as read back", errDiffers, t.epoch)
		}
		r, err := resume(t.config, t.model.workers, got)
		if err != nil {
			return err
		}
		resumed = append(resumed, r)
	}
	t.advance(proofSteps)
	beyond, err := t.checkpoint()
	if err != nil {
		return err
	}
	for _, r := range resumed {
		r.advance(proofSteps)
		if got, err := r.checkpoint(); err != nil {
			return err
		} else if !got.equal(beyond) {
			return fmt.Errorf("%w: %d steps after epoch %d", errDiffers, proofSteps, t.epoch)
		}
	}
	fmt.Fprintf(stdout, "epoch %d read back and resumed for %d steps: identical\nblake3 %x %s\n",
		t.epoch, proofSteps, blake3.Sum256(want.model), modelFile)
	return nil
}

// equal says whether the bytes of both files are the same.
func (c checkpoint) equal(other checkpoint) bool {
	return bytes.Equal(c.model, other.model) && bytes.Equal(c.optimizer, other.optimizer)
}
