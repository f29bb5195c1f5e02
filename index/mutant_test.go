package index

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/promise"
)

// syncSites returns every place in this package that syncs a file or a folder,
// as site names it.
func syncSites(t *testing.T) (sites []string) {
	t.Helper()
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			at := fmt.Sprintf("%s:%d ", e.Name(), fset.Position(sel.Sel.Pos()).Line)
			switch strings.ToLower(sel.Sel.Name) {
			case "sync":
				sites = append(sites, at+"sync")
			case "syncdir":
				sites = append(sites, at+"syncdir")
			case "writefile":
				sites = append(sites, at+"sync", at+"syncdir")
			case "publish":
				sites = append(sites, at+"sync")
			}
			return true
		})
	}
	return sites
}

// killedRun has a process die in the middle of a creation, and another one go on.
func killedRun(t testing.TB, drop string, _ uint64, o Options) *run {
	t.Helper()
	r, s := newRun(t, drop)
	o.Now = clock()
	r.d.mem.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpSyncDir {
			return errDisk
		}
		return nil
	})
	d, err := durable.OpenDir(r.base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openIn(t.Context(), &traced{Dir: d, mem: r.d.mem, sites: r.d.sites}, s, o); !errors.Is(err, errDisk) {
		t.Fatalf("a creation that must fail: %v", err)
	}
	r.d.mem.Fail(nil)
	x := r.open(t, s, o)
	r.note(t, x)
	r.change(t, x, "register", func(tx *Tx) error { return tx.Register(version(t, s, "a", "0"), nil) })
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// retriedRun makes one change again and again, which is written but fails.
func retriedRun(t testing.TB, drop string, _ uint64, o Options) *run {
	t.Helper()
	r, s := newRun(t, drop)
	o.Now = func() int64 { return 1 } // so that each try writes the same bytes
	x := r.open(t, s, o)
	r.note(t, x)
	r.change(t, x, "register", func(tx *Tx) error { return tx.Register(version(t, s, "a", "0"), nil) })
	v := version(t, s, "a", "1")
	v.RegisteredAt, v.UpdatedAt = 1, 1
	maybe := r.made(t, v)
	r.d.mem.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpWrite && op.Name == journalName {
			return durable.ShortWrite(op.Len, errDisk)
		}
		return nil
	})
	for range 5 {
		err := x.Update(t.Context(), Change{Verb: "register"}, func(tx *Tx) error { return tx.Register(v, nil) })
		if !errors.Is(err, errDisk) {
			t.Fatalf("an update that must fail: %v", err)
		}
		r.note(t, x).maybe = maybe
	}
	r.d.mem.Fail(nil)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// missed is how many operations after a sync that was left out the power is cut:
// as many as a change makes, since a meta page that is not durable shows when the
// next change writes over the pages that it no longer needs.
const missed = 12

// gaps returns count numbers of operations at which a sync that was left out may
// be missed.
func (r *run) gaps(count int, rng *rand.Rand) []int {
	after := make([]int, count)
	for i := range after {
		gap := (*r.d.gaps)[rng.IntN(len(*r.d.gaps))]
		after[i] = min(gap+rng.IntN(missed), r.d.mem.Ops())
	}
	return after
}

// TestPromiseMissingSyncNoticed leaves out one sync after the other, bbolt's
// too: each time power cuts must find something bad. Syncs that are new in the
// source are found there.
func TestPromiseMissingSyncNoticed(t *testing.T) {
	sites := append(syncSites(t), boltData, boltMeta)
	kinds := []func(testing.TB, string, uint64, Options) *run{unfinishedRun, retriedRun, journalRun, damageRun, killedRun, copyRun, mendRun}
	if len(sites) < 10 {
		t.Fatalf("only %d syncs in the source: %q", len(sites), sites)
	}
	seen := map[string]bool{}
	noticed, states := 0, 0
	for _, drop := range sites {
		t.Run(strings.ReplaceAll(drop, " ", "-"), func(t *testing.T) {
			for try := range uint64(promise.Times(4, 20)) {
				for _, kind := range kinds {
					for _, mode := range []Options{{}, {Exclusive: true}} {
						r := kind(t, drop, try, mode)
						maps.Copy(seen, r.d.sites)
						if !r.d.sites[drop] {
							continue // this run does not come by
						}
						rng := rand.New(rand.NewPCG(try, 9))
						n, bad, first := r.cut(t, r.gaps(160, rng), try)
						states += n
						if bad > 0 {
							t.Log(first)
							noticed++
							return
						}
					}
				}
			}
			t.Errorf("nobody notices that the sync at %s is missing", drop)
		})
	}
	for site := range seen {
		if !slices.Contains(sites, site) && site != boltGrow && !strings.HasPrefix(site, "tests") {
			t.Errorf("a sync at %s, which was not left out", site)
		}
	}
	promise.Kept(t, "%d syncs left out in turn, %d noticed, in %d states", len(sites), noticed, states)
}
