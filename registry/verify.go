package registry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"sync"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// QuarantineRule says which damaged blob files are moved to quarantine/. A file
// that is moved can't be read any more, so that what is still sound in it is out
// of reach for all that needs it; to put the content again heals either way.
type QuarantineRule uint8

const (
	// QuarantineUnreadable moves files from which nothing can be read, because
	// their frame table is damaged. It is the default.
	QuarantineUnreadable QuarantineRule = iota
	// QuarantineDamaged moves every file that is damaged anywhere.
	QuarantineDamaged
	// QuarantineNothing leaves every file where it is.
	QuarantineNothing
)

// ParseQuarantineRule reads "unreadable", "damaged" or "nothing".
func ParseQuarantineRule(s string) (QuarantineRule, error) {
	for q := QuarantineUnreadable; q <= QuarantineNothing; q++ {
		if s == q.String() {
			return q, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is not what can be moved to quarantine: it is unreadable, damaged or nothing", ErrInvalid, s)
}

// String returns what ParseQuarantineRule reads.
func (q QuarantineRule) String() string {
	switch q {
	case QuarantineUnreadable:
		return "unreadable"
	case QuarantineDamaged:
		return "damaged"
	case QuarantineNothing:
		return "nothing"
	}
	return fmt.Sprintf("QuarantineRule(%d)", uint8(q))
}

// VerifyOptions changes how a verification works. A nil *VerifyOptions, like its
// zero value, is the default throughout.
type VerifyOptions struct {
	// Progress hears how many plain bytes were verified since it was called
	// last, one call at a time; nil hears nothing.
	Progress func(bytes int64)

	// Sample verifies only a share of the plain bytes: blobs that are chosen at
	// random until they have it, above 0 and at most 1. Manifests are verified
	// all the same. 0 is everything.
	Sample float64

	// Seed chooses the sample: the same one for the same content. 0 takes a
	// random one, which Verification.Seed tells.
	Seed uint64

	// Resume goes on where an earlier verification of the whole store was
	// interrupted. The zero value begins anew, and forgets the earlier one.
	Resume bool

	// Rate bounds how many plain bytes are read a second; 0 is no bound.
	Rate int64

	// Parallel is how many blobs are verified at once; 0 is one a CPU. It is at
	// most 64.
	Parallel int

	// Quarantine says which files are moved away at the end; the zero value is
	// QuarantineUnreadable.
	Quarantine QuarantineRule
}

// maxParallel bounds memory: a blob takes up to 8 MiB.
const maxParallel = 64

// check returns o with its defaults, or an error that wraps ErrInvalid.
func (o *VerifyOptions) check(refs []string) (VerifyOptions, error) {
	var c VerifyOptions
	if o != nil {
		c = *o
	}
	switch {
	case math.IsNaN(c.Sample) || c.Sample < 0 || c.Sample > 1:
		return c, fmt.Errorf("%w: a sample is a share above 0 and at most 1, not %v", ErrInvalid, c.Sample)
	case c.Rate < 0:
		return c, fmt.Errorf("%w: a rate of %d bytes a second is below 0", ErrInvalid, c.Rate)
	case c.Parallel < 0:
		return c, fmt.Errorf("%w: %d blobs at once are too few", ErrInvalid, c.Parallel)
	case c.Quarantine > QuarantineNothing:
		return c, fmt.Errorf("%w: %s is not known", ErrInvalid, c.Quarantine)
	case c.Resume && (len(refs) > 0 || c.Sample > 0):
		return c, fmt.Errorf("%w: only a verification of the whole store can be resumed: leave out references and sample", ErrInvalid)
	}
	if c.Progress == nil {
		c.Progress = func(int64) {}
	}
	if c.Parallel == 0 {
		c.Parallel = runtime.GOMAXPROCS(0)
	}
	c.Parallel = min(c.Parallel, maxParallel)
	for c.Sample > 0 && c.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		c.Seed = binary.LittleEndian.Uint64(b[:])
	}
	return c, nil
}

// ManifestUse is the path under which Checked lists a version's manifest.
const ManifestUse = "manifest"

// Checked is the outcome for one blob.
type Checked struct {
	Digest blob.Digest
	Size   int64       // plain bytes, as registered
	Uses   []string    // name:version/path of every file that it is, in the versions that were verified
	Err    error       // nil when it is sound; a *CorruptError, or an error of reading
	In     blob.Digest // the blob whose file is damaged or missing: itself, or one of its donors; zero when none is
}

// Findings is what a verification found beside the single blobs.
type Findings struct {
	Files   []FileDamage        // the blob files that are damaged or missing, by digest
	Journal error               // an *index.JournalError, or nil
	Index   []*index.Difference // what index.db has wrong: the first of them, at most 1,000
	Wrong   int                 // how many differences there are that are no hints
	Hints   int                 // how many are: they cost time and space, never a byte
}

// Sound reports whether nothing of it is damage.
func (f *Findings) Sound() bool { return len(f.Files) == 0 && f.Journal == nil && f.Wrong == 0 }

// maxDifferences bounds Findings.Index.
const maxDifferences = 1000

// Verification is one run over a store, or over some versions. Its methods are
// for one goroutine.
type Verification struct {
	Blobs        int    // to be verified
	Bytes        int64  // their plain bytes
	Seed         uint64 // of the sample; 0 without one
	EarlierBlobs int    // that were verified, and sound, before the interruption
	EarlierBytes int64

	r     *Registry
	opts  VerifyOptions
	all   bool // the whole store, if only a sample of it
	work  []*check
	keep  *verifyKeeper // nil when the run can't be resumed
	limit *limiter      // nil for none

	progress sync.Mutex // orders the calls of opts.Progress
	bad      map[blob.Digest][]*check
	found    Findings
	ran      bool
}

// BeginVerify lists what there is to verify: the blobs of the versions that refs
// name, manifests among them, or, when there are none, of the whole store, also
// those that belong to no version. The caller closes the Verification.
//
// Verifications of a whole store that is no sample keep a note in the store's
// folder of how far they are, so that one that was interrupted can be resumed.
// One at a time does; the error wraps ErrConflict if o asks to resume while
// another one is under way.
func (r *Registry) BeginVerify(ctx context.Context, refs []string, o *VerifyOptions) (*Verification, error) {
	opts, err := o.check(refs)
	if err != nil {
		return nil, err
	}
	v := &Verification{r: r, opts: opts, all: len(refs) == 0, bad: map[blob.Digest][]*check{}}
	if v.all && opts.Sample == 0 {
		if v.keep, err = r.keepVerify(opts); err != nil {
			return nil, err
		}
	}
	if opts.Rate > 0 {
		v.limit = &limiter{rate: float64(opts.Rate)}
	}
	work, seq, err := r.verifyWork(ctx, refs)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	switch {
	case opts.Sample > 0:
		v.Seed = opts.Seed
		work = sample(work, opts.Sample, opts.Seed)
	case v.keep != nil:
		work = v.keep.remaining(work, seq)
		v.EarlierBlobs, v.EarlierBytes = v.keep.state.Blobs, v.keep.state.Bytes
	}
	v.work = work
	for _, c := range work {
		v.Blobs++
		v.Bytes += c.Size
	}
	return v, nil
}

// Close releases what v holds.
func (v *Verification) Close() error {
	if v.keep == nil {
		return nil
	}
	return v.keep.close()
}

// Resumable reports whether a run that was interrupted is noted, so that another
// one can resume it.
func (v *Verification) Resumable() bool { return v.keep != nil && v.keep.noted }

// Findings returns what was found beside the single blobs. It is complete when Run
// has come to its end.
func (v *Verification) Findings() Findings { return v.found }

// Run reads and checks the blobs and yields each once, in the order of their
// digests, the damaged ones too. When the last one has been seen it looks at the
// files that are at fault, moves what is to be moved to quarantine/, and, of a
// whole store, checks the journal's chain, and the index against journal and
// blobs: see Findings. An error of its own ends it: nothing can be said of the
// blobs that were not yielded. It can be called once.
func (v *Verification) Run(ctx context.Context) iter.Seq2[Checked, error] {
	return func(yield func(Checked, error) bool) {
		if v.ran {
			yield(Checked{}, fmt.Errorf("%w: this verification has been run", ErrInvalid))
			return
		}
		v.ran = true
		err := v.run(ctx, func(c Checked) bool { return yield(c, nil) })
		if err != nil && !errors.Is(err, errEnough) {
			yield(Checked{}, named(err))
		}
	}
}

// errEnough says that the loop over what is yielded was left.
var errEnough = errors.New("registry: the verification was stopped")

func (v *Verification) run(ctx context.Context, yield func(Checked) bool) (err error) {
	done := false
	if v.keep != nil {
		if err := v.keep.begin(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, v.keep.end(done)) }()
	}
	if err := v.blobs(ctx, yield); err != nil {
		return err
	}
	if err := v.examine(ctx); err != nil {
		return err
	}
	if v.all {
		if err := v.names(ctx); err != nil {
			return err
		}
	}
	done = true
	return nil
}

