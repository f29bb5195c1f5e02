package name

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// parsers has the four parsers of plain texts in one form.
var parsers = map[Kind]func(string) (string, error){
	KindOfName:    func(s string) (string, error) { n, err := ParseName(s); return n.String(), err },
	KindOfVersion: func(s string) (string, error) { v, err := ParseVersion(s); return v.String(), err },
	KindOfAlias:   func(s string) (string, error) { a, err := ParseAlias(s); return a.String(), err },
	KindOfPath:    func(s string) (string, error) { p, err := ParsePath(s); return p.String(), err },
}

const (
	all    = "name version alias path"
	typed  = "name version alias"
	labels = "version alias"
)

func TestParseAccepts(t *testing.T) {
	tests := []struct{ kinds, in string }{
		{all, "a"}, {all, "1.4.0-rc.1+cu12"}, {all, ".config"}, {all, "..a"}, {all, "été"}, {all, "模型"},
		{all, "two words"}, {all, "a-b_c~(d)"}, {all, "\ufffd"}, {all, "context"}, {all, "com"}, {all, "com10"},
		{all, "console.con"}, {all, "lpt"}, {all, "😀"}, {all, "deadbeef"}, {all, "nulls"}, {all, "e\u0301"},
		{all, strings.Repeat("a", 128)},
		{"name path", "team/sub/resnet-50"}, {"name path", ".hidden/.config"}, {"name path", "a/-b"},
		{"name path", strings.Repeat("a", 128) + "/" + strings.Repeat("b", 126)}, // 255 in all
		{"path", strings.Repeat("a", 255)},
		{"path", strings.Repeat(strings.Repeat("a", 204)+"/", 4) + strings.Repeat("b", 204)}, // 1024 in all
		{"path", "c:/x@y:z"}, {"path", "con"}, {"path", "a/nul.txt"}, {"path", " a /b."}, {"path", "-rf"}, {"path", "..."},
		{"path", "b3"}, {"path", "b3:abcd"}, {"path", "01234567-89ab-cdef-0123-456789abcdef"},
		{labels, "b3"}, {labels, "01234567-89ab-cdef-0123-456789abcdef"},
		{"name", "b3/x"}, {"name", "x/b3"}, {"name", "b33"},
		{"name", "x/01234567-89ab-cdef-0123-456789abcdef"}, {"name", "01234567-89ab-cdef-0123-456789abcdeg"},
		{"name", "01234567089ab-cdef-0123-456789abcdef"},
	}
	for _, tt := range tests {
		for kind := range strings.FieldsSeq(tt.kinds) {
			got, err := parsers[Kind(kind)](tt.in)
			if err != nil || got != tt.in {
				t.Errorf("%s %q: %q, %v", kind, tt.in, got, err)
			}
		}
	}
}

