package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newShowCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show REF",
		Short: "Show all that is known about a version",
		Long: `Show a version: its status, hashes, origin, metadata, aliases and files.

The hash of the manifest stands for the whole version: NAME@HASH refers to it by
its first digits. The hashes of the files are what b3sum prints; that of the
weights is shown if there is one file only.

Below the files is how their frames are stored: as they are, coded on their own,
as what differs from another frame, or shared with what was there already.`,
		Example: `  heft show team/resnet
  heft show team/resnet:2.1.0 --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOneRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.show(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// completeOneRef proposes one reference and nothing after it.
func (a *app) completeOneRef(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeRefs(cmd, args, word)
}

// showJSON is a version with its files.
type showJSON struct {
	modelJSON
	Storage  registry.Storage `json:"storage"`
	Contents []registry.File  `json:"contents"`
}

func (a *app) show(ctx context.Context, ref string, asJSON bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	m, err := r.Get(ctx, ref)
	if err != nil {
		return a.suggest(ctx, r, ref, err)
	}
	files, err := collect(m.List(ctx))
	if err != nil {
		return err
	}
	storage, err := m.Storage(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(showJSON{toJSON(m), storage, list(files)})
	}

	origin, err := family(ctx, r, m)
	if err != nil {
		return err
	}
	weights := ""
	if m.WeightsHash != m.Manifest {
		weights = "b3:" + m.WeightsHash.String()
	}
	facts := slices.Concat(
		[]fact{
			{"status", string(m.Status)},
			{"id", m.ID.String()},
			{"manifest", "b3:" + m.Manifest.String()},
			{"weights", weights},
			{"size", fmt.Sprintf("%s (%s bytes) in %s", formatSize(m.WeightsSize), humanize.Comma(m.WeightsSize), plural(m.Files, "file"))},
			{"stored", fmt.Sprintf("%s, ratio %s", formatSize(storage.Stored), formatRatio(m.WeightsSize, storage.Stored))},
			{"registered", registered(m)},
			{"imported from", importedFrom(m.Origin)},
			{"updated", formatTime(m.UpdatedAt)},
		},
		origin,
		[]fact{{"aliases", strings.Join(m.Aliases, ", ")}},
		metadataFacts(m.Metadata),
		[]fact{{"description", m.Description}},
	)
	var b strings.Builder
	fmt.Fprintln(&b, m.Ref())
	writeFacts(&b, facts)
	fmt.Fprintln(&b)
	if _, err := io.WriteString(a.stdout, b.String()); err != nil {
		return err
	}
	t := a.table("FILE", "SIZE", "BLAKE3")
	for _, f := range files {
		t.row(f.Path, formatSize(f.Size), f.Digest.String())
	}
	if err := t.flush(); err != nil || len(files) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	return a.printParts(storage.Parts)
}

// registered tells when a version was registered, and by whom if that is known.
func registered(m *registry.Model) string {
	text := formatTime(m.RegisteredAt)
	if m.RegisteredBy != "" {
		text += " by " + m.RegisteredBy
	}
	return text
}

// importedFrom tells where a version comes from, "" if it was made here.
func importedFrom(o *registry.Origin) string {
	switch {
	case o == nil:
		return ""
	case o.LegacyID == "":
		return o.Source
	}
	return o.Source + ", as " + o.LegacyID
}

// fact is one line of a description; one without a text is not shown.
type fact struct{ what, text string }

// writeFacts writes facts with their texts aligned. The lines of a text stay
// below each other.
func writeFacts(w io.Writer, facts []fact) {
	facts = slices.DeleteFunc(facts, func(f fact) bool { return strings.TrimSpace(f.text) == "" })
	width := 0
	for i, f := range facts {
		facts[i].what = printable(f.what)
		width = max(width, utf8.RuneCountInString(facts[i].what))
	}
	for _, f := range facts {
		what := f.what
		for line := range strings.SplitSeq(strings.TrimSpace(f.text), "\n") {
			line = printable(strings.ReplaceAll(line, "\t", "    "))
			pad := strings.Repeat(" ", width-utf8.RuneCountInString(what))
			fmt.Fprintln(w, strings.TrimRight("  "+what+pad+"  "+line, " "))
			what = ""
		}
	}
}

// family returns the parent and the children of m.
func family(ctx context.Context, r *registry.Registry, m *registry.Model) ([]fact, error) {
	parent := ""
	if m.Parent != uuid.Nil {
		var err error
		if parent, err = refOf(ctx, r, m.Parent); err != nil {
			return nil, err
		}
	}
	var children []string
	for _, id := range m.Children {
		c, err := refOf(ctx, r, id)
		if err != nil {
			return nil, err
		}
		children = append(children, c)
	}
	return []fact{{"parent", parent}, {"children", strings.Join(children, ", ")}}, nil
}

// refOf returns the reference of the version with that id, or the id if the
// version was deleted: lineage keeps naming it.
func refOf(ctx context.Context, r *registry.Registry, id uuid.UUID) (string, error) {
	m, err := r.Get(ctx, id.String())
	if errors.Is(err, registry.ErrNotFound) {
		return id.String() + " (deleted)", nil
	}
	if err != nil {
		return "", err
	}
	return m.Ref(), nil
}

// metadataFacts returns what is known of a network and its training.
func metadataFacts(m registry.Metadata) []fact {
	facts := []fact{
		{"architecture", m.Architecture},
		{"input", dimensions(m.InputDimensions)},
		{"output", dimensions(m.OutputDimensions)},
		{"parameters", count(m.ParameterCount)},
		{"config hash", m.ConfigHash},
		{"dataset", m.DatasetID},
		{"examples", count(m.TrainingExamples)},
		{"validation accuracy", number(m.ValidationAccuracy)},
		{"test accuracy", number(m.TestAccuracy)},
	}
	for _, name := range slices.Sorted(maps.Keys(m.TrainingMetrics)) {
		facts = append(facts, fact{"metric " + name, number(new(m.TrainingMetrics[name]))})
	}
	return append(facts, fact{"tags", strings.Join(m.Tags, ", ")}, fact{"extra", string(m.Extra)})
}

// dimensions returns a shape as "3 x 224 x 224".
func dimensions(shape []int64) string {
	texts := make([]string, len(shape))
	for i, n := range shape {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, " x ")
}

// count returns n with its thousands parted, or "" for 0, which is "not known".
func count(n int64) string {
	if n == 0 {
		return ""
	}
	return humanize.Comma(n)
}

// number returns all digits of a number that may be missing.
func number(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'g', -1, 64)
}
