package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// backupFlags are the flags of backup and restore.
type backupFlags struct {
	dryRun bool
	verify bool
	json   bool
}

func (f *backupFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "only tell what would be copied")
	flags.BoolVar(&f.verify, "verify", false, "read all of the copy back afterwards and check it")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
}

func newBackupCmd(a *app) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the whole store to a folder, while it is in use",
		Long: `Make the folder DIR a copy of the whole store as it is at one moment, or bring
a copy that is there up to date: only what is missing is copied. Others may use
the store meanwhile. DIR is a store of its own, with the same id: look into it
with --store, and make a new store of it with 'heft restore'.

Every stored byte is checked while it is copied. What is damaged is told, the
rest is copied, and the exit code is 4. An earlier copy in DIR stays as it was
until the new one is complete. What it has and the store no longer needs stays
too; 'heft gc' there removes it.`,
		Example: `  heft backup /mnt/backup/models
  heft backup /mnt/backup/models --verify --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return resumable(a.backup(cmd.Context(), args[0], f), "an earlier backup is as it was; run the command again: it goes on from there")
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func newRestoreCmd(a *app) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "restore BACKUP [DIR]",
		Short: "Make a store from a backup",
		Long: `Make a store in the folder DIR, or where --store says, from a backup. The folder
must be new or empty: 'heft repair --from BACKUP' heals a store that is there.

Every stored byte is checked while it is copied. What is damaged is told, the
rest is copied, and the exit code is 4.`,
		Example: `  heft restore /mnt/backup/models /data/models
  heft restore /mnt/backup/models --verify`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var dir string
			if len(args) == 2 {
				dir = args[1]
			}
			return resumable(a.restore(cmd.Context(), args[0], dir, f), "run the command again: it goes on from there")
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// backedJSON is the output of backup and restore with --json.
type backedJSON struct {
	Dir      string    `json:"dir"`
	ID       uuid.UUID `json:"id"`
	DryRun   bool      `json:"dry_run"`
	Verified bool      `json:"verified"`
	Records  uint64    `json:"records"`
	Versions int       `json:"versions"`
	Blobs    int       `json:"blobs"`
	Copied   int       `json:"copied"`  // files
	Written  int64     `json:"written"` // bytes of them
	Encoded  int       `json:"encoded"`
	Damaged  []badBlob `json:"damaged"`
}

func (a *app) backup(ctx context.Context, dir string, f backupFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.copyStore(f, "backed up", func(o *registry.BackupOptions) (registry.Backed, error) { return r.Backup(ctx, dir, o) })
}

func (a *app) restore(ctx context.Context, from, dir string, f backupFlags) (err error) {
	if dir == "" {
		if dir, err = a.dir(); err != nil {
			return err
		}
	}
	err = a.copyStore(f, "restored", func(o *registry.BackupOptions) (registry.Backed, error) {
		return registry.Restore(ctx, from, dir, o)
	})
	_, other := errors.AsType[*blob.OtherStoreError](err)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return withHint(exitWith(exitNotFound, "%s is not a backup", from), "name the folder that 'heft backup' has made")
	case errors.Is(err, fs.ErrExist) && !other:
		return withHint(exitWith(exitConflict, "%s", plain(err)), "'heft repair --from %s' heals a store; or name a new folder", from)
	}
	return err
}

// copyStore runs a backup or a restore and prints what came of it.
func (a *app) copyStore(f backupFlags, done string, run func(*registry.BackupOptions) (registry.Backed, error)) error {
	var p *progress
	o := &registry.BackupOptions{DryRun: f.dryRun, Verify: f.verify, Begin: func(n int64) { p = a.progress("copying", n) }, Progress: func(n int64) { p.add(n) }}
	b, err := run(o)
	if p != nil {
		p.end()
	}
	if err != nil {
		return asBackupError(err)
	}
	if f.json {
		err = a.printJSON(toBackedJSON(b, f))
	} else {
		err = a.printBacked(b, f, done)
	}
	if err == nil && len(b.Damaged) > 0 {
		err = withHint(exitWith(exitCorrupt, "%s could not be copied whole", plural(len(b.Damaged), "blob")),
			"'heft verify' tells more; 'heft repair' heals a store, then run the command again")
	}
	return err
}

// asBackupError gives errors about the folder their exit codes and hints.
func asBackupError(err error) error {
	_, itself := errors.AsType[*blob.IntoItselfError](err)
	_, other := errors.AsType[*blob.OtherStoreError](err)
	_, history := errors.AsType[*index.OtherHistoryError](err)
	switch {
	case itself:
		return usageError("%s", plain(err))
	case other, history, errors.Is(err, blob.ErrBusy):
		return exitWith(exitConflict, "%s", plain(err))
	}
	return err
}

func toBackedJSON(b registry.Backed, f backupFlags) backedJSON {
	out := backedJSON{
		Dir: b.Dir, ID: b.ID, DryRun: f.dryRun, Verified: f.verify && !f.dryRun, Records: b.Records, Versions: b.Versions, Blobs: b.Blobs,
		Copied: b.Copied, Written: b.Written, Encoded: b.Encoded, Damaged: []badBlob{},
	}
	for _, c := range b.Damaged {
		out.Damaged = append(out.Damaged, toBadBlob(c))
	}
	return out
}

// toBadBlob tells what is wrong with a blob.
func toBadBlob(c registry.Checked) badBlob {
	err := c.Err
	if e, ok := errors.AsType[*registry.CorruptError](err); ok {
		err = e.Err // the uses are told beside it
	}
	return badBlob{Digest: c.Digest, Size: c.Size, Uses: list(c.Uses), Error: plain(err)}
}

func (a *app) printBacked(b registry.Backed, f backupFlags, done string) error {
	var text strings.Builder
	for _, c := range b.Damaged {
		bad := toBadBlob(c)
		fmt.Fprintf(&text, "b3:%s  %s: %s\n", bad.Digest.Short(), printable(usesText(bad.Uses)), printable(bad.Error))
	}
	what, files := plural(b.Versions, "version"), fmt.Sprintf("%s in %s", formatSize(b.Written), plural(b.Copied, "file"))
	switch {
	case f.dryRun:
		fmt.Fprintf(&text, "%s would be %s: %s to copy", what, done, files)
	case f.verify && len(b.Damaged) == 0:
		fmt.Fprintf(&text, "%s %s to %s: %s copied, all of it verified", what, done, printable(b.Dir), files)
	default:
		fmt.Fprintf(&text, "%s %s to %s: %s copied", what, done, printable(b.Dir), files)
	}
	if n := len(b.Damaged); n > 0 {
		fmt.Fprintf(&text, ", %d damaged", n)
	}
	text.WriteString("\n")
	_, err := a.stdout.Write([]byte(text.String()))
	return err
}
