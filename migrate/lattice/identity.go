package lattice

import (
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate/internal/entry"
)

// namespace is that of all UUIDs that are made up here, of type 5 (RFC 9562). It
// never changes: an id that is imported again has to become the same.
const namespace = "6f1c2b6e-6b0d-5a8e-9a53-0d8a3b1f7c11"

// derive returns the UUID of a text that is none.
func derive(what, text string) uuid.UUID {
	return entry.ID(namespace, what, text)
}

// identify returns the UUID that an id stands for and, unless it is that UUID in
// its usual form, the id as text. An id that says nothing gives uuid.Nil. It is
// the same for ids and for references to them, so that those still meet.
func identify(v any) (id uuid.UUID, legacy string) {
	switch v := v.(type) {
	case []byte:
		if len(v) == len(id) && uuid.UUID(v) != uuid.Nil {
			return uuid.UUID(v), hexText(v)
		}
		if len(v) == 0 {
			return uuid.Nil, ""
		}
		return derive("id", hexText(v)), hexText(v)
	default:
		s := text(v)
		if s == "" {
			return uuid.Nil, ""
		}
		id, ok := parseUUID(s)
		switch {
		case !ok:
			return derive("id", s), s
		case id.String() != s:
			return id, s
		}
		return id, ""
	}
}

// parseUUID reads the spellings of a UUID: upper and lower case, in braces, with
// the prefix urn:uuid:, without hyphens. The nil UUID identifies nothing.
func parseUUID(s string) (uuid.UUID, bool) {
	if len(s) == 38 && (s[0] != '{' || s[37] != '}') {
		return uuid.Nil, false // uuid.Parse takes anything for braces
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id != uuid.Nil
}

// nameless returns the id of a version that has none.
func nameless(name, version string) uuid.UUID {
	return derive("version", strings.Join([]string{name, version}, "\x00"))
}