func TestParseRules(t *testing.T) {
	tests := []struct {
		kinds, in string
		rule      Rule
	}{
		{all, "", RuleEmpty},
		{"name path", "/", RuleAbsolute},
		{"name path", "/a", RuleAbsolute},
		{"name path", "//a", RuleAbsolute},
		{all, "..", RuleParent},
		{"name path", "../a", RuleParent},
		{"name path", "a/../b", RuleParent},
		{"name path", "a/..", RuleParent},
		{all, ".", RuleDot},
		{"name path", "./a", RuleDot},
		{"name path", "a/./b", RuleDot},
		{"name path", "a//b", RuleEmptyComponent},
		{"name path", "a/", RuleEmptyComponent},
		{all, "a\x00", RuleNUL},
		{all, `a\b`, RuleBackslash},
		{all, `..\a`, RuleBackslash},
		{all, "a\nb", RuleControl}, {all, "\x01", RuleControl}, {all, "a\x1f", RuleControl}, {all, "\t", RuleControl},
		{all, "a\x7f", RuleControl}, {all, "a\u0080", RuleControl}, {all, "a\u009f", RuleControl},
		{all, "a\u2028b", RuleControl}, {all, "a\u2029b", RuleControl},
		{all, "a\u200bb", RuleInvisible}, {all, "a\u200fb", RuleInvisible}, {all, "a\u202ab", RuleInvisible},
		{all, "a\u202eb", RuleInvisible}, {all, "a\u2066b", RuleInvisible}, {all, "a\u2069b", RuleInvisible},
		{all, "a\u2060b", RuleInvisible}, {all, "a\u206fb", RuleInvisible}, {all, "a\u061cb", RuleInvisible},
		{all, "\ufeffa", RuleInvisible},
		{"name", strings.Repeat("a/", 127) + "aa", RuleTooLong}, // 256 in all
		{"name", strings.Repeat("a", 129), RuleTooLong},
		{"name", "a/" + strings.Repeat("b", 129), RuleTooLong},
		{labels, strings.Repeat("a", 129), RuleTooLong},
		{labels, strings.Repeat("é", 65), RuleTooLong},
		{"path", strings.Repeat("a", 256), RuleTooLong},
		{"path", strings.Repeat("a/", 512) + "a", RuleTooLong}, // 1025 in all
		{all, "a\xff", RuleNotUTF8}, {all, "\xed\xa0\x80", RuleNotUTF8}, {all, "\xc0\xaf", RuleNotUTF8},
		{typed, "a:b", RuleSeparator}, {typed, "a@b", RuleSeparator},
		{labels, "a/b", RuleSeparator}, {labels, "/a", RuleSeparator}, {labels, "../a", RuleSeparator},
		{typed, "con", RuleReserved}, {typed, "PRN", RuleReserved}, {typed, "Aux.txt", RuleReserved},
		{typed, "nul.tar.gz", RuleReserved}, {typed, "com0", RuleReserved}, {typed, "COM9.x", RuleReserved},
		{typed, "lpt0", RuleReserved}, {typed, "lpt9", RuleReserved}, {typed, "com¹", RuleReserved},
		{typed, "con .x", RuleReserved}, {typed, "conin$", RuleReserved}, {typed, "CONOUT$", RuleReserved},
		{"name", "a/con/b", RuleReserved},
		{"name", "b3", RuleReserved}, {"name", "B3", RuleReserved},
		{"name", "01234567-89ab-cdef-0123-456789abcdef", RuleReserved},
		{"name", "01234567-89AB-CDEF-0123-456789ABCDEF", RuleReserved},
		{typed, " a", RuleEdge}, {typed, "a ", RuleEdge}, {typed, "a.", RuleEdge}, {typed, "...", RuleEdge},
		{typed, " ", RuleEdge}, {typed, "\u00a0a", RuleEdge}, {typed, "a\u3000", RuleEdge}, {typed, "con.", RuleEdge},
		{"name", "a/b./c", RuleEdge}, {"name", "a /b", RuleEdge},
		{typed, "-", RuleDash}, {typed, "-a", RuleDash}, {typed, "--rm", RuleDash}, {"name", "-a/b", RuleDash},
	}
	for _, tt := range tests {
		for kind := range strings.FieldsSeq(tt.kinds) {
			got, err := parsers[Kind(kind)](tt.in)
			e, ok := errors.AsType[*Error](err)
			if !ok || got != "" {
				t.Errorf("%s %q: %q, %v; want rule %q", kind, tt.in, got, err, tt.rule)
				continue
			}
			if e.Rule != tt.rule || e.Kind != Kind(kind) || e.Input != tt.in {
				t.Errorf("%s %q: rule %q of %s for %q, want %q", kind, tt.in, e.Rule, e.Kind, e.Input, tt.rule)
			}
			if (e.Limit != 0) != (tt.rule == RuleTooLong) {
				t.Errorf("%s %q: limit %d", kind, tt.in, e.Limit)
			}
			if !errors.Is(err, ErrInvalid) || !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s %q: %v is not ErrInvalid", kind, tt.in, err)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	parse := func(kind Kind, s string) error { _, err := parsers[kind](s); return err }
	ref := func(s string) error { _, err := ParseRef(s); return err }
	tests := []struct {
		err  error
		want string
	}{
		{parse(KindOfName, ""), `name: name "" is empty; give at least one character`},
		{parse(KindOfPath, "/a"), `name: path "/a" begins with '/'; make it relative`},
		{parse(KindOfPath, "a/../b"), `name: path "a/../b" has a ".." component; write it without going up`},
		{parse(KindOfPath, "./b"), `name: path "./b" has a "." component; leave that out`},
		{parse(KindOfPath, "a//b"), `name: path "a//b" has an empty component; remove the doubled or trailing '/'`},
		{parse(KindOfAlias, "a\x00"), `name: alias "a\x00" has a NUL byte; remove it`},
		{parse(KindOfAlias, `a\b`), `name: alias "a\\b" has a backslash; part components with '/'`},
		{parse(KindOfVersion, "\x1b[2J"), `name: version "\x1b[2J" has a control character or line separator; remove it`},
		{parse(KindOfVersion, "a\u202eb"), `name: version "a\u202eb" has an invisible or direction-changing character; remove it`},
		{parse(KindOfVersion, "\xff"), `name: version "\xff" is not UTF-8; convert it`},
		{parse(KindOfVersion, strings.Repeat("a", 129)),
			`name: version "` + strings.Repeat("a", 64) + `"... is longer than 128 bytes; shorten it`},
		{parse(KindOfName, strings.Repeat("é", 65)+"/a"),
			`name: name "` + strings.Repeat("é", 32) + `"...: a component is longer than 128 bytes; shorten it`},
		{parse(KindOfName, "a"+strings.Repeat("é", 65)),
			`name: name "a` + strings.Repeat("é", 31) + `"...: a component is longer than 128 bytes; shorten it`},
		{parse(KindOfName, "a:b"), `name: name "a:b" has a character that parts references (':', '@' or, outside of names, '/'); use '-' or '_' instead`},
		{parse(KindOfName, "b3"), `name: name "b3" is or has a reserved word (a Windows device such as "con" or "com1"; for a whole name also "b3" and UUIDs); choose another`},
		{parse(KindOfName, "a."), `name: name "a." has a component that begins or ends with a space or ends with '.'; remove that`},
		{parse(KindOfName, "-a"), `name: name "-a" begins with '-' and would read as a flag; begin it with a letter or digit`},
		{ref(""), `name: reference "" is empty; give at least one character`},
		{ref("m:"), `name: reference "m:": the label is empty; give at least one character`},
		{ref("m@xyz"), `name: reference "m@xyz": the hash is not 4 to 64 hexadecimal digits; copy the hash from a listing`},
		{ref(strings.Repeat("a", 129) + ":1"),
			`name: reference "` + strings.Repeat("a", 64) + `"...: a component of the name is longer than 128 bytes; shorten it`},
		{&Error{Kind: KindOfName, Input: "a", Rule: "new"}, `name: name "a" breaks rule "new"`},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("\n got %s\nwant %s", got, tt.want)
		}
	}
}

func TestJSON(t *testing.T) {
	type record struct {
		Name    Name          `json:"name"`
		Version Version       `json:"version"`
		Alias   Alias         `json:"alias,omitzero"`
		Path    Path          `json:"path"`
		Ref     Ref           `json:"ref,omitzero"`
		Files   map[Path]Name `json:"files"`
	}
	const text = `{"name":"t/m","version":"1","path":"a:b","ref":"m:x","files":{"a/b":"m"}}`
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Alias.IsZero() || r.Name.IsZero() || r.Version.IsZero() || r.Path.IsZero() || r.Ref.IsZero() {
		t.Errorf("zero values in %+v", r)
	}
	out, err := json.Marshal(r)
	if err != nil || string(out) != text {
		t.Errorf("%s, %v; want %s", out, err, text)
	}

	before := r
	for field, bad := range map[string]string{"name": "/n", "version": "a/b", "alias": "-a", "path": "..", "ref": "m:"} {
		err := json.Unmarshal([]byte(`{"`+field+`":"`+bad+`"}`), &r)
		if e, ok := errors.AsType[*Error](err); !ok || e.Input != bad {
			t.Errorf("%s %q: %v", field, bad, err)
		}
	}
	if r.Name != before.Name || r.Version != before.Version || r.Alias != before.Alias || r.Path != before.Path || r.Ref != before.Ref {
		t.Errorf("failed unmarshalling changed %+v to %+v", before, r)
	}
	for _, zero := range []any{Name{}, Version{}, Alias{}, Path{}, Ref{}} {
		_, err := json.Marshal(zero)
		if e, ok := errors.AsType[*Error](err); !ok || e.Rule != RuleEmpty {
			t.Errorf("%T: %v, want rule %q", zero, err, RuleEmpty)
		}
	}
}
