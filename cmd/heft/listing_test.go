package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

func TestCut(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"short", "short"},
		{"just enough", "just enough"},
		{"one too many", "one too..."},
		{"two\n  lines", "two lines"},
		{"größer als elf", "größer a..."},
	}
	for _, tt := range tests {
		if got := cut(tt.in, 11); got != tt.want {
			t.Errorf("cut(%q, 11) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNewest(t *testing.T) {
	events := func(seqs ...uint64) []registry.Event {
		var all []registry.Event
		for _, s := range seqs {
			all = append(all, registry.Event{Seq: s})
		}
		return all
	}
	tests := []struct {
		n        int
		in, want []registry.Event
	}{
		{1, nil, nil},
		{2, events(1, 2), events(1, 2)},
		{2, events(1, 2, 3), events(2, 3)},
		{2, events(1, 2, 3, 4, 5), events(4, 5)},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, newest(tt.in, tt.n)); diff != "" {
			t.Errorf("the newest %d of %d (-want +got):\n%s", tt.n, len(tt.in), diff)
		}
	}
}

func TestEventChange(t *testing.T) {
	tests := []struct {
		name string
		in   registry.Event
		want string
	}{
		{"registered", registry.Event{To: "pending"}, "pending"},
		{"status", registry.Event{From: "pending", To: "staged"}, "pending -> staged"},
		{"alias made", registry.Event{Alias: "best", To: "2"}, "best: none -> 2"},
		{"alias moved", registry.Event{Alias: "best", From: "1", To: "2"}, "best: 1 -> 2"},
		{"alias removed", registry.Event{Alias: "best", From: "2"}, "best: 2 -> none"},
		{"metadata", registry.Event{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := eventChange(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWriteFacts(t *testing.T) {
	var b bytes.Buffer
	writeFacts(&b, []fact{
		{"id", "7"},
		{"empty", " \n"},
		{"größe", "3 B"},
		{"description", "first line\n\n\tthird \x1b[2J\n"},
	})
	want := strings.Join([]string{
		"  id           7",
		"  größe        3 B",
		"  description  first line",
		"",
		`                   third \x1b[2J`,
		"",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("wrong text (-want +got):\n%s", diff)
	}
}
