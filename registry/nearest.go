package registry

import (
	"cmp"
	"slices"
	"strings"
)

// maxNearest is how many names an error proposes.
const maxNearest = 3

// nearest returns the names that are most like the one given: those that a few
// changed characters make of it, then those that contain it. A third of the
// characters wrong is no slip of the finger.
func nearest(names []string, given string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	limit := len(given)/3 + 1
	for _, n := range names {
		if d, ok := distance(n, given, limit); ok {
			found = append(found, candidate{n, d})
		} else if given != "" && strings.Contains(strings.ToLower(n), strings.ToLower(given)) {
			found = append(found, candidate{n, limit + len(n) - len(given)})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	var best []string
	for _, c := range found {
		if len(best) < maxNearest && !slices.Contains(best, c.name) {
			best = append(best, c.name)
		}
	}
	return best
}

// distance returns how many bytes must be added, dropped or changed to make b
// of a (Levenshtein), and whether that is at most limit.
func distance(a, b string, limit int) (int, bool) {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return 0, false
	}
	last, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			least = min(least, row[j+1])
		}
		if least > limit {
			return 0, false
		}
		last, row = row, last
	}
	return last[len(b)], last[len(b)] <= limit
}
