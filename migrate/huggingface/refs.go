package huggingface

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
)

const (
	// maxRef is the most bytes of a reference, which are 40 as a rule.
	maxRef = 1 << 10
	// maxRefDepth is how deep references nest: git has names such as refs/pr/1.
	maxRefDepth = 16
)

// named is what references make of a snapshot.
type named struct {
	refs    []string // all that name it
	aliases []string
	notes   []string
}

// ref is a reference and what it holds.
type ref struct{ name, commit string }

// refs reads the references. It returns those of each commit, and items about
// the ones that name none of the commits or can't be read.
func (r *repository) refs(commits []string) (map[string]*named, []*migrate.Item) {
	byCommit := map[string]*named{}
	taken := map[string]bool{}
	for _, c := range commits {
		byCommit[c] = &named{}
		taken[c] = true // as a label it would win over an alias
	}
	all, odd := r.readRefs(nil)
	var good []ref
	for _, f := range all {
		if byCommit[f.commit] == nil {
			item := r.refItem(f.name)
			item.Skip = fmt.Sprintf("the reference names %.64q, of which there is no snapshot", f.commit)
			odd = append(odd, item)
			continue
		}
		byCommit[f.commit].refs = append(byCommit[f.commit].refs, f.name)
		good = append(good, f)
	}
	// A reference that can keep its name has it before all that need another.
	keeps := func(f ref) bool { _, err := name.ParseAlias(f.name); return err == nil }
	slices.SortStableFunc(good, func(a, b ref) int {
		switch {
		case keeps(a) == keeps(b):
			return 0
		case keeps(a):
			return -1
		}
		return 1
	})
	for _, f := range good {
		n := byCommit[f.commit]
		alias := aliasOf(f.name)
		_, err := name.ParseAlias(alias)
		switch {
		case err != nil:
			n.notes = append(n.notes, fmt.Sprintf("the reference %.200q is left out: %v", f.name, err))
			continue
		case taken[alias]:
			n.notes = append(n.notes, fmt.Sprintf("the reference %.200q is left out: %q is taken already", f.name, alias))
			continue
		case alias != f.name:
			n.notes = append(n.notes, fmt.Sprintf("the reference %.200q becomes the alias %q", f.name, alias))
		}
		taken[alias] = true
		n.aliases = append(n.aliases, alias)
	}
	return byCommit, odd
}

// aliasOf returns what a reference is called as an alias, which can't have the
// characters that part references to versions.
func aliasOf(ref string) string {
	return strings.NewReplacer("/", "-", ":", "-", "@", "-", `\`, "-").Replace(ref)
}

// readRefs reads the references below the folder refs/parts, in order.
func (r *repository) readRefs(parts []string) (all []ref, odd []*migrate.Item) {
	bad := func(ref string, err error) {
		item := r.refItem(ref)
		item.Err = err
		odd = append(odd, item)
	}
	entries, err := r.list(append([]string{"refs"}, parts...)...)
	if err != nil {
		// A snapshot that was asked for by its commit has no reference.
		if len(parts) > 0 || !errors.Is(err, fs.ErrNotExist) {
			bad(strings.Join(parts, "/"), err)
		}
		return nil, odd
	}
	for _, e := range entries {
		below := append(slices.Clip(parts), e.Name())
		full := strings.Join(below, "/")
		if e.IsDir() && len(below) < maxRefDepth {
			more, strange := r.readRefs(below)
			all, odd = append(all, more...), append(odd, strange...)
			continue
		}
		raw, err := r.tree.ReadFile(r.at("refs", full), maxRef)
		if err != nil {
			bad(full, fmt.Errorf("the reference can't be read: %w", err))
			continue
		}
		all = append(all, ref{full, strings.TrimSpace(string(raw))})
	}
	return all, odd
}

func (r *repository) refItem(ref string) *migrate.Item {
	item := newItem(r.at("refs", ref), r.name, "ref", ref)
	item.Model.Name = r.name
	return item
}
