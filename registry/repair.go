package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// RepairOptions changes how Repair works. A nil *RepairOptions, like its zero
// value, is the default throughout.
type RepairOptions struct {
	// From is the folder of a backup, or of any store that has some of the same
	// content; "" is none. Nothing is changed there. Only a backup, with the id of
	// the store, helps with the journal.
	From string

	// DryRun tells what is wrong and what would help, and changes nothing but what
	// opening a store does: an index that is missing or damaged is built anew.
	DryRun bool

	// AcceptJournalLoss goes on where records of the journal are lost for good:
	// the journal then ends before them, and what they told is looked for in the
	// records behind them and in manifests.
	AcceptJournalLoss bool

	// Actor is recorded with what is made again; "" is user@host.
	Actor string

	// Begin hears, once, how many plain bytes are verified; nil hears nothing.
	// Progress hears how many of them were since it was called last.
	Begin    func(bytes int64)
	Progress func(bytes int64)
}

// What a Finding is about.
const (
	FoundConfig  = "heft.json"
	FoundFolder  = "folder"
	FoundJournal = "journal"
	FoundIndex   = "index"
	FoundBlob    = "blob"
)

// Finding is something that was wrong with a store.
type Finding struct {
	What   string   // FoundConfig, FoundFolder, FoundJournal, FoundIndex or FoundBlob
	Name   string   // of the folder; the digest of the blob whose file is at fault
	Uses   []string // name:version/path of what can't be read for it
	Err    error    // what was found
	Done   string   // what was done, or in a dry run would be; "" for nothing
	Healed bool     // it is right now
	Hint   string   // what can be done about what is not
}

// Repaired is what Repair found.
type Repaired struct {
	Findings []Finding
	Blobs    int       // that were verified; 0 if it did not come to that
	Names    Recovered // after a journal was cut
}

// Left returns how many findings are not healed.
func (r *Repaired) Left() (n int) {
	for i := range r.Findings {
		if !r.Findings[i].Healed {
			n++
		}
	}
	return n
}

// Repair verifies all of the store in the folder dir, which need not open, and
// heals what can be healed: heft.json from the journal, missing folders, the
// journal from a backup, the index from journal and blobs, and blob files from the
// trash, the quarantine, their parity, or another store, in that order. What it
// replaces goes to quarantine/, but for files that their parity has rebuilt. Each
// step is durable; one that was interrupted is completed by another Repair.
//
// What can't be healed is among the findings. The error is about what kept it from
// going on: ErrNotFound if there is nothing in dir that was a store, or an error of
// reading or writing.
func Repair(ctx context.Context, dir string, o *RepairOptions) (done Repaired, err error) {
	p := &repair{dir: dir}
	if o != nil {
		p.opts = *o
	}
	if p.opts.Begin == nil {
		p.opts.Begin = func(int64) {}
	}
	if p.opts.Progress == nil {
		p.opts.Progress = func(int64) {}
	}
	defer func() {
		if p.from != nil {
			err = errors.Join(err, p.from.Close())
		}
	}()
	err = p.run(ctx)
	return p.done, named(err)
}

// repair is one run of Repair.
type repair struct {
	dir  string
	opts RepairOptions
	from *Registry // nil for none
	r    *Registry
	id   uuid.UUID
	made int64 // when the store was created
	cut  bool  // a loss of the journal was accepted, and index.db set aside for it
	done Repaired
}

// find notes a finding and returns it.
func (p *repair) find(f Finding) *Finding {
	p.done.Findings = append(p.done.Findings, f)
	return &p.done.Findings[len(p.done.Findings)-1]
}

// run makes one step after the other. One that can't be made hides what would
// come after it.
func (p *repair) run(ctx context.Context) error {
	if err := p.openFrom(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) (bool, error){p.config, p.folders, p.journal, p.names} {
		if ok, err := step(ctx); err != nil || !ok {
			return err
		}
	}
	return nil
}

func (p *repair) openFrom(ctx context.Context) (err error) {
	if p.opts.From == "" {
		return nil
	}
	own, err := os.Stat(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no store in %s; restore it from the backup", ErrNotFound, p.dir)
	}
	if err != nil {
		return err
	}
	if other, err := os.Stat(p.opts.From); err == nil && os.SameFile(own, other) {
		return fmt.Errorf("%w: %s is the store itself: name another one to repair it from", ErrInvalid, p.opts.From)
	}
	p.from, err = Open(ctx, p.opts.From, &Options{Actor: p.opts.Actor})
	return err
}

// backup reports whether the other store is a backup of this one, or the store of
// which this one is a backup.
func (p *repair) backup() bool { return p.from != nil && p.from.ID() == p.id }

