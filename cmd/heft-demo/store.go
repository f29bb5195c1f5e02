package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/heftstore/heft/registry"
)

// modelName is the model in the store; its versions are the epochs.
const modelName = "demo/charlm"

// store keeps each epoch as a version of one model in a heft store.
type store struct {
	registry *registry.Registry
}

// openStore opens the store in the folder, which it makes if there is none.
func openStore(ctx context.Context, dir string) (*store, error) {
	r, err := registry.Open(ctx, dir, nil)
	// Create refuses a folder that holds anything, such as half a store.
	if errors.Is(err, fs.ErrNotExist) {
		r, err = registry.Create(ctx, dir, nil)
	}
	if err != nil {
		return nil, err
	}
	return &store{r}, nil
}

func (s *store) Close() error { return s.registry.Close() }

func (s *store) latest(ctx context.Context) (int, error) {
	m, err := s.registry.Get(ctx, modelName)
	if errors.Is(err, registry.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	epoch, err := strconv.Atoi(m.Version)
	if err != nil {
		return 0, fmt.Errorf("%w: version %q of %s is no epoch", errOtherRun, m.Version, modelName)
	}
	return epoch, nil
}

func (s *store) save(ctx context.Context, t *trainer, c checkpoint, loss, accuracy float64) error {
	return saveCheckpoint(ctx, s.registry, t, c, loss, accuracy)
}

func (s *store) load(ctx context.Context, epoch int) (checkpoint, error) {
	m, err := s.registry.Get(ctx, epochRef(epoch))
	if err != nil {
		return checkpoint{}, err
	}
	model, errModel := readFile(ctx, m, modelFile)
	optimizer, errOptimizer := readFile(ctx, m, optimizerFile)
	return checkpoint{model, optimizer}, errors.Join(errModel, errOptimizer)
}

// epochRef returns the reference of an epoch's version.
func epochRef(epoch int) string { return modelName + ":" + strconv.Itoa(epoch) }

// saveCheckpoint registers a checkpoint of the run as the version of its epoch,
// a child of the epoch before. When it returns nil, the version is durable;
// when it fails, there is no such version.
func saveCheckpoint(ctx context.Context, r *registry.Registry, t *trainer, c checkpoint, loss, accuracy float64) error {
	version := registry.Model{
		Name:    modelName,
		Version: strconv.Itoa(t.epoch),
		Metadata: registry.Metadata{
			Architecture:       fmt.Sprintf("mlp %d-%d-%d", t.config.embed, t.config.hidden, t.config.vocab),
			InputDimensions:    []int64{int64(t.config.context)},
			OutputDimensions:   []int64{int64(t.config.vocab)},
			ParameterCount:     int64(t.model.size()),
			TrainingExamples:   int64(len(t.text.train) - t.config.context),
			TrainingMetrics:    map[string]float64{"loss": loss},
			ValidationAccuracy: new(accuracy),
			Tags:               []string{"demo"},
		},
	}
	if t.epoch > 1 {
		parent, err := r.Get(ctx, epochRef(t.epoch-1))
		if err != nil {
			return fmt.Errorf("parent: %w", err)
		}
		version.Parent = parent.ID
	}
	d, err := r.Begin(ctx, version)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Put(ctx, modelFile, bytes.NewReader(c.model)); err != nil {
		return err
	}
	if _, err := d.Put(ctx, optimizerFile, bytes.NewReader(c.optimizer)); err != nil {
		return err
	}
	_, err = d.Commit(ctx)
	return err
}

// readFile returns the content of a file of a version.
func readFile(ctx context.Context, m *registry.Model, path string) ([]byte, error) {
	r, err := m.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}
