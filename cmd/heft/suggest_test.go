package main

import (
	"testing"

	"pgregory.net/rapid"
)

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"resnet", "resnet", 0},
		{"resnet", "resnt", 1},
		{"resnet", "resneet", 1},
		{"resnet", "rasnet", 1},
		{"resnet", "rsenet", 1},
		{"resnet", "bert", 4},
		{"größe", "grösse", 2},
		{"ca", "abc", 3},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestDistanceProperties(t *testing.T) {
	word := rapid.StringMatching(`[abc]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) {
			t.Errorf("distance(%q, %q) = %d, the other way %d", a, b, d, distance(b, a))
		}
		if (d == 0) != (a == b) {
			t.Errorf("distance(%q, %q) = %d", a, b, d)
		}
		if longest := max(len(a), len(b)); d > longest || d < longest-min(len(a), len(b)) {
			t.Errorf("distance(%q, %q) = %d, out of bounds", a, b, d)
		}
	})
}
