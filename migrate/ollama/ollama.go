// Package ollama reads the models that Ollama has pulled or made, from the
// folder in which it keeps them.
package ollama

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
	"github.com/heftstore/heft/migrate/internal/tree"
)

// kind is what Kind returns.
const kind = "ollama"

// namespace is that of the items' ids, which are UUIDs of version 5 of
// "ollama", the host, the namespace, the model and the SHA-256 of the manifest
// in hexadecimal digits, parted by NUL. It must never change: a second import
// would not know what the first one did. It is itself that of the URL
// https://github.com/heftstore/heft/migrate/ollama.
const namespace = "ac959d17-4184-517e-a71a-86338e0c174c"

// The folders of a store. Newer releases of Ollama write manifestsV2, where a
// manifest is a link to a blob, and still read manifestsV1.
const (
	manifestsV1 = "manifests"
	manifestsV2 = "manifests-v2"
	blobs       = "blobs"
)

// Options are the settings of Open. There are none so far.
type Options struct{}

// Source yields one item for each manifest of a model.
type Source struct {
	tree  *tree.Tree
	roots []string // manifestsV2, manifestsV1: those that are there
}

// Open opens the folder at path: the one that OLLAMA_MODELS names, with the
// folders manifests and blobs, or one that has it as models, such as ~/.ollama.
// The caller closes it. Its error wraps fs.ErrNotExist when path is neither.
//
// Each distinct manifest of a model is a version, labelled with the 12
// hexadecimal digits that "ollama list" shows as its ID; the tags with that
// manifest are its aliases. Its files are the manifest itself, manifest.json,
// its configuration, config.json, and its layers, called after their media
// types or the names that the manifest gives them. Models of Ollama's own
// registry are called model or namespace/model, others host/namespace/model.
func Open(ctx context.Context, path string, _ *Options) (*Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, dir := range []string{path, filepath.Join(path, "models")} {
		t, err := tree.Open(dir)
		if dir != path && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("ollama: %w", err)
		}
		s := &Source{tree: t}
		for _, root := range []string{manifestsV2, manifestsV1} {
			if info, err := t.Stat(root); err == nil && info.IsDir() {
				s.roots = append(s.roots, root)
			}
		}
		if len(s.roots) > 0 {
			return s, nil
		}
		if err := t.Close(); err != nil {
			return nil, fmt.Errorf("ollama: %w", err)
		}
	}
	return nil, fmt.Errorf("ollama: %s has no folder %s: give the folder that OLLAMA_MODELS names, which usually is .ollama/models in your home: %w",
		path, manifestsV1, fs.ErrNotExist)
}

// Kind returns "ollama".
func (s *Source) Kind() string { return kind }

// Close releases the folder.
func (s *Source) Close() error { return s.tree.Close() }

// Items yields what can't be a manifest, then the versions by name and time,
// and last an item, skipped, that counts the blobs that no manifest names.
func (s *Source) Items(ctx context.Context) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		l := &listing{source: s, models: map[model][]tag{}, tags: map[string]string{}, used: map[string]bool{}}
		for _, root := range s.roots {
			if err := l.collect(ctx, root, nil); err != nil {
				yield(nil, err)
				return
			}
		}
		for _, item := range l.odd {
			if !yield(item, nil) {
				return
			}
		}
		for _, m := range l.sorted() {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			for _, item := range l.versions(m) {
				if !yield(item, nil) {
					return
				}
			}
		}
		if item := l.unused(); item != nil {
			yield(item, nil)
		}
	}
}

// newItem returns an item about the place from, which parts identify.
func newItem(from string, parts ...string) *migrate.Item {
	return entry.New(kind, namespace, from, parts...)
}
