package lattice

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/registry"
)

// form says what metadata was that is whole in registry.Metadata.Extra.
type form string

const (
	formJSON  form = "json"  // JSON of another shape than the registry's
	formText  form = "text"  // text that is no JSON: a JSON string
	formBytes form = "bytes" // text that is not UTF-8: an object with its base64
	formBlob  form = "blob"  // a blob that is no JSON: likewise
)

// metadata is what becomes of a metadata column.
type metadata struct {
	registry.Metadata
	form form   // "" if it is not in Extra
	text []byte // of the Metadata, in canonical JSON; nil if it says nothing
	same bool   // text means exactly what was read
}

// readMetadata never loses what it reads: metadata that is not of the
// registry's own shape, down to its limits, is whole in Extra. An error says
// that it is too large.
func readMetadata(v any) (metadata, error) {
	if none(v) {
		return metadata{}, nil
	}
	raw := text(v)
	compact, err := canon.Compact([]byte(raw))
	if err != nil {
		return inExtra(v, raw)
	}
	if string(compact) == "null" {
		return metadata{}, nil
	}
	if m, ok := knownShape(compact); ok {
		written, err := canon.Marshal(m)
		if err == nil && len(written) <= maxMetadata {
			same := equalJSON(written, compact)
			if string(written) == "{}" {
				written = nil
			}
			if same || len(raw) <= maxKept {
				return metadata{Metadata: m, text: written, same: same}, nil
			}
		}
	}
	return extra(formJSON, compact)
}

// inExtra keeps what is no JSON.
func inExtra(v any, raw string) (metadata, error) {
	f, as := formText, any(raw)
	_, blob := v.([]byte)
	if blob || !utf8.ValidString(raw) {
		f, as = formBytes, map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(raw))}
	}
	if blob {
		f = formBlob
	}
	extraText, err := canon.Marshal(as)
	if err != nil {
		return metadata{}, fmt.Errorf("keeping the metadata: %w", err)
	}
	return extra(f, extraText)
}

func extra(f form, compact []byte) (metadata, error) {
	m := metadata{Metadata: registry.Metadata{Extra: compact}, form: f}
	var err error
	if m.text, err = canon.Marshal(m.Metadata); err != nil {
		return metadata{}, fmt.Errorf("keeping the metadata: %w", err)
	}
	if len(m.text) > maxMetadata {
		return metadata{}, fmt.Errorf("the metadata has %d bytes, over the limit of %d: put it into a file", len(compact), maxMetadata)
	}
	return m, nil
}

// whole returns what the metadata was, if it is whole in its extra.
func whole(m *registry.Metadata, f form) (v any, ok bool) {
	rest := *m
	rest.Extra = nil
	if written, err := canon.Marshal(rest); err != nil || string(written) != "{}" || len(m.Extra) == 0 {
		return nil, false // it was added to since
	}
	switch f {
	case formJSON:
		return string(m.Extra), true
	case formText:
		var s string
		err := json.Unmarshal(m.Extra, &s)
		return s, err == nil
	case formBytes, formBlob:
		var as struct {
			Base64 []byte `json:"base64"`
		}
		if err := canon.Decode(m.Extra, &as); err != nil {
			return nil, false
		}
		if f == formBlob {
			return as.Base64, true
		}
		return string(as.Base64), true
	}
	return nil, false
}

// knownShape reads metadata of the registry's own shape.
func knownShape(compact []byte) (m registry.Metadata, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(compact, &fields) != nil {
		return m, false
	}
	for field := range fields {
		if !isField(field) {
			return m, false
		}
	}
	if canon.Decode(compact, &m) != nil {
		return registry.Metadata{}, false
	}
	probe := registry.Model{Name: "any", Version: "1", Metadata: m}
	return m, probe.Check() == nil
}

// isField reports whether a registry.Metadata has a field of exactly that name:
// encoding/json would take it in any letter case.
func isField(name string) bool {
	switch name {
	case "architecture", "input_dimensions", "output_dimensions", "parameter_count", "config_hash", "dataset_id",
		"training_examples", "training_metrics", "validation_accuracy", "test_accuracy", "tags", "extra":
		return true
	}
	return false
}

// equalJSON reports whether two canonical JSON texts mean the same, numbers
// exactly.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var va, vb any
	return canon.Decode(a, &va) == nil && canon.Decode(b, &vb) == nil && equalValues(va, vb)
}

// equalValues goes no deeper than canon.MaxDepth.
func equalValues(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !equalValues(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equalValues(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && equalNumbers(a.String(), b.String())
	}
	return a == b
}

// equalNumbers compares two JSON numbers without computing them: 1e999999999
// would fill the memory.
func equalNumbers(a, b string) bool {
	an, ae := normal(a)
	bn, be := normal(b)
	return an == bn && ae == be
}

// normal returns a number as its sign and digits, without zeros at either end,
// and the power of ten of the last one.
func normal(s string) (digits string, exponent int64) {
	s, power, _ := strings.Cut(strings.ToLower(s), "e")
	if power != "" {
		if _, err := fmt.Sscan(power, &exponent); err != nil || exponent > 1<<40 || exponent < -(1<<40) {
			return s + "e" + power, 0 // beyond any number that is written another way
		}
	}
	negative := strings.HasPrefix(s, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	exponent -= int64(len(fraction))
	all := strings.TrimLeft(whole+fraction, "0")
	digits = strings.TrimRight(all, "0")
	if digits == "" {
		return "0", 0
	}
	exponent += int64(len(all) - len(digits))
	if negative {
		digits = "-" + digits
	}
	return digits, exponent
}
