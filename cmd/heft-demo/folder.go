package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// folder keeps each epoch as plain files, "epoch-1/model.safetensors" and so
// on: what training scripts do without a store. Nothing is synced.
type folder struct {
	root *os.Root
}

// openFolder opens the folder, which it makes if there is none.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

func (f *folder) Close() error { return f.root.Close() }

func epochFolder(epoch int) string { return fmt.Sprintf("epoch-%d", epoch) }

// latest looks for the optimizer file, which save writes last.
func (f *folder) latest(context.Context) (int, error) {
	for epoch := 0; ; epoch++ {
		_, err := f.root.Stat(path.Join(epochFolder(epoch+1), optimizerFile))
		if errors.Is(err, fs.ErrNotExist) {
			return epoch, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func (f *folder) save(_ context.Context, t *trainer, c checkpoint, _, _ float64) error {
	dir := epochFolder(t.epoch)
	if err := f.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := f.root.WriteFile(path.Join(dir, modelFile), c.model, 0o644); err != nil {
		return err
	}
	return f.root.WriteFile(path.Join(dir, optimizerFile), c.optimizer, 0o644)
}

func (f *folder) load(_ context.Context, epoch int) (checkpoint, error) {
	dir := epochFolder(epoch)
	model, errModel := f.root.ReadFile(path.Join(dir, modelFile))
	optimizer, errOptimizer := f.root.ReadFile(path.Join(dir, optimizerFile))
	return checkpoint{model, optimizer}, errors.Join(errModel, errOptimizer)
}
