// Package huggingface reads the models in a cache of the Hugging Face Hub.
package huggingface

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
	"github.com/heftstore/heft/migrate/internal/tree"
)

// kind is what Kind returns.
const kind = "huggingface"

// namespace is that of the items' ids, which are UUIDs of version 5 of
// "huggingface", the name of the model and the commit, parted by NUL. It must
// never change: a second import would not know what the first one did. It is
// itself that of the URL https://github.com/heftstore/heft/migrate/huggingface.
const namespace = "c1c1087e-5ac0-53e2-8709-e5a16b3ad645"

// What the folders of repositories begin with; the name follows, with "--" for
// each slash.
const (
	prefixModel   = "models--"
	prefixDataset = "datasets--"
	prefixSpace   = "spaces--"
)

// Options are the settings of Open. There are none so far.
type Options struct{}

// Source yields one item for each snapshot of a model.
type Source struct {
	tree   *tree.Tree
	only   string     // the name of the folder of the only repository, which tree is; "" if tree is a cache
	cache  *tree.Tree // tree, or what is above the only repository; nil if that can't be opened
	closed error      // why cache is nil
}

// Open opens the cache at path: the folder that HF_HUB_CACHE names, with
// folders such as models--org--name, or one that has it as hub (HF_HOME), or
// the folder of one model in it. The caller closes it. Its error wraps
// fs.ErrNotExist when path is none of them.
//
// Each snapshot is a version, labelled with its commit; the references that
// name the commit are its aliases. Its files are links to blobs of the same
// repository, which may be links to the blobs that the cache shares between
// repositories, and no other link is followed. Blobs that are named by their
// SHA-256 or their hash in git are to be checked against it. Datasets and
// spaces are skipped.
func Open(ctx context.Context, path string, _ *Options) (*Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("huggingface: %w", err)
	}
	for _, dir := range []string{path, filepath.Join(path, "hub")} {
		t, err := tree.Open(dir)
		if dir != path && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("huggingface: %w", err)
		}
		if base := filepath.Base(full); dir == path && strings.HasPrefix(base, prefixModel) {
			s := &Source{tree: t, only: base}
			s.cache, s.closed = above(full)
			return s, nil
		}
		entries, err := fs.ReadDir(t.FS(), ".")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("huggingface: listing %s: %w", dir, err), t.Close())
		}
		for _, e := range entries {
			if isRepository(e.Name()) {
				return &Source{tree: t, cache: t}, nil
			}
		}
		if err := t.Close(); err != nil {
			return nil, fmt.Errorf("huggingface: %w", err)
		}
	}
	return nil, fmt.Errorf("huggingface: %s has no folder such as models--org--name: give the folder that HF_HUB_CACHE names, which usually is .cache/huggingface/hub in your home: %w",
		path, fs.ErrNotExist)
}

func isRepository(folder string) bool {
	return strings.HasPrefix(folder, prefixModel) || strings.HasPrefix(folder, prefixDataset) || strings.HasPrefix(folder, prefixSpace)
}

// Kind returns "huggingface".
func (s *Source) Kind() string { return kind }

// Close releases the cache.
func (s *Source) Close() error {
	err := s.tree.Close()
	if s.cache != nil && s.cache != s.tree {
		err = errors.Join(err, s.cache.Close())
	}
	return err
}

// Items yields what is in each repository, by the name of its folder: what is
// wrong with its references, then its snapshots, the oldest first.
func (s *Source) Items(ctx context.Context) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		folders := []string{s.only}
		if s.only == "" {
			entries, err := fs.ReadDir(s.tree.FS(), ".")
			if err != nil {
				yield(nil, fmt.Errorf("huggingface: listing %s: %w", s.tree.Dir(), err))
				return
			}
			folders = nil
			for _, e := range entries {
				if isRepository(e.Name()) {
					folders = append(folders, e.Name())
				}
			}
		}
		for _, f := range folders {
			for item, err := range s.repository(ctx, f) {
				if !yield(item, err) || err != nil {
					return
				}
			}
		}
	}
}

// newItem returns an item about the place from, which parts identify.
func newItem(from string, parts ...string) *migrate.Item {
	return entry.New(kind, namespace, from, parts...)
}
