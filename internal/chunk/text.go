package chunk

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// maxNesting is how deep the values of a header may be nested: __metadata__ is
// an object of strings, so 64 is generous, and the scanner recurses.
const maxNesting = 64

// text reads JSON (RFC 8259) front to back. encoding/json's token stream would
// do, but takes a second for a header of 10 MB and allocates for each token.
type text struct {
	raw []byte
	pos int
}

// peek returns the next byte; 0, which is valid nowhere outside of a string,
// at the end.
func (s *text) peek() byte {
	if s.pos < len(s.raw) {
		return s.raw[s.pos]
	}
	return 0
}

func (s *text) space() {
	for s.pos < len(s.raw) {
		switch s.raw[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// accept passes over c if it comes next, after white space.
func (s *text) accept(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object. It calls member after each key and its colon, to
// read the value.
func (s *text) object(member func(key string) error) error {
	if !s.accept('{') {
		return errNone
	}
	if s.accept('}') {
		return nil
	}
	for {
		s.space()
		key, err := s.string()
		if err != nil {
			return err
		}
		if !s.accept(':') {
			return errNone
		}
		if err := member(key); err != nil {
			return err
		}
		if s.accept('}') {
			return nil
		}
		if !s.accept(',') {
			return errNone
		}
	}
}

// array reads an array. It calls element to read each value.
func (s *text) array(element func() error) error {
	if !s.accept('[') {
		return errNone
	}
	if s.accept(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.accept(']') {
			return nil
		}
		if !s.accept(',') {
			return errNone
		}
	}
}

// numbers reads an array of at most limit unsigned integers.
func (s *text) numbers(limit int) ([]uint64, error) {
	list := make([]uint64, 0, 4) // most have fewer dimensions
	err := s.array(func() error {
		s.space()
		n, err := s.number()
		if err != nil || len(list) == limit {
			return errNone
		}
		list = append(list, n)
		return nil
	})
	return list, err
}

// number reads an integer from 0 to 2^64-1.
func (s *text) number() (uint64, error) {
	start := s.pos
	var n uint64
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		d := uint64(c - '0')
		if n > (1<<64-1-d)/10 {
			return 0, errNone
		}
		n = n*10 + d
		s.pos++
	}
	if s.pos == start || s.raw[start] == '0' && s.pos-start > 1 {
		return 0, errNone
	}
	return n, nil
}

// string reads a string, after white space.
func (s *text) string() (string, error) {
	s.space()
	start := s.pos
	if err := s.pass(); err != nil {
		return "", err
	}
	raw := s.raw[start:s.pos]
	if !utf8.Valid(raw) {
		return "", errNone
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var out string
	if json.Unmarshal(raw, &out) != nil {
		return "", errNone
	}
	return out, nil
}

// pass passes over a string. Its escapes aren't checked.
func (s *text) pass() error {
	if s.peek() != '"' {
		return errNone
	}
	for i := s.pos + 1; i < len(s.raw); i++ {
		switch c := s.raw[i]; {
		case c == '"':
			s.pos = i + 1
			return nil
		case c == '\\':
			i++
		case c < ' ':
			return errNone
		}
	}
	return errNone
}

// skip passes over any value, inside of depth others. What it passes over isn't
// checked beyond strings and brackets: nothing is taken from there.
func (s *text) skip(depth int) error {
	s.space()
	switch s.peek() {
	case '{', '[':
		if depth == maxNesting {
			return errNone
		}
		if s.peek() == '[' {
			return s.array(func() error { return s.skip(depth + 1) })
		}
		return s.object(func(string) error { return s.skip(depth + 1) })
	case '"':
		return s.pass()
	}
	start := s.pos
	for s.pos < len(s.raw) {
		switch c := s.raw[s.pos]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'E':
			s.pos++
			continue
		}
		break
	}
	if s.pos == start {
		return errNone
	}
	return nil
}
