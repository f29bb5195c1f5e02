package name

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// maxNumberDigits keeps a plain number below 10^18, so that it and its
// successor fit an int64 as well as a uint64.
const maxNumberDigits = 18

// Number returns v as a plain number, such as 7 for "7", and whether it is
// one: decimal digits only, no leading zero, at most 18 of them. "v7" is not.
func (v Version) Number() (uint64, bool) { return plainNumber(v.s) }

// IsSemver reports whether v has a place in the order of semantic versions:
// a strict MAJOR.MINOR.PATCH version with optional pre-release and build
// parts, or a plain number as Number defines it, which counts as N.0.0; either
// may follow a single "v".
func (v Version) IsSemver() bool {
	_, ok := precedenceOf(v.s)
	return ok
}

// Compare orders versions: -1 if a is below b, 1 if above, 0 only if a == b.
// Versions for which IsSemver is true follow the precedence of Semantic
// Versioning 2.0.0 §11 and stand above all others. Those of equal precedence
// ("1", "1.0.0", "1.0.0+cu12"), and those that are not semantic versions, are
// ordered by their bytes; a caller that knows when they were made should order
// the latter by time.
func Compare(a, b Version) int {
	if a == b {
		return 0
	}
	p, pok := precedenceOf(a.s)
	q, qok := precedenceOf(b.s)
	switch {
	case pok && qok:
		if c := p.compare(q); c != 0 {
			return c
		}
	case pok:
		return 1
	case qok:
		return -1
	}
	return strings.Compare(a.s, b.s)
}

// precedence is what counts of a semantic version when it is ordered.
type precedence struct {
	major, minor, patch uint64
	pre                 string
}

func precedenceOf(s string) (precedence, bool) {
	s = strings.TrimPrefix(s, "v")
	if n, ok := plainNumber(s); ok {
		return precedence{major: n}, true
	}
	if s == "" || s[0] < '0' || s[0] > '9' { // spares the common "night-run" an error value
		return precedence{}, false
	}
	v, err := semver.StrictNewVersion(s)
	if err != nil {
		return precedence{}, false
	}
	return precedence{v.Major(), v.Minor(), v.Patch(), v.Prerelease()}, true
}

func (p precedence) compare(q precedence) int {
	if c := cmp.Or(
		cmp.Compare(p.major, q.major),
		cmp.Compare(p.minor, q.minor),
		cmp.Compare(p.patch, q.patch),
	); c != 0 {
		return c
	}
	switch {
	case p.pre == q.pre:
		return 0
	case p.pre == "": // a release is above its pre-releases
		return 1
	case q.pre == "":
		return -1
	}
	return comparePre(p.pre, q.pre)
}

// comparePre orders pre-releases by §11.4. It is here because the library
// reads a numeric identifier over 2^64 as text, and so puts it above letters.
func comparePre(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, ".")
		y, restB, moreB := strings.Cut(b, ".")
		if c := comparePreID(x, y); c != 0 {
			return c
		}
		switch {
		case !moreA && !moreB:
			return 0
		case !moreA: // fewer identifiers, lower precedence
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

func comparePreID(x, y string) int {
	nx, ny := isDigits(x), isDigits(y)
	switch {
	case nx && ny: // no leading zeros, so the longer is the larger
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	case nx:
		return -1
	case ny:
		return 1
	}
	return strings.Compare(x, y)
}

func plainNumber(s string) (uint64, bool) {
	if len(s) > maxNumberDigits || !isDigits(s) || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
