package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTree(t *testing.T) {
	tests := []struct {
		name  string
		lines []string // depth in digits, then a word
		want  string
	}{
		{"nothing", nil, ""},
		{"one", []string{"0a"}, "a\n"},
		{"a run", []string{"0a", "1b", "2c"}, "a\nb\nc\n"},
		{"two children", []string{"0a", "1b", "1c"}, "" +
			"a\n" +
			"|- b\n" +
			"`- c\n"},
		{"runs in branches", []string{"0a", "1b", "2c", "3d", "3e", "4f", "2g", "3h"}, "" +
			"a\n" +
			"b\n" +
			"|- c\n" +
			"|  |- d\n" +
			"|  `- e\n" +
			"|     f\n" +
			"`- g\n" +
			"   h\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var depths []int
			for _, l := range tt.lines {
				depths = append(depths, int(l[0]-'0'))
			}
			var b strings.Builder
			for i, branch := range tree(depths) {
				b.WriteString(branch + tt.lines[i][1:] + "\n")
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("wrong tree (-want +got):\n%s", diff)
			}
		})
	}
}
