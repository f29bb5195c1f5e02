package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newTensorsCmd(a *app) *cobra.Command {
	var noHash, asJSON bool
	cmd := &cobra.Command{
		Use:   "tensors REF [FILE]",
		Short: "List the tensors of a version",
		Long: `List the tensors of a version's files, or of the one that FILE or
NAME/VERSION/PATH names: safetensors, GGUF, npy, npz and .pth.

STORED is what a tensor takes in its file's own blob: what it shares with other
blobs counts there. BLAKE3 is the beginning of what b3sum prints of its bytes;
most have to be read for it.`,
		Example: `  heft tensors bert:stable
  heft tensors bert:1.0.0 model-00001-of-00002.safetensors --no-hash
  heft tensors bert:1.0.0 --json | jq -r '.[] | select(.dtype == "F32") | .name'`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRefFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tensors(cmd.Context(), args, noHash, asJSON)
		},
	}
	cmd.Flags().BoolVar(&noHash, "no-hash", false, "leave out the hashes for which a tensor has to be read")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// tensors lists the tensors of what args name.
func (a *app) tensors(ctx context.Context, args []string, noHash, asJSON bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	m, file, err := a.locate(ctx, r, args)
	if err != nil {
		return err
	}
	var paths []string
	if file != "" {
		paths = []string{file}
	}
	all, err := collect(m.Tensors(ctx, paths...))
	if err != nil {
		return noFile(err, m)
	}
	if len(all) == 0 {
		what := m.Ref()
		if file != "" {
			what = file + " of " + what
		}
		a.note("%s has no tensors: neither safetensors nor GGUF, npy, npz or .pth was recognised", what)
	}
	if !noHash {
		if all, err = a.hashed(ctx, m, all); err != nil {
			return resumable(err, "--no-hash lists them without reading them")
		}
	}
	if asJSON {
		shown := make([]tensorJSON, len(all))
		for i, t := range all {
			shown[i] = toTensorJSON(&t)
		}
		return a.printJSON(shown)
	}
	return a.printTensors(all)
}

// hashed returns the tensors with their digests.
func (a *app) hashed(ctx context.Context, m *registry.Model, tensors []registry.Tensor) ([]registry.Tensor, error) {
	var total int64
	for _, t := range tensors {
		if t.Digest.IsZero() {
			total += t.Size
		}
	}
	p := a.progress("hashing", total)
	defer p.end()
	all := make([]registry.Tensor, 0, len(tensors))
	for t, err := range m.HashTensors(ctx, tensors) {
		if err != nil {
			return nil, err
		}
		if tensors[len(all)].Digest.IsZero() {
			p.add(t.Size)
		}
		all = append(all, t)
	}
	return all, nil
}

// locate finds the version, and the file of it unless that is "", which the
// arguments REF [FILE] name.
func (a *app) locate(ctx context.Context, r *registry.Registry, args []string) (*registry.Model, string, error) {
	m, file, err := r.Locate(ctx, args[0])
	if err != nil {
		return nil, "", a.suggest(ctx, r, args[0], err)
	}
	if len(args) == 2 {
		if file != "" {
			return nil, "", usageError("%s names a file already; leave %s out", args[0], args[1])
		}
		file = args[1]
	}
	return m, file, nil
}

// noFile gives an error of opening a file of m a next step if there is no such
// file.
func noFile(err error, m *registry.Model) error {
	if errors.Is(err, registry.ErrNotFound) {
		return withHint(err, "'heft show %s' lists its files", m.Ref())
	}
	return err
}

// tensorJSON is a tensor in the output with --json.
type tensorJSON struct {
	Path   string      `json:"path"`
	Name   string      `json:"name"`
	DType  string      `json:"dtype"`
	Shape  []uint64    `json:"shape,omitzero"`
	Offset int64       `json:"offset"`
	Size   int64       `json:"size"`
	Stored int64       `json:"stored"`
	Digest blob.Digest `json:"digest,omitzero"`
}

func toTensorJSON(t *registry.Tensor) tensorJSON {
	return tensorJSON{t.Path, t.Name, t.DType, t.Shape, t.Offset, t.Size, t.Stored, t.Digest}
}

func (a *app) printTensors(all []registry.Tensor) error {
	files := slices.ContainsFunc(all, func(t registry.Tensor) bool { return t.Path != all[0].Path })
	header := []string{"NAME", "DTYPE", "SHAPE", "SIZE", "STORED", "BLAKE3"}
	if files {
		header = append([]string{"FILE"}, header...)
	}
	tab := a.table(header...)
	for _, t := range all {
		digest := "-"
		if !t.Digest.IsZero() {
			digest = t.Digest.Short()
		}
		cells := []string{orDash(t.Name), orDash(t.DType), formatShape(t.Shape), formatSize(t.Size), formatSize(t.Stored), digest}
		if files {
			cells = append([]string{t.Path}, cells...)
		}
		tab.row(cells...)
	}
	return tab.flush()
}

// formatShape returns a shape as "[3,224,224]", one word.
func formatShape(shape []uint64) string {
	if shape == nil {
		return "-"
	}
	texts := make([]string, len(shape))
	for i, n := range shape {
		texts[i] = strconv.FormatUint(n, 10)
	}
	return "[" + strings.Join(texts, ",") + "]"
}
