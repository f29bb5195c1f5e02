package main

import (
	"context"
	"iter"
	"strings"

	"github.com/heftstore/heft/registry"
)

// collect returns what a list of the library yields until its end or its first
// error.
func collect[T any](items iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// suggest gives an error about a reference that was not found a next step: the
// name that was perhaps meant, or where to see the versions of the name or the
// files of the version. Other errors are returned as they are.
func (a *app) suggest(ctx context.Context, r *registry.Registry, ref string, err error) error {
	if code, _ := classify(err); code != exitNotFound || ref == "" {
		return err
	}
	given, label, labelled := strings.Cut(strings.TrimSuffix(ref, "/"), ":")
	if version, _, ok := strings.Cut(label, "/"); ok {
		if m, getErr := r.Get(ctx, given+":"+version); getErr == nil { // so it is the file
			return withHint(err, "'heft show %s' lists its files", m.Ref())
		}
	}
	if name, _, ok := strings.Cut(given, "@"); ok {
		given, labelled = name, true
	}
	best, bestDistance := "", len(given)/3+1 // a third of it wrong is no slip of the finger
	for s, listErr := range r.Names(ctx, "") {
		if listErr != nil {
			break // the error that there was is the one to report
		}
		if s.Name == given && labelled {
			return withHint(err, "'heft ls %s' lists its versions", given)
		}
		if d := distance(s.Name, given); d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = s.Name, d
		}
	}
	if best == "" || best == given {
		return err
	}
	return withHint(err, "did you mean %s? 'heft ls' lists all names", best)
}

// distance returns how many characters must be added, dropped or changed to
// make b of a (Levenshtein), where two neighbours that changed places count as
// one change.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := range s {
		row[0] = i + 1
		for j := range t {
			change := last[j]
			if s[i] != t[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && s[i] == t[j-1] && s[i-1] == t[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}
