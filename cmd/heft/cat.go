package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// catFlags are the flags of cat.
type catFlags struct {
	offset, length int64 // -1 is all that follow
	tensor         string
	named          bool // there is a tensor, whose name may be ""
}

func newCatCmd(a *app) *cobra.Command {
	var f catFlags
	cmd := &cobra.Command{
		Use:   "cat REF [FILE]",
		Short: "Write a file of a version, or a tensor, to standard output",
		Long: `Write a file of a version to standard output: its only file, or the one that
FILE or NAME/VERSION/PATH names. With --tensor, write the bytes of that tensor
only; FILE is needed if several files have one of that name. Every byte is
checked before it is written; what was written before damage was met is right,
but not all.`,
		Example: `  heft cat bert:stable weights.bin > weights.bin
  heft cat bert/1.0.0/config.json | jq .
  heft cat bert:1.0.0 model.safetensors --length 8 | od -t u8
  heft cat bert:1.0.0 --tensor pooler.dense.bias | od -t f4`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRefFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.offset < 0 || f.length < 0 {
				return usageError("--offset and --length count bytes from 0 up")
			}
			if !cmd.Flags().Changed("length") {
				f.length = -1
			}
			f.named = cmd.Flags().Changed("tensor")
			return a.cat(cmd.Context(), args, f)
		},
	}
	cmd.Flags().Int64Var(&f.offset, "offset", 0, "begin at this `BYTE`")
	cmd.Flags().Int64Var(&f.length, "length", 0, "write that many `BYTES` (default all)")
	cmd.Flags().StringVar(&f.tensor, "tensor", "", "write only the tensor of that `NAME`; --offset counts from its first byte")
	if err := cmd.RegisterFlagCompletionFunc("tensor", a.completeTensor); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// content is a file or a tensor.
type content interface {
	io.ReadCloser
	io.ReaderAt
	Size() int64
}

// cat writes the file, or the tensor, that args and f name.
func (a *app) cat(ctx context.Context, args []string, f catFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	m, file, err := a.locate(ctx, r, args)
	if err != nil {
		return err
	}
	var c content
	what := file
	if f.named {
		what = f.tensor
		c, err = openTensor(ctx, m, file, f.tensor)
	} else {
		if file == "" {
			if file, err = onlyFile(ctx, m); err != nil {
				return err
			}
			what = file
		}
		if c, err = m.Open(ctx, file); err != nil {
			err = noFile(err, m)
		}
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return a.write(ctx, c, what, f)
}

// write writes the part of a file or tensor that f asks for.
func (a *app) write(ctx context.Context, c content, what string, f catFlags) error {
	if f.offset > c.Size() {
		return usageError("--offset %d is beyond the end of %s, which has %d bytes", f.offset, what, c.Size())
	}
	length := f.length
	if length < 0 || length > c.Size()-f.offset {
		length = c.Size() - f.offset
	}
	p := a.progress("reading", length)
	defer p.end()
	w := &countedWriter{ctx, a.stdout, p}
	var err error
	if all, ok := c.(io.WriterTo); ok && length == c.Size() {
		_, err = all.WriteTo(w) // checks the hash of the whole file too
	} else {
		_, err = io.CopyBuffer(w, io.NewSectionReader(c, f.offset, length), make([]byte, min(length+1, pipeBuffer)))
	}
	if corrupt(err) {
		return withHint(err, "what was written is right, but not all; put the same file again to heal it")
	}
	return resumable(err, "the output is not complete")
}

// openTensor opens a tensor of a file, or for "" of any.
func openTensor(ctx context.Context, m *registry.Model, file, name string) (content, error) {
	t, err := m.OpenTensor(ctx, file, name)
	if none, ok := errors.AsType[*registry.NoTensorError](err); ok && none.Tensors > 0 {
		return nil, withHint(err, "'heft tensors %s --no-hash' lists them", m.Ref())
	}
	if many, ok := errors.AsType[*registry.ManyTensorsError](err); ok {
		return nil, withHint(err, "heft cat %s %s --tensor %s", m.Ref(), many.Paths[0], name)
	}
	if err != nil {
		return nil, noFile(err, m)
	}
	return t, nil
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
