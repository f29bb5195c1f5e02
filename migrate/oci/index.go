package oci

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/registry"
)

// descriptor points at a blob.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitzero"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// index is an index.json. What others wrote in it is kept as it is.
type index struct {
	fields  map[string]json.RawMessage // all but the entries
	entries []entry
}

// entry is an entry of an index.
type entry struct {
	raw         json.RawMessage
	annotations map[string]string
}

func (e *entry) is(m *registry.Model) bool {
	return e.annotations[keyName] == m.Name && e.annotations[keyLabel] == m.Version
}

// newIndex returns an index without entries.
func newIndex() *index {
	return &index{fields: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + typeIndex + `"`),
	}}
}

// parseIndex reads an index.json.
func parseIndex(text []byte) (*index, error) {
	text, err := canon.Compact(text)
	if err != nil {
		return nil, err
	}
	x := &index{}
	if err := json.Unmarshal(text, &x.fields); err != nil {
		return nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	if v := string(x.fields["schemaVersion"]); v != "2" {
		return nil, fmt.Errorf("its schemaVersion is %.20q, not 2", v)
	}
	var raw []json.RawMessage
	if list, ok := x.fields["manifests"]; ok {
		if err := json.Unmarshal(list, &raw); err != nil {
			return nil, fmt.Errorf("its manifests are no list: %w", err)
		}
	}
	delete(x.fields, "manifests")
	for i, r := range raw {
		var d struct {
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(r, &d); err != nil {
			return nil, fmt.Errorf("entry %d of its manifests is no descriptor: %w", i, err)
		}
		x.entries = append(x.entries, entry{r, d.Annotations})
	}
	return x, nil
}

// encode returns the index as canonical JSON.
func (x *index) encode() ([]byte, error) {
	all := map[string]any{}
	for k, v := range x.fields {
		all[k] = v
	}
	manifests := []json.RawMessage{} // never null
	for _, e := range x.entries {
		manifests = append(manifests, e.raw)
	}
	all["manifests"] = manifests
	return canon.Marshal(all)
}

// put adds the entry of a version, in place of one that it has, and returns the
// entry's tag.
func (x *index) put(m *registry.Model, d descriptor) (tag string, replaced bool, err error) {
	at := -1
	var others []entry
	for _, e := range x.entries {
		switch {
		case !e.is(m):
			others = append(others, e)
		case at < 0:
			at = len(others)
			if old := e.annotations[keyRefName]; old == sanitize(old) {
				tag = old // whoever uses it finds the version again
			}
		}
	}
	if tag == "" || tagged(others, tag) {
		if tag, err = freeTag(others, m); err != nil {
			return "", false, err
		}
	}
	d.Annotations = map[string]string{keyRefName: tag, keyName: m.Name, keyLabel: m.Version}
	raw, err := canon.Marshal(d)
	if err != nil {
		return "", false, err
	}
	replaced = at >= 0
	if !replaced {
		at = len(others)
	}
	x.entries = slices.Insert(others, at, entry{raw, d.Annotations})
	return tag, replaced, nil
}

func tagged(entries []entry, tag string) bool {
	for _, e := range entries {
		if e.annotations[keyRefName] == tag {
			return true
		}
	}
	return false
}

// freeTag returns a tag for a version that no entry has: its label if that is
// free, else its name and label, else those and part of their hash.
func freeTag(entries []entry, m *registry.Model) (string, error) {
	long := m.Name + "-" + m.Version
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(m.Ref())))[:16]
	for _, s := range []string{m.Version, long, sanitize(long)[:min(len(sanitize(long)), maxTag-len(sum)-1)] + "-" + sum} {
		if tag := sanitize(s); tag != "" && !tagged(entries, tag) {
			return tag, nil
		}
	}
	return "", errors.New("every tag that it could have is taken: choose another folder")
}

// maxTag is the most characters of a tag: those of the distribution format are
// [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
const maxTag = 128

// sanitize makes text a tag: an underscore stands for what a tag can't hold.
// "" stays "".
func sanitize(s string) string {
	tag := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-':
			return r
		}
		return '_'
	}, s)
	if tag != "" && (tag[0] == '.' || tag[0] == '-') {
		tag = "_" + tag[1:]
	}
	return tag[:min(len(tag), maxTag)]
}
