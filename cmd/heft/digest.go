package main

import (
	"context"
	"io"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// digestFlags are the flags of digest.
type digestFlags struct{ blake3, json bool }

func newDigestCmd(a *app) *cobra.Command {
	var f digestFlags
	cmd := &cobra.Command{
		Use:   "digest REF [FILE]",
		Short: "Print the SHA-256 of files, for sha256sum -c",
		Long: `Print the SHA-256 of every file of a version, or of the one that FILE or
NAME/VERSION/PATH names, in lines that 'sha256sum -c' accepts in the folder into
which 'heft get' wrote the version.

A SHA-256 is computed once, when it is asked for: the file is read, and every
byte of it checked, and the result is kept in the store. With --blake3 the lines
are those of b3sum, and nothing is read.`,
		Example: `  heft digest bert:stable > SHA256SUMS
  heft get bert:stable bert && cd bert && sha256sum -c ../SHA256SUMS
  heft digest bert:stable model.safetensors --blake3`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRefFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			digests, err := a.digest(cmd.Context(), args, f.blake3)
			if err != nil {
				return resumable(err, "run the command again: what was computed before is kept")
			}
			return a.printDigests(digests, f)
		},
	}
	cmd.Flags().BoolVar(&f.blake3, "blake3", false, "print the BLAKE3 of each file instead, as b3sum does")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array")
	return cmd
}

// fileDigests is a file of a version in the output of digest.
type fileDigests struct {
	Path   string          `json:"path"`
	Size   int64           `json:"size"`
	BLAKE3 blob.Digest     `json:"blake3"`
	SHA256 registry.SHA256 `json:"sha256,omitzero"` // not with --blake3
}

// digest returns the digests of what args name: a version, or a file of one.
func (a *app) digest(ctx context.Context, args []string, blake3 bool) ([]fileDigests, error) {
	r, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m, file, err := a.locate(ctx, r, args)
	if err != nil {
		return nil, err
	}
	var o registry.SHA256Options
	if file != "" {
		o.Only = []string{file}
	}
	toRead, err := m.SHA256Size(ctx, &o)
	if err != nil {
		return nil, noFile(err, m)
	}
	if blake3 {
		return blake3Of(ctx, m, file)
	}
	p := a.progress("reading", toRead)
	defer p.end()
	o.Progress = p.add
	var all []fileDigests
	for f, err := range m.SHA256s(ctx, &o) {
		if err != nil {
			return nil, err
		}
		all = append(all, fileDigests{f.Path, f.Size, f.Digest, f.SHA256})
	}
	return all, nil
}

// blake3Of returns the BLAKE3 of a file of m, or of all for "", from the index.
func blake3Of(ctx context.Context, m *registry.Model, file string) (all []fileDigests, err error) {
	for f, err := range m.List(ctx) {
		if err != nil {
			return nil, err
		}
		if file == "" || f.Path == file {
			all = append(all, fileDigests{Path: f.Path, Size: f.Size, BLAKE3: f.Digest})
		}
	}
	return all, nil
}

func (a *app) printDigests(all []fileDigests, f digestFlags) error {
	if f.json {
		return a.printJSON(list(all))
	}
	if len(all) == 0 {
		a.note("the version has no files")
	}
	var b strings.Builder
	for _, d := range all {
		sum := d.SHA256.String()
		if f.blake3 {
			sum = d.BLAKE3.String()
		}
		b.WriteString(checksumLine(sum, d.Path))
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// checksumLine returns a line of sha256sum and b3sum: one that begins with
// a backslash has a path with escapes (GNU coreutils, "md5sum invocation").
func checksumLine(sum, path string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(path)
	if escaped != path {
		sum = `\` + sum
	}
	return sum + "  " + escaped + "\n"
}
