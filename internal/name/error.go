package name

import (
	"fmt"
	"io/fs"
	"strconv"
	"unicode/utf8"
)

// ErrInvalid is what every error of this package wraps; it wraps fs.ErrInvalid.
var ErrInvalid = fmt.Errorf("name: %w", fs.ErrInvalid)

// Kind says what a text was meant to be.
type Kind string

// The kinds of text that this package parses.
const (
	KindOfName      Kind = "name"
	KindOfVersion   Kind = "version"
	KindOfAlias     Kind = "alias"
	KindOfPath      Kind = "path"
	KindOfReference Kind = "reference"
)

// Rule says which rule a text broke.
type Rule string

// The rules. A text that breaks several is reported for one: empty and too
// long (as a whole) first, then not UTF-8, then the first bad character, then
// a leading slash, then the first bad component, then a leading dash, then
// a reserved form of the whole.
const (
	// RuleEmpty means that the text is empty.
	RuleEmpty Rule = "empty"
	// RuleAbsolute means that the text begins with '/'.
	RuleAbsolute Rule = "absolute"
	// RuleParent means that a component is "..".
	RuleParent Rule = "parent"
	// RuleDot means that a component is ".".
	RuleDot Rule = "dot"
	// RuleEmptyComponent means that two slashes follow each other or one ends the text.
	RuleEmptyComponent Rule = "empty component"
	// RuleNUL means that the text holds a NUL byte.
	RuleNUL Rule = "nul"
	// RuleBackslash means that the text holds a backslash.
	RuleBackslash Rule = "backslash"
	// RuleControl means that the text holds a control character (C0, DEL, C1) or
	// a line or paragraph separator (U+2028, U+2029).
	RuleControl Rule = "control"
	// RuleInvisible means that the text holds a character that is not seen or that
	// turns the direction of writing, so that two names could look alike.
	RuleInvisible Rule = "invisible"
	// RuleTooLong means that the text or a component has more bytes than Error.Limit.
	RuleTooLong Rule = "too long"
	// RuleNotUTF8 means that the text is not UTF-8.
	RuleNotUTF8 Rule = "not UTF-8"
	// RuleSeparator means that the text holds ':' or '@' or, in a version or an alias,
	// '/', which part a reference.
	RuleSeparator Rule = "separator"
	// RuleReserved means that a component is a Windows device name, or a name is "b3"
	// or a UUID.
	RuleReserved Rule = "reserved"
	// RuleEdge means that a component begins or ends with a space, or ends with '.',
	// which Windows drops and people overlook.
	RuleEdge Rule = "edge"
	// RuleDash means that the text begins with '-' and would read as a flag.
	RuleDash Rule = "dash"
	// RuleHash means that what should be the beginning of a hash is not MinHex to
	// MaxHex hexadecimal digits.
	RuleHash Rule = "hash"
)

// Error tells why a text was refused. It wraps ErrInvalid.
type Error struct {
	Kind  Kind   // what the text was meant to be
	Input string // the whole text as given, not made safe to print
	Rule  Rule   // the rule that it breaks
	Limit int    // for RuleTooLong the most bytes allowed, else 0

	part string // what of Input broke the rule; "" means all of it
}

// maxQuoted is how many bytes of the input an error text repeats: enough to
// know which of many names it was, on one line of a terminal of 80 columns.
const maxQuoted = 64

// Error names the text (quoted, at most 64 bytes of it), the rule and what to
// do about it.
func (e *Error) Error() string {
	in, more := e.Input, ""
	if len(in) > maxQuoted {
		n := maxQuoted
		for n > maxQuoted-utf8.UTFMax && !utf8.RuneStart(in[n]) {
			n--
		}
		in, more = in[:n], "..."
	}
	part := ""
	if e.part != "" {
		part = ": " + e.part
	}
	return fmt.Sprintf("name: %s %s%s%s %s", e.Kind, strconv.Quote(in), more, part, e.advice())
}

// Unwrap returns ErrInvalid.
func (e *Error) Unwrap() error { return ErrInvalid }

// advice says what is wrong and what to do, to follow a subject.
func (e *Error) advice() string {
	switch e.Rule {
	case RuleEmpty:
		return "is empty; give at least one character"
	case RuleAbsolute:
		return "begins with '/'; make it relative"
	case RuleParent:
		return `has a ".." component; write it without going up`
	case RuleDot:
		return `has a "." component; leave that out`
	case RuleEmptyComponent:
		return "has an empty component; remove the doubled or trailing '/'"
	case RuleNUL:
		return "has a NUL byte; remove it"
	case RuleBackslash:
		return `has a backslash; part components with '/'`
	case RuleControl:
		return "has a control character or line separator; remove it"
	case RuleInvisible:
		return "has an invisible or direction-changing character; remove it"
	case RuleTooLong:
		return fmt.Sprintf("is longer than %d bytes; shorten it", e.Limit)
	case RuleNotUTF8:
		return "is not UTF-8; convert it"
	case RuleSeparator:
		return "has a character that parts references (':', '@' or, outside of names, '/'); use '-' or '_' instead"
	case RuleReserved:
		return `is or has a reserved word (a Windows device such as "con" or "com1"; for a whole name also "b3" and UUIDs); choose another`
	case RuleEdge:
		return "has a component that begins or ends with a space or ends with '.'; remove that"
	case RuleDash:
		return "begins with '-' and would read as a flag; begin it with a letter or digit"
	case RuleHash:
		return fmt.Sprintf("is not %d to %d hexadecimal digits; copy the hash from a listing", MinHex, MaxHex)
	}
	return "breaks rule " + strconv.Quote(string(e.Rule))
}
