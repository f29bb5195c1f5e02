package docscheck

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// TestLinks checks README.md, CHANGELOG.md and everything below docs: each
// relative link must name a file or folder of this module, and a heading in it
// if it has a fragment. Links with a scheme (https, mailto) are not followed.
func TestLinks(t *testing.T) {
	root := os.DirFS("../..")
	pages := []string{"README.md", "CHANGELOG.md"}
	err := fs.WalkDir(root, "docs", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == ".md" {
			pages = append(pages, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, problem := range brokenLinks(t, root, page) {
			t.Error(problem)
		}
	}
}

func TestBrokenLinks(t *testing.T) {
	const target = "# The *top*\n## Put `x_y`: a file!\n## Same\n## Same\n```\n# not a heading\n```\n<a id=\"by-hand\"></a>\n"
	tests := []struct {
		name string
		text string
		want []string // a part of each problem, in order
	}{
		{"no links", "plain [text] and (more)", nil},
		{"file", "[a](b.md), ![i](img/x.png), [d](img), [up](../README.md)", nil},
		{"title and angle brackets", "[a](b.md \"title\") [b](<with space.md>) [c](with%20space.md)", nil},
		{"other schemes", "[a](https://example.com/none) [m](mailto:a@example.com)", nil},
		{"reference definition", "[a]: b.md\n[b]: none.md", []string{"none.md"}},
		{"missing file", "one\n[a](none.md) [b](img/none.png)", []string{"docs/a.md:2: none.md", "img/none.png"}},
		{"case differs", "[a](B.md)", []string{"B.md"}},
		{"headings", "[a](b.md#the-top) [b](b.md#put-x_y-a-file) [c](b.md#same-1) [d](b.md#by-hand)", nil},
		{"missing heading", "[a](b.md#none) [b](b.md#same-2)", []string{"b.md#none", "b.md#same-2"}},
		{"heading in a code block", "[a](b.md#not-a-heading)", []string{"not-a-heading"}},
		{"own heading", "# Here\n[a](#here) [b](#there)", []string{"#there"}},
		{"lines of a source file", "[a](img/x.go#L10)", nil},
		{"two on one line", "[a](b.md)[b](none.md)", []string{"none.md"}},
		{"image inside a link", "[![i](none.png)](b.md) [![i](img/x.png)](none.md)", []string{"none.md", "none.png"}},
		{"link in a code span", "`[a](none.md)` and ``x ` [a](none.md)``", nil},
		{"link after an unclosed backtick", "` [a](none.md)", []string{"none.md"}},
		{"link in a code block", "~~~md\n[a](none.md)\n```\n[a](none.md)\n~~~\n[a](after.md)", []string{"after.md"}},
		{"absolute", "[a](/docs/b.md)", []string{"relative"}},
		{"out of the module", "[a](../../b.md)", []string{"leaves"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := brokenLinks(t, fstest.MapFS{
				"README.md":          {},
				"docs/a.md":          {Data: []byte(tt.text)},
				"docs/b.md":          {Data: []byte(target)},
				"docs/with space.md": {},
				"docs/img/x.png":     {},
				"docs/img/x.go":      {},
			}, "docs/a.md")
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %d problems", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("problem %d is %q, want %q in it", i, got[i], want)
				}
			}
		})
	}
}

// brokenLinks returns one line of text for each link of a page that leads nowhere.
func brokenLinks(t *testing.T, root fs.FS, page string) []string {
	t.Helper()
	text, err := fs.ReadFile(root, page)
	if err != nil {
		t.Fatal(err)
	}
	var problems []string
	for n, line := range prose(string(text)) {
		for _, link := range links(line) {
			if err := follow(root, page, link); err != nil {
				problems = append(problems, fmt.Sprintf("%s:%d: %s: %v", page, n+1, link, err))
			}
		}
	}
	return problems
}

