package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// logFlags are the flags of log.
type logFlags struct {
	limit             int
	oldestFirst, json bool
}

func newLogCmd(a *app) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "log [NAME | REF]",
		Short: "Show what was changed, when, by whom and why",
		Long: `Show the changes recorded in the journal, newest first: of everything, of all
versions of a name, or of one version. The journal is never rewritten, so that
the changes of deleted versions are listed too.`,
		Example: `  heft log -n 20
  heft log team/resnet
  heft log team/resnet:2.1.0 --oldest-first`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeOneRef,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.limit < 0 || cmd.Flags().Changed("limit") && f.limit == 0 {
				return usageError("log --limit must be at least 1")
			}
			return a.log(cmd.Context(), strings.Join(args, ""), f)
		},
	}
	cmd.Flags().IntVarP(&f.limit, "limit", "n", 0, "show only the newest `N` changes")
	cmd.Flags().BoolVar(&f.oldestFirst, "oldest-first", false, "show the oldest change first")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array")
	return cmd
}

// eventJSON is one change of a log.
type eventJSON struct {
	Seq     uint64    `json:"seq"`
	Time    string    `json:"time"`
	Verb    string    `json:"verb"`
	Actor   string    `json:"actor"`
	Reason  string    `json:"reason,omitzero"`
	ID      uuid.UUID `json:"id,omitzero"`
	Name    string    `json:"name"`
	Version string    `json:"version,omitzero"`
	Alias   string    `json:"alias,omitzero"`
	From    string    `json:"from,omitzero"`
	To      string    `json:"to,omitzero"`
}

// log prints the changes of ref, or of everything if it is "".
func (a *app) log(ctx context.Context, ref string, f logFlags) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()

	// The library yields the oldest first, so the newest are known at the end
	// alone: with a limit, keep no more than twice as many on the way.
	var events []registry.Event
	for e, err := range r.History(ctx, ref) {
		if err != nil {
			return a.suggest(ctx, r, ref, err)
		}
		events = append(events, e)
		if f.limit > 0 && len(events) >= 2*f.limit {
			events = newest(events, f.limit)
		}
	}
	if f.limit > 0 {
		events = newest(events, f.limit)
	}
	if !f.oldestFirst {
		slices.Reverse(events)
	}
	return a.printEvents(events, f.json)
}

// newest moves the last n events to the front and drops the others.
func newest(events []registry.Event, n int) []registry.Event {
	if len(events) <= n {
		return events
	}
	return events[:copy(events, events[len(events)-n:])]
}

func (a *app) printEvents(events []registry.Event, asJSON bool) error {
	if asJSON {
		shown := make([]eventJSON, len(events))
		for i, e := range events {
			shown[i] = eventJSON{
				Seq: e.Seq, Time: jsonTime(e.Time), Verb: e.Verb, Actor: e.Actor, Reason: e.Reason,
				ID: e.ID, Name: e.Name, Version: e.Version, Alias: e.Alias, From: e.From, To: e.To,
			}
		}
		return a.printJSON(shown)
	}
	if len(events) == 0 {
		a.note("no changes")
	}
	t := a.table("SEQ", "TIME", "ACTOR", "VERB", "MODEL", "CHANGE", "REASON")
	for _, e := range events {
		t.row(strconv.FormatUint(e.Seq, 10), formatTime(e.Time), e.Actor, e.Verb,
			eventModel(e), orDash(eventChange(e)), strings.Join(strings.Fields(e.Reason), " "))
	}
	return t.flush()
}

// eventModel returns the reference that an event is about: a name alone for an
// alias that was removed.
func eventModel(e registry.Event) string {
	if e.Version == "" {
		return e.Name
	}
	return e.Name + ":" + e.Version
}

// eventChange says what an event changed: the status of a new version, else
// "from -> to", behind the alias if it is one that moved.
func eventChange(e registry.Event) string {
	change := cmp.Or(e.From, "none") + " -> " + cmp.Or(e.To, "none")
	switch {
	case e.Alias != "":
		return e.Alias + ": " + change
	case e.From == "":
		return e.To
	}
	return change
}
