package canon

import (
	"fmt"
	"io/fs"
	"strconv"
)

// ErrInvalid is what every error about JSON text wraps; it wraps fs.ErrInvalid.
var ErrInvalid = fmt.Errorf("canon: %w", fs.ErrInvalid)

// Rule says which rule a text broke.
type Rule string

// The rules.
const (
	// RuleSyntax means that the text is not JSON; Error.Detail says why.
	RuleSyntax Rule = "syntax"
	// RuleTrailing means that something follows the value.
	RuleTrailing Rule = "trailing data"
	// RuleUTF8 means that a string is not UTF-8.
	RuleUTF8 Rule = "utf-8"
	// RuleSurrogate means that a \u escape is half of a surrogate pair.
	RuleSurrogate Rule = "surrogate"
	// RuleTooDeep means that objects and arrays nest more than MaxDepth levels.
	RuleTooDeep Rule = "too deep"
	// RuleTooLarge means that the text has more than MaxBytes bytes.
	RuleTooLarge Rule = "too large"
)

// Error tells where and why a text was refused. It wraps ErrInvalid.
type Error struct {
	Offset int    // in bytes from the start of the text
	Rule   Rule   // the rule that the text breaks
	Detail string // for RuleSyntax, what was found or missed
}

// Error names the rule and the offset, and says what to do.
func (e *Error) Error() string {
	var what string
	switch e.Rule {
	case RuleTrailing:
		what = "more text follows the value; give one value only"
	case RuleUTF8:
		what = "a string is not UTF-8; convert it or store it as bytes"
	case RuleSurrogate:
		what = `a \u escape is half of a surrogate pair; write both halves or the character itself`
	case RuleTooDeep:
		what = fmt.Sprintf("nested deeper than %d levels; flatten it", MaxDepth)
	case RuleTooLarge:
		what = fmt.Sprintf("longer than %d bytes; store the data as a file instead", MaxBytes)
	default:
		what = "not JSON: " + e.Detail + "; correct the text"
	}
	return fmt.Sprintf("canon: at byte %d: %s", e.Offset, what)
}

// Unwrap returns ErrInvalid.
func (e *Error) Unwrap() error { return ErrInvalid }

// DuplicateKeyError tells that an object has a key twice, possibly spelled
// with different escapes. It wraps ErrInvalid.
type DuplicateKeyError struct {
	Key    string // decoded; not made safe to print
	Offset int    // of the second one's opening quote, in bytes from the start
}

// Error names the key (quoted, at most 64 bytes of it) and the offset.
func (e *DuplicateKeyError) Error() string {
	key, more := e.Key, ""
	if len(key) > 64 {
		key, more = key[:64], "..."
	}
	return fmt.Sprintf("canon: at byte %d: key %s%s is there twice in one object; keep one",
		e.Offset, strconv.Quote(key), more)
}

// Unwrap returns ErrInvalid.
func (e *DuplicateKeyError) Unwrap() error { return ErrInvalid }
