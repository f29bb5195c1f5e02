package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

// config is all that decides which weights come out, apart from the number of
// epochs. The number of goroutines is not part of it.
type config struct {
	dims
	seed           uint64
	train, heldOut int // characters of text
	batch          int // examples a step
	rate           float64
}

// errOtherRun is for a checkpoint of another network or seed: to go on from it
// would give weights that no run has.
var errOtherRun = errors.New("checkpoint of another run")

// trainer is a run of training: the network, the optimiser and how far it is.
// Not safe for concurrent use.
type trainer struct {
	config config
	text   corpus
	model  *Model
	opt    *adam
	epoch  int // epochs done
}

// newTrainer returns a run that has yet to do its first epoch, computing on
// that many goroutines.
func newTrainer(c config, workers int) *trainer {
	model := newNetwork[float32](c.dims, c.seed, workers)
	return &trainer{
		config: c,
		text:   newCorpus(c.seed, c.train, c.heldOut),
		model:  model,
		opt:    newAdam(model, c.rate),
	}
}

// runEpoch shows the network each character of the training text once and
// returns the mean loss in nats a character, to six digits. When ctx ends it
// returns its error, and the run is of no more use: go on from a checkpoint.
func (t *trainer) runEpoch(ctx context.Context) (float64, error) {
	rng := rand.New(rand.NewPCG(t.config.seed, streamOrder+uint64(t.epoch)))
	places := rng.Perm(len(t.text.train) - t.config.context)
	for i := range places {
		places[i] += t.config.context
	}
	var sum float64
	for some := range slices.Chunk(places, t.config.batch) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		sum += t.model.backward(gather(t.text.train, t.config.context, some))
		t.opt.step()
	}
	t.epoch++
	// The loss passes through math.Log, whose last bit depends on the machine.
	return math.Round(sum/float64(len(places))*1e6) / 1e6, nil
}

// advance takes some steps on the start of the training text, in its order,
// without counting as an epoch.
func (t *trainer) advance(steps int) {
	for i := range steps {
		places := make([]int, t.config.batch)
		for j := range places {
			places[j] = t.config.context + i*t.config.batch + j
		}
		t.model.backward(gather(t.text.train, t.config.context, places))
		t.opt.step()
	}
}

// accuracy returns which share of the characters of the held-out text the
// network predicts from those before them.
func (t *trainer) accuracy() float64 {
	text, width := t.text.heldOut, t.config.context
	right, total := 0, 0
	for at := width; at < len(text); at += t.config.batch {
		var places []int
		for p := at; p < min(at+t.config.batch, len(text)); p++ {
			places = append(places, p)
		}
		b := gather(text, width, places)
		for i, c := range t.model.predict(b.contexts) {
			if c == b.targets[i] {
				right++
			}
		}
		total += len(places)
	}
	return float64(right) / float64(total)
}

// complete returns how the network goes on after the prompt, to the end of the
// line or for limit characters.
func (t *trainer) complete(prompt string, limit int) string {
	text := encode(prompt)
	// What comes before a line is the end of another.
	for len(text) < t.config.context {
		text = append(encode("\n"), text...)
	}
	start := len(text)
	for len(text) < start+limit {
		next := t.model.predict(text[len(text)-t.config.context:])[0]
		if alphabet[next] == '\n' {
			break
		}
		text = append(text, next)
	}
	return decode(text[start:])
}

// modelFile and optimizerFile are the files of a checkpoint.
const (
	modelFile     = "model.safetensors"
	optimizerFile = "optimizer.safetensors"
)

// checkpoint is the state of a run between two epochs, as the bytes of the two
// files. Equal states have equal bytes.
type checkpoint struct {
	model, optimizer []byte
}

// checkpoint returns the state of the run.
func (t *trainer) checkpoint() (checkpoint, error) {
	var weights, state []tensor
	for i, p := range t.model.params() {
		weights = append(weights, tensor{p.name, p.shape, p.value})
		state = append(state,
			tensor{"mean." + p.name, p.shape, t.opt.mean[i]},
			tensor{"square." + p.name, p.shape, t.opt.square[i]})
	}
	// Not the epoch here: a model file changes only if a weight does.
	model, errModel := encodeTensors(weights, map[string]string{"format": "pt"})
	optimizer, errOptimizer := encodeTensors(state, t.progress())
	return checkpoint{model, optimizer}, errors.Join(errModel, errOptimizer)
}

// progress is what an optimizer file says about the run besides the tensors.
func (t *trainer) progress() map[string]string {
	c := t.config
	return map[string]string{
		"format": "pt",
		"epoch":  strconv.Itoa(t.epoch),
		"step":   strconv.Itoa(t.opt.steps),
		"run": fmt.Sprintf("seed %d, text %d+%d, batch %d, rate %g",
			c.seed, c.train, c.heldOut, c.batch, c.rate),
	}
}

// resume returns a run that goes on where the checkpoint was taken, bit for bit
// as the run that took it. If that had another config the error is errOtherRun.
func resume(c config, workers int, from checkpoint) (*trainer, error) {
	t := newTrainer(c, workers)
	model, _, err := decodeTensors(from.model)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", modelFile, err)
	}
	state, progress, err := decodeTensors(from.optimizer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", optimizerFile, err)
	}
	var errs []error
	for i, p := range t.model.params() {
		errs = append(errs,
			restore(p.value, model, p.name, p.shape),
			restore(t.opt.mean[i], state, "mean."+p.name, p.shape),
			restore(t.opt.square[i], state, "square."+p.name, p.shape))
	}
	var errEpoch, errStep error
	t.epoch, errEpoch = strconv.Atoi(progress["epoch"])
	t.opt.steps, errStep = strconv.Atoi(progress["step"])
	if err := errors.Join(append(errs, errEpoch, errStep)...); err != nil {
		return nil, err
	}
	if want := t.progress(); !maps.Equal(progress, want) {
		return nil, fmt.Errorf("%w: it has %q, this one %q", errOtherRun, progress["run"], want["run"])
	}
	return t, nil
}

// restore copies the data of the named tensor to dst.
func restore(dst []float32, tensors []tensor, name string, shape []int) error {
	at := slices.IndexFunc(tensors, func(t tensor) bool { return t.name == name })
	if at < 0 {
		return fmt.Errorf("%w: no tensor %s", errOtherRun, name)
	}
	if !slices.Equal(tensors[at].shape, shape) {
		return fmt.Errorf("%w: tensor %s has shape %v, want %v", errOtherRun, name, tensors[at].shape, shape)
	}
	copy(dst, tensors[at].data)
	return nil
}
