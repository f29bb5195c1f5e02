package main

import (
	"fmt"
	"strconv"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

func newStatsCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Tell how much there is and what room it takes",
		Long: `Tell how much there is and what room it takes.

LOGICAL is the size of all files of all versions, UNIQUE that of different
contents, each counted once, STORED what their blobs take on disk, PARITY what
repairs them. RATIO is LOGICAL over STORED. A content that several models have counts for each.

RAW, SELF and DELTA are what the frames take that are stored as they are, coded
on their own, and as what differs from another; SHARED is the size of those that
are stored elsewhere in the store already, or earlier in the same file.`,
		Example: `  heft stats
  heft stats --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer r.Close()
			s, err := r.Stats(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(toStatsJSON(r, s))
			}
			return a.printStats(r, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the numbers as JSON")
	return cmd
}

// printStats prints the totals and, below, each model.
func (a *app) printStats(r *registry.Registry, s registry.Stats) error {
	_, err := fmt.Fprintf(a.stdout, "store     %s, since %s\nmodels    %d\nversions  %d\nfiles     %d\nblobs     %d\nlogical   %s\nunique    %s\nstored    %s\nparity    %s\nratio     %s\n",
		printable(r.Dir()), formatTime(r.CreatedAt()), s.Models, s.Versions, s.Files, s.Blobs,
		formatSize(s.Logical), formatSize(s.Unique), formatSize(s.Stored), formatSize(s.Parity), formatRatio(s.Logical, s.Stored))
	if err != nil || len(s.PerModel) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	if err := a.printParts(s.Parts); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	t := a.table("NAME", "VERSIONS", "FILES", "LOGICAL", "UNIQUE", "STORED", "RAW", "SELF", "DELTA", "SHARED", "RATIO")
	for _, m := range s.PerModel {
		t.row(m.Name, strconv.Itoa(m.Versions), strconv.Itoa(m.Files),
			formatSize(m.Logical), formatSize(m.Unique), formatSize(m.Stored),
			formatSize(m.Parts.Raw.Stored), formatSize(m.Parts.Self.Stored), formatSize(m.Parts.Delta.Stored),
			formatSize(m.Parts.Borrowed.Size), formatRatio(m.Logical, m.Stored))
	}
	return t.flush()
}

// printParts prints how frames are stored, a line a kind.
func (a *app) printParts(p blob.Parts) error {
	t := a.table("KIND", "FRAMES", "SIZE", "STORED", "RATIO")
	for _, k := range [...]struct {
		name string
		part blob.Part
	}{{"raw", p.Raw}, {"self", p.Self}, {"delta", p.Delta}, {"shared", p.Borrowed}} {
		t.row(k.name, strconv.Itoa(k.part.Frames), formatSize(k.part.Size), formatSize(k.part.Stored), formatRatio(k.part.Size, k.part.Stored))
	}
	return t.flush()
}

// formatRatio returns how many bytes each stored byte stands for.
func formatRatio(logical, stored int64) string {
	if stored <= 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(logical)/float64(stored), 'f', 2, 64)
}

type statsJSON struct {
	Store     string           `json:"store"` // id
	Dir       string           `json:"dir"`
	CreatedAt string           `json:"created_at"`
	Models    int              `json:"models"`
	Versions  int              `json:"versions"`
	Files     int              `json:"files"`
	Blobs     int              `json:"blobs"`
	Logical   int64            `json:"logical"`
	Unique    int64            `json:"unique"`
	Stored    int64            `json:"stored"`
	Parity    int64            `json:"parity"`
	Parts     blob.Parts       `json:"parts"`
	PerModel  []modelStatsJSON `json:"per_model"`
}

type modelStatsJSON struct {
	Name     string `json:"name"`
	Versions int    `json:"versions"`
	Files    int    `json:"files"`
	Logical  int64  `json:"logical"`
	Unique   int64  `json:"unique"`
	Stored   int64  `json:"stored"`

	Parts blob.Parts `json:"parts"`
}

func toStatsJSON(r *registry.Registry, s registry.Stats) statsJSON {
	j := statsJSON{
		Store: r.ID().String(), Dir: r.Dir(), CreatedAt: jsonTime(r.CreatedAt()),
		Models: s.Models, Versions: s.Versions, Files: s.Files, Blobs: s.Blobs,
		Logical: s.Logical, Unique: s.Unique, Stored: s.Stored, Parity: s.Parity, Parts: s.Parts,
		PerModel: make([]modelStatsJSON, 0, len(s.PerModel)),
	}
	for _, m := range s.PerModel {
		j.PerModel = append(j.PerModel, modelStatsJSON{m.Name, m.Versions, m.Files, m.Logical, m.Unique, m.Stored, m.Parts})
	}
	return j
}
