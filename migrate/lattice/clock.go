package lattice

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxMicros is the last microsecond of the year 9999.
const maxMicros = 253402300799999999

var errNotTime = errors.New("it is neither an integer (microseconds since 1970) nor digits nor RFC 3339 text")

// parseTime returns microseconds since 1970 UTC, never negative. An integer and
// a text of digits are just that, however short; other text has to be RFC 3339,
// with "T", "t" or a space between date and time, and any number of digits of
// a second, of which those after the sixth are dropped.
func parseTime(v any) (int64, error) {
	var micros int64
	switch v := v.(type) {
	case int64:
		micros = v
	case string:
		var err error
		if isDigits(strings.TrimPrefix(v, "-")) {
			micros, err = strconv.ParseInt(v, 10, 64)
		} else {
			micros, err = parseRFC3339(v)
		}
		if ne, ok := errors.AsType[*strconv.NumError](err); ok {
			err = ne.Err
		}
		if err != nil {
			return 0, err
		}
	default:
		return 0, errNotTime
	}
	switch {
	case micros < 0:
		return 0, errors.New("it is before 1970")
	case micros > maxMicros:
		return 0, errors.New("it is after the year 9999")
	}
	return micros, nil
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseRFC3339 is not time.Parse, which refuses t and z, a leap second and
// a space, and takes a comma.
func parseRFC3339(s string) (int64, error) {
	const shape = "0000-00-00?00:00:00"
	if len(s) <= len(shape) {
		return 0, errNotTime
	}
	for i, want := range []byte(shape) {
		c := s[i]
		ok := c == want
		switch want {
		case '0':
			ok = '0' <= c && c <= '9'
		case '?':
			ok = c == 'T' || c == 't' || c == ' '
		}
		if !ok {
			return 0, errNotTime
		}
	}
	number := func(from, to int) int {
		n, _ := strconv.Atoi(s[from:to]) // digits, as checked
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	rest := s[len(shape):]
	micro := 0
	if rest[0] == '.' {
		digits := rest[1:]
		digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
		if digits == "" {
			return 0, errNotTime
		}
		rest = rest[1+len(digits):]
		micro, _ = strconv.Atoi((digits + "000000")[:6])
	}
	offset, ok := parseOffset(rest)
	if !ok {
		return 0, errNotTime
	}
	t := time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
	// A day that the month does not have has become one of the next.
	if month == 0 || month > 12 || day == 0 || t.Day() != day || hour > 23 || minute > 59 || second > 60 {
		return 0, fmt.Errorf("there is no such time: %w", errNotTime)
	}
	// A leap second, 60, is the first of the next minute, as in Unix time.
	return t.Add(time.Duration(second)*time.Second-offset).UnixMicro() + int64(micro), nil
}

// parseOffset reads Z, z, or hours and minutes.
func parseOffset(s string) (time.Duration, bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != len("+00:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' || !isDigits(s[1:3]) || !isDigits(s[4:]) {
		return 0, false
	}
	hours, _ := strconv.Atoi(s[1:3])
	minutes, _ := strconv.Atoi(s[4:])
	d := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		d = -d
	}
	return d, hours <= 23 && minutes <= 59
}
