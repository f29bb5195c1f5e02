// Package canon writes canonical JSON: one byte sequence for one value.
//
// The form: no white space; the members of an object sorted by the bytes of
// their keys (decoded, UTF-8), each key once; strings with the shortest
// escapes, which are \" \\ \b \f \n \r \t and, for the other control
// characters below U+0020, \u00xx in lower case; all else, <, > and & and
// U+2028 too, as itself; numbers exactly as they were spelled, so 1 and 1.0
// are two values. Unlike RFC 8785 it neither re-spells numbers nor sorts keys
// by UTF-16 units, so nothing is lost to floating point.
//
// All functions are safe for concurrent use.
package canon

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Limits. A record or manifest past these is a mistake or an attack: 16 MiB
// holds a manifest of more than 50,000 files at 300 bytes each, and heft's own
// records nest fewer than ten levels, with the rest left for a user's metadata.
const (
	// MaxBytes is the most bytes of JSON text that is read or written.
	MaxBytes = 16 << 20
	// MaxDepth is how deep objects and arrays may nest; a lone number has
	// depth 0 and "{}" has depth 1.
	MaxDepth = 64
)

// Marshal returns v as canonical JSON. What v means as JSON is decided by
// encoding/json: struct tags, Marshaler, TextMarshaler, json.Number.
//
// It differs from encoding/json where that would change data: a string that is
// not UTF-8 is an error here, not silently filled with U+FFFD, and so is an
// object with the same key twice. It can't tell such a filling from a \ufffd
// escape in a json.RawMessage, so it refuses both: pass raw messages through
// Compact first. Offsets in errors refer to the text that encoding/json wrote.
// Whatever it returns, Compact returns unchanged, and Decode accepts.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("canon: encoding %T: %w", v, err)
	}
	s := scanner{raw: buf.Bytes(), out: make([]byte, 0, buf.Len()), filled: refuseFilled}
	if err := s.document(); err != nil {
		return nil, err
	}
	if len(s.out) > MaxBytes {
		return nil, &Error{Offset: MaxBytes, Rule: RuleTooLarge}
	}
	return s.out, nil
}

// Compact returns the canonical form of the JSON text raw, in memory of its
// own. It accepts what encoding/json accepts, less: duplicate keys
// (*DuplicateKeyError), invalid UTF-8, unpaired surrogate escapes, more than
// MaxDepth levels or MaxBytes bytes (*Error, like any syntax error). Both error
// types wrap ErrInvalid and carry the byte offset in raw.
//
// The result is never longer than raw, and Compact of it is itself.
func Compact(raw []byte) ([]byte, error) {
	if len(raw) > MaxBytes {
		return nil, &Error{Offset: MaxBytes, Rule: RuleTooLarge}
	}
	s := scanner{raw: raw, out: make([]byte, 0, len(raw))}
	if err := s.document(); err != nil {
		return nil, err
	}
	return s.out, nil
}

// Decode stores the JSON text raw in v, a non-nil pointer, by the rules of
// encoding/json, but refuses what Compact refuses and object keys that have no
// field in v. A number meant for an interface becomes a json.Number, so that
// Marshal can write it as it was. A json.RawMessage in v receives canonical
// text. On error v may be partly set.
//
// Errors about the text wrap ErrInvalid, with the offset in raw; those about
// v wrap the error of encoding/json, whose offset is in the canonical form.
//
// BUG(canon): encoding/json matches a key to a field without regard to letter
// case, so {"Size":1} sets a field tagged "size". A caller for whom the text
// must be exactly what it would have written should compare it with Marshal of
// what was decoded.
func Decode(raw []byte, v any) error {
	text, err := Compact(raw)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("canon: decoding into %T: %w", v, err)
	}
	return nil
}
