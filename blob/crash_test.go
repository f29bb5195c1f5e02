package blob

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
	"github.com/heftstore/heft/internal/syncsite"
)

// forgetful is a file system that skips the syncs of some folders and says that
// they worked.
type forgetful struct {
	durable.FS
	skip func(name string) bool
}

func (f *forgetful) SyncDir(name string) error {
	if f.skip(name) {
		return nil
	}
	return f.FS.SyncDir(name)
}

// loses reports whether power cuts lose something that was acknowledged, or make
// the store unusable, when its programs use the file system that over returns. It
// counts the cuts.
func loses(t *testing.T, states *int, over func(*durable.Mem) durable.FS) bool {
	t.Helper()
	for _, run := range []func(testing.TB, *durable.Mem, durable.FS) *history{script, interrupted, withCollections, brought} {
		m := durable.NewMem()
		x := run(t, m, over(m))
		rng := rand.New(rand.NewPCG(1, 2))
		for range 1500 {
			*states++
			if _, lost := x.cut(t.Context(), rng.IntN(m.Ops()+1), rng); len(lost) > 0 {
				return true
			}
		}
	}
	return false
}

// TestPromiseMissingSyncsOfBlobsAreNoticed shows that
// TestPromiseBlobsSurvivePowerLoss can fail: each sync in the source that is left
// out, and each folder that is not synced, loses something.
func TestPromiseMissingSyncsOfBlobsAreNoticed(t *testing.T) {
	sites, err := syncsite.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	below, err := syncsite.Find("../internal/durable")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range below {
		// The others make folders above a store, and are tested there.
		if strings.HasPrefix(s, "durable/durable.go:") {
			sites = append(sites, s)
		}
	}
	sites = slices.DeleteFunc(sites, func(s string) bool {
		file, _, _ := strings.Cut(s, ":")
		switch file {
		case "blob/quarantine.go", "blob/parity.go", "blob/repair.go":
			return true // the tests of these leave them out
		case "blob/access.go", "blob/mend_config.go":
			return true // they need a real folder: its modes, and a damaged heft.json
		}
		return false
	})
	states := 0
	for _, site := range sites {
		if !loses(t, &states, func(m *durable.Mem) durable.FS { return syncsite.Skip(m, site) }) {
			t.Errorf("without the sync at %s nothing is lost: the histories don't cover it, or it is not needed", site)
		}
	}
	chain := chain()
	dirs := map[string]func(string) bool{
		"the root":             func(name string) bool { return name == "." },
		"blobs":                func(name string) bool { return name == "blobs" },
		"the folders in blobs": func(name string) bool { return strings.HasPrefix(name, "blobs/") },
	}
	for name, c := range map[string][]byte{
		"a donor's folder":              lines(2000),
		"a base's folder":               chain[1],
		"the folder of a base's base":   chain[0],
		"the folder of what was there":  []byte("put by the batch, then alone"),
		"the folder of a healed blob":   lines(1500),
		"the folder of what is new":     randomBytes(1, 3000),
		"the folder of an adopted blob": state(12, trained(1, "F32", trained(0, "F32", normals(5, "F32", 6<<10), 0.1), 0.1)),
	} {
		dirs[name] = func(name string) bool { return name == blobDir(Sum(c)) }
	}
	for name, skip := range dirs {
		if !loses(t, &states, func(m *durable.Mem) durable.FS { return &forgetful{m, skip} }) {
			t.Errorf("without the syncs of %s nothing is lost", name)
		}
	}
	promise.Kept(t, "%d syncs in the source and %d kinds of folders left out one by one: each noticed within %d power cuts in all", len(sites), len(dirs), states)
}
