// Package name holds the names a user may give, parsed once into types that
// cannot hold a bad one.
//
// Each type is a small value: comparable with ==, usable as a map key, safe to
// share between goroutines. Its zero value means "none". Names are compared by
// their bytes: letter case counts, and no Unicode normalization is applied, so
// a composed and a decomposed é are two names.
package name

// Limits, in bytes of UTF-8.
//
// NAME_MAX is 255 bytes on ext4, XFS, Btrfs, ZFS and APFS, so with these limits
// a tree of names can be written out as folders, and a whole name also fits a
// single file name when its slashes are replaced. The 128 bytes for a component,
// a version or an alias leave room for a suffix (".tmp", a hash) beside it.
// PATH_MAX is 1024 bytes on macOS, the smallest of the usual systems (Linux
// has 4096).
const (
	// MaxName is the most bytes in a Name.
	MaxName = 255
	// MaxNameComponent is the most bytes between two slashes of a Name.
	MaxNameComponent = 128
	// MaxVersion is the most bytes in a Version.
	MaxVersion = 128
	// MaxAlias is the most bytes in an Alias.
	MaxAlias = 128
	// MaxPath is the most bytes in a Path.
	MaxPath = 1024
	// MaxPathComponent is the most bytes between two slashes of a Path.
	MaxPathComponent = 255
)

// Name is what a model is called, such as "team/resnet-50": one or more
// components parted by '/'. It holds no ':' or '@', so that a reference splits
// one way only. "b3" and anything shaped like a UUID are reserved, because in
// a reference they mean a manifest or an id.
type Name struct{ s string }

// ParseName returns s as a Name. Its error is a *Error.
func ParseName(s string) (Name, error) {
	if err := check(KindOfName, s); err != nil {
		return Name{}, err
	}
	return Name{s}, nil
}

// String returns the text that was parsed; the zero Name gives "".
func (n Name) String() string { return n.s }

// IsZero reports whether n is the zero Name, which names nothing.
func (n Name) IsZero() bool { return n.s == "" }

// MarshalText returns the text of n. The zero Name is a *Error with RuleEmpty,
// since it could not be read back: mark an optional field omitzero.
func (n Name) MarshalText() ([]byte, error) { return marshal(KindOfName, n.s) }

// UnmarshalText sets n to what ParseName makes of text. On error n is unchanged.
func (n *Name) UnmarshalText(text []byte) error {
	p, err := ParseName(string(text))
	if err != nil {
		return err
	}
	*n = p
	return nil
}

// Version is the label of one release of a model, such as "1.4.0", "7" or
// "night-run". It is a single component without ':' or '@'. Compare orders
// versions.
type Version struct{ s string }

// ParseVersion returns s as a Version. Its error is a *Error.
func ParseVersion(s string) (Version, error) {
	if err := check(KindOfVersion, s); err != nil {
		return Version{}, err
	}
	return Version{s}, nil
}

// String returns the text that was parsed; the zero Version gives "".
func (v Version) String() string { return v.s }

// IsZero reports whether v is the zero Version, which labels nothing.
func (v Version) IsZero() bool { return v.s == "" }

// MarshalText returns the text of v. The zero Version is a *Error with
// RuleEmpty, since it could not be read back: mark an optional field omitzero.
func (v Version) MarshalText() ([]byte, error) { return marshal(KindOfVersion, v.s) }

// UnmarshalText sets v to what ParseVersion makes of text. On error v is
// unchanged.
func (v *Version) UnmarshalText(text []byte) error {
	p, err := ParseVersion(string(text))
	if err != nil {
		return err
	}
	*v = p
	return nil
}

// Alias is a movable label for a version, such as "production". The rules are
// those of a Version, and an alias may look like a version number: where both
// exist with the same text, the version wins.
type Alias struct{ s string }

// ParseAlias returns s as an Alias. Its error is a *Error.
func ParseAlias(s string) (Alias, error) {
	if err := check(KindOfAlias, s); err != nil {
		return Alias{}, err
	}
	return Alias{s}, nil
}

// String returns the text that was parsed; the zero Alias gives "".
func (a Alias) String() string { return a.s }

// IsZero reports whether a is the zero Alias, which labels nothing.
func (a Alias) IsZero() bool { return a.s == "" }

// MarshalText returns the text of a. The zero Alias is a *Error with
// RuleEmpty, since it could not be read back: mark an optional field omitzero.
func (a Alias) MarshalText() ([]byte, error) { return marshal(KindOfAlias, a.s) }

// UnmarshalText sets a to what ParseAlias makes of text. On error a is
// unchanged.
func (a *Alias) UnmarshalText(text []byte) error {
	p, err := ParseAlias(string(text))
	if err != nil {
		return err
	}
	*a = p
	return nil
}

// Path is the place of a file inside a version, such as "weights/model.bin":
// relative, parted by '/', valid for fs.ValidPath and never ".". It may hold
// ':' and '@' and the names of Windows devices, because real trees do; whoever
// writes a tree out on such a system must go through os.Root, which refuses
// what it cannot write.
type Path struct{ s string }

// ParsePath returns s as a Path. Its error is a *Error. It cleans nothing:
// "a//b" and "./a" are refused, not repaired.
func ParsePath(s string) (Path, error) {
	if err := check(KindOfPath, s); err != nil {
		return Path{}, err
	}
	return Path{s}, nil
}

// String returns the text that was parsed; the zero Path gives "".
func (p Path) String() string { return p.s }

// IsZero reports whether p is the zero Path, which is no place at all.
func (p Path) IsZero() bool { return p.s == "" }

// MarshalText returns the text of p. The zero Path is a *Error with RuleEmpty,
// since it could not be read back: mark an optional field omitzero.
func (p Path) MarshalText() ([]byte, error) { return marshal(KindOfPath, p.s) }

// UnmarshalText sets p to what ParsePath makes of text. On error p is
// unchanged.
func (p *Path) UnmarshalText(text []byte) error {
	q, err := ParsePath(string(text))
	if err != nil {
		return err
	}
	*p = q
	return nil
}

func marshal(kind Kind, s string) ([]byte, error) {
	if s == "" {
		return nil, &Error{Kind: kind, Rule: RuleEmpty}
	}
	return []byte(s), nil
}
