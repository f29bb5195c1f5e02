package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
	"github.com/spf13/cobra"
)

// verifyFlags are the flags of verify, as they were given.
type verifyFlags struct {
	json, all, resume        bool
	sample, rate, quarantine string
	seed                     uint64
	parallel                 int
}

func newVerifyCmd(a *app) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [REF...]",
		Short: "Read everything and check it against its hashes",
		Long: `Read every byte of the store, or of the versions that are named, and check it
against its hashes; of the whole store, the journal's chain too, and the index
against the journal and the blobs. Each damaged blob is printed with the files
that use it, and each damaged file with all that may need it; the exit code is
then 4. To heal one, put the same content again.

A file of which nothing can be read is moved to quarantine/ in the store's
folder. Nothing is ever deleted.`,
		Example: `  heft verify
  heft verify bert:stable --json
  heft verify --sample 5% --rate 200MB/s
  heft verify --resume`,
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(args, cmd.Flags().Changed("seed"))
			if err != nil {
				return err
			}
			return a.verify(cmd.Context(), args, o, f.json)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
	flags.BoolVar(&f.all, "all", false, "the whole store, as without REF")
	flags.StringVar(&f.sample, "sample", "", "verify only this `SHARE` of the bytes, such as 5%, in blobs chosen at random")
	flags.Uint64Var(&f.seed, "seed", 0, "choose the sample by this `NUMBER`, which an earlier one printed")
	flags.BoolVar(&f.resume, "resume", false, "go on where a verification of the whole store was interrupted")
	flags.StringVar(&f.rate, "rate", "", "read at most so many bytes a second, such as `200MB/s`")
	flags.IntVar(&f.parallel, "parallel", 0, "verify `N` blobs at once (default one a CPU)")
	flags.StringVar(&f.quarantine, "quarantine", "unreadable", "move to quarantine/ the files that are `WHAT`: unreadable, damaged (anywhere), or nothing; alone it means damaged")
	flags.Lookup("quarantine").NoOptDefVal = "damaged"
	return cmd
}

// options reads the flags.
func (f *verifyFlags) options(refs []string, seeded bool) (*registry.VerifyOptions, error) {
	o := &registry.VerifyOptions{Resume: f.resume, Parallel: f.parallel, Seed: f.seed}
	var err error
	switch {
	case f.all && len(refs) > 0:
		return nil, usageError("--all is the whole store: leave out %s, or --all", refs[0])
	case f.resume && (len(refs) > 0 || f.sample != ""):
		return nil, usageError("--resume goes on with the whole store: it does not go with a reference or --sample")
	case seeded && f.sample == "":
		return nil, usageError("--seed chooses a sample: say how much with --sample")
	case seeded && f.seed == 0:
		return nil, usageError("--seed 0 is none: give 1 or more")
	case f.parallel < 0:
		return nil, usageError("--parallel %d is too few: give 1 or more", f.parallel)
	}
	if f.sample != "" {
		if o.Sample, err = parseShare(f.sample); err != nil {
			return nil, usageError("--sample %s: %v", f.sample, err)
		}
	}
	if f.rate != "" {
		n, err := humanize.ParseBytes(strings.TrimSuffix(f.rate, "/s"))
		if err != nil || n == 0 || n > 1<<60 {
			return nil, usageError("--rate %s is no number of bytes a second, such as 200MB/s", f.rate)
		}
		o.Rate = int64(n)
	}
	if o.Quarantine, err = registry.ParseQuarantineRule(f.quarantine); err != nil {
		return nil, usageError("--quarantine %s: it is unreadable, damaged or nothing", f.quarantine)
	}
	return o, nil
}

// parseShare reads a part of the whole, such as 5%.
func parseShare(s string) (float64, error) {
	text, ok := strings.CutSuffix(s, "%")
	percent, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil || !(percent > 0 && percent <= 100) {
		return 0, errors.New("it is a share above 0% and at most 100%, such as 5%")
	}
	return percent / 100, nil
}

