package name

import (
	"testing"

	"pgregory.net/rapid"
)

func version(t interface{ Fatal(...any) }, s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ascending is versions in the order that Compare gives them.
var ascending = []string{
	"01", "1.0", "1.0.0-", "1.0.0-01", "1.0.0.0", "1000000000000000000", // 19 digits
	"18446744073709551616.0.0", // 2^64
	"V1", "v", "v1.0", "vv1", "zeta",
	"0", "0.0.1",
	"1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0-18446744073709551616", "1.0.0-99999999999999999999",
	"1.0.0--1", "1.0.0-1a", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
	"1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-rc.1+a", "1.0.0-rc.1+b", "1.0.0-rc.1.0",
	"1", "1.0.0", "1.0.0+a", "1.0.0+b", "v1", "v1.0.0",
	"1.0.1", "1.2.0", "1.10.0", "v2.0.0-a.b", "2", "v2", "10", "v11.0.0",
	"999999999999999999", "18446744073709551615.0.0",
}

func TestCompareAscending(t *testing.T) {
	for i, a := range ascending {
		for j, b := range ascending {
			got := Compare(version(t, a), version(t, b))
			if w := min(1, max(-1, i-j)); got != w {
				t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, w)
			}
		}
	}
	if Compare(Version{}, version(t, "01")) != -1 || Compare(Version{}, Version{}) != 0 {
		t.Error("the zero Version is not below all others")
	}
}

func TestIsSemverNumber(t *testing.T) {
	tests := []struct {
		in       string
		semver   bool
		number   uint64
		isNumber bool
	}{
		{"0", true, 0, true},
		{"7", true, 7, true},
		{"999999999999999999", true, 999999999999999999, true},
		{"1000000000000000000", false, 0, false},
		{"07", false, 0, false},
		{"v7", true, 0, false},
		{"v07", false, 0, false},
		{"V7", false, 0, false},
		{"7a", false, 0, false},
		{"٧", false, 0, false}, // Arabic-Indic seven
		{"1.2", false, 0, false},
		{"1.2.3", true, 0, false},
		{"v1.2.3-rc.1+x", true, 0, false},
		{"1.02.3", false, 0, false},
		{"1.2.3-", false, 0, false},
		{"1.2.3+", false, 0, false},
		{"1.2.3-a_b", false, 0, false},
		{"+1", false, 0, false},
		{"latest", false, 0, false},
		{"v", false, 0, false},
	}
	for _, tt := range tests {
		v := version(t, tt.in)
		if got := v.IsSemver(); got != tt.semver {
			t.Errorf("%q: IsSemver %t", tt.in, got)
		}
		if n, ok := v.Number(); n != tt.number || ok != tt.isNumber {
			t.Errorf("%q: Number %d, %t", tt.in, n, ok)
		}
	}
}

// versions draws labels that are often of equal or near precedence.
func versions() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom(ascending),
		rapid.StringMatching(`v?(0|1|2|10)(\.(0|1|10)\.(0|1|10))?(-(0|1|10|a|B|-|a1)(\.(0|1|10|a|18446744073709551616))?)?(\+[ab0])?`),
		rapid.StringMatching(`[a-z0-9.v]{1,6}`),
	).Filter(func(s string) bool { return check(KindOfVersion, s) == nil })
}

func TestCompareIsTotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := version(t, versions().Draw(t, "a"))
		b := version(t, versions().Draw(t, "b"))
		c := version(t, versions().Draw(t, "c"))
		if Compare(a, b) != -Compare(b, a) {
			t.Fatalf("%s and %s: %d one way, %d the other", a, b, Compare(a, b), Compare(b, a))
		}
		if (Compare(a, b) == 0) != (a == b) {
			t.Fatalf("%s and %s compare as %d", a, b, Compare(a, b))
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Fatalf("%s <= %s <= %s, but not %s <= %s", a, b, c, a, c)
		}
		if a.IsSemver() && !b.IsSemver() && Compare(a, b) != 1 {
			t.Fatalf("%s is not above %s", a, b)
		}
	})
}
