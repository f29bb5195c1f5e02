package lattice

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/zeebo/blake3"
)

// column is one that the layout knows.
type column int

const (
	colID column = iota
	colName
	colVersion
	colStatus
	colMetadata
	colRegisteredAt
	colUpdatedAt
	colRegisteredBy
	colDescription
	colWeightsPath
	colWeightsSize
	colWeightsHash
	colParentID
	columns int = iota
)

func (c column) String() string {
	return [columns]string{
		"id", "name", "version", "status", "metadata", "registered_at", "updated_at",
		"registered_by", "description", "weights_path", "weights_size", "weights_hash", "parent_id",
	}[c]
}

// Limits, in bytes, on what is read of a value. What heft takes of it is less:
// there has to be room for what is kept as it was.
const (
	maxShort    = 4 << 10 // ids, names, times and the like
	maxText     = 96 << 10
	maxJSON     = 4 << 20   // that white space may be most of
	maxUnknown  = 128 << 10 // columns that the layout does not know, together
	maxKept     = 64 << 10  // metadata that is kept as it was
	maxMetadata = 1 << 20   // the registry's own limit
)

func (c column) limit() int {
	switch c {
	case colMetadata:
		return maxJSON
	case colDescription, colRegisteredBy:
		return maxText
	}
	return maxShort
}

// record is a row, or what a metadata.json has of one. A value is as SQLite
// gives it: nil, int64, float64, string or []byte; an unknown one may also be
// canonical JSON, a json.RawMessage.
type record struct {
	from    string
	cells   [columns]any
	unknown []unknown // columns that the layout does not know
}

type unknown struct {
	name  string
	value any
}

// show writes a value for people.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return fmt.Sprintf("%.200q", v)
	case []byte:
		return fmt.Sprintf("a blob of %d bytes (%.32x)", len(v), v)
	}
	return fmt.Sprint(v)
}

// text returns a value as text: numbers in decimal, a blob as the bytes it is.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}

// none reports whether a value says nothing.
func none(v any) bool { return text(v) == "" }

// details is what registry.Origin has as its Details.
type details struct {
	// Kept is, by column, what was in the row but is not what would be written
	// of the version.
	Kept map[string]kept `json:"kept,omitempty"`

	// Columns is what was in columns that the layout does not know.
	Columns map[string]json.RawMessage `json:"columns,omitempty"`

	// Metadata says that the metadata's extra is all of the metadata, and what
	// it was: one of the forms.
	Metadata form `json:"metadata_form,omitzero"`

	// WeightsFile is where the weights were, if the column does not say so.
	WeightsFile string `json:"weights_file,omitzero"`

	// Unread is the text of a metadata.json that says nothing.
	Unread string `json:"unread_metadata_json,omitzero"`

	// Orphan says that no row named the file.
	Orphan bool `json:"orphan,omitzero"`

	// DroppedParent is the id of a parent that could not be imported; package
	// migrate adds it.
	DroppedParent string `json:"dropped_parent,omitzero"`
}

// kept is a value that was in the source.
type kept struct {
	Was json.RawMessage `json:"was"` // see encode

	// As marks what heft has in its place; "": nothing that can change. As long
	// as heft has that, it is written back as it was.
	As string `json:"as,omitzero"`
}

// mark returns a short text that stands for s: itself, or its hash. It is never
// empty.
func mark(s string) string {
	if len(s) <= 64 && utf8.ValidString(s) {
		return "=" + s
	}
	return "b3:" + blob.Digest(blake3.Sum256([]byte(s))).String()
}

// encode writes a value as JSON: null, a number, a string, or an object with one
// member for what JSON has no form for: {"base64": of a blob}, {"text": in
// base64, since it is not UTF-8}, {"real": "Inf"}.
func encode(v any) json.RawMessage {
	as := v
	switch v := v.(type) {
	case json.RawMessage:
		return v
	case []byte:
		as = map[string]string{"base64": base64.StdEncoding.EncodeToString(v)}
	case string:
		if !utf8.ValidString(v) {
			as = map[string]string{"text": base64.StdEncoding.EncodeToString([]byte(v))}
		}
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if v == math.Trunc(v) {
			as = map[string]string{"real": s} // 2.0 is no integer
		} else {
			as = json.Number(s)
		}
	}
	raw, err := canon.Marshal(as)
	if err != nil {
		return json.RawMessage("null") // unreachable: all of the above has a form
	}
	return raw
}

// decode is the inverse of encode.
func decode(raw json.RawMessage) (any, error) {
	var v any
	if err := canon.Decode(raw, &v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil, string:
		return v, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case map[string]any:
		if s, ok := v["base64"].(string); ok {
			return base64.StdEncoding.DecodeString(s)
		}
		if s, ok := v["text"].(string); ok {
			b, err := base64.StdEncoding.DecodeString(s)
			return string(b), err
		}
		if s, ok := v["real"].(string); ok {
			return strconv.ParseFloat(s, 64)
		}
	}
	return nil, fmt.Errorf("%.100s is no value of a column", raw)
}

// hexText returns bytes as text that is never that of a UUID.
func hexText(b []byte) string { return "x'" + hex.EncodeToString(b) + "'" }