// verified is the result of verify.
type verified struct {
	Sound    bool       `json:"sound"`
	Complete bool       `json:"complete"` // it was not interrupted
	Blobs    int        `json:"blobs"`
	Bytes    int64      `json:"bytes"` // plain, as far as blobs could be read
	Bad      []badBlob  `json:"bad"`
	Files    []badFile  `json:"files"`
	Journal  string     `json:"journal"` // what is wrong with it; "" for nothing
	Index    []badEntry `json:"index"`
	Hints    int        `json:"hints"`            // entries of the index that lead to another frame
	Earlier  int        `json:"earlier"`          // blobs that were found sound before the interruption
	Sample   string     `json:"sample,omitempty"` // as it was asked for
	Seed     uint64     `json:"seed,omitempty"`   // of the sample
	wrong    int        // entries of the index that are no hints
}

type badBlob struct {
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"`
	Uses   []string    `json:"uses"` // name:version/path
	Error  string      `json:"error"`
	In     blob.Digest `json:"in,omitzero"` // the blob whose file is at fault
}

type badFile struct {
	Digest     blob.Digest        `json:"digest"`
	State      registry.FileState `json:"state"`
	Touches    []string           `json:"touches"`              // name:version/path
	Quarantine string             `json:"quarantine,omitempty"` // its name there
	Error      string             `json:"error,omitempty"`
}

type badEntry struct {
	Bucket string               `json:"bucket"`
	Key    string               `json:"key"`
	Kind   index.DifferenceKind `json:"kind"`
}

// verify checks what refs name, or everything, and prints the result.
func (a *app) verify(ctx context.Context, refs []string, o *registry.VerifyOptions, asJSON bool) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, ref := range refs { // a slip in the last one shows before the work
		if _, err := r.Get(ctx, ref); err != nil {
			return a.suggest(ctx, r, ref, err)
		}
	}
	var p *progress
	o.Progress = func(n int64) { p.add(n) }
	run, err := r.BeginVerify(ctx, refs, o)
	if err != nil {
		return resumable(err, "nothing was changed; a check of named versions takes less time")
	}
	defer run.Close()
	p = a.progress("checking", run.Bytes)
	defer p.end()
	v := &verified{Bad: []badBlob{}, Files: []badFile{}, Index: []badEntry{}, Earlier: run.EarlierBlobs, Seed: run.Seed}
	if run.Seed != 0 {
		v.Sample = strconv.FormatFloat(100*o.Sample, 'g', 6, 64) + "%"
	}
	runErr := v.collect(ctx, run)
	v.add(run.Findings())
	v.Complete = runErr == nil
	v.Sound = v.Complete && v.faults() == 0
	p.end()
	if runErr != nil && v.faults() == 0 && !asJSON {
		return v.interrupted(run, runErr) // there is nothing to tell
	}
	if asJSON {
		err = a.printJSON(v)
	} else {
		err = a.printVerify(v)
	}
	if runErr != nil {
		return errors.Join(v.interrupted(run, runErr), err)
	}
	if err != nil {
		return err
	}
	return v.verdict()
}

// collect runs the verification.
func (v *verified) collect(ctx context.Context, run *registry.Verification) error {
	for c, err := range run.Run(ctx) {
		if err == nil && interrupted(ctx, c.Err) {
			err = c.Err // it says nothing about the blob
		}
		if err != nil {
			return err
		}
		v.Blobs++
		if c.Err == nil {
			v.Bytes += c.Size
			continue
		}
		err := c.Err
		if e, ok := errors.AsType[*registry.CorruptError](err); ok {
			err = e.Err // the uses are told beside it
		}
		v.Bad = append(v.Bad, badBlob{c.Digest, c.Size, list(c.Uses), plain(err), c.In})
	}
	return nil
}

