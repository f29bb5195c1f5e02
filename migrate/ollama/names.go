package ollama

import (
	"fmt"
	"strings"

	"github.com/heftstore/heft/internal/name"
)

// What a model is called when no host or namespace is given. The newer layout
// has publicHostV2 where the older one has publicHost.
const (
	publicHost      = "registry.ollama.ai"
	publicHostV2    = "ollama.com"
	publicNamespace = "library"
)

// model is what tags belong to.
type model struct{ host, namespace, model string }

// newModel gives both spellings of Ollama's own registry the same one.
func newModel(host, namespace, name string) model {
	if host == publicHostV2 {
		host = publicHost
	}
	return model{host, namespace, name}
}

func (m model) String() string { return m.host + "/" + m.namespace + "/" + m.model }

// name returns what the model is called in a registry, and what there is to
// say about that.
func (m model) name() (string, []string) {
	if m.host == publicHost {
		if m.namespace == publicNamespace {
			return m.model, nil
		}
		return m.namespace + "/" + m.model, nil
	}
	// U+F03A is the colon of file systems that can't have one in a name.
	host := strings.NewReplacer(":", "_", "\uF03A", "_").Replace(m.host)
	var notes []string
	if host != m.host {
		notes = append(notes, fmt.Sprintf("the host %q is written %q in the name, which can't have a colon", m.host, host))
	}
	return host + "/" + m.namespace + "/" + m.model, notes
}

// aliases returns what tags are called as aliases, and what there is to say
// about those that can't be called the same. Those in taken are not used, and
// what is used is added.
func aliases(tags []string, taken map[string]bool) (all, notes []string) {
	var others []string
	for _, t := range tags {
		if _, err := name.ParseAlias(t); err != nil {
			others = append(others, t)
			continue
		}
		taken[t] = true
		all = append(all, t)
	}
	for _, t := range others {
		alias := strings.Map(func(r rune) rune {
			if strings.ContainsRune(`:@/\`+"\uF03A", r) {
				return '-'
			}
			return r
		}, t)
		_, err := name.ParseAlias(alias)
		switch {
		case err != nil:
			notes = append(notes, fmt.Sprintf("the tag %q is left out: %v", t, err))
		case taken[alias]:
			notes = append(notes, fmt.Sprintf("the tag %q is left out: another one is called %q already", t, alias))
		default:
			taken[alias] = true
			all = append(all, alias)
			notes = append(notes, fmt.Sprintf("the tag %q becomes the alias %q", t, alias))
		}
	}
	return all, notes
}

// paths gives out names of files, none twice and none that is a folder of
// another, in whatever letter case.
type paths struct {
	files, folders map[string]bool
	next           map[string]int // where counting goes on, by the name that was asked for
}

func newPaths() *paths {
	return &paths{map[string]bool{}, map[string]bool{}, map[string]int{}}
}

// take returns want or, when that is gone, want with the first number from 2
// on that makes it free, before its extension: license-2, model-2.gguf. What
// is wanted has to fit.
func (p *paths) take(want string) string {
	key := strings.ToLower(want)
	for {
		p.next[key]++
		got := want
		if n := p.next[key]; n > 1 {
			slash := strings.LastIndexByte(want, '/') + 1
			dot := strings.LastIndexByte(want[slash:], '.')
			if dot <= 0 {
				dot = len(want) - slash
			}
			got = fmt.Sprintf("%s-%d%s", want[:slash+dot], n, want[slash+dot:])
		}
		if p.add(strings.ToLower(got)) {
			return got
		}
	}
}

// fits reports whether no folder of the path is a file, so that take finds a
// name near it.
func (p *paths) fits(want string) bool {
	key := strings.ToLower(want)
	for i, c := range key {
		if c == '/' && p.files[key[:i]] {
			return false
		}
	}
	return true
}

// add reports whether the path was free, and takes it then.
func (p *paths) add(key string) bool {
	if p.files[key] || p.folders[key] {
		return false
	}
	for i, c := range key {
		if c == '/' {
			p.folders[key[:i]] = true
		}
	}
	p.files[key] = true
	return true
}
