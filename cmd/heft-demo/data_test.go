package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestCorpusHeldOutDisjoint(t *testing.T) {
	c := newCorpus(1, 12_000, 3_000)
	train := slices.Collect(strings.Lines(decode(c.train)))
	heldOut := slices.Collect(strings.Lines(decode(c.heldOut)))
	if len(c.train) < 12_000 || len(c.heldOut) < 3_000 {
		t.Errorf("lengths %d and %d, want at least 12000 and 3000", len(c.train), len(c.heldOut))
	}
	for _, line := range heldOut {
		if slices.Contains(train, line) {
			t.Errorf("%q is held out but trained on", line)
		}
	}
	if sums := countSums(heldOut); sums == 0 || sums > len(heldOut)/2 {
		t.Errorf("%d of %d held-out lines are sums", sums, len(heldOut))
	}
}

func countSums(lines []string) int {
	n := 0
	for _, line := range lines {
		if strings.Contains(line, "=") {
			n++
		}
	}
	return n
}

func TestCorpusDependsOnSeedOnly(t *testing.T) {
	a, b, other := newCorpus(1, 2000, 500), newCorpus(1, 2000, 500), newCorpus(2, 2000, 500)
	if !bytes.Equal(a.train, b.train) || !bytes.Equal(a.heldOut, b.heldOut) {
		t.Error("the same seed gives different text")
	}
	if bytes.Equal(a.train, other.train) {
		t.Error("two seeds give the same text")
	}
	const want = "6 + 7 = 13."
	if got, _, _ := strings.Cut(decode(a.train), "\n"); got != want {
		t.Errorf("first line %q, want %q", got, want)
	}
}

func TestGather(t *testing.T) {
	got := gather([]byte{1, 2, 3, 4, 5}, 2, []int{2, 4})
	if !bytes.Equal(got.contexts, []byte{1, 2, 3, 4}) || !bytes.Equal(got.targets, []byte{3, 5}) {
		t.Errorf("gather = %v", got)
	}
}
