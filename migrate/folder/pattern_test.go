package folder

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePattern(t *testing.T) {
	tests := []struct {
		text   string
		named  bool
		root   string
		levels []string
		folder bool
	}{
		{"runs/{name}/step-{version}/", false, "runs", []string{"{name}", "step-{version}"}, true},
		{"{name}/{version}", false, ".", []string{"{name}", "{version}"}, false},
		{"/data/runs/{name}-{version}.pt", false, "/data/runs", []string{"{name}-{version}.pt"}, false},
		{"/{name}/{version}/", false, "/", []string{"{name}", "{version}"}, true},
		{"../x/./y/{name}/ckpt/{version}/", false, "../x/y", []string{"{name}", "ckpt", "{version}"}, true},
		{"run/*/step-{version}/", true, "run", []string{"*", "step-{version}"}, true},
		{"a/b{version}", true, "a", []string{"b{version}"}, false},
		{`a\b/{name}/{version}`, false, `a\b`, []string{"{name}", "{version}"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			p, err := parsePattern(tt.text, tt.named)
			if err != nil {
				t.Fatal(err)
			}
			var levels []string
			for _, l := range p.levels {
				levels = append(levels, l.text)
			}
			if p.root != filepath.FromSlash(tt.root) || p.folder != tt.folder || strings.Join(levels, "|") != strings.Join(tt.levels, "|") {
				t.Errorf("root %q, levels %q, folder %v", p.root, levels, p.folder)
			}
		})
	}
}

func TestParsePatternErrors(t *testing.T) {
	tests := []struct {
		text  string
		named bool
		want  string
	}{
		{"", false, "no {version}"},
		{"runs/x", false, "no {version}"},
		{"{name}/x", false, "{version} 0 times"},
		{"{name}/{version}/{version}", false, "{version} 2 times"},
		{"{version}-{version}", true, "{version} 2 times"},
		{"{version}", false, "no {name}"},
		{"{name}/{version}", true, "use one of them"},
		{"{name}//{version}", false, "doubled slash"},
		{"{name}/{version}//", false, "doubled slash"},
		{"{name}/../{version}", false, `".."`},
		{"{name}/./{version}", false, `"."`},
		{"{name}{version}", false, "nothing parts {name} from {version}"},
		{"{name}/**/{version}", false, "nothing parts * from *"},
		{"{name}/*{version}", false, "nothing parts * from {version}"},
		{"{nom}/{version}", false, "no placeholder"},
		{"{name}/{version", false, "no placeholder"},
		{"{name}/}{version}", false, "no placeholder"},
		{`{name}/\{{version}`, false, "no placeholder"},
		{"{name}/\x00{version}", false, "NUL"},
		{strings.Repeat("a", maxPattern) + "{version}", true, "longer than"},
	}
	for _, tt := range tests {
		p, err := parsePattern(tt.text, tt.named)
		if !errors.Is(err, ErrPattern) || !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("parsePattern(%.40q, %v) = %v, %v; want an ErrPattern with %q", tt.text, tt.named, p, err, tt.want)
		}
	}
}

func TestTake(t *testing.T) {
	tests := []struct {
		component, entry string
		name, version    string // "" and "": no match
	}{
		{"{name}-step-{version}", "a-step-b-step-10", "a-step-b", "10"},
		{"{name}-{version}", "resnet-50-10", "resnet-50", "10"},
		{"{name}-{version}", "resnet", "", ""},
		{"{name}-{version}", "-10", "", ""},
		{"{name}-{version}", "resnet-", "", ""},
		{"{name}_{name}-{version}", "a_b_c-1", "a_b/c", "1"},
		{"step-{version}", "step-7", "outer", "7"},
		{"step-{version}", "xstep-7", "", ""},
		{"{version}.pt", "1.0.pt", "outer", "1.0"},
		{"{version}.pt", "1.0.ptx", "", ""},
		{"{version}.pt", "1x0xpt", "", ""}, // a dot is a dot
		{"{version}-{name}", "10-resnet-50", "outer/50", "10-resnet"},
		{"{version}.*", "1.0.bin", "outer", "1.0"},
		{"*-{version}", "a-b-10", "outer", "10"},
		{"*-{version}", "-10", "outer", "10"},
		{"epoch={version}-step=*", "epoch=3-step=100.ckpt", "outer", "3"},
		{"{version}", "a\nb", "outer", "a\nb"},
		{"{version}", "\xff", "outer", "\xff"},
		{"v{version}", "vé", "outer", "é"},
	}
	for _, tt := range tests {
		l, err := parseComponent(tt.component)
		if err != nil {
			t.Fatal(err)
		}
		outer := captured{}
		if !strings.HasPrefix(tt.component, "{name}") {
			outer.name = "outer"
		}
		got, ok := l.take(tt.entry, outer)
		if want := (captured{tt.name, tt.version}); ok != (tt.version != "") || ok && got != want {
			t.Errorf("%q on %q: %q, %v; want %q", tt.component, tt.entry, got, ok, want)
		}
	}
}

func TestNaturalExamples(t *testing.T) {
	ascending := []string{
		"", "-1", "0", "00", "01", "1", "2", "2a", "10", "10.2", "10.10", "99999999999999999999", "100000000000000000000",
		"step-2", "step-2.pt", "step-07", "step-10", "step-10-b", "stepx",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got, want := natural(a, b), 0
			if i != j {
				want = 1
				if i < j {
					want = -1
				}
			}
			if got != want {
				t.Errorf("natural(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestNaturalIsTotalOrder(t *testing.T) {
	text := rapid.StringMatching(`[0-2a./é]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := text.Draw(t, "a"), text.Draw(t, "b"), text.Draw(t, "c")
		if natural(a, b) != -natural(b, a) {
			t.Errorf("%q and %q: %d one way, %d the other", a, b, natural(a, b), natural(b, a))
		}
		if (natural(a, b) == 0) != (a == b) {
			t.Errorf("%q and %q: %d", a, b, natural(a, b))
		}
		if natural(a, b) < 0 && natural(b, c) < 0 && natural(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not the first below the last", a, b, c)
		}
	})
}

func FuzzNatural(f *testing.F) {
	f.Add("step-2", "step-10")
	f.Add("07", "7")
	f.Fuzz(func(t *testing.T, a, b string) {
		if c := natural(a, b); c != -natural(b, a) || (c == 0) != (a == b) {
			t.Errorf("natural(%q, %q) = %d, the other way %d", a, b, c, natural(b, a))
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("runs/{name}/step-{version}/", "step-10")
	f.Add("*x{version}y*", "axby")
	f.Fuzz(func(t *testing.T, text, entry string) {
		p, err := parsePattern(text, strings.Count(text, holdName) == 0)
		if err != nil {
			if !errors.Is(err, ErrPattern) {
				t.Errorf("parsePattern(%q): %v", text, err)
			}
			return
		}
		if len(p.levels) == 0 {
			t.Fatalf("%q has no levels", text)
		}
		for _, l := range p.levels {
			got, ok := l.take(entry, captured{})
			switch {
			case !ok:
			case l.literal && entry != l.text:
				t.Errorf("%q matches %q", l.text, entry)
			case len(got.name)+len(got.version) > len(entry)+strings.Count(l.text, holdName):
				t.Errorf("%q makes %q of %q", l.text, got, entry)
			case !strings.Contains(entry, got.version):
				t.Errorf("%q finds version %q in %q", l.text, got.version, entry)
			case strings.Contains(l.text, holdVersion) && got.version == "":
				t.Errorf("%q finds no version in %q", l.text, entry)
			}
		}
	})
}
