package main

import (
	"context"
	"fmt"
	"io"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// putFlags are the flags of put.
type putFlags struct {
	as          string
	parent      string
	tags        []string
	meta        []string
	status      string
	description string
	compression string
	digest      string
	parity      string
	json        bool
}

func newPutCmd(a *app) *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use:   "put NAME[:VERSION] PATH... | -",
		Short: "Store files as a new version",
		Long: `Store files as a new version of a model. Without VERSION it gets the next
number. A file is stored under its base name, a folder as what is below it;
"-" reads standard input into weights.bin.

--meta takes architecture, parameter_count, config_hash, dataset_id,
training_examples, validation_accuracy (val_acc), test_accuracy (test_acc),
input_dimensions and output_dimensions (as 1,224,224), metric.NAME for
a metric of training, and any other key: its value is kept as JSON if it is
that, else as text.

What the store has already is shared. A tensor, or a file of floats, that is a
later state of one of --parent, or else of the latest version of the model, or
that is like another one in the store, is stored as what changed. The line at
the end tells the size, the new bytes on disk, how much of the content is shared
and how much stored as deltas, and the ratio of the size to the new bytes.

All or nothing: after an error or an interrupt there is no new version. Files
that were stored whole until then are not written again by the next try.`,
		Example: `  heft put bert:1.0.0 model.safetensors tokenizer.json
  heft put bert:1.1.0 ./checkpoint --parent bert:1.0.0 --tag nlp --meta val_acc=0.91
  zstdcat weights.zst | heft put bert - --as model.gguf`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeName(cmd, args, word)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return resumable(a.put(cmd.Context(), args[0], args[1:], f), putAgain)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.as, "as", "", "store the one file, or standard input, under this `PATH`")
	flags.StringVar(&f.parent, "parent", "", "the version that this one was made from: a `REF`")
	flags.StringArrayVar(&f.tags, "tag", nil, "add a `TAG` (repeatable)")
	flags.StringArrayVar(&f.meta, "meta", nil, "add metadata as `KEY=VALUE` (repeatable)")
	flags.StringVar(&f.status, "status", "", "start with this `STATUS` (default pending)")
	flags.StringVar(&f.description, "description", "", "what there is to say about it, as `TEXT`")
	flags.StringVar(&f.compression, "compression", blob.Auto.String(), "auto, none or zstd: `HOW` to make it smaller")
	flags.StringVar(&f.parity, "parity", "", "make parity that repairs damage of up to this `SHARE`, as 5%")
	flags.StringVar(&f.digest, "digest", "", "sha256: compute and keep this `DIGEST` of each file too")
	flags.BoolVar(&f.json, "json", false, "print the version as JSON")
	return cmd
}

// put stores the inputs at paths as the version that target names.
func (a *app) put(ctx context.Context, target string, paths []string, f putFlags) error {
	var err error
	if a.compression, err = blob.ParseCompression(f.compression); err != nil {
		return withHint(usageError("%s", plain(err)), "--compression auto is the default")
	}
	if a.sha256 = f.digest == "sha256"; f.digest != "" && !a.sha256 {
		return withHint(usageError("unknown digest %q", f.digest), "--digest sha256 is the only one besides BLAKE3, which every file has")
	}
	if a.parity, err = parsePercent("--parity", f.parity); err != nil {
		return err
	}
	model, err := newModel(target, f)
	if err != nil {
		return err
	}
	inputs, total, err := a.openInputs(ctx, paths, f.as)
	if err != nil {
		return err
	}
	defer inputs.close()

	r, err := a.openOrCreate(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if f.parent != "" {
		parent, err := r.Get(ctx, f.parent)
		if err != nil {
			return a.suggest(ctx, r, f.parent, err)
		}
		model.Parent = parent.ID
	}
	d, err := r.Begin(ctx, model)
	if err != nil {
		return err
	}
	defer d.Close()
	p := a.progress("storing", total)
	defer p.end()
	for _, in := range inputs {
		if err := in.put(ctx, d, p); err != nil {
			return err
		}
	}
	m, err := d.Commit(ctx)
	if err != nil {
		return err
	}
	p.end()
	return a.printPut(m, d.Files(), f)
}

// putAgain says what an interrupted put leaves behind.
const putAgain = "no version was made; run the command again: files that were stored whole are not written twice"

// printPut tells what was stored.
func (a *app) printPut(m *registry.Model, files []registry.Stored, f putFlags) error {
	var written, shared int64
	var parts blob.Parts // of what was written
	known := 0
	for _, s := range files {
		written += s.Written
		if s.Known {
			known++
			shared += s.Size
			continue
		}
		shared += s.Parts.Borrowed.Size
		parts.Add(s.Parts)
	}
	if f.json {
		return a.printJSON(struct {
			modelJSON
			BytesWritten int64      `json:"bytes_written"` // of blob files, the manifest's aside
			BytesShared  int64      `json:"bytes_shared"`  // plain ones that the store had already
			FilesKnown   int        `json:"files_known"`   // that needed no writing
			Parts        blob.Parts `json:"parts"`         // how the others are stored
		}{toJSON(m), written, shared, known, parts})
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %s in %s, %s new (%s shared, %s as deltas of %s), ratio %s, b3:%s\n", m.Ref(),
		formatSize(m.WeightsSize), plural(m.Files, "file"), formatSize(written), formatSize(shared),
		formatSize(parts.Delta.Size), formatSize(parts.Delta.Stored), formatRatio(m.WeightsSize, written), m.Manifest.Short())
	return err
}

// interruptible returns r as a reader that ends with ctx: a read from
// a terminal or a pipe can't be told to stop otherwise.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	go func() {
		// Without the struct, WriteTo of a file would choose a smaller buffer.
		_, err := io.CopyBuffer(pw, struct{ io.Reader }{r}, make([]byte, pipeBuffer))
		pw.CloseWithError(err)
	}()
	return pr
}

// pipeBuffer is a frame of a blob, so that standard input is handed on at the
// pace at which it is stored.
const pipeBuffer = 1 << 20
