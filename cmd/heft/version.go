package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/heftstore/heft/internal/format"
	"github.com/spf13/cobra"
)

func newVersionCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Tell which heft this is",
		Example: `  heft version --json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion(debug.ReadBuildInfo())
			if asJSON {
				return a.printJSON(v)
			}
			revision := ""
			if v.Revision != "" {
				revision = " (" + v.Revision + ")"
			}
			_, err := fmt.Fprintf(a.stdout, "heft %s%s, %s %s, format %d\n", v.Version, revision, v.Go, v.Platform, v.Format)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

type versionJSON struct {
	Version  string `json:"version"`           // of the module; "devel" when not built from a release
	Revision string `json:"revision,omitzero"` // of the source, with "+dirty" when it was changed
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Format   int    `json:"format"` // of the blobs that this heft writes
}

// buildVersion returns what the program knows about itself.
func buildVersion(info *debug.BuildInfo, ok bool) versionJSON {
	v := versionJSON{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Format: format.Version}
	if !ok {
		return v
	}
	if main := info.Main.Version; main != "" && main != "(devel)" {
		v.Version = main
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if v.Revision != "" {
		v.Revision += dirty
	}
	return v
}
