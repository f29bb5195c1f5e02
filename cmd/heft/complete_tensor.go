package main

import (
	"context"
	"strings"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// completeTwoRefs proposes two references and nothing after them.
func (a *app) completeTwoRefs(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeRefs(cmd, args, word)
}

// completeRefFile proposes a reference, then a file of that version.
func (a *app) completeRefFile(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeRefs(cmd, args, word)
	}
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeIn(cmd, args[0], func(ctx context.Context, m *registry.Model, file string) []string {
		var found []string
		for f, err := range m.List(ctx) {
			if err != nil || file != "" || len(found) == maxCompletions {
				break
			}
			if strings.HasPrefix(f.Path, word) {
				found = append(found, f.Path)
			}
		}
		return found
	})
}

// completeTensor proposes a tensor of the version, or file of it, that the
// arguments name.
func (a *app) completeTensor(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeIn(cmd, args[0], func(ctx context.Context, m *registry.Model, file string) []string {
		paths := args[1:]
		if file != "" {
			paths = []string{file}
		}
		var found []string
		for t, err := range m.Tensors(ctx, paths...) {
			if err != nil || len(found) == maxCompletions {
				break
			}
			if strings.HasPrefix(t.Name, word) {
				found = append(found, t.Name)
			}
		}
		return found
	})
}

// completeIn proposes what find finds in the version, or file of it, that ref
// names. Nothing is proposed when it can't be read.
func (a *app) completeIn(cmd *cobra.Command, ref string, find func(ctx context.Context, m *registry.Model, file string) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	r, err := a.open(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	m, file, err := r.Locate(ctx, ref)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return find(ctx, m, file), cobra.ShellCompDirectiveNoFileComp
}
