package index

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// DifferenceKind says how an entry of index.db differs from what it should be.
type DifferenceKind uint8

const (
	// Missing is an entry that should be there.
	Missing DifferenceKind = iota + 1
	// Unexpected is an entry that should not be there.
	Unexpected
	// Changed is an entry that should say something else.
	Changed
	// Misleading is a hint at a frame that leads to another one. It is checked
	// before it is used, so it costs time and space, never a byte.
	Misleading
)

// String returns the kind in small letters.
func (k DifferenceKind) String() string {
	switch k {
	case Missing:
		return "missing"
	case Unexpected:
		return "unexpected"
	case Changed:
		return "changed"
	case Misleading:
		return "misleading"
	}
	return fmt.Sprintf("DifferenceKind(%d)", uint8(k))
}

// MarshalText implements encoding.TextMarshaler.
func (k DifferenceKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Difference is an entry of index.db that is not what the journal and the blobs
// say. Whatever it is, [Index.Rebuild] puts it right.
type Difference struct {
	Bucket string         // where it is: versions, names, paths, blobs, ...
	Key    []byte         // of the entry
	Kind   DifferenceKind // what is wrong with it
}

// Error describes the difference: a Difference can be returned as an error.
func (d *Difference) Error() string {
	return fmt.Sprintf("index: index.db has not what the journal and the blobs say: %s: rebuild the index", d.String())
}

// String returns bucket, key and kind for people.
func (d *Difference) String() string {
	return fmt.Sprintf("%s entry of bucket %s at key %s", d.Kind, d.Bucket, d.KeyText())
}

// KeyText returns the key for people: texts that NUL parts as they are, with a
// space in its place, others in hex; at most 128 bytes of it.
func (d *Difference) KeyText() string {
	key := d.Key[:min(len(d.Key), 128)]
	if text := strings.ReplaceAll(string(key), "\x00", " "); utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0 {
		return text
	}
	return fmt.Sprintf("%x", key)
}
