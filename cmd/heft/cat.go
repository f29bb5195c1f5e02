package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newCatCmd(a *app) *cobra.Command {
	var offset, length int64
	cmd := &cobra.Command{
		Use:   "cat REF [FILE]",
		Short: "Write a file of a version to standard output",
		Long: `Write a file of a version to standard output: its only file, or the one that
FILE or NAME/VERSION/PATH names. Every byte is checked before it is written;
what was written before damage was met is right, but not all.`,
		Example: `  heft cat bert:stable weights.bin > weights.bin
  heft cat bert/1.0.0/config.json | jq .
  heft cat bert:1.0.0 model.safetensors --length 8 | od -t u8`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			if offset < 0 || length < 0 {
				return usageError("--offset and --length count bytes from 0 up")
			}
			if !cmd.Flags().Changed("length") {
				length = -1
			}
			return a.cat(cmd.Context(), args, offset, length)
		},
	}
	cmd.Flags().Int64Var(&offset, "offset", 0, "begin at this `BYTE`")
	cmd.Flags().Int64Var(&length, "length", 0, "write that many `BYTES` (default all)")
	return cmd
}

// cat writes length bytes from offset on of the file that args names; -1 is
// all that follow.
func (a *app) cat(ctx context.Context, args []string, offset, length int64) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	m, file, err := r.Locate(ctx, args[0])
	if err != nil {
		return a.suggest(ctx, r, args[0], err)
	}
	if len(args) == 2 {
		if file != "" {
			return usageError("%s names a file already; leave %s out", args[0], args[1])
		}
		file = args[1]
	}
	if file == "" {
		if file, err = onlyFile(ctx, m); err != nil {
			return err
		}
	}
	f, err := m.Open(ctx, file)
	if errors.Is(err, registry.ErrNotFound) {
		return withHint(err, "'heft show %s' lists its files", m.Ref())
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if offset > f.Size() {
		return usageError("--offset %d is beyond the end of %s, which has %d bytes", offset, file, f.Size())
	}
	whole := offset == 0 && (length < 0 || length >= f.Size())
	if length < 0 || length > f.Size()-offset {
		length = f.Size() - offset
	}
	p := a.progress("reading", length)
	defer p.end()
	w := &countedWriter{ctx, a.stdout, p}
	if whole {
		_, err = f.WriteTo(w) // checks the hash of the whole file too
	} else {
		_, err = io.CopyBuffer(w, io.NewSectionReader(f, offset, length), make([]byte, min(length+1, pipeBuffer)))
	}
	if corrupt(err) {
		return withHint(err, "what was written is right, but not all; put the same file again to heal it")
	}
	return resumable(err, "the output is not complete")
}

// onlyFile returns the path of the file of a version that has one.
func onlyFile(ctx context.Context, m *registry.Model) (string, error) {
	var paths []string
	for f, err := range m.List(ctx) {
		if err != nil {
			return "", err
		}
		paths = append(paths, f.Path)
	}
	if len(paths) == 1 {
		return paths[0], nil
	}
	if len(paths) == 0 {
		return "", exitWith(exitNotFound, "%s has no files", m.Ref())
	}
	return "", withHint(usageError("%s has %d files; say which:\n%s", m.Ref(), len(paths), strings.Join(paths, "\n")),
		"heft cat %s %s", m.Ref(), paths[0])
}

// countedWriter counts what is written, and stops when ctx does. It hides what
// else w can do, so that a copy keeps to its own buffer.
type countedWriter struct {
	ctx context.Context
	w   io.Writer
	p   *progress
}

func (w *countedWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(b)
	w.p.add(int64(n))
	return n, err
}
