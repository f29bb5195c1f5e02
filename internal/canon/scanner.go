package canon

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf8"
)

// fillPolicy says what a \ufffd escape means.
type fillPolicy uint8

const (
	keepFilled   fillPolicy = iota // the character U+FFFD
	refuseFilled                   // encoding/json's mark for a byte that was not UTF-8
)

// scanner reads JSON text once and appends its canonical form to out. Objects
// whose keys come in order, which all canonical text has, are never moved; in
// others the members are written as they come and put in order at the closing
// brace.
type scanner struct {
	raw     []byte
	pos     int // of the next byte in raw
	out     []byte
	filled  fillPolicy
	members []member // of all objects that are open, innermost last
	scratch []byte   // for reordering
}

// member is one member of an object that is open.
type member struct {
	key        []byte // decoded; where it has no escapes, a part of out that moves only with its object
	start, end int    // of key, colon and value, in out
	offset     int    // of the key, in raw
}

// document reads one value and the white space around it.
func (s *scanner) document() error {
	s.space()
	if err := s.value(0); err != nil {
		return err
	}
	s.space()
	if s.pos < len(s.raw) {
		return s.fail(RuleTrailing, s.pos)
	}
	return nil
}

func (s *scanner) fail(rule Rule, offset int) error {
	return &Error{Offset: offset, Rule: rule}
}

// syntax returns the error that want was not found at the current place.
func (s *scanner) syntax(want string) error {
	if s.pos >= len(s.raw) {
		return &Error{Offset: s.pos, Rule: RuleSyntax, Detail: "the text ends where " + want + " is due"}
	}
	return &Error{Offset: s.pos, Rule: RuleSyntax, Detail: "expected " + want}
}

// peek returns the next byte, or 0 at the end. A NUL byte is not valid
// anywhere outside of a string, so callers need not tell the two apart.
func (s *scanner) peek() byte {
	if s.pos < len(s.raw) {
		return s.raw[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.raw) {
		switch s.raw[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// value reads one value inside of depth open objects and arrays. The next byte
// is not white space.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); c {
	case '{', '[':
		if depth == MaxDepth {
			return s.fail(RuleTooDeep, s.pos)
		}
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case '"':
		return s.text()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number()
	}
	return s.syntax("a value")
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.raw[s.pos:], []byte(word)) {
		return s.syntax(word)
	}
	s.pos += len(word)
	s.out = append(s.out, word...)
	return nil
}

// number copies -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? (RFC 8259 §6).
func (s *scanner) number() error {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.syntax("a digit")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.syntax("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.syntax("a digit")
		}
	}
	s.out = append(s.out, s.raw[start:s.pos]...)
	return nil
}

// digits skips digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

// array reads an array; the next byte is its bracket.
func (s *scanner) array(depth int) error {
	s.pos++
	s.out = append(s.out, '[')
	s.space()
	if s.peek() == ']' {
		s.pos++
		s.out = append(s.out, ']')
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		c := s.peek()
		if c != ',' && c != ']' {
			return s.syntax("',' or ']'")
		}
		s.pos++
		s.out = append(s.out, c)
		if c == ']' {
			return nil
		}
		s.space()
	}
}

// object reads an object; the next byte is its brace.
func (s *scanner) object(depth int) error {
	s.pos++
	s.out = append(s.out, '{')
	s.space()
	if s.peek() == '}' {
		s.pos++
		s.out = append(s.out, '}')
		return nil
	}
	if s.members == nil {
		s.members = make([]member, 0, 16) // the records of heft have fewer fields
	}
	first := len(s.members)
	for {
		m, err := s.member(depth)
		if err != nil {
			return err
		}
		s.members = append(s.members, m)
		s.space()
		c := s.peek()
		if c != ',' && c != '}' {
			return s.syntax("',' or '}'")
		}
		s.pos++
		s.out = append(s.out, c)
		if c == '}' {
			break
		}
		s.space()
	}
	err := s.order(s.members[first:])
	s.members = s.members[:first]
	return err
}

// member reads a key, a colon and a value.
func (s *scanner) member(depth int) (member, error) {
	m := member{start: len(s.out), offset: s.pos}
	if s.peek() != '"' {
		return m, s.syntax("a key in quotes")
	}
	if err := s.text(); err != nil {
		return m, err
	}
	var err error
	if m.key, err = unescape(s.out[m.start+1 : len(s.out)-1]); err != nil {
		return m, err
	}
	s.space()
	if s.peek() != ':' {
		return m, s.syntax("':'")
	}
	s.pos++
	s.out = append(s.out, ':')
	s.space()
	err = s.value(depth)
	m.end = len(s.out)
	return m, err
}

// order sorts the members of the object that out ends with. They fill it from
// the first member's start to its closing brace, with a byte between each two.
func (s *scanner) order(members []member) error {
	sorted := true
	for i := 1; i < len(members) && sorted; i++ {
		sorted = bytes.Compare(members[i-1].key, members[i].key) < 0
	}
	if sorted {
		return nil
	}
	start, end := members[0].start, members[len(members)-1].end
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(a.offset, b.offset))
	})
	if err := duplicate(members); err != nil {
		return err
	}
	s.scratch = append(s.scratch[:0], s.out[start:end]...)
	at := start
	for i, m := range members {
		if i > 0 {
			s.out[at] = ','
			at++
		}
		at += copy(s.out[at:], s.scratch[m.start-start:m.end-start])
	}
	return nil
}

// duplicate returns an error for the first key in the text that was there
// before. The members are sorted, equal keys in the order of the text.
func duplicate(members []member) error {
	var dup *DuplicateKeyError
	for i := 1; i < len(members); i++ {
		m := members[i]
		if bytes.Equal(members[i-1].key, m.key) && (dup == nil || m.offset < dup.Offset) {
			dup = &DuplicateKeyError{Key: string(m.key), Offset: m.offset}
		}
	}
	if dup == nil {
		return nil
	}
	return dup
}

// text reads a string; the next byte is its opening quote.
func (s *scanner) text() error {
	s.pos++
	s.out = append(s.out, '"')
	start := s.pos // of what is not yet copied to out
	for s.pos < len(s.raw) {
		c := s.raw[s.pos]
		switch {
		case c == '"':
			s.out = append(s.out, s.raw[start:s.pos]...)
			s.out = append(s.out, '"')
			s.pos++
			return nil
		case c == '\\':
			s.out = append(s.out, s.raw[start:s.pos]...)
			r, err := s.escape()
			if err != nil {
				return err
			}
			s.out = appendRune(s.out, r)
			start = s.pos
		case c < 0x20:
			return s.syntax("an escape in place of a control character")
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.raw[s.pos:])
			if r == utf8.RuneError && n == 1 {
				return s.fail(RuleUTF8, s.pos)
			}
			s.pos += n
		}
	}
	return s.syntax("a closing quote")
}
