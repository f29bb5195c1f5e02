package name

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// grammar is the rules for one kind of text.
type grammar struct {
	max          int    // bytes in all
	maxComponent int    // bytes between slashes
	separators   string // characters kept free for references
	typed        bool   // typed by people and made into folders: edges, dashes and reserved words count
}

func grammarOf(kind Kind) grammar {
	switch kind {
	case KindOfName:
		return grammar{MaxName, MaxNameComponent, ":@", true}
	case KindOfVersion:
		return grammar{MaxVersion, MaxVersion, ":@/", true}
	case KindOfAlias:
		return grammar{MaxAlias, MaxAlias, ":@/", true}
	default: // KindOfPath
		return grammar{MaxPath, MaxPathComponent, "", false}
	}
}

// check returns why s is not of the kind, or nil. Where several rules are
// broken it reports in the order that Rule documents.
func check(kind Kind, s string) *Error {
	g := grammarOf(kind)
	bad := func(r Rule) *Error { return &Error{Kind: kind, Input: s, Rule: r} }
	switch {
	case s == "":
		return bad(RuleEmpty)
	case len(s) > g.max:
		return &Error{Kind: kind, Input: s, Rule: RuleTooLong, Limit: g.max}
	case !utf8.ValidString(s):
		return bad(RuleNotUTF8)
	}
	for _, r := range s {
		if rule := g.checkRune(r); rule != "" {
			return bad(rule)
		}
	}
	if s[0] == '/' {
		return bad(RuleAbsolute)
	}
	for c := range strings.SplitSeq(s, "/") {
		if len(c) > g.maxComponent {
			return &Error{Kind: kind, Input: s, Rule: RuleTooLong, Limit: g.maxComponent, part: "a component"}
		}
		if rule := g.checkComponent(c); rule != "" {
			return bad(rule)
		}
	}
	if g.typed && s[0] == '-' {
		return bad(RuleDash)
	}
	if kind == KindOfName && (strings.EqualFold(s, manifestWord) || isUUID(s)) {
		return bad(RuleReserved)
	}
	return nil
}

func (g grammar) checkRune(r rune) Rule {
	switch {
	case r == 0:
		return RuleNUL
	case r == '\\':
		return RuleBackslash
	case unicode.IsControl(r), r == '\u2028', r == '\u2029':
		return RuleControl
	case isInvisible(r):
		return RuleInvisible
	case strings.ContainsRune(g.separators, r):
		return RuleSeparator
	}
	return ""
}

// isInvisible reports the zero-width characters, the marks, embeddings and
// isolates that steer the direction of writing (Unicode TR9, TR36), and the
// byte-order mark.
func isInvisible(r rune) bool {
	switch {
	case r < 0x61C:
		return false
	case r == 0x61C, // Arabic letter mark, the third direction mark of TR9
		r >= 0x200B && r <= 0x200F,
		r >= 0x202A && r <= 0x202E,
		r >= 0x2060 && r <= 0x206F, // word joiner, invisible operators, isolates, deprecated controls
		r == 0xFEFF:
		return true
	}
	return false
}

func (g grammar) checkComponent(c string) Rule {
	switch c {
	case "":
		return RuleEmptyComponent
	case ".":
		return RuleDot
	case "..":
		return RuleParent
	}
	if !g.typed {
		return ""
	}
	first, _ := utf8.DecodeRuneInString(c)
	last, _ := utf8.DecodeLastRuneInString(c)
	if unicode.IsSpace(first) || unicode.IsSpace(last) || last == '.' {
		return RuleEdge
	}
	if isDevice(c) {
		return RuleReserved
	}
	return ""
}

// isDevice reports whether Windows takes a file of this name for a device,
// whatever its letter case and extension. The list is that of Microsoft's
// "Naming Files, Paths, and Namespaces"; it counts the superscript digits
// ¹ ² ³ as digits.
func isDevice(c string) bool {
	base, _, _ := strings.Cut(c, ".")
	base = strings.ToLower(strings.TrimRight(base, " "))
	switch base {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	digit, ok := strings.CutPrefix(base, "com")
	if !ok {
		digit, ok = strings.CutPrefix(base, "lpt")
	}
	if !ok {
		return false
	}
	switch digit {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}