// names checks the journal, and the index against journal and blobs.
func (v *Verification) names(ctx context.Context) error {
	_, err := v.r.index.CheckJournal(ctx)
	if err == nil {
		for d, derr := range v.r.index.Check(ctx) {
			if err = derr; err != nil {
				break
			}
			if d.Kind == index.Misleading {
				v.found.Hints++
			} else {
				v.found.Wrong++
			}
			if len(v.found.Index) < maxDifferences {
				v.found.Index = append(v.found.Index, d)
			}
		}
	}
	if _, ok := errors.AsType[*index.JournalError](err); ok {
		v.found.Journal, err = named(err), nil
	}
	return err
}

// Verify is BeginVerify and Run of one version, or for "" of the whole store. That
// the journal is damaged, or the index wrong, is then the error that ends it.
func (r *Registry) Verify(ctx context.Context, ref string, o *VerifyOptions) iter.Seq2[Checked, error] {
	return func(yield func(Checked, error) bool) {
		v, err := r.BeginVerify(ctx, refsOf(ref), o)
		if err != nil {
			yield(Checked{}, err)
			return
		}
		defer v.Close()
		for c, err := range v.Run(ctx) {
			if !yield(c, err) || err != nil {
				return
			}
		}
		switch f := v.Findings(); {
		case f.Journal != nil:
			yield(Checked{}, f.Journal)
		case f.Wrong > 0:
			i := 0
			for f.Index[i].Kind == index.Misleading && i < len(f.Index)-1 {
				i++
			}
			yield(Checked{}, named(f.Index[i]))
		}
	}
}

// VerifySize returns how many plain bytes Verify will read.
func (r *Registry) VerifySize(ctx context.Context, ref string) (total int64, err error) {
	work, _, err := r.verifyWork(ctx, refsOf(ref))
	for _, c := range work {
		total += c.Size
	}
	return total, err
}

func refsOf(ref string) []string {
	if ref == "" {
		return nil
	}
	return []string{ref}
}
