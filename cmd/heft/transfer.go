package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/pflag"
)

// transferFlags are the flags of the verbs that bring many versions into
// a store.
type transferFlags struct {
	dryRun     bool
	onConflict string
	parents    bool // drop them
	reason     string
	parity     string
	verbose    bool
	json       bool
}

func (f *transferFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "only tell what would be done, and every problem")
	flags.StringVar(&f.onConflict, "on-conflict", string(migrate.Fail), "fail, skip or suffix: `WHAT` to do when another version has the name and label")
	flags.BoolVar(&f.parents, "drop-parents", false, "bring a version whose parent failed in without a parent; else it fails too")
	flags.StringVar(&f.reason, "reason", "", "why, for the log: a `TEXT`")
	flags.StringVar(&f.parity, "parity", "", "make parity that repairs damage of up to this `SHARE`, as 5%")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "list every version, not only those with problems or notes")
	flags.BoolVar(&f.json, "json", false, "print every version and the totals as JSON")
}

func (f *transferFlags) options() (*migrate.Options, error) {
	how, err := migrate.ParseOnConflict(f.onConflict)
	if err != nil {
		return nil, err
	}
	o := &migrate.Options{OnConflict: how, DropParents: f.parents, Note: registry.Note{Reason: f.reason}}
	return o, o.Note.Check()
}

// transferAgain says what an interrupted transfer leaves behind.
const transferAgain = "what was brought in until now stays; run the command again: it goes on from there"

// openTarget opens the store that is transferred to, or makes it. For a dry run
// a store that is not there is an empty one, which Close removes.
func (a *app) openTarget(ctx context.Context, f transferFlags) (*registry.Registry, error) {
	var err error
	if a.parity, err = parsePercent("--parity", f.parity); err != nil {
		return nil, err
	}
	if !f.dryRun {
		return a.openOrCreate(ctx)
	}
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	r, err := registry.Open(ctx, dir, a.options())
	if !errors.Is(err, registry.ErrNotFound) {
		return r, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, folderTaken(fmt.Errorf("%s is not a heft store and holds %s already", dir, entries[0].Name()))
	}
	return registry.CreateTemp(ctx, a.options())
}

// transfer brings what src has into r and reports about it. verb is what the
// user asked for.
func (a *app) transfer(ctx context.Context, r *registry.Registry, src migrate.Source, o *migrate.Options, f transferFlags, verb string) error {
	out := &outcomes{a: a, f: f, verb: verb}
	if f.dryRun {
		return out.print(migrate.Plan(ctx, r, src, o))
	}
	var plan migrate.Report
	total := int64(0)
	for item, err := range migrate.Plan(ctx, r, src, o) {
		if err != nil {
			return resumable(err, "nothing was changed")
		}
		plan.Add(item)
		total += item.Size
	}
	if !f.json && plan.Imported > 0 {
		a.note("to %s: %s, %s in %s", verb, plural(plan.Imported, "version"), formatSize(plan.Bytes), plural(plan.Files, "file"))
	}
	p := a.progress(verb, total)
	defer p.end()
	o.Progress = p.add
	return resumable(out.print(migrate.Apply(ctx, r, src, o)), transferAgain)
}

// outcomes prints what became of versions.
type outcomes struct {
	a     *app
	f     transferFlags
	verb  string
	count migrate.Report
}

// print prints outcomes as they come, and then how many there were of each kind.
func (o *outcomes) print(seq iter.Seq2[migrate.Outcome, error]) error {
	one, end := o.line, o.totals
	if o.f.json {
		one, end = o.object, o.close
		if _, err := io.WriteString(o.a.stdout, "{\n  \"items\": ["); err != nil {
			return err
		}
	}
	var failed error
	for item, err := range seq {
		if failed = err; err != nil {
			break
		}
		if err := one(item); err != nil {
			return err
		}
		o.count.Add(item)
	}
	if err := end(failed); err != nil || failed != nil {
		return errors.Join(failed, err)
	}
	if n := o.count.Failed; n > 0 {
		return withHint(exitWith(exitError, "%s could not be brought in", plural(n, "version")), "the report names each with its reason; mend them in the source and run the command again")
	}
	return nil
}

