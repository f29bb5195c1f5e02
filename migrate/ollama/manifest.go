package ollama

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/registry"
)

// maxManifest is the most bytes of a manifest that are read: the registry
// protocol that Ollama speaks has the same limit.
const maxManifest = 4 << 20

// mediaTypeList is that of a manifest that only lists others, one for each
// program that can run the model.
const mediaTypeList = "application/vnd.ollama.manifest.list.v2+json"

// manifest is what Ollama knows of a model, as it is spelled.
type manifest struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Config        layer   `json:"config"`
	Layers        []layer `json:"layers"`
}

// layer is a blob of a model.
type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Name      string `json:"name"`

	sum registry.SHA256 // what Digest says
}

// parseManifest reads a manifest and its digests. A configuration may be
// missing: its Digest is then "".
func parseManifest(raw []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("the manifest is damaged: %w: pull the model again", err)
	}
	switch {
	case m.MediaType == mediaTypeList:
		return nil, errors.New("the manifest is a list of manifests, which can't be imported: pull a single variant of the model")
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("the manifest has schema version %d, and only 2 is known", m.SchemaVersion)
	case len(m.Layers) == 0:
		return nil, errors.New("the manifest has no layers: pull the model again")
	}
	if m.Config.Digest != "" {
		if err := m.Config.parse(); err != nil {
			return nil, err
		}
	}
	for i := range m.Layers {
		if err := m.Layers[i].parse(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (l *layer) parse() error {
	digits, ok := strings.CutPrefix(l.Digest, "sha256:")
	if !ok || len(digits) != hex.EncodedLen(len(l.sum)) {
		return fmt.Errorf("the digest %.100q of the layer %.100q is not sha256: and 64 hexadecimal digits", l.Digest, l.MediaType)
	}
	if _, err := hex.Decode(l.sum[:], []byte(digits)); err != nil {
		return fmt.Errorf("the digest %.100q of the layer %.100q: %w", l.Digest, l.MediaType, err)
	}
	if l.Size < 0 {
		return fmt.Errorf("the layer %.100q has a size of %d bytes", l.MediaType, l.Size)
	}
	return nil
}

// hex returns the digits of the digest.
func (l *layer) hex() string { return hex.EncodeToString(l.sum[:]) }

// name returns what the layer is called by the manifest or as a parameter of
// its media type; "" if it is not.
func (l *layer) name() string {
	if l.Name != "" {
		return l.Name
	}
	_, params, _ := strings.Cut(l.MediaType, ";")
	for p := range strings.SplitSeq(params, ";") {
		if key, value, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(key), "name") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// Limits on names that layers have, in bytes. They leave room for a number
// below what a path may have.
const (
	maxLayerName      = name.MaxPath - 32
	maxLayerComponent = name.MaxPathComponent - 32
)

// path returns the layer's name if it can be that of a file, else "".
func (l *layer) path() string {
	n := l.name()
	if _, err := name.ParsePath(n); err != nil || len(n) > maxLayerName {
		return ""
	}
	for c := range strings.SplitSeq(n, "/") {
		if len(c) > maxLayerComponent {
			return ""
		}
	}
	return n
}

// maxWord is the most bytes of a media type that become a file's name.
const maxWord = 64

// word returns the last word of the media type, in characters that need no
// quoting anywhere; "layer" if there is none.
func (l *layer) word() string {
	kind, _, _ := strings.Cut(l.MediaType, ";")
	word := strings.TrimSpace(kind[strings.LastIndexAny(kind, "./")+1:])
	word = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, word)
	word = word[:min(len(word), maxWord)]
	if strings.Trim(word, "-") == "" {
		return "layer"
	}
	return word
}

// weights reports whether a layer of the word holds weights, so that its first
// bytes say what kind of file it is.
func weights(word string) bool {
	switch word {
	case "model", "adapter", "projector", "draft":
		return true
	}
	return false
}

// file returns the file name of a layer without one: head is what a layer of
// weights begins with.
func (l *layer) file(head []byte) string {
	word := l.word()
	switch {
	case word == "params", word == "messages":
		return word + ".json"
	case weights(word) && string(head) == "GGUF":
		return word + ".gguf"
	}
	return word
}
