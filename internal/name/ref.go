package name

import (
	"strings"

	"github.com/google/uuid"
)

// The length of the beginning of a hash in a reference, in hexadecimal digits.
// Four are few enough to type and tell 65536 apart; 64 are all of a BLAKE3-256.
const (
	MinHex = 4
	MaxHex = 64
)

// manifestWord and manifestPrefix begin a reference to a manifest, as they do
// wherever a hash says which function made it.
const (
	manifestWord   = "b3"
	manifestPrefix = manifestWord + ":"
)

// RefKind says what a reference points with.
type RefKind uint8

// The kinds of reference. The zero RefKind is that of the zero Ref alone.
const (
	// KindLatest is "name": its latest version.
	KindLatest RefKind = iota + 1
	// KindLabel is "name:label": the version of that label, else the alias.
	KindLabel
	// KindHash is "name@hex": the version of that name whose manifest's hash
	// begins so.
	KindHash
	// KindID is a UUID with its dashes: the version of that id.
	KindID
	// KindManifest is "b3:hex": the version whose manifest's hash begins so.
	KindManifest
)

// String returns a word for k, for messages.
func (k RefKind) String() string {
	switch k {
	case KindLatest:
		return "latest"
	case KindLabel:
		return "label"
	case KindHash:
		return "hash"
	case KindID:
		return "id"
	case KindManifest:
		return "manifest"
	}
	return "none"
}

// Ref is a parsed reference to a version. Only ParseRef makes one; the fields
// that its Kind does not use are zero, so two references are equal with == when
// they say the same. The zero Ref refers to nothing.
type Ref struct {
	Kind  RefKind
	Name  Name      // KindLatest, KindLabel, KindHash
	Label string    // KindLabel: passes both ParseVersion and ParseAlias
	Hex   string    // KindHash, KindManifest: MinHex to MaxHex lower-case digits
	ID    uuid.UUID // KindID
}

// ParseRef returns the reference that s spells. Upper-case hexadecimal digits
// are taken and made lower-case. A bare word is a name even if it could be the
// beginning of a hash; only the registry knows which names exist. Its error is
// a *Error of KindOfReference, whose Rule is that of the part at fault.
func ParseRef(s string) (Ref, error) {
	if s == "" {
		return Ref{}, &Error{Kind: KindOfReference, Rule: RuleEmpty}
	}
	if isUUID(s) {
		id, err := uuid.Parse(s)
		if err == nil {
			return Ref{Kind: KindID, ID: id}, nil
		}
	}
	if prefix, ok := strings.CutPrefix(s, manifestPrefix); ok {
		hex, err := parseHex(s, prefix)
		if err != nil {
			return Ref{}, err
		}
		return Ref{Kind: KindManifest, Hex: hex}, nil
	}

	cut := strings.IndexAny(s, ":@")
	text := s
	if cut >= 0 {
		text = s[:cut]
	}
	if err := check(KindOfName, text); err != nil {
		return Ref{}, err.within(s, "the name")
	}
	r := Ref{Kind: KindLatest, Name: Name{text}}
	switch {
	case cut < 0:
		return r, nil
	case s[cut] == '@':
		hex, err := parseHex(s, s[cut+1:])
		if err != nil {
			return Ref{}, err
		}
		r.Kind, r.Hex = KindHash, hex
	default:
		label := s[cut+1:]
		if err := check(KindOfVersion, label); err != nil {
			return Ref{}, err.within(s, "the label")
		}
		r.Kind, r.Label = KindLabel, label
	}
	return r, nil
}

// String returns the reference in the form that ParseRef reads; the zero Ref
// gives "".
func (r Ref) String() string {
	switch r.Kind {
	case KindLatest:
		return r.Name.s
	case KindLabel:
		return r.Name.s + ":" + r.Label
	case KindHash:
		return r.Name.s + "@" + r.Hex
	case KindID:
		return r.ID.String()
	case KindManifest:
		return manifestPrefix + r.Hex
	}
	return ""
}

// IsZero reports whether r is the zero Ref, which refers to nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// MarshalText returns what String returns. The zero Ref is a *Error with
// RuleEmpty, since it could not be read back: mark an optional field omitzero.
func (r Ref) MarshalText() ([]byte, error) { return marshal(KindOfReference, r.String()) }

// UnmarshalText sets r to what ParseRef makes of text. On error r is unchanged.
func (r *Ref) UnmarshalText(text []byte) error {
	p, err := ParseRef(string(text))
	if err != nil {
		return err
	}
	*r = p
	return nil
}

// parseHex returns prefix in lower case if it can begin a hash. The error is
// about ref, the reference around it.
func parseHex(ref, prefix string) (string, error) {
	ok := len(prefix) >= MinHex && len(prefix) <= MaxHex
	for i := 0; ok && i < len(prefix); i++ {
		ok = isHexDigit(prefix[i])
	}
	if !ok {
		return "", &Error{Kind: KindOfReference, Input: ref, Rule: RuleHash, part: "the hash"}
	}
	return strings.ToLower(prefix), nil
}

// within turns an error about a part of ref into one about ref.
func (e *Error) within(ref, part string) *Error {
	if e.part != "" {
		part = e.part + " of " + part
	}
	return &Error{Kind: KindOfReference, Input: ref, Rule: e.Rule, Limit: e.Limit, part: part}
}

// isUUID reports whether s has the canonical form of a UUID, in any case:
// 8-4-4-4-12 hexadecimal digits (RFC 9562 §4).
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !isHexDigit(s[i]) {
				return false
			}
		}
	}
	return true
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
