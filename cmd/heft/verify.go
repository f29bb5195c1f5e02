package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newVerifyCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [REF...]",
		Short: "Read everything and check it against its hashes",
		Long: `Read every byte of the store, or of the versions that are named, and check it
against its hashes. Each damaged blob is printed with the files that use it;
the exit code is then 4. To heal one, put the same content again.`,
		Example: `  heft verify
  heft verify bert:stable --json`,
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.verify(cmd.Context(), args)
			if err != nil {
				return resumable(err, "nothing was changed; a check of named versions takes less time")
			}
			if asJSON {
				err = a.printJSON(v)
			} else {
				err = a.printVerify(v)
			}
			if err == nil && len(v.Bad) > 0 {
				err = withHint(exitWith(exitCorrupt, "%d of %s can't be read", len(v.Bad), plural(v.Blobs, "blob")),
					"put the same content again to heal it, or restore it from a backup")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// verified is the result of verify.
type verified struct {
	Sound bool      `json:"sound"`
	Blobs int       `json:"blobs"`
	Bytes int64     `json:"bytes"` // plain, as far as blobs could be read
	Bad   []badBlob `json:"bad"`
}

type badBlob struct {
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"`
	Uses   []string    `json:"uses"` // name:version/path
	Error  string      `json:"error"`
}

// verify checks what refs name, or everything.
func (a *app) verify(ctx context.Context, refs []string) (*verified, error) {
	r, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if len(refs) == 0 {
		refs = []string{""}
	}
	var total int64
	for _, ref := range refs { // a slip in the last one shows before the work
		n, err := r.VerifySize(ctx, ref)
		if err != nil {
			return nil, a.suggest(ctx, r, ref, err)
		}
		total += n
	}
	p := a.progress("checking", total)
	defer p.end()
	v := &verified{Bad: []badBlob{}}
	seen := map[blob.Digest]bool{}
	for _, ref := range refs {
		for c, err := range r.Verify(ctx, ref, &registry.VerifyOptions{Progress: p.add}) {
			if err == nil && (interrupted(ctx, c.Err) || ofMachine(c.Err)) {
				err = c.Err // it says nothing about the blob
			}
			if err != nil {
				return nil, err
			}
			if !seen[c.Digest] {
				seen[c.Digest] = true
				v.add(c)
			}
		}
	}
	v.Sound = len(v.Bad) == 0
	return v, nil
}

func (v *verified) add(c registry.Checked) {
	v.Blobs++
	if c.Err == nil {
		v.Bytes += c.Size
		return
	}
	err := c.Err
	if e, ok := errors.AsType[*registry.CorruptError](err); ok {
		err = e.Err // the uses are told beside it
	}
	v.Bad = append(v.Bad, badBlob{c.Digest, c.Size, list(c.Uses), plain(err)})
}

// printVerify tells the result: a line for each damaged blob, and a summary.
func (a *app) printVerify(v *verified) error {
	var b strings.Builder
	for _, bad := range v.Bad {
		uses := strings.Join(bad.Uses, ", ")
		if uses == "" {
			uses = "no version uses it"
		}
		fmt.Fprintf(&b, "b3:%s  %s: %s\n", bad.Digest.Short(), printable(uses), printable(bad.Error))
	}
	verdict := "all sound"
	if len(v.Bad) > 0 {
		verdict = fmt.Sprintf("%d damaged", len(v.Bad))
	}
	fmt.Fprintf(&b, "%s, %s: %s\n", plural(v.Blobs, "blob"), formatSize(v.Bytes), verdict)
	_, err := a.stdout.Write([]byte(b.String()))
	return err
}