// follow returns why a link on a page leads nowhere.
func follow(root fs.FS, page, link string) error {
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	if u.Scheme != "" {
		return nil
	}
	if u.Host != "" || strings.HasPrefix(u.Path, "/") {
		return errors.New("link to files of this module by a relative path")
	}
	target := page
	if u.Path != "" {
		target = path.Join(path.Dir(page), u.Path)
	}
	if !fs.ValidPath(target) {
		return errors.New("leaves the module")
	}
	if _, err := fs.Stat(root, target); err != nil {
		return err
	}
	if u.Fragment == "" || path.Ext(target) != ".md" {
		return nil
	}
	text, err := fs.ReadFile(root, target)
	if err != nil {
		return err
	}
	if !slices.Contains(anchors(string(text)), u.Fragment) {
		return fmt.Errorf("%s has no such heading", target)
	}
	return nil
}

// prose returns the lines of a page, with those of fenced code blocks empty so
// that line numbers stay right.
func prose(text string) []string {
	lines := strings.Split(text, "\n")
	fence := ""
	for i, line := range lines {
		mark := fenceMark.FindString(strings.TrimSpace(line))
		switch {
		case fence == "" && mark != "":
			fence = mark
		case fence != "" && strings.HasPrefix(mark, fence):
			fence = ""
		case fence == "":
			continue
		}
		lines[i] = ""
	}
	return lines
}

var (
	fenceMark  = regexp.MustCompile("^(```+|~~~+)")
	definition = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)`)
	image      = regexp.MustCompile(`!\[[^\]]*\]\((?:<([^>]*)>|([^\s)]+))[^)]*\)`)
	inline     = regexp.MustCompile(`\[[^\]]*\]\((?:<([^>]*)>|([^\s)]+))[^)]*\)`)
)

// links returns the targets on a line of prose: inline ones, then images, which
// may stand inside the text of a link, then a definition.
func links(line string) []string {
	line = withoutCode(line)
	images := image.FindAllStringSubmatch(line, -1)
	var found []string
	for _, m := range inline.FindAllStringSubmatch(image.ReplaceAllString(line, ""), -1) {
		found = append(found, m[1]+m[2])
	}
	for _, m := range images {
		found = append(found, m[1]+m[2])
	}
	if m := definition.FindStringSubmatch(line); m != nil {
		found = append(found, m[1])
	}
	return found
}

// withoutCode removes code spans: they end at as many backticks as they begin with.
func withoutCode(line string) string {
	var b strings.Builder
	for {
		start := strings.IndexByte(line, '`')
		if start < 0 {
			return b.String() + line
		}
		b.WriteString(line[:start])
		rest := strings.TrimLeft(line[start:], "`")
		n := len(line) - start - len(rest)
		if end := closing(rest, n); end >= 0 {
			line = rest[end+n:]
		} else {
			line = rest
		}
	}
}

// closing returns where a run of exactly n backticks begins, or -1.
func closing(s string, n int) int {
	for i := 0; i < len(s); i++ {
		run := 0
		for i+run < len(s) && s[i+run] == '`' {
			run++
		}
		if run == n {
			return i
		}
		i += run
	}
	return -1
}

var (
	heading = regexp.MustCompile(`^ {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$`)
	byHand  = regexp.MustCompile(`<[a-z]+[^>]*\s(?:id|name)="([^"]+)"`)
)

// anchors returns what a fragment may name on a page: its headings, as GitHub
// spells them, and the ids of HTML elements. Only headings with # count.
func anchors(text string) []string {
	var found []string
	seen := map[string]int{}
	for _, line := range prose(text) {
		for _, m := range byHand.FindAllStringSubmatch(line, -1) {
			found = append(found, m[1])
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s := slug(inline.ReplaceAllStringFunc(m[1], func(link string) string {
			return link[1:strings.IndexByte(link, ']')]
		}))
		n := seen[s]
		seen[s]++
		if n > 0 {
			s = fmt.Sprintf("%s-%d", s, n)
		}
		found = append(found, s)
	}
	return found
}

// slug spells a heading as a fragment: lower case, spaces as hyphens, and
// without punctuation other than hyphens and underscores.
func slug(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, text)
}
