package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrPattern is wrapped by the error about a pattern that can't be used. It
// wraps fs.ErrInvalid.
var ErrPattern = fmt.Errorf("folder: pattern: %w", fs.ErrInvalid)

// maxPattern is the most bytes of a pattern: PATH_MAX on Linux, which no path
// that it could match passes.
const maxPattern = 4096

// The placeholders.
const (
	holdName    = "{name}"
	holdVersion = "{version}"
	holdAny     = "*"
)

// pattern is a parsed pattern.
type pattern struct {
	text   string
	root   string      // the folder to open
	levels []component // below the root, at least one
	folder bool        // ended by a slash: matches folders only
}

// component is what one level of the tree must be called.
type component struct {
	text    string
	literal bool           // only text itself matches
	match   *regexp.Regexp // unless literal; has one group for each of holds
	holds   []string       // holdName or holdVersion, in their order
}

// captured is what placeholders have matched so far.
type captured struct {
	name    string
	version string
}

// parsePattern reads a pattern; named says that the name is given elsewhere,
// so that it may have no {name}. Its error wraps ErrPattern.
func parsePattern(text string, named bool) (*pattern, error) {
	bad := func(format string, args ...any) (*pattern, error) {
		return nil, fmt.Errorf("%w: %.200q %s", ErrPattern, text, fmt.Sprintf(format, args...))
	}
	if len(text) > maxPattern {
		return bad("is longer than %d bytes: give the folders above the models as the working folder", maxPattern)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return bad("has a NUL byte: no path has one")
	}
	first := strings.IndexAny(text, "{}*")
	if first < 0 {
		return bad("has no %s: write it where the version stands, as in runs/{name}/step-{version}/", holdVersion)
	}
	head := text[:strings.LastIndexByte(text[:first], '/')+1]
	p := &pattern{text: text, root: filepath.Clean(filepath.FromSlash(head))}
	tail, ended := strings.CutSuffix(text[len(head):], "/")
	p.folder = ended

	count := map[string]int{}
	for c := range strings.SplitSeq(tail, "/") {
		level, err := parseComponent(c)
		if err != nil {
			return nil, fmt.Errorf("%w: %.200q: %w", ErrPattern, text, err)
		}
		for _, h := range level.holds {
			count[h]++
		}
		p.levels = append(p.levels, level)
	}
	switch {
	case count[holdVersion] != 1:
		return bad("has %s %d times: it is needed once", holdVersion, count[holdVersion])
	case count[holdName] == 0 && !named:
		return bad("has no %s: write it where the name stands, or give a name for all that it matches", holdName)
	case count[holdName] > 0 && named:
		return bad("has %s, but a name for all was given too: use one of them", holdName)
	}
	return p, nil
}

// parseComponent reads what is between two slashes.
func parseComponent(text string) (component, error) {
	switch text {
	case "":
		return component{}, errors.New("it has an empty part: remove the doubled slash")
	case ".", "..":
		return component{}, fmt.Errorf("it has %q after a placeholder: write that before the first one", text)
	}
	c := component{text: text, literal: true}
	var expr strings.Builder
	expr.WriteString(`(?s)\A`)
	held := "" // the placeholder that ends right here
	for rest := text; rest != ""; {
		hold := ""
		for _, h := range []string{holdName, holdVersion, holdAny} {
			if strings.HasPrefix(rest, h) {
				hold = h
			}
		}
		if hold == "" {
			n := strings.IndexAny(rest, "{}*")
			switch {
			case n == 0:
				return component{}, fmt.Errorf("%q is no placeholder: there are %s, %s and %s, and no way to mean a brace or an asterisk itself",
					rest, holdName, holdVersion, holdAny)
			case n < 0:
				n = len(rest)
			}
			expr.WriteString(regexp.QuoteMeta(rest[:n]))
			rest, held = rest[n:], ""
			continue
		}
		if held != "" {
			return component{}, fmt.Errorf("nothing parts %s from %s: write what stands between them", held, hold)
		}
		c.literal = false
		if hold == holdAny {
			expr.WriteString(`.*`)
		} else {
			expr.WriteString(`(.+)`)
			c.holds = append(c.holds, hold)
		}
		rest, held = rest[len(hold):], hold
	}
	if c.literal {
		return c, nil
	}
	expr.WriteString(`\z`)
	match, err := regexp.Compile(expr.String())
	if err != nil {
		return component{}, fmt.Errorf("%q: %w", text, err)
	}
	c.match = match
	return c, nil
}

// take matches the name of an entry and adds what it captures to c.
func (l *component) take(entry string, c captured) (captured, bool) {
	if l.literal {
		return c, entry == l.text
	}
	groups := l.match.FindStringSubmatch(entry)
	if groups == nil {
		return c, false
	}
	for i, h := range l.holds {
		switch {
		case h == holdVersion:
			c.version = groups[i+1]
		case c.name == "":
			c.name = groups[i+1]
		default:
			c.name += "/" + groups[i+1]
		}
	}
	return c, true
}
