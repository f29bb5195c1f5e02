package main

import (
	"context"
	"strings"
	"time"

	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

const (
	// maxCompletions is how many proposals the shell gets: more than a screen
	// helps nobody.
	maxCompletions = 200
	// completionTime is how long somebody who pressed Tab is left waiting.
	completionTime = 2 * time.Second
)

// completeRef proposes one reference: names, and after a colon the versions
// and aliases of that name.
func (a *app) completeRef(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeRefs(cmd, args, word)
}

// completeRefs is completeRef for any number of references.
func (a *app) completeRefs(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	r, err := a.open(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()
	name, label, ok := strings.Cut(word, ":")
	if !ok {
		return matchNames(ctx, r, word), cobra.ShellCompDirectiveNoFileComp
	}
	return matchLabels(ctx, r, name, label), cobra.ShellCompDirectiveNoFileComp
}

// completeName proposes one name of a model.
func (a *app) completeName(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || strings.Contains(word, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeRefs(cmd, args, word)
}

// matchNames returns the names that begin with prefix. What can't be read is
// not proposed.
func matchNames(ctx context.Context, r *registry.Registry, prefix string) []string {
	var found []string
	for s, err := range r.Names(ctx, prefix) {
		if err != nil || len(found) == maxCompletions {
			break
		}
		found = append(found, s.Name)
	}
	return found
}

// matchLabels returns the references to versions of that name whose version or
// alias begins with prefix.
func matchLabels(ctx context.Context, r *registry.Registry, name, prefix string) []string {
	var found []string
	for m, err := range r.Versions(ctx, name) {
		if err != nil || len(found) >= maxCompletions {
			break
		}
		for _, label := range append([]string{m.Version}, m.Aliases...) {
			if strings.HasPrefix(label, prefix) {
				found = append(found, name+":"+label)
			}
		}
	}
	return found
}
