package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// run is the command: it runs the verb in args until it is done or a signal
// comes, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks; a second one ends the process at once.
	context.AfterFunc(ctx, stop)

	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = withHint(usageError("%s", strings.TrimSpace(err.Error())), "'%s --help' shows how it is used", cmd.CommandPath())
	}
	if !interrupted(ctx, err) {
		err = a.explain(err)
	}
	return report(ctx, stderr, err)
}

// newRootCmd returns the command with all its verbs.
func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "heft",
		Short: "Keep model weights: every byte once, and never a wrong byte back",
		Long: `heft keeps model weights in a store: every byte once, under its BLAKE3 hash,
with versions, lineage and status, and never a wrong byte back.

A reference names a version: NAME:VERSION, NAME:ALIAS, NAME (the latest),
NAME@HASH, or an id. A file in one: NAME/VERSION/PATH.

Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 corrupt,
5 conflict (exists, moved or in use), 130 interrupted.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.storeDir, "store", "", "folder of the `STORE` (default $HEFT_STORE, or heft in the user's data folder)")
	flags.StringVar(&a.actor, "actor", "", "`WHO` makes the change, for the log (default $HEFT_ACTOR, or user@host)")
	flags.DurationVar(&a.wait, "wait", 0, "give up when another process has the store for longer than `TIME`, as 30s (default as long as it takes)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "neither progress nor notes on standard error")

	root.AddGroup(
		&cobra.Group{ID: groupData, Title: "Weights:"},
		&cobra.Group{ID: groupNames, Title: "Names:"},
		&cobra.Group{ID: groupMove, Title: "Other tools and stores:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			c.DisableFlagsInUseLine = true
			c.Args = explained(c)
			verb := c.RunE
			c.RunE = func(cmd *cobra.Command, args []string) error {
				a.started = true
				return verb(cmd, args)
			}
		}
		root.AddCommand(cmds...)
	}
	add(groupData,
		newInitCmd(a),
		newPutCmd(a),
		newGetCmd(a),
		newCatCmd(a),
		newDigestCmd(a),
		newTensorsCmd(a),
		newDiffCmd(a),
		newVerifyCmd(a),
		newRepairCmd(a),
		newBackupCmd(a),
		newRestoreCmd(a),
		newStatsCmd(a),
		newParityCmd(a),
		newRmCmd(a),
		newGCCmd(a),
		newPruneCmd(a),
	)
	add(groupMove,
		newImportCmd(a),
		newExportCmd(a),
		newCopyCmd(a),
	)
	add(groupNames,
		newLsCmd(a),
		newShowCmd(a),
		newFindCmd(a),
		newStatusCmd(a),
		newPromoteCmd(a),
		newRollbackCmd(a),
		newAliasCmd(a),
		newLineageCmd(a),
		newLogCmd(a),
	)
	add("", newVersionCmd(a))
	root.DisableSuggestions = true // cobra's are more lines than the hint, some far off
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			// Otherwise the help for a verb that there is not is an exit code 0.
			show := c.Run
			c.Run, c.RunE = nil, func(cmd *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return fmt.Errorf("there is no help for %q", strings.Join(args, " "))
				}
				show(cmd, args)
				return nil
			}
		}
		if c.Name() == "completion" {
			c.Args = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("no completion for %q: it is for bash, zsh, fish or powershell", args[0])
				}
				return nil
			}
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return root
}

// explained returns the check of c's arguments with an error that tells what
// they are.
func explained(c *cobra.Command) cobra.PositionalArgs {
	check := c.Args
	return func(cmd *cobra.Command, args []string) error {
		if check == nil || check(cmd, args) == nil {
			return nil
		}
		return fmt.Errorf("%s does not go with %s; its usage is: heft %s", c.Name(), plural(len(args), "argument"), c.Use)
	}
}

// The groups of verbs in the help.
const (
	groupData  = "data"
	groupNames = "names"
	groupMove  = "move"
)