// config makes sure that there is a heft.json.
func (p *repair) config(ctx context.Context) (ok bool, err error) {
	s, err := blob.Open(p.dir, nil)
	if err == nil {
		p.id, p.made = s.ID(), s.CreatedAt()
		return true, s.Close()
	}
	gone := errors.Is(err, blob.ErrNotFound)
	if !gone && !errors.Is(err, blob.ErrDamagedStore) {
		return false, err
	}
	if gone && !p.wasStore() {
		return false, fmt.Errorf("%w: there is nothing in %s that was a store", ErrNotFound, p.dir)
	}
	f := p.find(Finding{What: FoundConfig, Err: err, Hint: "give --from a backup of this store, which tells its id"})
	if gone {
		f.Err = errors.New("it is missing")
	}
	id, at, err := index.ReadCreation(ctx, p.dir)
	if _, bad := errors.AsType[*index.JournalError](err); bad {
		// Another store must not become this one.
		if p.from == nil {
			return false, nil
		}
		n, cerr := index.CommonRecords(ctx, p.dir, p.opts.From)
		if _, bad := errors.AsType[*index.JournalError](cerr); cerr != nil && !bad {
			return false, cerr
		}
		if n == 0 {
			f.Hint = "the journal can't tell which store this was, nor whether --from is a backup of it: restore the backup into a new folder, and repair that with --from this one"
			return false, nil
		}
		id, at = p.from.ID(), p.from.CreatedAt()
	} else if err != nil {
		return false, err
	}
	if p.from != nil && p.from.ID() == id {
		at = p.from.CreatedAt()
	}
	f.Done, f.Hint = "made anew, as of the store "+id.String(), ""
	if p.opts.DryRun {
		f.Hint = "the rest can be looked at once it is there"
		return false, nil
	}
	if err := blob.RestoreConfig(ctx, p.dir, id, at); err != nil {
		return false, err
	}
	f.Healed = true
	p.id, p.made = id, at
	return true, nil
}

// wasStore reports whether the folder has what only a store has.
func (p *repair) wasStore() bool {
	if info, err := os.Stat(filepath.Join(p.dir, "journal")); err == nil && info.Mode().IsRegular() {
		return true
	}
	info, err := os.Stat(filepath.Join(p.dir, "blobs"))
	return err == nil && info.IsDir()
}

// folders makes missing ones.
func (p *repair) folders(context.Context) (ok bool, err error) {
	s, err := blob.Open(p.dir, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	missing, err := s.MissingFolders()
	if err != nil {
		return false, err
	}
	for _, name := range missing {
		p.find(Finding{What: FoundFolder, Name: name, Err: errors.New("it is missing"), Done: "made anew", Healed: !p.opts.DryRun})
	}
	if len(missing) == 0 || p.opts.DryRun {
		return true, nil
	}
	return true, s.MakeFolders()
}

// journal makes sure that the journal is whole.
func (p *repair) journal(ctx context.Context) (ok bool, err error) {
	err = index.InspectJournal(ctx, p.dir, p.id)
	bad, damaged := errors.AsType[*index.JournalError](err)
	if !damaged {
		return err == nil, err
	}
	f := p.find(Finding{What: FoundJournal, Err: bad})
	from := ""
	if p.backup() {
		from = p.opts.From
	}
	if p.opts.DryRun {
		f.Hint = "a backup of this store, by --from, may have what it lacks; the rest can be looked at once the journal is whole"
		if from != "" {
			f.Done = "mended with the records of " + from + ", if they fit"
		}
		return false, nil
	}
	m, err := index.MendJournal(ctx, p.dir, p.id, from)
	lost, isLost := errors.AsType[*index.JournalLossError](err)
	if err != nil && !isLost {
		return false, err
	}
	if isLost && !p.opts.AcceptJournalLoss {
		f.Err = errors.Join(bad, lost)
		f.Hint = "--from a backup that was made later may have the records; --accept-journal-loss ends the journal before them and looks for the versions in later records and in manifests"
		return false, nil
	}
	f.Healed = true
	if !isLost {
		f.Done = fmt.Sprintf("mended: %d of %d records are from %s", m.Taken, m.Records, from)
		return true, nil
	}
	if m, err = index.CutJournal(ctx, p.dir, p.id, p.made, from); err != nil {
		return false, err
	}
	p.cut = true
	f.Done = fmt.Sprintf("ended after %d records, as a loss was accepted; what was there is %s", m.Records, filepath.Join("quarantine", m.Aside))
	return true, nil
}

// names opens the store, which builds the index anew if it is damaged, makes again
// what a cut journal has lost, and then looks at index and blobs.
func (p *repair) names(ctx context.Context) (ok bool, err error) {
	before, err := p.indexesAside()
	if err != nil {
		return false, err
	}
	_, missing := os.Stat(filepath.Join(p.dir, "index.db"))
	p.r, err = Open(ctx, p.dir, &Options{Actor: p.opts.Actor})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.r.Close()) }()
	after, err := p.indexesAside()
	if err != nil {
		return false, err
	}
	switch {
	case after > before:
		p.find(Finding{What: FoundIndex, Err: errors.New("index.db is damaged"), Done: "built anew; the damaged one is in quarantine/", Healed: true})
	case errors.Is(missing, fs.ErrNotExist) && !p.cut:
		p.find(Finding{What: FoundIndex, Err: errors.New("index.db is missing"), Done: "built anew", Healed: true})
	}
	return true, p.blobs(ctx)
}

// indexesAside counts the damaged indexes that were kept.
func (p *repair) indexesAside() (n int, err error) {
	entries, err := os.ReadDir(filepath.Join(p.dir, "quarantine"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "index.db.") {
			n++
		}
	}
	return n, nil
}