// line prints an outcome for people, if there is something to say.
func (o *outcomes) line(item migrate.Outcome) error {
	all := o.f.verbose || o.f.dryRun
	problem := item.State == migrate.Failed || item.State == migrate.Skipped
	if !all && !problem && len(item.Notes) == 0 {
		return nil
	}
	what := string(item.State)
	if item.State == migrate.Imported {
		what = o.did()
	}
	text := fmt.Sprintf("%-12s  %s", what, item.Ref)
	if item.Ref == "" {
		text = fmt.Sprintf("%-12s  %s", what, item.From)
	} else if problem && item.From != item.Ref {
		text += " (" + item.From + ")"
	}
	if item.State == migrate.Imported {
		text += fmt.Sprintf("  %s in %s", formatSize(item.Size), plural(item.Files, "file"))
	}
	lines := []string{text}
	if item.Why != nil {
		lines = append(lines, "  "+plain(item.Why))
	}
	for _, n := range item.Notes {
		lines = append(lines, "  note: "+withoutPrefixes(n))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(o.a.stdout, printable(l)); err != nil {
			return err
		}
	}
	return nil
}

// did says what was done, or would be, with a version that is imported.
func (o *outcomes) did() string {
	switch {
	case o.f.dryRun:
		return "would " + o.verb
	case o.verb == "copy":
		return "copied"
	}
	return o.verb + "ed"
}

// totals prints the line at the end.
func (o *outcomes) totals(failed error) error {
	c := o.count
	head, written := o.did(), fmt.Sprintf(", %s new", formatSize(c.Written))
	if o.f.dryRun {
		written = ""
	}
	if failed != nil {
		head = "interrupted: " + head
	}
	_, err := fmt.Fprintf(o.a.stdout, "%s %s (%s in %s%s), %d there already, %d skipped, %d failed\n",
		head, plural(c.Imported, "version"), formatSize(c.Bytes), plural(c.Files, "file"), written, c.Present, c.Skipped, c.Failed)
	return err
}

// outcomeJSON is one of the items in the output with --json.
type outcomeJSON struct {
	State   migrate.State `json:"state"`
	From    string        `json:"from"`
	Ref     string        `json:"ref,omitzero"`
	ID      uuid.UUID     `json:"id,omitzero"`
	Files   int           `json:"files"`
	Size    int64         `json:"size"`
	Written int64         `json:"written"`
	Reason  string        `json:"reason,omitzero"`
	Notes   []string      `json:"notes"`
}

// object prints an outcome as an element of the array that print began: there
// may be a million of them.
func (o *outcomes) object(item migrate.Outcome) error {
	v := outcomeJSON{item.State, item.From, item.Ref, item.ID, item.Files, item.Size, item.Written, "", list(item.Notes)}
	if item.Why != nil {
		v.Reason = plain(item.Why)
	}
	return o.element(o.count.Imported+o.count.Present+o.count.Skipped+o.count.Failed > 0, "    ", v)
}

func (o *outcomes) element(more bool, indent string, v any) error {
	b, err := json.MarshalIndent(v, indent, "  ")
	if err != nil {
		return err
	}
	comma := ""
	if more {
		comma = ","
	}
	_, err = fmt.Fprintf(o.a.stdout, "%s\n%s%s", comma, indent, b)
	return err
}

// close ends the object that print began.
func (o *outcomes) close(failed error) error {
	end := "\n  ],\n"
	if o.count.Imported+o.count.Present+o.count.Skipped+o.count.Failed == 0 {
		end = "],\n"
	}
	b, err := json.MarshalIndent(struct {
		DryRun   bool `json:"dry_run"`
		Complete bool `json:"complete"` // false after an error or an interrupt
		migrate.Report
	}{o.f.dryRun, failed == nil, o.count}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.a.stdout, "%s%s\n", end, b[2:]) // without its opening brace
	return err
}
