package name

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

const someID = "01234567-89ab-cdef-0123-456789abcdef"

func TestParseRef(t *testing.T) {
	m, deep := Name{"m"}, Name{"team/m"}
	full := strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		in, out string // out "" means in
		want    Ref
	}{
		{"m", "", Ref{Kind: KindLatest, Name: m}},
		{"team/m", "", Ref{Kind: KindLatest, Name: deep}},
		{"deadbeef", "", Ref{Kind: KindLatest, Name: Name{"deadbeef"}}},
		{full, "", Ref{Kind: KindLatest, Name: Name{full}}},
		{"b3x", "", Ref{Kind: KindLatest, Name: Name{"b3x"}}},
		{"m:1.0.0+cu12", "", Ref{Kind: KindLabel, Name: m, Label: "1.0.0+cu12"}},
		{"team/m:production", "", Ref{Kind: KindLabel, Name: deep, Label: "production"}},
		{"m:abcd", "", Ref{Kind: KindLabel, Name: m, Label: "abcd"}},
		{"m:" + someID, "", Ref{Kind: KindLabel, Name: m, Label: someID}},
		{"m@abcd", "", Ref{Kind: KindHash, Name: m, Hex: "abcd"}},
		{"team/m@ABCDE", "team/m@abcde", Ref{Kind: KindHash, Name: deep, Hex: "abcde"}},
		{"m@" + full, "", Ref{Kind: KindHash, Name: m, Hex: full}},
		{someID, "", Ref{Kind: KindID, ID: uuid.MustParse(someID)}},
		{strings.ToUpper(someID), someID, Ref{Kind: KindID, ID: uuid.MustParse(someID)}},
		{"b3:0aF9", "b3:0af9", Ref{Kind: KindManifest, Hex: "0af9"}},
		{"b3:" + full, "", Ref{Kind: KindManifest, Hex: full}},
	}
	for _, tt := range tests {
		got, err := ParseRef(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseRef(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
		want := tt.out
		if want == "" {
			want = tt.in
		}
		if got.String() != want {
			t.Errorf("ParseRef(%q).String() = %q, want %q", tt.in, got, want)
		}
	}
	if zero := (Ref{}); zero.String() != "" || !zero.IsZero() {
		t.Error("the zero Ref says something")
	}
}

func TestParseRefRules(t *testing.T) {
	tests := []struct {
		in   string
		rule Rule
	}{
		{"", RuleEmpty},
		{":", RuleEmpty},
		{"@", RuleEmpty},
		{":1", RuleEmpty},
		{"@abcd", RuleEmpty},
		{"m:", RuleEmpty},
		{"m@", RuleHash},
		{"m@abc", RuleHash},
		{"m@abcg", RuleHash},
		{"m@ABCG", RuleHash},
		{"m@" + strings.Repeat("a", 65), RuleHash},
		{"m@b3:abcd", RuleHash},
		{"m@abcd:1", RuleHash},
		{"b3:", RuleHash},
		{"b3:abc", RuleHash},
		{"b3:abcd ", RuleHash},
		{"b3:1.0.0", RuleHash},
		{"b3", RuleReserved},
		{"b3@abcd", RuleReserved},
		{"B3:abcd", RuleReserved},
		{someID + ":1", RuleReserved},
		{"{" + someID + "}:x@y", RuleSeparator},
		{"m:1:2", RuleSeparator},
		{"m:1@abcd", RuleSeparator},
		{"m:a/b", RuleSeparator},
		{"m:-a", RuleDash},
		{"-m", RuleDash},
		{"/m", RuleAbsolute},
		{"../m:1", RuleParent},
		{"m:..", RuleParent},
		{"m\x00", RuleNUL},
		{"m:\u202e", RuleInvisible},
		{"m:" + strings.Repeat("a", 129), RuleTooLong},
		{" m", RuleEdge},
	}
	for _, tt := range tests {
		got, err := ParseRef(tt.in)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Rule != tt.rule || e.Kind != KindOfReference || e.Input != tt.in || !got.IsZero() {
			t.Errorf("ParseRef(%q) = %+v, %v; want rule %q of the reference", tt.in, got, err, tt.rule)
		}
		if ok && (e.Limit != 0) != (tt.rule == RuleTooLong) {
			t.Errorf("ParseRef(%q): limit %d", tt.in, e.Limit)
		}
	}
}

func TestRefKindString(t *testing.T) {
	want := []string{"none", "latest", "label", "hash", "id", "manifest", "none"}
	for k, w := range want {
		if got := RefKind(k).String(); got != w {
			t.Errorf("kind %d is %q, want %q", k, got, w)
		}
	}
}
