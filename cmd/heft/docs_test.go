package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestDocsNameEveryFlag keeps docs/cli.md complete: a section for each verb,
// and in it a row for each of its flags; and no flag that there is not.
func TestDocsNameEveryFlag(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for part := range strings.SplitSeq("\n"+string(text), "\n## ") {
		title, body, _ := strings.Cut(part, "\n")
		sections[title] = body
	}
	root := newRootCmd(&app{})
	checkFlags(t, sections["The store"], root.PersistentFlags())
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		body, ok := sections["heft "+c.Name()]
		if !ok {
			t.Errorf("docs/cli.md has no section about %s", c.Name())
			continue
		}
		if !strings.Contains(body, "\n    "+synopsis(c)+"\n") {
			t.Errorf("the section about %s lacks the line %q", c.Name(), synopsis(c))
		}
		checkFlags(t, body, c.LocalNonPersistentFlags())
		for line := range strings.Lines(body) {
			row, ok := strings.CutPrefix(line, "| `-")
			if !ok {
				continue
			}
			for word := range strings.FieldsSeq(strings.SplitN("-"+row, "|", 2)[0]) {
				if name, ok := strings.CutPrefix(strings.Trim(word, "`,"), "--"); ok && c.Flags().Lookup(name) == nil {
					t.Errorf("the section about %s has a flag --%s that the verb does not have", c.Name(), name)
				}
			}
		}
	}
}

func synopsis(c *cobra.Command) string { return "heft " + c.Use }

// checkFlags checks that a table in the text has a row for each flag.
func checkFlags(t *testing.T, text string, flags *pflag.FlagSet) {
	t.Helper()
	flags.VisitAll(func(f *pflag.Flag) {
		want := "`--" + f.Name
		if f.Shorthand != "" {
			want = "`-" + f.Shorthand + "`, " + want
		}
		if f.Name != "help" && !strings.Contains(text, "\n| "+want) {
			t.Errorf("docs/cli.md has no table row that begins with %s", want)
		}
	})
}
