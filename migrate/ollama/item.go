package ollama

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
)

const (
	// shownDigits is how much of a manifest's SHA-256 "ollama list" shows as ID.
	shownDigits = 12
	// maxConfig is the most bytes of a configuration that are read: those that
	// Ollama writes have less than 1 KB.
	maxConfig = 1 << 20
	// maxErrors is how many of its layers a version is reported to lack.
	maxErrors = 8
	// maxArchitecture is the most bytes of the name of an architecture.
	maxArchitecture = 256
)

// details is what Origin.Details has.
type details struct {
	Host       string            `json:"host"`
	Namespace  string            `json:"namespace"`
	Model      string            `json:"model"`
	Tags       []string          `json:"tags"`
	MediaTypes map[string]string `json:"media_types,omitempty"` // by the file's path
}

// item describes a version of a model.
func (l *listing) item(m model, v *version, taken map[string]bool) *migrate.Item {
	digits := hex.EncodeToString(v.sum[:])
	item := newItem(v.from, m.host, m.namespace, m.model, digits)
	item.Model.Name, item.Notes = m.name()
	item.Model.Version = digits[:shownDigits]
	item.Model.RegisteredAt = entry.Time(v.at)
	item.Model.UpdatedAt = item.Model.RegisteredAt
	item.Model.Origin.LegacyID = m.String() + "@sha256:" + digits
	all, notes := aliases(v.tags, taken)
	item.Model.Aliases = all
	item.Notes = append(item.Notes, notes...)
	l.used[digits] = true // in the newer layout a manifest is a blob

	man, err := parseManifest(v.raw)
	if err != nil {
		l.failed++
		item.Err = err
		return item
	}
	for _, layer := range append([]layer{man.Config}, man.Layers...) {
		l.used[layer.hex()] = true
	}
	if _, err := name.ParseName(item.Model.Name); err != nil {
		item.Err = fmt.Errorf("the name of the model: %w", err)
		return item
	}
	types, err := l.source.files(v, man, item)
	if err != nil {
		item.Err, item.Files = err, nil
		return item
	}
	l.source.describe(man, item)
	d := details{m.host, m.namespace, m.model, v.tags, types}
	item.Model.Origin.Details, item.Err = canon.Marshal(d)
	if len(item.Model.Origin.Details) > entry.MaxDetails {
		item.Notes = append(item.Notes, "it has so many layers that their media types are kept in manifest.json only")
		d.MediaTypes = nil
		item.Model.Origin.Details, item.Err = canon.Marshal(d)
	}
	return item
}

// files adds the files of a version, and returns their media types.
func (s *Source) files(v *version, man *manifest, item *migrate.Item) (map[string]string, error) {
	own, err := s.tree.File(v.path, "manifest.json")
	if err != nil {
		return nil, err
	}
	own.Want.SHA256 = v.sum
	item.Files = append(item.Files, own)
	p := newPaths()
	p.take(own.Path)

	// Names that the manifest gives come first: a model in many files must find
	// its config.json under that name. Ollama's own has the name otherwise.
	as := make([]string, len(man.Layers))
	var unfit []string
	for i := range man.Layers {
		if want := man.Layers[i].path(); want != "" && p.fits(want) {
			as[i] = p.take(want)
		} else if n := man.Layers[i].name(); n != "" {
			unfit = append(unfit, n)
		}
	}
	if len(unfit) > 0 {
		item.Notes = append(item.Notes, fmt.Sprintf("the names of %d layers can't be those of files, so their media types name them; the first is %.100q", len(unfit), unfit[0]))
	}
	types := map[string]string{own.Path: man.MediaType}
	var lost []error
	add := func(l *layer, as string) {
		f, err := s.file(l, as, p)
		if err != nil {
			lost = append(lost, err)
			return
		}
		types[f.Path] = l.MediaType
		item.Files = append(item.Files, f)
	}
	if man.Config.Digest == "" {
		item.Notes = append(item.Notes, "the manifest names no configuration")
	} else {
		add(&man.Config, p.take("config.json"))
	}
	for i := range man.Layers {
		add(&man.Layers[i], as[i])
	}
	if n := len(lost) - maxErrors; n > 0 {
		lost = append(lost[:maxErrors], fmt.Errorf("and %d more layers", n))
	}
	return types, errors.Join(lost...)
}

// file describes the blob of a layer as the file as; "" means that its media
// type names it.
func (s *Source) file(l *layer, as string, p *paths) (migrate.File, error) {
	bad := func(err error) (migrate.File, error) {
		return migrate.File{}, fmt.Errorf("the layer %.100q: %w", l.MediaType, err)
	}
	at := s.blob(l)
	f, err := s.tree.File(at, as)
	if errors.Is(err, fs.ErrNotExist) {
		return bad(fmt.Errorf("%w: pull the model again", err))
	}
	if err != nil {
		return bad(err)
	}
	if f.Size != l.Size {
		return bad(fmt.Errorf("%s has %d bytes, and the manifest says %d: pull the model again", at, f.Size, l.Size))
	}
	if as == "" {
		var head []byte
		if weights(l.word()) {
			if head, err = s.head(at); err != nil {
				return bad(err)
			}
		}
		f.Path = p.take(l.file(head))
	}
	f.Want.SHA256 = l.sum
	return f, nil
}

// blob returns the path of a layer's blob: as new releases have it, unless
// there only is one as old releases have it.
func (s *Source) blob(l *layer) string {
	at := blobs + "/sha256-" + l.hex()
	if _, err := s.tree.Stat(at); errors.Is(err, fs.ErrNotExist) {
		old := blobs + "/sha256:" + l.hex()
		if _, err := s.tree.Stat(old); err == nil {
			return old
		}
	}
	return at
}

// head returns the first four bytes of a file, fewer if it has fewer.
func (s *Source) head(at string) (head []byte, err error) {
	f, err := s.tree.Open(at)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, 4))
}

// describe takes what is known of the model from its configuration. What can't
// be read there is left out: importing the model checks its bytes.
func (s *Source) describe(man *manifest, item *migrate.Item) {
	if man.Config.Digest == "" {
		return
	}
	raw, err := s.tree.ReadFile(s.blob(&man.Config), maxConfig)
	if err != nil {
		return
	}
	var config map[string]any
	if json.Unmarshal(raw, &config) != nil {
		return
	}
	if family, ok := config["model_family"].(string); ok && len(family) <= maxArchitecture && isText(family) {
		item.Model.Metadata.Architecture = family
	}
	extra := map[string]string{}
	for _, key := range []string{"model_format", "model_type", "file_type"} {
		if s, ok := config[key].(string); ok && s != "" && isText(s) {
			extra[key] = s
		}
	}
	if len(extra) == 0 {
		return
	}
	if encoded, err := canon.Marshal(extra); err == nil && len(encoded) <= entry.MaxDetails {
		item.Model.Metadata.Extra = encoded
	}
}

// isText reports whether a registry takes s as text.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
