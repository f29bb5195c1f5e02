package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/heftstore/heft/index"
)

// TestGCWaitsForRecovery collects in a store whose journal was cut, by a repair that
// did not get to making the lost versions known again.
func TestGCWaitsForRecovery(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	want := weights(1, 100)
	addFiles(t, r, "m:1", map[string][]byte{"w": want})
	dir, id, made := r.Dir(), r.ID(), r.CreatedAt()
	must(t, os.Remove(filepath.Join(dir, "index.db")))
	must(t, os.Remove(filepath.Join(dir, "journal")))
	_, err := index.CutJournal(ctx, dir, id, made, "")
	must(t, err)
	o := openAt(t, dir)
	if ms, err := o.Get(ctx, "m:1"); err == nil {
		t.Fatalf("it is known still: %+v", ms)
	}
	if c, err := o.GC(ctx, &GCOptions{Grace: -1}); !errors.Is(err, ErrConflict) || c.Trashed.Count+c.Purged.Count != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := o.PlanGC(ctx, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("the plan: %v", err)
	}
	done := repaired(t, o, &RepairOptions{AcceptJournalLoss: true})
	if len(done.Names.Versions) != 1 {
		t.Errorf("%+v", done)
	}
	o = openAt(t, dir)
	gc(t, o)
	m, err := o.Get(ctx, "m:1")
	must(t, err)
	if !bytes.Equal(m.content(t, "w"), want) {
		t.Error("another content")
	}
}