// add adds what was found beside the blobs.
func (v *verified) add(f registry.Findings) {
	for _, x := range f.Files {
		b := badFile{Digest: x.Digest, State: x.State, Touches: list(x.Touches), Quarantine: x.Moved}
		if x.Err != nil {
			b.Error = plain(x.Err)
		}
		v.Files = append(v.Files, b)
	}
	if f.Journal != nil {
		v.Journal = plain(f.Journal)
	}
	for _, d := range f.Index {
		v.Index = append(v.Index, badEntry{d.Bucket, d.KeyText(), d.Kind})
	}
	v.Hints = f.Hints
	v.wrong = f.Wrong
}

// faults counts what is wrong.
func (v *verified) faults() int {
	n := len(v.Bad) + v.wrong
	if v.Journal != "" {
		n++
	}
	return n
}

// interrupted adds to the error of a run that did not come to its end what to do
// next.
func (v *verified) interrupted(run *registry.Verification, err error) error {
	if run.Resumable() {
		return resumable(err, "'heft verify --resume' goes on from here")
	}
	return resumable(err, "a check of named versions takes less time")
}

// verdict returns nil if all is sound.
func (v *verified) verdict() error {
	switch {
	case len(v.Bad) > 0:
		return withHint(exitWith(exitCorrupt, "%d of %s can't be read", len(v.Bad), plural(v.Blobs, "blob")),
			"put the same content again to heal it, or restore it from a backup")
	case v.Journal != "":
		return withHint(exitWith(exitCorrupt, "the journal is damaged"), "restore the file journal from a backup")
	case v.wrong > 0:
		return withHint(exitWith(exitCorrupt, "the index is wrong in %s", plural(v.wrong, "place")),
			"remove the file index.db: it is built anew from the journal and the blobs")
	}
	return nil
}

// printVerify tells the result: a line for each damaged blob, for each damaged
// file, for what is wrong with journal and index, and a summary.
func (a *app) printVerify(v *verified) error {
	var b strings.Builder
	for _, bad := range v.Bad {
		fmt.Fprintf(&b, "b3:%s  %s: %s\n", bad.Digest.Short(), printable(usesText(bad.Uses)), printable(bad.Error))
	}
	for _, f := range v.Files {
		hex := f.Digest.String()
		what := f.State.String()
		if f.Quarantine != "" {
			what += ", moved to quarantine/" + f.Quarantine
		}
		if f.Error != "" {
			what += ", left in place: " + f.Error
		}
		fmt.Fprintf(&b, "file blobs/%s/%s  %s; needed by: %s\n", hex[:2], hex, printable(what), printable(usesText(f.Touches)))
	}
	if v.Journal != "" {
		fmt.Fprintf(&b, "journal  %s\n", printable(v.Journal))
	}
	for _, e := range v.Index {
		if e.Kind != index.Misleading {
			fmt.Fprintf(&b, "index  %s in %s: %s\n", e.Kind, e.Bucket, printable(e.Key))
		}
	}
	if v.Hints > 0 {
		fmt.Fprintf(&b, "index  %s to another frame, which costs room and no byte; a new index has none\n", plural(v.Hints, "hint"))
	}
	verdict := "all sound"
	switch {
	case len(v.Bad) > 0:
		verdict = fmt.Sprintf("%d damaged", len(v.Bad))
	case v.Journal != "":
		verdict = "all sound, but the journal is damaged"
	case v.wrong > 0:
		verdict = "all sound, but the index is wrong"
	}
	if !v.Complete {
		verdict += " until it was interrupted"
	}
	fmt.Fprintf(&b, "%s, %s: %s%s\n", plural(v.Blobs, "blob"), formatSize(v.Bytes), verdict, v.scope())
	_, err := a.stdout.Write([]byte(b.String()))
	return err
}

// scope says what was left out, and why.
func (v *verified) scope() string {
	switch {
	case v.Seed != 0:
		return fmt.Sprintf(" (a sample of %s, seed %d)", v.Sample, v.Seed)
	case v.Earlier > 0:
		return fmt.Sprintf(" (and %s before the interruption)", plural(v.Earlier, "sound blob"))
	}
	return ""
}

func usesText(uses []string) string {
	if len(uses) == 0 {
		return "no version uses it"
	}
	return strings.Join(uses, ", ")
}
