package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/registry"
)

func TestTrainStore(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "store")
	var plain, first, second bytes.Buffer
	if err := train(t.Context(), smallConfig(1), 3, "", filepath.Join(dir, "plain"), &plain, &plain); err != nil {
		t.Fatal(err)
	}
	if err := train(t.Context(), smallConfig(1), 2, at, "", &first, &first); err != nil {
		t.Fatal(err)
	}
	if err := train(t.Context(), smallConfig(1), 3, at, "", &second, &second); err != nil {
		t.Fatal(err)
	}
	want, got := hashes(&plain), hashes(&second)
	if len(want) != 1 || len(got) != 1 || got[0] != want[0] {
		t.Errorf("weights through the store: %q, without: %q", got, want)
	}

	r, err := registry.Open(t.Context(), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	latest, err := r.Get(t.Context(), modelName)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := r.Get(t.Context(), epochRef(2))
	if err != nil {
		t.Fatal(err)
	}
	if latest.Version != "3" || latest.Parent != parent.ID || latest.Files != 2 {
		t.Errorf("latest is version %s with parent %v and %d files, want 3, %v and 2",
			latest.Version, latest.Parent, latest.Files, parent.ID)
	}
	meta := latest.Metadata
	if meta.ValidationAccuracy == nil || *meta.ValidationAccuracy < 0.4 || meta.TrainingMetrics["loss"] <= 0 {
		t.Errorf("metadata lacks accuracy or loss: %+v", meta)
	}
	if meta.ParameterCount != int64(newTrainer(smallConfig(1), 1).model.size()) {
		t.Errorf("parameter count %d", meta.ParameterCount)
	}
}
