package canon

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// escape reads an escape, the next byte being its backslash, and returns the
// character that it stands for.
func (s *scanner) escape() (rune, error) {
	offset := s.pos
	s.pos++
	c := s.peek()
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case '"', '\\', '/':
	case 'u':
		return s.escapedUnit(offset)
	default:
		return 0, s.syntax(`one of "\/bfnrtu`)
	}
	s.pos++
	return rune(c), nil
}

// escapedUnit reads a \u escape that began at offset, and the one after it if
// the two make a surrogate pair. The next byte is the u.
func (s *scanner) escapedUnit(offset int) (rune, error) {
	s.pos++
	r, err := s.hex4()
	if err != nil {
		return 0, err
	}
	if r == utf8.RuneError && s.filled == refuseFilled {
		return 0, s.fail(RuleUTF8, offset)
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.pos+1 >= len(s.raw) || s.raw[s.pos] != '\\' || s.raw[s.pos+1] != 'u' {
		return 0, s.fail(RuleSurrogate, offset)
	}
	s.pos += 2
	low, err := s.hex4()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, s.fail(RuleSurrogate, offset)
	}
	return r, nil
}

// hex4 reads four hexadecimal digits.
func (s *scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		c := s.peek()
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, s.syntax("a hexadecimal digit")
		}
		r = r<<4 | rune(c)
		s.pos++
	}
	return r, nil
}

// appendRune appends r to b as a canonical string holds it.
func appendRune(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r >= 0x20:
		return utf8.AppendRune(b, r)
	}
	switch r {
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
}

// unescape returns what the inside of a canonical string stands for: text
// itself if it has no escapes.
func unescape(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	s := scanner{raw: text}
	b := make([]byte, 0, len(text))
	for s.pos < len(text) {
		if c := text[s.pos]; c != '\\' {
			b = append(b, c)
			s.pos++
			continue
		}
		r, err := s.escape()
		if err != nil {
			return nil, err
		}
		b = append(b, byte(r)) // canonical escapes stand for ASCII only
	}
	return b, nil
}
